"""Carries local game sockets through one tunnel: the listeners, the flows and their figures.

    game --> 127.0.0.1:port --> Flow --> tunnel ==UDP==> node --> game server

The way to the node is the `Tunnel`'s affair.
"""

from __future__ import annotations

import logging
from typing import Final

import attrs
import trio
from lightspeed_protocol.header import microseconds
from lightspeed_protocol.keepalive import Prober
from lightspeed_protocol.runtime.udp import Port

from .address import Address, write_address
from .control import ControlSession
from .figures import Figures, Totals
from .flows import FlowTable
from .gauges import SAMPLE_S, Gauges
from .lookups import Lookup
from .tunnel import Carried, Tunnel

log = logging.getLogger(__name__)

MUTE_S: Final = 5.0  # of play through a node that answers, before a mute server is named


@attrs.define(eq=False, kw_only=True)
class Redirect:
    """Made by `app.open_redirect`, which also starts and ends its tasks."""

    node_name: str  # as the player knows it
    listeners: list[Port]
    table: FlowTable
    gauges: Gauges
    tunnel: Tunnel
    server_lookup: Lookup
    control: ControlSession | None = None  # of a node with an invite
    _live: dict[Address, Carried] = attrs.field(factory=dict)
    _told: set[str] = attrs.field(factory=set)
    _mute_since: float | None = None  # played on, the node answers, the server never has

    # -- what others ask ---------------------------------------------------------------

    @property
    def local_addresses(self) -> list[Address]:
        """Where the game can be pointed: 127.0.0.1 first, then ::1 if there is one."""
        return [port.address for port in self.listeners]

    @property
    def server(self) -> Address | None:
        """Resolved."""
        return self.server_lookup.found

    @property
    def node(self) -> Address | None:
        """Resolved: where tunnel packets go."""
        return self.tunnel.node

    @property
    def prober(self) -> Prober:
        return self.tunnel.pulse.prober

    @property
    def answered(self) -> trio.Event:
        """Set by the first keepalive's answer."""
        return self.tunnel.pulse.first_answer

    @property
    def strangers(self) -> int:
        return self.tunnel.strangers

    @property
    def fins_answered(self) -> int:
        return self.tunnel.fins_answered

    def why_silent(self) -> str:
        return self.tunnel.why_silent()

    def figures(self, now: float) -> Figures:
        """How it goes at `now` (`trio.current_time()`)."""
        control = self.control
        return self.gauges.figures(
            now,
            strangers=self.strangers,
            notice=self._notice(now),
            repair_up=self.tunnel.explain(),
            control=None if control is None else control.state,
            session=None if control is None else control.session_id,
        )

    def totals(self) -> Totals:
        """The whole session so far."""
        return self.gauges.totals(
            trio.current_time(),
            strangers=self.strangers,
            server=write_address(self.server_lookup.wanted),
            node=self.node_name,
            not_found="game server"
            if self.server is None
            else "node"
            if self.tunnel.not_found()
            else "",
            session=None if self.control is None else self.control.session_id,
            control=None if self.control is None else self.control.state,
        )

    # -- tasks -------------------------------------------------------------------------

    async def run_timers(self) -> None:
        """Idle flows and the once-a-second sample. Never ends."""
        while True:
            now = trio.current_time()
            self._tick(now)
            await trio.sleep_until(now + SAMPLE_S)

    async def run_listener(self, port: Port) -> None:
        """Games to node. Never ends."""
        live, drops = self._live, self.table.drops
        while True:
            batch = await port.receive()
            now = trio.current_time()
            stamp = microseconds(now)
            for payload, game in batch:
                carried = live.get(game) or self._open(game, port, now)
                if carried is None:
                    continue
                for datagram in carried.flow.from_game(payload, now, stamp):
                    if not carried.send(datagram):
                        drops["not-sent"] += 1

    # -- beginnings and ends -----------------------------------------------------------

    def _open(self, game: Address, local: Port, now: float) -> Carried | None:
        server, table = self.server, self.table
        reason = "names-not-found" if server is None else self.tunnel.not_ready()
        if server is None or reason is not None:
            table.drops[reason or ""] += 1
            return None
        silent = table.most_silent(now)
        if silent is not None:
            self._close(silent.game, "another game socket needs its place")
        if table.full:
            table.drops["too-many-games"] += 1
            self._tell_once(
                "full",
                "%d local game sockets are carried already; more are refused until one has been"
                " silent for %.0f s",
                table.max_flows,
                table.idle_s,
            )
            return None
        try:
            carried = self.tunnel.open(game, server, local, now)
        except OSError as exc:
            table.drops["no-socket"] += 1
            self._tell_once("socket", "cannot carry a game socket: %s", exc)
            return None
        table.add(carried.flow)
        self._live[game] = carried
        return carried

    def _close(self, game: Address, why: str) -> None:
        carried = self._live.pop(game)
        self.table.remove(carried.flow)
        carried.close(why)

    async def finish(self) -> None:
        """Tell the node that everything has ended."""
        if self.control is not None:
            self.control.leaving()
        await self.tunnel.finish()
        for carried in self._live.values():
            self.table.remove(carried.flow)
        self._live.clear()
        if self.control is not None:
            await self.control.goodbye()

    # -- the once-a-while work ---------------------------------------------------------

    def _tick(self, now: float) -> None:
        self.gauges.sample(now)
        self._watch_server(now)
        for flow in self.table.expired(now):
            self._close(flow.game, "the game has been silent")
        if self.table.drops["oversize-from-game"]:
            self._tell_once(
                "oversize",
                "the game sends packets of more than %d bytes, which a tunnel packet cannot"
                " hold: they are dropped",
                self.tunnel.largest_payload,
            )

    def _watch_server(self, now: float) -> None:
        playing = self.gauges.node.state(self.table.game_silent_s(now)) == "carrying"
        if not playing or self.table.tally().received:
            self._mute_since = None
        elif self._mute_since is None:
            self._mute_since = now

    def _notice(self, now: float) -> str | None:
        if self.server_lookup.failure is not None:
            return self.server_lookup.failure
        about_node = self.tunnel.notice()
        if about_node is not None:
            return about_node
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
