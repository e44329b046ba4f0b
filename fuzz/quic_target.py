"""The node's QUIC port, from the first byte of a datagram to the frames of a proven client.

One input, one server. What the first byte says: raw bytes as they are, raw bytes behind an
Initial's head, or frames (or a CRYPTO frame around handshake bytes) in an Initial that is rightly
encrypted and carries a good Retry token, which is as far as a stranger gets. Checked: nothing is
raised, no connection ends by an error of ours, and before proof no more bytes leave than came.
"""

from __future__ import annotations

from typing import Final

import attrs
from aioquic import tls
from aioquic._buffer import Buffer
from aioquic.quic.connection import QuicConnection
from aioquic.quic.crypto import CryptoPair
from aioquic.quic.events import QuicEvent
from aioquic.quic.packet import QuicPacketType, QuicProtocolVersion, pull_quic_header
from lightspeed_protocol.runtime.quic import QuicLink, ServerIdentity
from lightspeed_protocol.runtime.quic_connection import configuration
from lightspeed_protocol.runtime.quic_server import QuicServer
from lightspeed_protocol.runtime.udp import Address, Datagram

VERSION: Final = int(QuicProtocolVersion.VERSION_1)
CLIENT: Final = ("192.0.2.10", 50000)
FIRST_CID: Final = b"firstcid"
OUR_CID: Final = b"client-1"
SMALLEST: Final = 1200
LARGEST_FRAMES: Final = 1100


@attrs.define(eq=False)
class Wire:
    """A port that keeps what is sent."""

    address: Address = ("192.0.2.1", 4433)
    sent: list[bytes] = attrs.field(factory=list)

    def send(self, payload: bytes, to: Address) -> bool:
        self.sent.append(payload)
        return True

    async def receive(self) -> list[Datagram]:
        raise NotImplementedError  # the datagrams are handed in

    def last(self) -> bytes:
        return self.sent[-1]


class Silent:
    """An application that says nothing."""

    def handle(self, event: QuicEvent) -> None:
        pass

    def closed(self, code: int, reason: str) -> None:
        pass


@attrs.define(eq=False)
class QuicTarget:
    identity: ServerIdentity

    def __call__(self, data: bytes) -> QuicServer:
        """The server afterwards. Call it inside trio: a server reads the clock."""
        wire = Wire()
        server = QuicServer(
            wire, self.identity, self._silent, alpns=("lightspeed/1", "h3"), random=bytes
        )
        kind, rest = data[:1] or b"\x00", data[1:]
        match kind[0] & 3:
            case 0:
                server.datagram(rest, CLIENT, 0.0)
            case 1:
                head = b"\xc0" + VERSION.to_bytes(4, "big")
                server.datagram((head + rest).ljust(SMALLEST, b"\x00"), CLIENT, 0.0)
            case 2:
                self._prove(server, wire, rest)
            case _:
                frame = b"\x06\x00" + (len(rest) | 0x4000).to_bytes(2, "big") + rest
                self._prove(server, wire, frame[: LARGEST_FRAMES + 4])
        counters = server.counters
        assert counters.failed == 0, "a connection ended by an error of ours"
        assert counters.unproven_bytes_out <= counters.unproven_bytes_in
        return server

    def _silent(self, _link: QuicLink) -> Silent:
        return Silent()

    def _prove(self, server: QuicServer, wire: Wire, frames: bytes) -> None:
        """Ask, take the Retry, come back with its token and these frames."""
        server.datagram(initial(FIRST_CID, b"", b"\x01"), CLIENT, 0.0)
        retry = pull_quic_header(Buffer(data=wire.last()), host_cid_length=len(OUR_CID))
        assert retry.packet_type is QuicPacketType.RETRY
        datagram = initial(retry.source_cid, retry.token, frames[:LARGEST_FRAMES])
        before, sent = len(wire.sent), len(datagram)
        server.datagram(datagram, CLIENT, 0.0)
        assert server.counters.admitted == 1, "a good token was refused"
        # The address has proved itself by its token; the bound of before holds all the same.
        assert sum(map(len, wire.sent[before:])) <= 3 * sent


def initial(to: bytes, token: bytes, frames: bytes) -> bytes:
    """A client's first Initial with these frames, padded, encrypted as RFC 9001 wants it."""
    crypto = CryptoPair()
    crypto.setup_initial(cid=to, is_client=True, version=VERSION)
    plain = (frames or b"\x01").ljust(SMALLEST - 80 - len(token), b"\x00")
    buffer = Buffer(capacity=SMALLEST * 2)
    buffer.push_bytes(b"\xc1" + VERSION.to_bytes(4, "big"))
    buffer.push_bytes(bytes((len(to),)) + to + bytes((len(OUR_CID),)) + OUR_CID)
    buffer.push_uint_var(len(token))
    buffer.push_bytes(token)
    buffer.push_bytes((2 + len(plain) + 16 | 0x4000).to_bytes(2, "big") + b"\x00\x00")
    return crypto.encrypt_packet(buffer.data, plain, 0).ljust(SMALLEST, b"\x00")


def client_hello(alpn: str | None) -> bytes:
    """What a client of ours would begin with."""
    client = QuicConnection(configuration=configuration(is_client=True, alpn=alpn))
    client._local_initial_source_connection_id = OUR_CID  # it is named inside, too
    client.connect(CLIENT, 0.0)
    return bytes(client._crypto_streams[tls.Epoch.INITIAL].sender._buffer)


def hello_seed(alpn: str | None) -> bytes:
    return b"\x03" + client_hello(alpn)


def seeds() -> list[bytes]:
    hellos = [hello_seed(alpn) for alpn in ("lightspeed/1", "h3", "other", None)]
    close = b"\x02\x1c\x00\x00\x04gone"
    return [
        *hellos,
        close,
        b"\x02\x01",  # PING
        b"\x02\x02\x00\x00\x00\x00",  # ACK
        b"\x00" + initial(FIRST_CID, b"", b"\x01"),
        b"\x00" + b"\x40" * 40,
        b"\x01" + b"\x08firstcid\x00\x00",
        b"\x00\xc0\xff\x00\x00\x1d\x08firstcid\x00".ljust(1300, b"\x00"),
    ]
