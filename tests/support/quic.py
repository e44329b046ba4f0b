"""A node that answers every request backwards, and a QUIC client that is aioquic and no more."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import trio
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import (
    ConnectionTerminated,
    HandshakeCompleted,
    QuicEvent,
    StreamDataReceived,
)
from lightspeed_protocol.runtime.quic import QuicLink, ServerIdentity
from lightspeed_protocol.runtime.quic_server import QuicServer
from lightspeed_protocol.runtime.udp import Address, Datagram, Port

from .certs import throw_away_identity

NODE: Address = ("192.0.2.1", 4433)
HOME: Address = ("198.51.100.1", 40001)


class Boom(Exception):
    """A bug of the application's."""


@attrs.define(eq=False)
class EchoApp:
    """Answers a request backwards once it has ended. Some requests are special."""

    link: QuicLink
    events: list[QuicEvent] = attrs.field(factory=list)
    ends: list[tuple[int, str]] = attrs.field(factory=list)
    got: dict[int, bytes] = attrs.field(factory=dict)

    def handle(self, event: QuicEvent) -> None:
        self.events.append(event)
        if not isinstance(event, StreamDataReceived):
            return
        stream = event.stream_id
        self.got[stream] = self.got.get(stream, b"") + event.data
        if not event.end_stream or stream & 2:  # on a unidirectional one there is no answer
            return
        request = self.got[stream]
        if request == b"boom":
            raise Boom
        if request == b"reset":
            self.link.reset(stream, 5)
        elif request == b"leave":
            self.link.close(9, "enough of you")
        elif request == b"push":
            own = self.link.open_stream(unidirectional=True)
            self.link.send(own, b"from the node")
            self.link.send(stream, b"", end=True)
        elif request.startswith(b"huge"):
            self.link.send(stream, bytes(int(request[4:])), end=True)
        elif request != b"silence":
            self.link.send(stream, request[::-1], end=True)

    def closed(self, code: int, reason: str) -> None:
        self.ends.append((code, reason))


@attrs.define(eq=False)
class Node:
    server: QuicServer
    identity: ServerIdentity
    apps: list[EchoApp]
    stop: trio.CancelScope

    @property
    def app(self) -> EchoApp:
        """The one and only."""
        (app,) = self.apps
        return app


def make_node(port: Port, identity: ServerIdentity | None = None, **options: Any) -> Node:
    identity = identity or throw_away_identity()
    apps: list[EchoApp] = []

    def make_app(link: QuicLink) -> EchoApp:
        apps.append(EchoApp(link))
        return apps[-1]

    server = QuicServer(port, identity, make_app, **options)
    return Node(server, identity, apps, trio.CancelScope())


@asynccontextmanager
async def running(node: Node) -> AsyncIterator[Address]:
    """The node serves; its address. Leaving stops it and sees that it has kept nothing."""
    async with trio.open_nursery() as nursery:

        async def run(*, task_status: trio.TaskStatus[Address]) -> None:
            with node.stop:
                await node.server.run(task_status=task_status)

        yield await nursery.start(run)
        node.stop.cancel("test over")
    assert_kept_nothing(node.server)


def assert_kept_nothing(server: QuicServer) -> None:
    assert server.connections == server.half_open == 0
    assert not server._links
    assert not server._places
    assert not server._door._hosts
    assert len(server._deadlines) == 0


@attrs.define(eq=False)
class MemoryPort:
    """What was sent waits in `out`."""

    address: Address = NODE
    out: list[Datagram] = attrs.field(factory=list)

    def send(self, payload: bytes, to: Address) -> bool:
        self.out.append((payload, to))
        return True

    async def receive(self) -> list[Datagram]:
        await trio.sleep_forever()
        raise AssertionError

    def take(self) -> list[Datagram]:
        taken, self.out = self.out, []
        return taken


@attrs.define(eq=False)
class PlainClient:
    """aioquic as it is, `source` its address."""

    quic: QuicConnection
    source: Address = HOME
    events: list[QuicEvent] = attrs.field(factory=list)

    @classmethod
    def make(
        cls, alpn: list[str] | None = None, source: Address = HOME, **options: Any
    ) -> PlainClient:
        configuration = QuicConfiguration(
            is_client=True,
            alpn_protocols=alpn,
            server_name="lightspeed-proxy",
            verify_mode=ssl.CERT_NONE,
            **options,
        )
        client = cls(QuicConnection(configuration=configuration), source)
        client.quic.connect(NODE, now=trio.current_time())
        return client

    def take(self) -> list[bytes]:
        """The datagrams it wants to send."""
        return [payload for payload, _ in self.quic.datagrams_to_send(trio.current_time())]

    def give(self, payload: bytes) -> None:
        self.quic.receive_datagram(payload, NODE, trio.current_time())

    def drain_events(self) -> None:
        while (event := self.quic.next_event()) is not None:
            self.events.append(event)

    @property
    def handshake(self) -> HandshakeCompleted | None:
        self.drain_events()
        return next((e for e in self.events if isinstance(e, HandshakeCompleted)), None)

    @property
    def end(self) -> ConnectionTerminated | None:
        """As told by the peer, before the closing period is over."""
        return self.quic._close_event

    def answer(self, stream: int) -> bytes:
        self.drain_events()
        return b"".join(
            event.data
            for event in self.events
            if isinstance(event, StreamDataReceived) and event.stream_id == stream
        )


def exchange(server: QuicServer, port: MemoryPort, *clients: PlainClient, rounds: int = 20) -> None:
    """Carry datagrams both ways until nobody has any; no time passes."""
    for _ in range(rounds):
        moved = False
        for client in clients:
            for payload in client.take():
                server.datagram(payload, client.source, trio.current_time())
                moved = True
        for payload, to in port.take():
            for client in clients:
                if client.source == to:
                    client.give(payload)
                    moved = True
        if not moved:
            return


async def talk(
    server: QuicServer, port: MemoryPort, *clients: PlainClient, seconds: float = 1.0
) -> None:
    """The same, with time for delayed acknowledgements and pacing; wants a virtual clock."""
    until = trio.current_time() + seconds
    while trio.current_time() < until:
        exchange(server, port, *clients)
        await trio.sleep(0.03)
        now = trio.current_time()
        for client in clients:
            if client.quic.get_timer() is not None:
                client.quic.handle_timer(now)
        for link in list(server._places):
            link.fire(now)


def up_to_cookie(server: QuicServer, port: MemoryPort, client: PlainClient) -> None:
    """The first packet and the Retry; the client's next packet will show the cookie."""
    for payload in client.take():
        server.datagram(payload, client.source, trio.current_time())
    for payload, _ in port.take():
        client.give(payload)


async def settle(times: int = 10) -> None:
    """Let every task run that can."""
    for _ in range(times):
        await trio.lowlevel.checkpoint()
