"""The games' flows in a sealed tunnel: found by the label of their answers, sent for by time.

A flow sends by itself what no game packet carries: reports, asks, repairs before a silence.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import attrs
import trio
from lightspeed_protocol.deadlines import Deadlines
from lightspeed_protocol.header import swap_addresses
from lightspeed_protocol.runtime.udp import Port

from .sealed_game import SealedGame


@attrs.define(eq=False)
class SealedCarried:
    """A flow, and the local socket its game talks to."""

    flow: SealedGame
    local: Port
    flows: SealedFlows

    def send(self, datagram: bytes) -> bool:
        self.flows.hasten(self)
        return self.flows.send(datagram)

    def close(self, why: str) -> None:
        self.flows.drop(self)


@attrs.define(eq=False)
class SealedFlows:
    """`send` is the tunnel's; `say_fin` tells the node that the flow of a label has ended."""

    send: Callable[[bytes], bool]
    say_fin: Callable[[bytes], object]
    _by_answers: dict[bytes, SealedCarried] = attrs.field(factory=dict)
    _due: Deadlines[SealedCarried] = attrs.field(factory=Deadlines)
    _timer: trio.CancelScope = attrs.field(factory=trio.CancelScope)  # sleeps until then

    def __iter__(self) -> Iterator[SealedGame]:
        return (carried.flow for carried in self._by_answers.values())

    def add(self, flow: SealedGame, local: Port) -> SealedCarried:
        carried = self._by_answers[swap_addresses(flow.label)] = SealedCarried(flow, local, self)
        return carried

    def find(self, label: bytes) -> SealedCarried | None:
        """Whose answers have these addresses."""
        return self._by_answers.get(label)

    def drop(self, carried: SealedCarried) -> None:
        """This conversation has ended; the session goes on."""
        label = carried.flow.label
        self._due.drop(carried)
        if self._by_answers.pop(swap_addresses(label), None) is not None:
            self.say_fin(label)

    def hasten(self, carried: SealedCarried) -> None:
        """Something has been sent or has come: it may be due earlier than was known."""
        due = carried.flow.next_deadline()
        if due < math.inf and self._due.hasten(carried, due):
            self._timer.deadline = min(self._timer.deadline, due)

    async def run_due(self) -> None:
        """Never ends."""
        while True:
            with trio.CancelScope(deadline=self._due.next_deadline()) as self._timer:
                await trio.sleep_forever()
            now = trio.current_time()
            for carried in self._due.due(now):
                for datagram in carried.flow.poll(now):
                    self.send(datagram)
                self.hasten(carried)
