"""Decides which local game sockets are carried, and keeps the count of the whole session.

Sans-IO. Each local game socket is one flow; what a flow is depends on the tunnel: `open_flow`
for header versions 1 and 2, `sealed_game` for 8 and 9.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Final, Protocol

import attrs
from lightspeed_protocol.header import Address

from .fec_choice import OFF, FecChoice

MAX_FLOWS: Final = 64  # local game sockets at once: a game uses one to three
GIVES_WAY_S: Final = 10.0  # a game in play is never silent for so long
LARGEST_TUNNEL_BYTES: Final = 2048  # of one tunnel packet, as nodes read them


@attrs.frozen
class Tally:
    """What has been counted since the start; two of them subtract to what happened between.

    Bytes are UDP payloads: IP and UDP headers (28 bytes a packet on IPv4) are in neither side.
    """

    sent: int = 0  # game packets put into the tunnel
    received: int = 0  # game packets handed to the game
    repair_sent: int = 0
    repaired: int = 0  # of `received`: rebuilt from repair packets
    game_bytes_out: int = 0
    game_bytes_in: int = 0
    tunnel_bytes_out: int = 0
    tunnel_bytes_in: int = 0
    expected_down: int = 0  # tunnel packets the node numbered towards us
    arrived_down: int = 0  # of those: came
    wanted_down: int = 0  # game packets the node sent towards us
    duplicates: int = 0
    repair_received: int = 0
    repaired_late: int = 0  # of `repaired`: after the budget
    repair_wasted: int = 0  # repair packets that told nothing new
    repair_given_up: int = 0  # repair packets of which too much was missing
    repair_capped: int = 0  # repair packets not sent, because of a cap
    repair_asked: int = 0  # missing packets asked for again, each time counted
    delayed: int = 0  # game packets not handed over the moment they came
    reported_up: int = 0  # game packets whose fate the node has told
    lost_up: int = 0  # of those: did not come by themselves in time
    repaired_up: int = 0  # of those lost: rebuilt there
    late_up: int = 0  # of those rebuilt: after the budget

    def __add__(self, other: Tally) -> Tally:
        return Tally(*(a + b for a, b in zip(_values(self), _values(other), strict=True)))

    def __sub__(self, other: Tally) -> Tally:
        return Tally(*(a - b for a, b in zip(_values(self), _values(other), strict=True)))


def _values(tally: Tally) -> tuple[int, ...]:
    return attrs.astuple(tally)


NOTHING: Final = Tally()


class Flow(Protocol):
    """One local game socket's conversation with the game server."""

    @property
    def game(self) -> Address: ...
    @property
    def last_game_at(self) -> float: ...  # when the game last sent
    def from_game(self, payload: bytes, now: float, timestamp_us: int) -> tuple[bytes, ...]:
        """The datagrams to send to the node at once; none when the packet cannot be carried."""
        ...

    def tally(self) -> Tally: ...


def nothing_shared() -> Tally:
    """Of a tunnel that numbers each flow by itself."""
    return NOTHING


@attrs.define(eq=False, kw_only=True)
class FlowTable:
    """Bounded: at `max_flows` a new game socket is refused, those that play go on.

    `shared` is what a tunnel counts for all flows together.
    """

    fec: FecChoice = OFF
    idle_s: float = 300.0
    max_flows: int = MAX_FLOWS
    shared: Callable[[], Tally] = nothing_shared
    flows: dict[Address, Flow] = attrs.field(factory=dict)
    drops: Counter[str] = attrs.field(factory=Counter)  # reason -> packets
    opened: int = 0
    last_game_at: float | None = None  # of flows that are closed
    _closed: Tally = NOTHING

    @property
    def full(self) -> bool:
        return len(self.flows) >= self.max_flows

    def add(self, flow: Flow) -> None:
        """A new flow, where there is room."""
        self.flows[flow.game] = flow
        self.opened += 1

    def remove(self, flow: Flow) -> None:
        """Forget a flow, but not what it counted."""
        if self.flows.pop(flow.game, None) is not None:
            self._closed += flow.tally()
            if self.last_game_at is None or flow.last_game_at > self.last_game_at:
                self.last_game_at = flow.last_game_at

    def most_silent(self, now: float) -> Flow | None:
        """In a full table, the flow that gives way to a new game socket, if one may.

        A server browser opens a socket for each server and leaves them all behind.
        """
        if not self.full:
            return None
        flow = min(self.flows.values(), key=lambda flow: flow.last_game_at)
        return flow if now - flow.last_game_at >= GIVES_WAY_S else None

    def expired(self, now: float) -> list[Flow]:
        """Flows whose game has said nothing for `idle_s`. The server's packets do not count."""
        return [flow for flow in self.flows.values() if now - flow.last_game_at >= self.idle_s]

    def game_silent_s(self, now: float) -> float | None:
        """Seconds since any game sent a packet; None when none ever did."""
        times = [flow.last_game_at for flow in self.flows.values()]
        if self.last_game_at is not None:
            times.append(self.last_game_at)
        return now - max(times) if times else None

    def tally(self) -> Tally:
        total = self._closed + self.shared()
        for flow in self.flows.values():
            total += flow.tally()
        return total
