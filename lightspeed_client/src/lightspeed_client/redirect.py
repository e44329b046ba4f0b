"""Carries local game sockets through one node: the sockets, pumps and timers around `flows`.

    game --> 127.0.0.1:port --> Flow --> its own tunnel socket ==UDP==> node --> game server

Each local game socket has a tunnel socket of its own; one more carries the keepalives, so
that a keepalive's answer can never be taken for game data. Only the node's address is heard.
Source: PROTOCOL.md, "Tunnel header" and "Keepalive".
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Final, Protocol

import attrs
import trio
from lightspeed_protocol.header import (
    FIN,
    HEADER_BYTES,
    KEEPALIVE,
    VERSION_PLAIN,
    control_packet,
    microseconds,
)
from lightspeed_protocol.keepalive import PathDead, Prober, SendProbe
from lightspeed_protocol.runtime.udp import Port

from .address import Address, Unresolved, is_name, resolve, write_address
from .figures import Figures, Totals
from .flows import LARGEST_PAYLOAD_BYTES, Flow, FlowTable
from .gauges import CARRYING_S, SAMPLE_S, Gauges
from .words import why_no_answer

log = logging.getLogger(__name__)

FIN_WAIT_S: Final = 0.3  # the original's node never answers a FIN
IDLE_PROBE_S: Final = 1.0  # between keepalives while nobody plays or looks
MUTE_S: Final = 5.0  # of play through a node that answers, before a mute server is named
LOOKUP_S: Final = 30.0  # between lookups of a silent node's name, and the longest DNS back-off


class OwnedPort(Port, AbstractContextManager["OwnedPort"], Protocol):
    """A socket of ours: it is closed when we are done with it."""

    @property
    def unsent(self) -> int: ...
    def close(self) -> None: ...


@attrs.define(eq=False)
class Carried:
    """A flow together with its sockets."""

    flow: Flow
    local: Port
    tunnel: OwnedPort
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    ended: trio.Event = attrs.field(factory=trio.Event)


@attrs.define(eq=False, kw_only=True)
class Redirect:
    """Made by `app.open_redirect`, which also starts and ends its tasks."""

    wanted_server: Address  # as the player wrote it
    wanted_node: Address
    listeners: list[Port]
    bind: Callable[[Address], OwnedPort]
    nursery: trio.Nursery  # for the downlink tasks
    table: FlowTable
    prober: Prober
    gauges: Gauges
    probe_s: float = 0.25
    watched: bool = False  # somebody looks at the figures: probe at full rate
    server: Address | None = None  # resolved
    node: Address | None = None
    strangers: int = 0
    fins_answered: int = 0
    answered: trio.Event = attrs.field(factory=trio.Event)  # the first keepalive was
    _live: dict[Address, Carried] = attrs.field(factory=dict)
    _probe_port: OwnedPort | None = None
    _sample_at: float = 0.0
    _lookup_at: float = 0.0
    _ending: bool = False
    _timer: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    _told: set[str] = attrs.field(factory=set)
    _lookup_failure: str | None = None
    _mute_since: float | None = None  # played on, the node answers, the server never has

    # -- what others ask ---------------------------------------------------------------

    @property
    def local_addresses(self) -> list[Address]:
        """Where the game can be pointed: 127.0.0.1 first, then ::1 if there is one."""
        return [port.address for port in self.listeners]

    def figures(self, now: float) -> Figures:
        """How it goes at `now` (`trio.current_time()`)."""
        return self.gauges.figures(now, strangers=self.strangers, notice=self._notice(now))

    def totals(self) -> Totals:
        """The whole session so far."""
        return self.gauges.totals(
            trio.current_time(),
            strangers=self.strangers,
            server=write_address(self.wanted_server),
            node=write_address(self.wanted_node),
            not_found="game server" if self.server is None else "node" if self.node is None else "",
        )

    # -- tasks -------------------------------------------------------------------------

    async def run_path(self) -> None:
        """Find the addresses, however long it takes; then hear keepalive answers. Never ends."""
        await self._look_up_until_found()
        assert self.node is not None
        with self.bind(_any_port(self.node)) as port:
            self._probe_port = port
            # there was no silence before the first probe, and that one is due now
            self.prober.last_heard = self._timer.deadline = trio.current_time()
            while True:
                batch = await port.receive()
                now = trio.current_time()
                for datagram, source in batch:
                    if source != self.node:
                        self.strangers += 1
                    elif len(datagram) >= HEADER_BYTES and datagram[0] >> 4 == VERSION_PLAIN:
                        if datagram[0] & FIN:
                            self._node_left(now)
                        elif datagram[0] & KEEPALIVE:
                            sequence = datagram[2] << 8 | datagram[3]
                            if self.prober.answered(sequence, now) is not None:
                                self.answered.set()
                                self._heard(now)

    async def run_timers(self) -> None:
        """Keepalives, idle flows and the once-a-second sample. Never ends."""
        while True:
            now = trio.current_time()
            self._tick(now)
            due = self._sample_at
            if self._probe_port is not None:
                due = min(due, self.prober.next_deadline())
            with trio.CancelScope(deadline=due) as self._timer:
                await trio.sleep_forever()

    async def run_listener(self, port: Port) -> None:
        """Games to node. Never ends."""
        live, drops = self._live, self.table.drops
        while True:
            batch = await port.receive()
            now = trio.current_time()
            stamp = microseconds(now)
            for payload, game in batch:
                carried = live.get(game) or self._open(game, port, now)
                if carried is None or self.node is None:
                    continue
                for datagram in carried.flow.from_game(payload, now, stamp):
                    if not carried.tunnel.send(datagram, self.node):
                        drops["not-sent"] += 1

    async def _run_downlink(self, carried: Carried) -> None:
        """Node to one game. However it ends, the node is told and the socket closed."""
        try:
            with carried.scope:
                await self._pump_down(carried)
        finally:
            self._forget(carried)
            self._send_fin(carried)
            carried.tunnel.close()

    async def _pump_down(self, carried: Carried) -> None:
        flow, tunnel, local = carried.flow, carried.tunnel, carried.local
        while True:
            batch = await tunnel.receive()
            now = trio.current_time()
            node = self.node
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
                    tunnel.send(flow.owed, source)
                    flow.owed = None
            if flow.ended_by_node:
                flow.ended_by_node = False
                if self._ending:
                    self.fins_answered += not carried.ended.is_set()
                    carried.ended.set()
                self._node_left(now)
            elif heard:
                self.prober.heard(now)
                self._heard(now)

    # -- beginnings and ends -----------------------------------------------------------

    async def look_up(self) -> bool:
        """Resolve what is not resolved yet; False, with one line in the log, when that fails."""
        try:
            if self.server is None:
                self.server = await resolve(self.wanted_server, ipv4_only=True, what="game server")
            if self.node is None:
                self.node = await resolve(self.wanted_node, ipv4_only=False, what="node")
        except Unresolved as exc:
            self._lookup_failure = str(exc)
            self._tell_once(str(exc), "%s; trying again", exc)
            return False
        if self._lookup_failure is not None:
            self._lookup_failure = None
            log.info("names found: node %s", write_address(self.node))
        return True

    async def _look_up_until_found(self) -> None:
        pause_s = 1.0
        while self.server is None or self.node is None:
            await trio.sleep(pause_s)
            pause_s = min(2 * pause_s, LOOKUP_S)
            await self.look_up()

    async def _look_up_again(self) -> None:
        """A silent node with a name may have moved."""
        try:
            found = await resolve(self.wanted_node, ipv4_only=False, what="node")
        except Unresolved as exc:
            self._tell_once(str(exc), "%s; trying again", exc)
            return
        node = self.node
        if node is not None and found != node and (":" in found[0]) == (":" in node[0]):
            log.info("the node's name now means %s", write_address(found))
            self.node = found

    def _open(self, game: Address, local: Port, now: float) -> Carried | None:
        if self.server is None or self.node is None:
            self.table.drops["names-not-found"] += 1
            return None
        silent = self.table.most_silent(now)
        if silent is not None:
            self._close(self._live[silent.game], "another game socket needs its place")
        flow = self.table.admit(game, self.server, now)
        if flow is None:
            self._tell_once(
                "full",
                "%d local game sockets are carried already; more are refused until one has been"
                " silent for %.0f s",
                self.table.max_flows,
                self.table.idle_s,
            )
            return None
        try:
            tunnel = self.bind(_any_port(self.node))
        except OSError as exc:
            self.table.remove(flow)
            self.table.drops["no-socket"] += 1
            self._tell_once("socket", "cannot open a tunnel socket: %s", exc)
            return None
        carried = self._live[game] = Carried(flow, local, tunnel)
        self.nursery.start_soon(self._run_downlink, carried)
        return carried

    def _close(self, carried: Carried, why: str) -> None:
        self._send_fin(carried)
        self._forget(carried)
        carried.scope.cancel(why)

    def _forget(self, carried: Carried) -> None:
        flow = carried.flow
        if self._live.get(flow.game) is carried:
            del self._live[flow.game]
            self.table.remove(flow)

    async def finish(self) -> None:
        """Tell the node that every flow has ended, and give it a moment to say it heard.

        The second FIN goes out as the downlink tasks end.
        """
        self._ending = True
        for carried in self._live.values():
            self._send_fin(carried)
        with trio.move_on_after(FIN_WAIT_S):
            for carried in list(self._live.values()):
                await carried.ended.wait()

    def _send_fin(self, carried: Carried) -> None:
        if self.node is not None and not carried.ended.is_set():
            stamp = microseconds(trio.current_time())
            fin = control_packet(FIN, token=self.table.token, timestamp_us=stamp)
            carried.tunnel.send(fin, self.node)

    # -- the once-a-while work ---------------------------------------------------------

    def _tick(self, now: float) -> None:
        if now >= self._sample_at:
            self._sample_at = now + SAMPLE_S
            self.gauges.sample(now)
            self._watch_server(now)
            for flow in self.table.expired(now):
                self._close(self._live[flow.game], "the game has been silent")
            if self.table.drops["oversize-from-game"]:
                self._tell_once(
                    "oversize",
                    "the game sends packets of more than %d bytes, which a tunnel packet cannot"
                    " hold: they are dropped",
                    LARGEST_PAYLOAD_BYTES,
                )
        port, node = self._probe_port, self.node
        if port is None or node is None:
            return
        silent_s = self.table.game_silent_s(now)
        busy = self.watched or (silent_s is not None and silent_s < CARRYING_S)
        self.prober.interval_s = self.probe_s if busy else max(self.probe_s, IDLE_PROBE_S)
        for event in self.prober.poll(now):
            match event:
                case SendProbe(sequence):
                    port.send(
                        control_packet(
                            KEEPALIVE,
                            token=self.table.token,
                            sequence=sequence,
                            timestamp_us=microseconds(now),
                        ),
                        node,
                    )
                case PathDead(silent_s=silence_s):
                    self.gauges.node.died(now, silence_s)
                    log.warning("%s; trying on", self.why_silent())
        if self.prober.dead and is_name(self.wanted_node[0]) and now >= self._lookup_at:
            self._lookup_at = now + LOOKUP_S
            self.nursery.start_soon(self._look_up_again)

    def _watch_server(self, now: float) -> None:
        playing = self.gauges.node.state(self.table.game_silent_s(now)) == "carrying"
        if not playing or self.table.tally().arrived_down:
            self._mute_since = None
        elif self._mute_since is None:
            self._mute_since = now

    def _heard(self, now: float) -> None:
        outage_s = self.gauges.node.heard(now)
        if outage_s is not None:
            log.info("the node answers again after %.0f s", outage_s)

    def _node_left(self, now: float) -> None:
        if not self._ending and self.gauges.node.left(now):
            log.warning("the node ends the session; sending on, so that it can carry again")

    def why_silent(self) -> str:
        """One line for a node that does not answer, with what to do."""
        if self.node is None:
            return self._lookup_failure or "the node's name is not found yet"
        where = write_address(self.node)
        if self._probe_port is not None and self._probe_port.unsent >= self.prober.sent > 0:
            return f"this machine has no way to the node {where}: check its network"
        return f"no answer from the node {where}: {why_no_answer(self.node[1])}"

    def _notice(self, now: float) -> str | None:
        if self._lookup_failure is not None:
            return self._lookup_failure
        if self.prober.dead:
            return f"{self.why_silent()}; trying on"
        if self._mute_since is not None and now - self._mute_since >= MUTE_S:
            return (
                "the node answers, but the game server does not: check --server; the node may"
                " refuse that address (its operator sees the reason in `lightspeed-proxy status`)"
            )
        return None

    def _tell_once(self, key: str, text: str, *values: object) -> None:
        if key not in self._told:
            self._told.add(key)
            log.warning(text, *values)


def _any_port(node: Address) -> Address:
    return ("::" if ":" in node[0] else "0.0.0.0", 0)
