"""The open tunnel: header versions 1 and 2, to a node that asks for no invite.

    Flow --> its own tunnel socket ==UDP==> node

Each local game socket has a tunnel socket of its own; one more carries the keepalives, so
that a keepalive's answer can never be taken for game data. Only the node's address is heard.
Source: PROTOCOL.md, "Tunnel header" and "Keepalive".
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

import attrs
import trio
from lightspeed_protocol.endpoint import Endpoint
from lightspeed_protocol.header import (
    FIN,
    HEADER_BYTES,
    KEEPALIVE,
    VERSION_PLAIN,
    control_packet,
    microseconds,
)
from lightspeed_protocol.keepalive import PathDead, SendProbe
from lightspeed_protocol.runtime.udp import Port

from .address import Address, write_address
from .flows import FlowTable
from .labels import label
from .lookups import LOOKUP_S, Lookup
from .open_flow import LARGEST_PAYLOAD_BYTES, OpenFlow
from .pulse import Pulse
from .tunnel import OwnedPort, any_port
from .words import why_no_answer

log = logging.getLogger(__name__)

FIN_WAIT_S: Final = 0.3  # the original's node never answers a FIN


@attrs.define(eq=False)
class OpenCarried:
    """A flow with its two sockets."""

    flow: OpenFlow
    local: Port
    port: OwnedPort
    tunnel: OpenTunnel
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    ended: trio.Event = attrs.field(factory=trio.Event)

    def send(self, datagram: bytes) -> bool:
        node = self.tunnel.lookup.found
        return node is not None and self.port.send(datagram, node)

    def close(self, why: str) -> None:
        """FIN now, and once more when the downlink task has ended."""
        self.tunnel.send_fin(self)
        self.scope.cancel(why)


@attrs.define(eq=False, kw_only=True)
class OpenTunnel:
    """`nursery` is for the downlink tasks, one for each flow."""

    lookup: Lookup
    bind: Callable[[Address], OwnedPort]
    nursery: trio.Nursery
    table: FlowTable
    pulse: Pulse
    largest_payload: int = LARGEST_PAYLOAD_BYTES
    strangers: int = 0
    fins_answered: int = 0
    _live: set[OpenCarried] = attrs.field(factory=set)
    _no_way: bool = False  # the system did not take the last keepalive
    _lookup_at: float = 0.0
    _ending: bool = False

    @property
    def node(self) -> Address | None:
        return self.lookup.found

    def not_ready(self) -> str | None:
        return "names-not-found" if self.lookup.found is None else None

    def not_found(self) -> bool:
        return self.lookup.found is None

    # -- tasks -------------------------------------------------------------------------

    async def run(self) -> None:
        """Find the node, however long it takes; then ask it for signs of life. Never ends."""
        node = await self.lookup.until_found()
        with self.bind(any_port(node)) as port:
            self.pulse.begin(trio.current_time())
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._run_probes, port)
                await self._hear(port)

    async def _hear(self, port: OwnedPort) -> None:
        while True:
            batch = await port.receive()
            now = trio.current_time()
            for datagram, source in batch:
                if source != self.lookup.found:
                    self.strangers += 1
                elif len(datagram) >= HEADER_BYTES and datagram[0] >> 4 == VERSION_PLAIN:
                    if datagram[0] & FIN:
                        self._node_left(now)
                    elif datagram[0] & KEEPALIVE:
                        self.pulse.answered(datagram[2] << 8 | datagram[3], now)

    async def _run_probes(self, port: OwnedPort) -> None:
        while True:
            now = trio.current_time()
            for event in self.pulse.poll(now, self.table.game_silent_s(now)):
                match event:
                    case SendProbe(sequence):
                        self._send_keepalive(port, sequence, now)
                    case PathDead():
                        log.warning("%s; trying on", self.why_silent())
            if self.pulse.dead and self.lookup.is_name and now >= self._lookup_at:
                self._lookup_at = now + LOOKUP_S
                self.nursery.start_soon(self.lookup.again)
            await trio.sleep_until(self.pulse.prober.next_deadline())

    async def _run_downlink(self, carried: OpenCarried) -> None:
        """Node to one game. However it ends, the node is told and the socket closed."""
        try:
            with carried.scope:
                await self._pump_down(carried)
        finally:
            self._live.discard(carried)
            self.send_fin(carried)
            carried.port.close()

    async def _pump_down(self, carried: OpenCarried) -> None:
        flow, port, local = carried.flow, carried.port, carried.local
        while True:
            batch = await port.receive()
            now = trio.current_time()
            node = self.lookup.found
            heard = False
            for datagram, source in batch:
                if source != node:
                    self.strangers += 1
                    continue
                heard = True
                for payload in flow.from_node(datagram, now):
                    if not local.send(payload, flow.game):
                        self.table.drops["not-delivered"] += 1
                if flow.owed is not None:
                    port.send(flow.owed, source)
                    flow.owed = None
            if flow.ended_by_node:
                flow.ended_by_node = False
                if self._ending:
                    self.fins_answered += not carried.ended.is_set()
                    carried.ended.set()
                self._node_left(now)
            elif heard:
                self.pulse.heard(now)

    # -- beginnings and ends -----------------------------------------------------------

    def open(self, game: Address, server: Address, local: Port, now: float) -> OpenCarried:
        node = self.lookup.found
        assert node is not None
        endpoint = Endpoint.open(label(game, server), fec_k=self.table.fec.k)
        flow = OpenFlow(game, endpoint, now, self.table.drops)
        carried = OpenCarried(flow, local, self.bind(any_port(node)), self)
        self._live.add(carried)
        self.nursery.start_soon(self._run_downlink, carried)
        return carried

    def send_fin(self, carried: OpenCarried) -> None:
        if not carried.ended.is_set():
            carried.send(control_packet(FIN, timestamp_us=microseconds(trio.current_time())))

    async def finish(self) -> None:
        """Every flow says FIN, and once more as its downlink task ends."""
        self._ending = True
        for carried in self._live:
            self.send_fin(carried)
        with trio.move_on_after(FIN_WAIT_S):
            for carried in list(self._live):
                await carried.ended.wait()

    def _send_keepalive(self, port: OwnedPort, sequence: int, now: float) -> None:
        node = self.lookup.found
        assert node is not None
        stamp = microseconds(now)
        keepalive = control_packet(KEEPALIVE, sequence=sequence, timestamp_us=stamp)
        self._no_way = not port.send(keepalive, node)

    def _node_left(self, now: float) -> None:
        if not self._ending:
            self.pulse.left(now)

    # -- words -------------------------------------------------------------------------

    def explain(self) -> str | None:
        return None  # nothing reports what comes of it

    def notice(self) -> str | None:
        if self.lookup.failure is not None:
            return self.lookup.failure
        return f"{self.why_silent()}; trying on" if self.pulse.dead else None

    def why_silent(self) -> str:
        """One line for a node that does not answer, with what to do."""
        node = self.lookup.found
        if node is None:
            return self.lookup.failure or "the node's name is not found yet"
        where = write_address(node)
        if self._no_way:
            return f"this machine has no way to the node {where}: check its network"
        return f"no answer from the node {where}: {why_no_answer(node[1])}"
