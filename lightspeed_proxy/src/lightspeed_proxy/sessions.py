"""Who is being carried where: sessions, their flows, and when each ends.

A session is one client; in header versions 1 and 2 that is one outer address and port, so two
players behind one NAT are two sessions. A flow is one game conversation of a session and owns
one outbound socket for its whole life: its port is what the game server knows the player by.
"""

from __future__ import annotations

import heapq
import math
import socket
from collections.abc import Iterator
from itertools import count
from typing import Final

import attrs
from lightspeed_protocol.endpoint import Endpoint
from lightspeed_protocol.sequence import SequenceWindow

from .abuse import Opened
from .rate_limit import Meter

Address = tuple[str, int]

DEAD_WORTH_SWEEPING: Final = 64  # closed flows still waiting in the heap


@attrs.define(eq=False)
class Session:
    """`data` is the node's socket that hears this client and must speak to it.

    The two sums are wire bytes, IP and UDP headers included; the packet path keeps them.
    """

    client: Address
    data: socket.socket
    up: Meter
    down: Meter
    opened: Opened
    bytes_up: int = 0
    bytes_down: int = 0
    flows: dict[bytes, Flow] = attrs.field(factory=dict)  # by bytes 8-19 of its packets
    latest: Flow | None = None  # the flow last used: nearly always the next one too


@attrs.define(eq=False)
class Flow:
    """`sock` is connected, so the kernel lets only the game server answer on it."""

    session: Session
    key: bytes
    sock: socket.socket
    endpoint: Endpoint
    window: SequenceWindow  # of `endpoint`
    last_up: float  # when the client last sent on it


@attrs.define(eq=False)
class Sessions:
    """The bounded tables. Whoever removes a flow closes its socket."""

    idle_timeout_s: float
    by_client: dict[Address, Session] = attrs.field(factory=dict)
    by_descriptor: dict[int, Flow] = attrs.field(factory=dict)
    _expiries: list[tuple[float, int, Flow]] = attrs.field(factory=list)  # a heap
    _numbers: Iterator[int] = attrs.field(factory=count)
    _dead: int = 0  # entries of the heap whose flow has been removed

    def __len__(self) -> int:
        return len(self.by_client)

    def add(self, flow: Flow) -> None:
        """Enter a new flow, and its session if that is new as well."""
        session = flow.session
        self.by_client[session.client] = session
        session.flows[flow.key] = session.latest = flow
        self.by_descriptor[flow.sock.fileno()] = flow
        self._schedule(flow)

    def remove(self, flow: Flow) -> None:
        """Take a flow out; a session that has lost its last flow goes with it."""
        session = flow.session
        del session.flows[flow.key]
        del self.by_descriptor[flow.sock.fileno()]
        if session.latest is flow:
            session.latest = None
        if not session.flows:
            del self.by_client[session.client]
        self._dead += 1
        if self._dead > DEAD_WORTH_SWEEPING and self._dead * 2 > len(self._expiries):
            self.reschedule()

    def next_deadline(self) -> float:
        """When `expired` next has something to look at; `math.inf` for never."""
        return self._expiries[0][0] if self._expiries else math.inf

    def expired(self, now: float) -> list[Flow]:
        """Flows whose client has been silent for the idle timeout; they are still entered.

        A flow that was used since it was scheduled is only scheduled again, so traffic costs
        nothing here.
        """
        gone: list[Flow] = []
        while self._expiries and now >= self._expiries[0][0]:
            flow = heapq.heappop(self._expiries)[2]
            if flow.session.flows.get(flow.key) is not flow:
                self._dead -= 1
            elif now >= flow.last_up + self.idle_timeout_s:
                gone.append(flow)
                self._dead -= 1  # it has no entry any more that its removal could leave behind
            else:
                self._schedule(flow)
        return gone

    def reschedule(self) -> None:
        """Every flow's time anew: after a reload, or to let go of what has been removed."""
        self._expiries = [
            (flow.last_up + self.idle_timeout_s, next(self._numbers), flow)
            for flow in self.by_descriptor.values()
        ]
        heapq.heapify(self._expiries)
        self._dead = 0

    def _schedule(self, flow: Flow) -> None:
        heapq.heappush(
            self._expiries, (flow.last_up + self.idle_timeout_s, next(self._numbers), flow)
        )
