"""QUIC peers that name no protocol, as the original's: aioquic as it is, over a real socket."""

from __future__ import annotations

import attrs
import trio
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import HandshakeCompleted, StreamDataReceived
from lightspeed_protocol.control import (
    ControlMessage,
    Disconnect,
    FrameReader,
    Ping,
    Pong,
    Register,
    RegisterAck,
    ServerInfo,
    encode,
    frame,
)
from lightspeed_protocol.errors import WireError
from lightspeed_protocol.extensions import AckExtensions, encode_ack
from lightspeed_protocol.runtime.quic import ServerIdentity
from lightspeed_protocol.runtime.quic_door import destination
from lightspeed_protocol.runtime.udp import Address, UdpPort

from .quic import PlainClient

ACK = RegisterAck(7, 0, "elder", "somewhere", encode_ack(AckExtensions(version=8, key=bytes(16))))


@attrs.define(eq=False)
class PlainNode:
    """Grants everybody a session that it does not carry. Without ALPN, and without a Retry."""

    identity: ServerIdentity
    port: UdpPort
    alpns: list[str | None] = attrs.field(factory=list)  # of each completed handshake
    registered: list[Register] = attrs.field(factory=list)
    _connections: dict[Address, QuicConnection] = attrs.field(factory=dict)

    async def serve(self) -> None:
        configuration = QuicConfiguration(is_client=False)
        configuration.certificate = self.identity.certificate
        configuration.private_key = self.identity.private_key
        while True:
            for payload, source in await self.port.receive():
                quic = self._connections.get(source)
                if quic is None or quic._close_event is not None:
                    if payload[0] & 0xF0 != 0xC0:
                        continue  # of a connection that is over
                    quic = self._connections[source] = QuicConnection(
                        configuration=configuration,
                        original_destination_connection_id=destination(payload),
                    )
                now = trio.current_time()
                quic.receive_datagram(payload, source, now)
                self._take(quic)
                for answer, to in quic.datagrams_to_send(now):
                    self.port.send(answer, (to[0], to[1]))

    def _take(self, quic: QuicConnection) -> None:
        while (event := quic.next_event()) is not None:
            if isinstance(event, HandshakeCompleted):
                self.alpns.append(event.alpn_protocol)
            elif isinstance(event, StreamDataReceived) and event.data:
                for message in FrameReader().feed(event.data):
                    answer = frame(encode(self._answer(message)))
                    quic.send_stream_data(event.stream_id, answer, end_stream=True)

    def _answer(self, message: ControlMessage | WireError) -> ControlMessage:
        match message:
            case Ping(timestamp_us):
                return Pong(timestamp_us, 0)
            case Register():
                self.registered.append(message)
                return ACK
            case ServerInfo():
                return ServerInfo(1, 1, 100)
            case Disconnect():
                return message
            case _:
                raise AssertionError(f"nobody asked for {message!r}")


async def ask_plainly(to: Address, message: ControlMessage) -> tuple[str | None, ControlMessage]:
    """The protocol that the node named to a client that names none, and its answer."""
    client = PlainClient.make()
    with UdpPort.bind(("127.0.0.1", 0)) as port, trio.fail_after(20):
        stream: int | None = None
        while stream is None or not client.answer(stream):
            if stream is None and client.handshake is not None:
                stream = client.quic.get_next_available_stream_id()
                client.quic.send_stream_data(stream, frame(encode(message)), end_stream=True)
            for payload in client.take():
                port.send(payload, to)
            with trio.move_on_after(0.2) as patience:
                for payload, _ in await port.receive():
                    client.give(payload)
            if patience.cancelled_caught:
                client.quic.handle_timer(trio.current_time())
    assert client.handshake is not None
    (answer,) = FrameReader().feed(client.answer(stream))
    assert not isinstance(answer, WireError)
    return client.handshake.alpn_protocol, answer
