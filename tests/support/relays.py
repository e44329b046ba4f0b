"""A node's data plane on loopback, for tests.

What is sent there has arrived when the call returns, so a clock that jumps will do.
"""

from __future__ import annotations

import random
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import trio
from lightspeed_protocol.endpoint import Endpoint
from lightspeed_protocol.fec.window import Plan
from lightspeed_protocol.header import Header, decode, pack_addresses
from lightspeed_protocol.runtime.udp import open_socket
from lightspeed_protocol.seal import SealedEnd
from lightspeed_protocol.sealed_flow import SealedFlow
from lightspeed_proxy.config import Limits, ProxyConfig, Security
from lightspeed_proxy.counters import Counters
from lightspeed_proxy.relay import Relay, open_data_socket
from lightspeed_proxy.sessions import Lease, Session

from tests.support.repair import fixed

Address = tuple[str, int]

# Generous, so that only the test about a limit meets it.
LIMITS: dict[str, Any] = {"max_pps_per_client": 10**6, "max_bps_per_client": 10**9}


@attrs.define(eq=False)
class Host:
    """A socket that a test talks through: a player's end of a tunnel, or a game server."""

    sock: socket.socket
    relay: Relay
    endpoint: Endpoint | None = None

    @property
    def address(self) -> Address:
        host, port, *_ = self.sock.getsockname()
        return host, port

    def send(self, data: bytes, to: Address) -> None:
        self.sock.sendto(data, to)

    async def heard(self) -> list[tuple[bytes, Address]]:
        """Everything that has arrived once the relay has nothing left to do."""
        await settle()
        heard = []
        while True:
            try:
                heard.append(self.sock.recvfrom(4096))
            except BlockingIOError:
                return heard

    async def payloads(self) -> list[bytes]:
        """The tunnelled payloads that have arrived, recovered ones included."""
        assert self.endpoint is not None
        return [p for data, _ in await self.heard() for p in self.endpoint.unwrap(data)]

    async def headers(self) -> list[Header]:
        return [decode(data) for data, _ in await self.heard()]

    def close(self) -> None:
        self.sock.close()


async def settle() -> None:
    """Let the relay's tasks take every datagram that is on the machine already."""
    for _ in range(8):
        await trio.sleep(0.001)


@attrs.define(eq=False)
class SealedPlayer:
    """A registered client with one game, and its socket, which may be changed for another."""

    host: Host
    session: Session
    end: SealedEnd
    flow: SealedFlow

    def open(self, datagram: bytes) -> list[bytes]:
        opened = self.end.open(datagram, trio.current_time())
        return [] if opened.flags & 7 else self.flow.receive(opened, 0.0)

    async def payloads(self) -> list[bytes]:
        """What the game gets of everything that has arrived."""
        return [p for data, _ in await self.host.heard() for p in self.open(data)]


@attrs.define(eq=False)
class World:
    """One relay and whoever speaks through it."""

    relay: Relay
    hosts: list[Host] = attrs.field(factory=list)

    @property
    def address(self) -> Address:
        host, port = self.relay.data[0].getsockname()
        return host, port

    @property
    def drops(self) -> dict[str, int]:
        """The reasons that have been counted."""
        return {reason: n for reason, n in self.relay.counters.drops.items() if n}

    def host(self) -> Host:
        self.hosts.append(Host(open_socket(("127.0.0.1", 0)), self.relay))
        return self.hosts[-1]

    def player(self, server: Host, *, fec_k: int | None = None, token: int = 0) -> Host:
        """A tunnel end whose game speaks to `server`."""
        player = self.host()
        key = pack_addresses(player.address, server.address)
        player.endpoint = Endpoint.open(key, fec_k=fec_k, token=token)
        return player

    def join(
        self,
        server: Address,
        *,
        session_id: int = 7,
        plan: Plan | None = None,
        heir_to: Session | None = None,
        **lease: Any,
    ) -> SealedPlayer:
        """A client that has registered and whose game speaks to `server`."""
        host = self.host()
        key = bytes([session_id]) * 16
        lease = {"host": "127.0.0.1"} | lease
        granted = Lease(invite="friend", session_id=session_id, key=key, **lease)
        session = self.relay.grant(granted, trio.current_time(), heir_to=heir_to)
        end = SealedEnd.client(session_id, key)
        game = ("::1" if ":" in server[0] else "127.0.0.1", 50_000 + session_id)
        flow = SealedFlow.open(end, pack_addresses(game, server), fixed(plan))
        return SealedPlayer(host, session, end, flow)

    def play_sealed(self, player: SealedPlayer, payload: bytes) -> tuple[bytes, ...]:
        datagrams = player.flow.wrap(payload, 0, 0.0)
        for datagram in datagrams:
            player.host.send(datagram, self.address)
        return datagrams

    def play(self, player: Host, payload: bytes) -> None:
        """What the game sends, through the tunnel to the node."""
        assert player.endpoint is not None
        for datagram in player.endpoint.wrap(payload, 0):
            player.send(datagram, self.address)


@asynccontextmanager
async def open_world(
    *,
    dev: bool = True,
    limits: dict[str, Any] | None = None,
    security: dict[str, Any] | None = None,
    seed: int = 1,
) -> AsyncIterator[World]:
    """A running data plane; leaving checks that it has let go of every socket it opened."""
    config = ProxyConfig(
        limits=Limits(**(LIMITS | (limits or {}))), security=Security(**(security or {}))
    )
    data = (open_data_socket(("127.0.0.1", 0)),)
    relay = Relay(config, Counters(), data, dev, random.Random(seed))
    world = World(relay)
    async with trio.open_nursery() as nursery:
        await nursery.start(relay.run)
        try:
            yield world
        finally:
            nursery.cancel_scope.cancel("test over")
            relay.close()
            for host in world.hosts:
                host.close()
    assert (relay.sessions, relay.flows) == (0, 0)
    assert all(sock.fileno() == -1 for sock in data)
