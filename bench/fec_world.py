"""One plan over one kind of loss in virtual time, as fast as the codec goes.

The real encoder and decoder, and between them nothing but losses: no controller, no reports, no
events (those are in `loss_world`). What is encoded repeats after some 65 536 packets, so it is
encoded once for each scheme; each packet and each repair that comes is decoded. Every recovered
payload is compared with the one sent, and none may be delivered twice.

r50 is the share of packets not known to the receiver within the budget of when they would have
come undisturbed; the bound is what any code would leave of the same losses. Bytes are those of IP
packets with the sealed header. A run depends on its seed alone.
"""

from __future__ import annotations

import functools
import itertools
import math
import random
import statistics
from collections.abc import Callable, Iterator
from typing import Final

import attrs
from lightspeed_protocol.fec.bound import SLACK_S, Bound
from lightspeed_protocol.fec.quiet import QuietTimer
from lightspeed_protocol.fec.window import Plan, WindowDecoder, WindowEncoder
from lightspeed_protocol.fec.window_encoder import Repair
from lightspeed_protocol.fec.window_plan import KEYS, MAX_REACH

from .loss_world import HEADER_BYTES, Tally, Weather

BUDGET_S: Final = 0.05
SECOND_PATH_S: Final = 0.01  # that the second path takes longer
SSNS: Final = 0x10000
BATCH: Final = 1000  # packets, for the error of a share
UNDISTURBED: Final = 2 * MAX_REACH  # the first packets: a flow's beginning is not what is measured

Moment = tuple[float, bytes | None, tuple[Repair, ...]]  # when, source packet, repairs


@attrs.frozen
class Scheme:
    """A plan; `twice`: each repair is followed by a second one over the newest packets.

    `second_path`: repairs take the other way, which is longer and has losses of its own.
    """

    plan: Plan
    twice: bool = False
    second_path: bool = False

    @property
    def repairs(self) -> float:
        """For each source packet."""
        return (2 if self.twice else 1) / self.plan.every


@attrs.frozen
class Traffic:
    """When packets leave: `burst` of them at `rate`, over again after `period_s`.

    `rate` None: all of a burst at once, which is then a tick. `sizes` of payloads are equally
    likely in between. Bad times are counted in the time between packets, or in ticks.
    """

    rate: float | None = 64.0
    burst: int = 1
    period_s: float | None = None  # None: equally far apart
    sizes: tuple[int, int] = (100, 100)  # bytes, least and most
    quiet: bool = False  # whether the quiet timer repairs what a silence leaves

    def times(self) -> Iterator[float]:
        for i in itertools.count():
            if self.period_s is None:
                assert self.rate is not None
                yield i / self.rate
            else:
                number, at = divmod(i, self.burst)
                yield number * self.period_s + (at / self.rate if self.rate else at * 1e-5)

    def is_last(self, number: int) -> bool:
        """Whether this packet ends a burst."""
        return number % self.burst == self.burst - 1

    @property
    def mean_rate(self) -> float:
        """Packets a second, as a controller would see it."""
        if self.period_s is None or self.quiet:  # pauses aside
            assert self.rate is not None
            return self.rate
        return self.burst / self.period_s

    @property
    def slot_s(self) -> float:
        if self.rate is not None:
            return 1 / self.rate
        assert self.period_s is not None
        return self.period_s


@attrs.define
class Outcome(Tally):
    """What became of the packets, and what it cost."""

    taken: int = 0  # on the way, before any repair
    bound: int = 0  # packets that any code would leave unknown in time
    last_missing: int = 0  # of the last packets of bursts
    batches: list[int] = attrs.field(factory=list)  # missing in each

    def miss(self, is_last: bool) -> None:
        """A packet of the newest batch is lost."""
        self.taken += 1
        self.lost += 1
        self.missing += 1
        self.batches[-1] += 1
        self.last_missing += is_last

    def repair(self, waited_s: float, batch: int, is_last: bool) -> None:
        """One that was lost is known after all."""
        self.lost -= 1
        self.repaired += 1
        self.waited_s += waited_s
        if waited_s <= BUDGET_S + SLACK_S:
            self.missing -= 1
            self.batches[batch] -= 1
            self.last_missing -= is_last

    @property
    def bound_r50(self) -> float:
        """Percent."""
        return 100 * self.bound / self.packets

    @property
    def error(self) -> float:
        """Standard error of r50, percent, with failures that come in groups."""
        return 100 * statistics.stdev(self.batches) / math.sqrt(len(self.batches)) / BATCH


def simulate(
    scheme: Scheme, weather: Weather, traffic: Traffic, packets: int, seed: object
) -> Outcome:
    """So many packets of a flow, and what became of them."""
    first = _losses(weather, traffic.slot_s, random.Random(f"{seed} first"))
    second = _losses(weather, traffic.slot_s, random.Random(f"{seed} second"))
    repair_lost = second if scheme.second_path else first
    longer_s = SECOND_PATH_S if scheme.second_path else 0.0
    payloads = _payloads(traffic.sizes)
    decoder = WindowDecoder()
    bound = Bound(BUDGET_S)
    result = Outcome(packets)
    missing: dict[int, tuple[int, float]] = {}  # by SSN: number and when it was sent
    number = -1
    useful_until = -math.inf  # for a repair
    for now, payload, repairs in _moments(scheme, traffic, packets + UNDISTURBED):
        if payload is not None:
            number += 1
            if number >= UNDISTURBED and (number - UNDISTURBED) % BATCH == 0:
                result.batches.append(0)
                bound.settle(now)
            result.source_bytes += len(payload) + HEADER_BYTES
            if first(now) and number >= UNDISTURBED:
                result.miss(traffic.is_last(number))
                missing[number % SSNS] = number, now
                bound.lost(now)
                useful_until = now + BUDGET_S
            elif decoder.source(number % SSNS, payload) != [payload]:
                raise AssertionError(f"packet {number} was not delivered as it came")
        for field, body in repairs:
            result.repair_bytes += len(body) + HEADER_BYTES
            if repair_lost(now):
                continue
            if now <= useful_until:
                bound.repair(now, now + longer_s)
            for known in decoder.repair(field, body):
                ssn = int.from_bytes(known[:2], "big")
                its, sent_s = missing.pop(ssn, (-1, 0.0))
                if its < 0 or known != payloads[ssn]:
                    raise AssertionError(f"delivered twice or wrong after packet {number}: {ssn}")
                batch = (its - UNDISTURBED) // BATCH
                result.repair(now + longer_s - sent_s, batch, traffic.is_last(its))
    result.bound = bound.settle(math.inf)
    return result


def _losses(weather: Weather, slot_s: float, rng: random.Random) -> Callable[[float], bool]:
    """Says whether what is sent now is lost; asked in the order of time."""
    chance, loss, run = rng.random, weather.loss, weather.run
    if run is None:
        return lambda now: chance() < loss
    stay, enter = 1 - 1 / run, loss / (run * (1 - loss))
    bad, slot = False, -1

    def lost(now: float) -> bool:
        nonlocal bad, slot
        current = int((now + SLACK_S) / slot_s)
        while slot < current:
            slot += 1
            bad = chance() < (stay if bad else enter)
        return bad

    return lost


@functools.lru_cache(maxsize=2)
def _payloads(sizes: tuple[int, int]) -> list[bytes]:
    """By SSN, which they begin with."""
    rng = random.Random(1)
    least, most = sizes
    return [
        ssn.to_bytes(2, "big") + rng.randbytes(rng.randint(least, most) - 2) for ssn in range(SSNS)
    ]


def _moments(scheme: Scheme, traffic: Traffic, packets: int) -> Iterator[Moment]:
    """All that is sent with so many source packets."""
    times = itertools.islice(traffic.times(), packets)
    if traffic.quiet:
        return _with_quiet_timer(scheme, traffic, times)
    period = min(math.lcm(SSNS, KEYS * scheme.plan.every), packets)
    tape = _tape(scheme.plan, scheme.twice, traffic.sizes, period)
    return ((now, *sent) for now, sent in zip(times, itertools.cycle(tape), strict=False))


@functools.lru_cache(maxsize=1)
def _tape(
    plan: Plan, twice: bool, sizes: tuple[int, int], period: int
) -> list[tuple[bytes, tuple[Repair, ...]]]:
    """Source packets and their repairs: all, or until SSN and key are what they were."""
    payloads = _payloads(sizes)
    encoder = WindowEncoder(plan, first_ssn=-MAX_REACH)
    numbers = range(-MAX_REACH, period)
    tape = [_protect(encoder, payloads[number % SSNS], twice) for number in numbers]
    return tape[MAX_REACH:]


def _protect(
    encoder: WindowEncoder, payload: bytes, twice: bool
) -> tuple[bytes, tuple[Repair, ...]]:
    _, repairs = encoder.protect(payload)
    if repairs and twice and (more := encoder.flush(again=True)) is not None:
        repairs = (*repairs, more)
    return payload, repairs


def _with_quiet_timer(scheme: Scheme, traffic: Traffic, times: Iterator[float]) -> Iterator[Moment]:
    payloads = _payloads(traffic.sizes)
    encoder = WindowEncoder(scheme.plan)
    timer = QuietTimer(BUDGET_S)
    for number, now in enumerate(times):
        while (at := timer.next_deadline()) < now:
            if timer.poll(at) and (repair := encoder.flush(again=True)) is not None:
                yield at, None, (repair,)
        yield now, *_protect(encoder, payloads[number % SSNS], scheme.twice)
        interval_s = 0.0 if traffic.rate is None else 1 / traffic.rate
        timer.sent(now, pending=encoder.pending(), interval_s=interval_s)
