"""Two ends of one sealed flow, and a link between them that loses, doubles and reorders.

In virtual time and without a socket. What must hold of every delivery is checked at every delivery:
it was sent, it comes once, and a source packet in the call that took it.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Iterator
from itertools import count

import attrs
from lightspeed_protocol.errors import WireError
from lightspeed_protocol.fec.protection import UNPROTECTED, Protection
from lightspeed_protocol.fec.report import ReceptionLog
from lightspeed_protocol.header import pack_addresses, swap_addresses
from lightspeed_protocol.seal import REPAIR, SealedEnd
from lightspeed_protocol.sealed_flow import SealedFlow

KEY = b"k" * 16
ADDRESSES = pack_addresses(("192.0.2.1", 50000), ("198.51.100.7", 27960))


@attrs.frozen(kw_only=True)
class Weather:
    """Shares of datagrams, 0..1. `run`: how many in a row are lost, in the mean."""

    loss: float = 0.0
    run: float = 1.0
    late: float = 0.0  # overtaken by a few others
    twice: float = 0.0
    delay_s: float = 0.01  # one way


@attrs.define(eq=False)
class Fates:
    """What becomes of one datagram after the other: how much later each copy of it comes."""

    weather: Weather
    rng: random.Random
    _bad: bool = False

    def next(self) -> list[float]:
        weather, rng = self.weather, self.rng
        chance, spread, double = rng.random(), rng.random(), rng.random()  # always as many
        if self._bad:
            self._bad = chance >= 1 / weather.run
        else:
            begins = weather.loss / (weather.run * (1 - weather.loss))
            self._bad = chance < begins
        if self._bad:
            return []
        overtaken = chance > 1 - weather.late
        delay_s = weather.delay_s + (0.005 + 0.06 * spread if overtaken else 0.0)
        return [delay_s, delay_s + 0.02] if double < weather.twice else [delay_s]


def content(number: int) -> bytes:
    """Packet `number`: no two are alike, and they are of different lengths."""
    return number.to_bytes(4, "big") + bytes((number * 7 & 0xFF,)) * (number * 13 % 60)


@attrs.define(eq=False)
class Way:
    """What the flow at its end has sent, and what of it has come to the other."""

    sender: SealedFlow
    receiver: SealedFlow
    fates: Fates  # of source packets: the same whatever else is sent
    extra_fates: Fates
    sent: int = 0
    come: set[int] = attrs.field(factory=set)
    due: float = math.inf  # at the sender


@attrs.define(eq=False)
class SealedLink:
    """`play` sends a packet, `run` lets time pass. Way 0 is client to node, 1 is back."""

    ways: tuple[Way, Way]
    now: float = 100.0
    _flying: list[tuple[float, int, Way, bytes]] = attrs.field(factory=list)
    _numbers: Iterator[int] = attrs.field(factory=count)

    @classmethod
    def open(
        cls,
        seed: int,
        weather: Weather,
        *,
        up: Protection = UNPROTECTED,
        down: Protection = UNPROTECTED,
        repair: bool = True,
        first: int = 0,
    ) -> SealedLink:
        """With `repair` both ends report and ask; without it nothing but source packets is sent."""
        ends = SealedEnd.client(1, KEY), SealedEnd.node(1, KEY)
        flows: list[SealedFlow] = []
        for end, addresses, protection in zip(
            ends, (ADDRESSES, swap_addresses(ADDRESSES)), (up, down), strict=True
        ):
            end.sealer.number = first
            end.round_trip_s = 2 * weather.delay_s
            log = ReceptionLog(budget_s=0.05) if repair else None
            protection = protection if repair else UNPROTECTED
            flows.append(SealedFlow.open(end, addresses, protection, log=log, asking=repair))
        one, other = flows

        def fates(name: str) -> Fates:
            return Fates(weather, random.Random(f"{seed} {name}"))

        return cls(
            (
                Way(one, other, fates("up"), fates("up, repair")),
                Way(other, one, fates("down"), fates("down, repair")),
            )
        )

    def play(self, way: Way) -> None:
        """The game at this end sends its next packet."""
        source, *repairs = way.sender.wrap(content(way.sent), 0, self.now)
        way.sent += 1
        self._launch(way, source, way.fates)
        for repair in repairs:
            self._launch(way, repair, way.extra_fates)
        way.due = way.sender.next_deadline()

    def run(self, until: float) -> None:
        """Deliver and send what is due, in its order."""
        while True:
            first = self._flying[0][0] if self._flying else math.inf
            way = min(self.ways, key=lambda way: way.due)
            at = min(first, max(way.due, self.now))
            if at > until:
                break
            self.now = at
            if first <= at:
                self._arrive(*heapq.heappop(self._flying)[2:])
            else:
                for datagram in way.sender.poll(at):
                    self._launch(way, datagram, way.extra_fates)
                way.due = way.sender.next_deadline()
        self.now = until

    def _launch(self, way: Way, datagram: bytes, fates: Fates) -> None:
        for delay_s in fates.next():
            flight = (self.now + delay_s, next(self._numbers), way, datagram)
            heapq.heappush(self._flying, flight)

    def _arrive(self, way: Way, datagram: bytes) -> None:
        flow = way.receiver
        back = self.ways[way is self.ways[0]]
        try:
            opened = flow.end.open(datagram, self.now)
        except WireError as error:
            assert error.reason == "replayed", error
            return
        source = not opened.flags & REPAIR and not opened.fec_field[0]
        try:
            delivered = flow.receive(opened, self.now)
        except WireError as error:
            assert source, error
            assert error.reason == "duplicate", error
            assert number_of(opened.payload) in way.come, "refused, and never delivered"
            return
        assert not source or delivered[0] == opened.payload, "held back"
        for payload in delivered:
            number = number_of(payload)
            assert number < way.sent, "delivered what was not sent"
            assert payload == content(number), "delivered what was not sent"
            assert number not in way.come, "delivered twice"
            way.come.add(number)
        back.due = flow.next_deadline()


def number_of(payload: bytes) -> int:
    return int.from_bytes(payload[:4], "big")
