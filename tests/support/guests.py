"""A player's end that a test holds in its own hands: registered over QUIC, sealing by itself."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import attrs
import trio
from lightspeed_client.control_link import exchange
from lightspeed_client.session import Grant, read_grant, register_message
from lightspeed_protocol.control import Disconnect
from lightspeed_protocol.errors import WireError
from lightspeed_protocol.header import KEEPALIVE, pack_addresses
from lightspeed_protocol.runtime.quic_client import QuicClient, any_address, open_client
from lightspeed_protocol.runtime.udp import Address, UdpPort, open_socket
from lightspeed_protocol.seal import SealedEnd
from lightspeed_protocol.sealed_flow import SealedFlow

from tests.support.repair import fixed

from .invites import parse

ANSWER_S = 20.0
OpenSocket = Callable[[Address], socket.socket]


@attrs.define(eq=False)
class Guest:
    """`port` is its data socket, `node` the data port it speaks to."""

    client: QuicClient
    grant: Grant
    end: SealedEnd
    port: UdpPort
    node: Address
    asked: int = 0
    _flows: dict[bytes, SealedFlow] = attrs.field(factory=dict)

    def play(self, game: Address, server: Address, payload: bytes) -> None:
        """Send a packet of this game to this server."""
        label = pack_addresses(game, server)
        flow = self._flows.get(label)
        if flow is None:
            flow = self._flows[label] = SealedFlow.open(self.end, label, fixed(None))
        for datagram in flow.wrap(payload, 0, 0.0):
            self.port.send(datagram, self.node)

    async def turn(self) -> None:
        """Wait until the node has taken all that was sent to its data port before.

        A keepalive waits its turn there as any packet does; its answer proves that it has come.
        """
        self.asked += 1
        asked = self.asked.to_bytes(4, "big")
        self.port.send(self.end.control(KEEPALIVE, 0, asked), self.node)
        await self.heard(asked)

    async def heard(self, payload: bytes) -> None:
        """Wait for a packet from the node that holds this; others are thrown away."""
        with trio.fail_after(ANSWER_S):
            while payload not in await self._payloads():
                pass

    async def _payloads(self) -> list[bytes]:
        found = []
        for datagram, _ in await self.port.receive():
            try:
                found.append(self.end.open(datagram, trio.current_time()).payload)
            except WireError:
                continue
        return found


@asynccontextmanager
async def open_guest(line: str, udp: OpenSocket = open_socket) -> AsyncIterator[Guest]:
    """Register with an invite, and say goodbye in the end; `udp` opens the sockets.

    Raises `NodeRefused`, `LinkDown`.
    """
    invite, token = parse(line)
    node = invite.host, invite.port

    def bind(address: Address) -> UdpPort:
        return UdpPort(udp(address))

    async with open_client(node, pin=invite.pin, bind=bind, timeout_s=ANSWER_S) as client:
        ask = register_message(token=token, resume=None, client="a test")
        answer = await exchange(client, ask, timeout_s=ANSWER_S)
        grant = read_grant(answer, name=invite.name, host=invite.host)
        with bind(any_address(node)) as port:
            end = SealedEnd.client(grant.session_id, grant.key)
            yield Guest(client, grant, end, port, grant.data)
        await exchange(client, Disconnect(), timeout_s=ANSWER_S)
