"""What this project changes in aioquic's connection. All that reaches into its insides is here.

* Windows slide by a fixed size. aioquic doubles them whenever half is used, without end, so a
  peer with patience could make us hold any amount of data.
* The handshake may buffer `CRYPTO_BYTES`, not half a megabyte.
* An address that has not proved that it hears us gets no more bytes than came from it; RFC 9000
  §8.1 allows three times that. In mid-connection only an answer to our challenge proves it: a
  Handshake packet does not, because a client can send one under any address.
* A node chooses the application protocol by what each client offers, see `ServerConnection`.

Source: RFC 9000, RFC 9001, RFC 7301; aioquic 1.7.2, whose version constraints.txt pins.
"""

from __future__ import annotations

import functools
import hashlib
import logging
from collections.abc import Callable
from typing import Any, Final

from .imports import postponed

# What checks chains of certificates, 1.4 MB. Ours are pinned instead.
with postponed("certifi", "service_identity", "OpenSSL", "OpenSSL.crypto"):
    from aioquic import tls

from aioquic._buffer import Buffer, BufferReadError
from aioquic.quic import connection
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import (
    QuicConnection,
    QuicConnectionError,
    QuicConnectionState,
    QuicNetworkPath,
    QuicReceiveContext,
)
from aioquic.quic.packet import QuicErrorCode, QuicProtocolVersion
from aioquic.quic.packet_builder import QuicPacketBuilder
from aioquic.quic.recovery import QuicPacketSpace
from aioquic.quic.stream import QuicStream
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import Certificate

from .udp import Address, Datagram

ALPN: Final = "lightspeed/1"
NO_ALPN: Final = QuicErrorCode.CRYPTO_ERROR + tls.AlertDescription.no_application_protocol

VERSIONS: Final = [int(QuicProtocolVersion.VERSION_1)]  # what every peer of ours speaks
ID_BYTES: Final = 8  # of a connection id
CONNECTION_IDS: Final = 4  # of the peer's we keep: one in use, the others for changes of address
WINDOW_BYTES: Final = 65536  # a control message fits but for its largest; more costs a round trip
CRYPTO_BYTES: Final = 16384  # of handshake: RFC 9000 §7.5 wants 4096, a chain of certificates more
SETTLED_CRYPTO_BYTES: Final = 1024  # written by us after the handshake: nothing, in fact
IDLE_S: Final = 60.0
CHALLENGE_BYTES: Final = 8  # of a PATH_CHALLENGE and its answer, RFC 9000 §19.17

# What refers back to its connection: by callbacks, or by the packets in flight.
CYCLES: Final = (
    "_QuicConnection__frame_handlers",
    "_cryptos",
    "_cryptos_initial",
    "_loss",
    "_spaces",
    "_streams",
)

# At INFO it logs every connection, at WARNING every peer's mistake, with words the peer chose.
# What matters of that is counted.
logging.getLogger("quic").setLevel(logging.CRITICAL)

# It makes 33 small sets for each connection, of 6 kinds; so they are made once.
vars(connection)["EPOCHS"] = functools.cache(connection.EPOCHS)


def spki_pin(certificate: Certificate) -> bytes:
    """The SHA-256 of its public key: a renewed certificate with the same key has the same pin."""
    key = certificate.public_key()
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).digest()


def configuration(*, is_client: bool, alpn: str | None = None) -> QuicConfiguration:
    """What is the same for every connection of ours."""
    return QuicConfiguration(
        is_client=is_client,
        alpn_protocols=None if alpn is None else [alpn],
        connection_id_length=ID_BYTES,
        idle_timeout=IDLE_S,
        max_data=WINDOW_BYTES,
        max_stream_data=WINDOW_BYTES,
        supported_versions=VERSIONS,
    )


class BoundedConnection(QuicConnection):
    """`streams` and `uni_streams`: how many of each the peer may have open at a time."""

    def __init__(
        self,
        *,
        configuration: QuicConfiguration,
        streams: int,
        uni_streams: int,
        odcid: bytes | None = None,
        rscid: bytes | None = None,
    ) -> None:
        super().__init__(
            configuration=configuration,
            original_destination_connection_id=odcid,
            retry_source_connection_id=rscid,
        )
        self._local_active_connection_id_limit = CONNECTION_IDS
        for limit, most in (
            (self._local_max_streams_bidi, streams),
            (self._local_max_streams_uni, uni_streams),
        ):
            limit.value = limit.sent = most

    @property
    def ending(self) -> tuple[int, str] | None:
        """Error code and reason once either side has closed the connection, or it timed out."""
        event = self._close_event
        return None if event is None else (event.error_code, event.reason_phrase)

    @property
    def authentic(self) -> bool:
        """A packet of the peer has been decrypted."""
        return self._state is not QuicConnectionState.FIRSTFLIGHT

    @property
    def unsent_bytes(self) -> int:
        """What is kept for the peer until it has acknowledged it."""
        return sum(len(stream.sender._buffer) for stream in self._streams.values())

    def trim(self) -> None:
        """Let go of the handshake's buffers, 48 KiB; what may still come needs little."""
        self._crypto_buffers = {tls.Epoch.ONE_RTT: Buffer(capacity=SETTLED_CRYPTO_BYTES)}

    def dismantle(self) -> None:
        """Let go of what refers back to this connection, once it has ended.

        Else its 500 objects wait for a collection of cycles, and a node collects only while
        nobody plays.
        """
        for name in CYCLES:
            vars(self).pop(name, None)
        vars(self.tls).clear()

    @property
    def proven_address(self) -> Address | None:
        """Where the peer was last when it had proved that it hears us there."""
        for path in self._network_paths:  # the one in use, then those before it
            if path.is_validated:
                host, port, *_ = path.addr
                return host, port
        return None

    def peer_pin(self) -> bytes | None:
        certificate = self.tls._peer_certificate
        return None if certificate is None else spki_pin(certificate)

    def can_send(self, stream_id: int) -> bool:
        """False once the peer has asked us to stop, or the stream is over in both directions."""
        stream = self._streams.get(stream_id)
        if stream is None:
            return not self._stream_is_discarded(stream_id)
        return stream.sender._reset_error_code is None

    def can_stop(self, stream_id: int) -> bool:
        """There is something to tell the peer to stop sending on."""
        stream = self._streams.get(stream_id)
        return stream is not None and not stream.receiver.is_finished

    def datagrams_to_send(self, now: float) -> list[Datagram]:
        if not self._network_paths:
            return []
        return super().datagrams_to_send(now)

    def _handle_crypto_frame(
        self, context: QuicReceiveContext, frame_type: int, buf: Buffer
    ) -> None:
        start = buf.tell()
        end = buf.pull_uint_var() + buf.pull_uint_var()
        buf.seek(start)
        if end - self._crypto_streams[context.epoch].receiver.starting_offset() > CRYPTO_BYTES:
            raise QuicConnectionError(
                error_code=QuicErrorCode.CRYPTO_BUFFER_EXCEEDED,
                frame_type=frame_type,
                reason_phrase="more handshake than is kept",
            )
        super()._handle_crypto_frame(context, frame_type, buf)

    def _write_connection_limits(self, builder: QuicPacketBuilder, space: QuicPacketSpace) -> None:
        limit, window = self._local_max_data, self._configuration.max_data
        receivers = [stream.receiver for stream in self._streams.values()]
        waiting = sum(
            receiver.highest_offset - receiver.starting_offset()
            for receiver in receivers
            if not receiver.is_finished
        )
        limit.value = _slid(limit.value, limit.used - waiting, window)
        used, limit.used = limit.used, 0  # nothing used: nothing to double
        try:
            super()._write_connection_limits(builder, space)
        finally:
            limit.used = used

    def _write_stream_limits(
        self, builder: QuicPacketBuilder, space: QuicPacketSpace, stream: QuicStream
    ) -> None:
        receiver, window = stream.receiver, self._configuration.max_stream_data
        if stream.max_stream_data_local and not receiver.is_finished:
            stream.max_stream_data_local = _slid(
                stream.max_stream_data_local, receiver.starting_offset(), window
            )
        highest, receiver.highest_offset = receiver.highest_offset, 0
        try:
            super()._write_stream_limits(builder, space, stream)
        finally:
            receiver.highest_offset = highest


def _slid(limit: int, taken: int, window: int) -> int:
    """The new limit, raised in steps of at least half a window so that it is not told often."""
    return taken + window if taken + window - limit >= window // 2 else limit


class ClientConnection(BoundedConnection):
    """Offers keys of two kinds that every peer has; four cost 4 ms at each start."""

    def _initialize(self, peer_cid: bytes) -> None:
        super()._initialize(peer_cid)
        self.tls._supported_groups = [tls.Group.X25519, tls.Group.SECP256R1]


class ServerConnection(BoundedConnection):
    """The node's side of a connection whose client has shown a Retry cookie.

    `alpns`, most wanted first, are chosen from by what the client offers. One that offers none
    is served without: the original does not offer any. One that offers only others is refused
    with the alert for that (RFC 7301 §3.2). aioquic has one list for all and refuses the second
    kind as well, so the list is set when the whole ClientHello is there; a browser's comes in
    more than one packet.

    A handshake keeps the processor for 3 ms. `breathe` is called between its parts, none of which
    takes one; it must not touch this connection.
    """

    def __init__(
        self,
        *,
        configuration: QuicConfiguration,
        alpns: tuple[str, ...],
        streams: int,
        uni_streams: int,
        odcid: bytes,
        rscid: bytes,
        breathe: Callable[[], object],
    ) -> None:
        super().__init__(
            configuration=configuration,
            streams=streams,
            uni_streams=uni_streams,
            odcid=odcid,
            rscid=rscid,
        )
        self._alpns = alpns
        self._breathe = breathe

    def datagrams_to_send(self, now: float) -> list[Datagram]:
        if not self._handshake_confirmed:
            self._breathe()
        datagrams = super().datagrams_to_send(now)
        if datagrams and not self._network_paths[0].is_validated:
            # Only a farewell is built without regard to what came.
            return [item for item in datagrams if not self._exceeds(item[1])]
        return datagrams

    def _exceeds(self, to: Address) -> bool:
        return any(
            isinstance(path, _Unproven)
            and path.addr == to
            and not path.is_validated
            and path.bytes_sent > path.taken
            for path in self._network_paths
        )

    def _initialize(self, peer_cid: bytes) -> None:
        super()._initialize(peer_cid)
        path = self._network_paths[0]
        assert isinstance(path, _Unproven)
        path.proven = True  # by the cookie
        context = _ServerTls.__new__(_ServerTls)
        vars(context).update(vars(self.tls))
        context.enabled = self._alpns
        context.breathe = self._breathe
        self.tls = context
        self._breathe()

    def _handle_path_response_frame(
        self, context: QuicReceiveContext, frame_type: int, buf: Buffer
    ) -> None:
        start = buf.tell()
        answered = buf.pull_bytes(CHALLENGE_BYTES)
        buf.seek(start)
        for path in self._network_paths:
            if isinstance(path, _Unproven) and answered in path.local_challenges:
                path.proven = True
        super()._handle_path_response_frame(context, frame_type, buf)

    def _find_network_path(self, addr: Any) -> QuicNetworkPath:
        for path in self._network_paths:
            if path.addr == addr:
                return path
        return _Unproven(addr)


class _Unproven(QuicNetworkPath):
    """A path on which a client turned up in mid-connection.

    aioquic sends up to three times `bytes_received`, which therefore shows a third.
    """

    def __init__(self, addr: Any) -> None:
        self.taken = 0
        self.proven = False
        super().__init__(addr)

    @property
    def is_validated(self) -> bool:
        return self.proven

    @is_validated.setter
    def is_validated(self, value: bool) -> None:
        """aioquic's opinion, which takes a Handshake packet for a proof, is not asked."""

    @property
    def bytes_received(self) -> int:
        return self.taken // 3

    @bytes_received.setter
    def bytes_received(self, value: int) -> None:
        self.taken += value - self.bytes_received


class _ServerTls(tls.Context):
    enabled: tuple[str, ...]
    breathe: Callable[[], object]

    def handle_message(self, input_data: bytes, output_buf: dict[tls.Epoch, Buffer]) -> None:
        if len(self._receive_buffer) + len(input_data) > CRYPTO_BYTES:
            raise tls.AlertDecodeError("a handshake message is too long")
        super().handle_message(input_data, output_buf)

    def _handle_reassembled_message(
        self, message_type: int, input_buf: Buffer, output_buf: dict[tls.Epoch, Buffer]
    ) -> None:
        if self.state is tls.State.SERVER_EXPECT_CLIENT_HELLO and (
            message_type == tls.HandshakeType.CLIENT_HELLO
        ):
            message = input_buf.data_slice(0, input_buf.capacity)
            try:
                hello = tls.pull_client_hello(Buffer(data=message))
            except BufferReadError:
                raise tls.AlertDecodeError("could not parse the ClientHello") from None
            self._alpn_protocols = None if hello.alpn_protocols is None else list(self.enabled)
        self.breathe()
        super()._handle_reassembled_message(message_type, input_buf, output_buf)

    def _setup_traffic_protection(
        self, direction: tls.Direction, epoch: tls.Epoch, label: bytes
    ) -> None:
        super()._setup_traffic_protection(direction, epoch, label)
        self.breathe()
