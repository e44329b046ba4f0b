"""One flow over a lossy path in virtual time: what the game misses, and what repair costs.

The encoder, the controller and the quiet timer at one end; loss and delay between; the decoder
and the reception log at the other, and its reports and asks back. A run depends on its seed alone.

r50 is the share of packets not known to the receiver within the budget of when they would have
come undisturbed. Bytes are those of IP packets with the sealed header. Losses by themselves (`run`
None), or in bad times that last `run` slots in the mean; a slot is the time between two packets,
and takes along all that is sent in it.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections.abc import Iterator, Sequence
from typing import Final

import attrs
from lightspeed_protocol.fec.asking import Ask, Asking
from lightspeed_protocol.fec.controller import Controller
from lightspeed_protocol.fec.credit import Credit
from lightspeed_protocol.fec.quiet import QuietTimer
from lightspeed_protocol.fec.report import ReceptionLog, Report
from lightspeed_protocol.fec.window import Plan, WindowDecoder, WindowEncoder

HEADER_BYTES: Final = 64  # IPv4, UDP, sealed
DELAY_S: Final = 0.02  # one way
SLACK_S: Final = 1e-6  # of the clock
LOAD_S: Final = 0.25  # over which a link's load is measured

LATE_S: Final = 0.01  # the most that a packet out of order comes behind the next one

Datagram = tuple[bytes, bytes, bool]  # FEC field, body, whether it is a repair


@attrs.frozen
class Weather:
    """Losses for so many seconds."""

    loss: float
    run: float | None = None
    seconds: float = 60.0


# The controller's course: what a home line does in ten minutes, at its worst.
TIMELINE: Final = (
    Weather(0.002),
    Weather(0.05),
    Weather(0.05, 2),
    Weather(0.01),
    Weather(0.10),
    Weather(0.02, 3),
    Weather(0.02),
    Weather(0.10, 3),
    Weather(0.20),
    Weather(0.002),
)


@attrs.define(eq=False)
class Losses:
    """Says what is lost; asked in the order of time."""

    rng: random.Random
    course: Sequence[Weather]
    slot_s: float
    capacity_bps: float | None = None  # of a link that loses what exceeds it
    wait_s: float = 0.0  # of the packet asked about last, behind others
    _bad: bool = False
    _slot: int = -1
    _load_bytes: float = 0.0  # of late
    _loaded_at: float = 0.0
    _ends: list[float] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._ends = list(itertools.accumulate(weather.seconds for weather in self.course))

    def at(self, now: float) -> int:
        """Index of the weather."""
        return next((i for i, end in enumerate(self._ends) if now < end), len(self._ends) - 1)

    def takes(self, now: float, size: int) -> bool:
        weather = self.course[self.at(now)]
        if self.capacity_bps is not None and self._overflows(now, size):
            return True
        if weather.run is None:
            self._bad = False
            return self.rng.random() < weather.loss
        slot = int((now + SLACK_S) / self.slot_s)
        for _ in range(max(slot - self._slot, 0)):
            enter = weather.loss / (weather.run * (1 - weather.loss))
            self._bad = self.rng.random() < (1 - 1 / weather.run if self._bad else enter)
        self._slot = slot
        return self._bad

    def _overflows(self, now: float, size: int) -> bool:
        """What exceeds the capacity is lost, whichever it is: others are in the queue as well."""
        assert self.capacity_bps is not None
        fade = math.exp((self._loaded_at - now) / LOAD_S)
        self._load_bytes = self._load_bytes * fade + size
        self._loaded_at = now
        load_bps = self._load_bytes * 8 / LOAD_S
        return self.rng.random() < 1 - self.capacity_bps / load_bps


@attrs.define
class Tally:
    """Of one weather, or of all."""

    packets: int = 0
    missing: int = 0  # not known in time
    lost: int = 0  # not known ever
    repaired: int = 0
    waited_s: float = 0.0  # in all, for those repaired
    source_bytes: int = 0
    repair_bytes: int = 0
    ask_bytes: int = 0  # the other way
    copies: int = 0  # repairs that were asked for

    @property
    def r50(self) -> float:
        """Percent."""
        return 100 * self.missing / self.packets

    @property
    def bytes_ratio(self) -> float:
        return 1 + self.repair_bytes / self.source_bytes

    @property
    def both_ways(self) -> float:
        """As `bytes_ratio`, with what was asked the other way."""
        return self.bytes_ratio + self.ask_bytes / self.source_bytes

    @property
    def repair_delay_ms(self) -> float:
        return 1000 * self.waited_s / self.repaired if self.repaired else 0.0

    def add(self, other: Tally) -> None:
        for name in attrs.fields_dict(Tally):
            setattr(self, name, getattr(self, name) + getattr(other, name))


def steady(rate: float, seconds: float) -> Iterator[float]:
    """When packets leave that are equally far apart."""
    return (number / rate for number in range(round(rate * seconds)))


def bursts(rate: float, packets: int, silence_s: float, count: int) -> Iterator[float]:
    """When packets leave of a game that sends so many, then falls silent."""
    period = (packets - 1) / rate + silence_s
    return (i * period + n / rate for i in range(count) for n in range(packets))


@attrs.define(eq=False)
class World:
    """`run` it once. With a controller, its plan is used instead of `plan`."""

    losses: Losses
    plan: Plan | None = None
    controller: Controller | None = None
    credit: Credit | None = None
    quiet: bool = False
    payload_bytes: int = 100
    budget_s: float = 0.05
    report_loss: float = 0.0  # of all that goes back
    delay_s: float = DELAY_S
    asking: bool = False
    reordering: float = 0.0  # share of source packets that come behind the next one
    tallies: list[Tally] = attrs.field(init=False)
    choices: list[tuple[float, str]] = attrs.field(factory=list)  # when, and why
    needless: int = 0  # packets asked for that came after all
    _round_trip_s: float = attrs.field(init=False)  # smoothed
    _asker: Asking | None = None
    _sent_s: list[float] = attrs.field(factory=list)
    _known_s: dict[int, float] = attrs.field(factory=dict)
    _came: set[int] = attrs.field(factory=set)
    _events: list[tuple[float, int, Datagram | Report | Ask]] = attrs.field(factory=list)
    _count: Iterator[int] = attrs.field(factory=itertools.count)

    def run(self, sending: Iterator[float]) -> Tally:
        """Everything sent at those times, and what became of it in all."""
        self.tallies = [Tally() for _ in self.losses.course]
        self._round_trip_s = 2 * self.delay_s
        encoder = WindowEncoder(self.plan, asking=self.asking)
        decoder = WindowDecoder(from_start=True)
        log = ReceptionLog(budget_s=self.budget_s)
        timer = QuietTimer(self.budget_s)
        if self.asking:
            self._asker = Asking(log.gaps, round_trip_s=2 * self.delay_s)
        for now in itertools.chain(sending, (None,)):
            self._until(now, encoder, decoder, log, timer)
            if now is not None:
                self._send(now, encoder, timer)
        self.needless = log.gaps.needless
        return self._sum()

    def _until(
        self,
        end: float | None,
        encoder: WindowEncoder,
        decoder: WindowDecoder,
        log: ReceptionLog,
        timer: QuietTimer,
    ) -> None:
        """All that happens before the next packet leaves; after the last one, one second more."""
        limit = self._sent_s[-1] + 1.0 if end is None else end - SLACK_S
        while True:
            event = self._events[0][0] if self._events else limit
            ask = math.inf if self._asker is None else self._asker.next_deadline()
            now = min(event, timer.next_deadline(), log.next_deadline(), ask)
            if now >= limit:
                return
            if now == event:
                self._arrive(now, heapq.heappop(self._events)[2], encoder, decoder, log)
            elif now == ask:
                self._ask(now)
            elif now == timer.next_deadline():
                if timer.poll(now) and (repair := encoder.flush(again=True)):
                    self._launch(now, (*repair, True))
            elif (report := log.poll(now)) is not None and self.controller is not None:
                self._back(now, Report.decode(*report.encode()))

    def _ask(self, now: float) -> None:
        assert self._asker is not None
        if (ask := self._asker.poll(now)) is not None:
            field, body = ask.encode()
            self.tallies[self.losses.at(now)].ask_bytes += len(body) + HEADER_BYTES
            self._back(now, Ask.decode(field, body))

    def _back(self, now: float, what: Report | Ask) -> None:
        if self.losses.rng.random() >= self.report_loss:
            self._later(now + self.delay_s, what)

    def _send(self, now: float, encoder: WindowEncoder, timer: QuietTimer) -> None:
        number = len(self._sent_s)
        self._sent_s.append(now)
        interval_s, repairs_silence = 0.0, self.plan is not None
        if self.controller is not None:
            self.controller.sent(self.payload_bytes, now)
            interval_s = self.controller.interval_s
            repairs_silence = self.controller.repairs_silence
            if encoder.plan != self.controller.plan:
                encoder.plan = self.controller.plan
                self.choices.append((now, self.controller.explain()))
        payload = number.to_bytes(4, "big") + bytes(self.payload_bytes - 4)
        field, repairs = encoder.protect(payload)
        self._launch(now, (field, payload, False))
        for repair in repairs:
            self._launch(now, (*repair, True))
        if self.quiet and repairs_silence:
            timer.sent(now, pending=encoder.pending(), interval_s=interval_s)

    def _launch(self, now: float, datagram: Datagram) -> None:
        tally = self.tallies[self.losses.at(now)]
        size = len(datagram[1]) + HEADER_BYTES
        if not datagram[2]:
            tally.source_bytes += size
            if self.credit is not None:
                self.credit.earn(size, now)
        elif self.credit is not None and not self.credit.spend(size, now):
            return
        else:
            tally.repair_bytes += size
        if not self.losses.takes(now, size):
            late_s = 0.0
            if self.reordering and not datagram[2] and self.losses.rng.random() < self.reordering:
                late_s = self.losses.slot_s + self.losses.rng.uniform(0, LATE_S)
            self._later(now + self.delay_s + self.losses.wait_s + late_s, datagram)

    def _later(self, at: float, what: Datagram | Report | Ask) -> None:
        heapq.heappush(self._events, (at, next(self._count), what))

    def _arrive(
        self,
        now: float,
        what: Datagram | Report | Ask,
        encoder: WindowEncoder,
        decoder: WindowDecoder,
        log: ReceptionLog,
    ) -> None:
        if isinstance(what, Report):
            assert self.controller is not None
            self._round_trip_s += (2 * self.delay_s + self.losses.wait_s - self._round_trip_s) / 8
            self.controller.report(what, now, self._round_trip_s)
            return
        if isinstance(what, Ask):
            if self.controller is not None and not self.controller.answers:
                return
            for copy in filter(None, map(encoder.copy, what.ssns)):
                self.tallies[self.losses.at(now)].copies += 1
                self._launch(now, (*copy, True))
            return
        field, body, is_repair = what
        ssn = int.from_bytes(field[2:], "big")
        payloads = decoder.repair(field, body) if is_repair else decoder.source(ssn, body)
        for i, payload in enumerate(payloads):
            number = int.from_bytes(payload[:4], "big")
            self._known_s[number] = now
            if i or is_repair:
                log.recovered(number & 0xFFFF, now)
            else:
                self._came.add(number)
                log.came(number & 0xFFFF, now)

    def _sum(self) -> Tally:
        for number, sent_s in enumerate(self._sent_s):
            tally = self.tallies[self.losses.at(sent_s)]
            tally.packets += 1
            known_s = self._known_s.get(number)
            if known_s is None:
                tally.lost += 1
                tally.missing += 1
                continue
            waited_s = known_s - sent_s - self.delay_s
            tally.missing += waited_s > self.budget_s + SLACK_S
            if number not in self._came:
                tally.repaired += 1
                tally.waited_s += waited_s
        total = Tally()
        for tally in self.tallies:
            total.add(tally)
        return total

    def missing_numbers(self) -> list[int]:
        """Packets not known in time, by the order in which they left."""
        return [
            number
            for number, sent_s in enumerate(self._sent_s)
            if self._known_s.get(number, 1e9) - sent_s - self.delay_s > self.budget_s + SLACK_S
        ]
