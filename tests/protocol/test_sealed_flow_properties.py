"""Two ends of a sealed flow over bad links: repair only adds, whatever is lost, late or a lie."""

from __future__ import annotations

import gc
import random
import sys
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lightspeed_protocol.errors import WireError
from lightspeed_protocol.fec.asking import Ask
from lightspeed_protocol.fec.protection import UNPROTECTED, Protection
from lightspeed_protocol.fec.report import ReceptionLog, Report
from lightspeed_protocol.fec.window import Plan
from lightspeed_protocol.fec.window_plan import RepairHead
from lightspeed_protocol.seal import REPAIR, SealedEnd
from lightspeed_protocol.sealed_flow import SealedFlow

from tests.support.sealed_link import ADDRESSES, KEY, SealedLink, Weather

AUTO = Protection(adaptive=True)
PROTECTIONS = [
    UNPROTECTED,
    AUTO,
    Protection(adaptive=True, target=0.01, budget_s=0.1, cap=1.3, cap_kbps=64),
    Protection(plan=Plan.xor(4)),
    Protection(plan=Plan(1, 1, delay=3)),
    Protection(plan=Plan(2, 4)),
    Protection(plan=Plan(2, 2, stride=3), cap=1.0),
    Protection(plan=Plan(1, 13)),
]
protections = st.sampled_from(PROTECTIONS)
weathers = st.builds(
    Weather,
    loss=st.floats(0, 0.4),
    run=st.floats(1, 5),
    late=st.floats(0, 0.1),
    twice=st.floats(0, 0.1),
    delay_s=st.sampled_from([0.0005, 0.005, 0.02, 0.1]),
)


def play(
    link: SealedLink, packets: int, *, rng: random.Random | None = None, rate: float = 64
) -> SealedLink:
    """So many from each end, evenly, or with pauses and another protection each time."""
    for _ in range(packets):
        for way in link.ways:
            if rng is not None and rng.random() < 0.5:
                way.sender.protector.change(rng.choice(PROTECTIONS), asking=rng.random() < 0.5)
            link.play(way)
        pause = 30 if rng is not None and rng.random() < 0.02 else 1
        link.run(link.now + pause / rate)
    link.run(link.now + 2.0)
    return link


@settings(max_examples=60)
@given(st.integers(0, 2**32), weathers, protections, protections, st.booleans())
def test_what_comes_without_repair_comes_with_it_and_at_once(
    seed: int, weather: Weather, up: Protection, down: Protection, changing: bool
) -> None:
    """The fates of source packets are the same in both, one by one."""
    link = SealedLink.open(seed, weather, up=up, down=down, first=65_400)
    play(link, 200, rng=random.Random(seed) if changing else None)
    without = play(SealedLink.open(seed, weather, repair=False, first=65_400), 200)
    for way, bare in zip(link.ways, without.ways, strict=True):
        assert way.sent == bare.sent == 200
        assert bare.come <= way.come
        assert way.receiver.outcome().delayed == 0
        assert way.receiver.received == len(way.come)
        assert bare.sender.sent_repair == bare.sender.sent_feedback == 0


@pytest.mark.parametrize(
    "packets", [100_000, pytest.param(1_000_000, marks=pytest.mark.slow)], ids=str
)
def test_nothing_wrong_or_twice_in_very_many_packets(packets: int) -> None:
    weather = Weather(loss=0.03, run=1.5, late=0.02, twice=0.01)
    link = SealedLink.open(8, weather, up=AUTO, down=AUTO, first=60_000)
    up, down = link.ways
    for number in range(packets):
        link.play(up)
        if number % 16 == 0:
            link.play(down)
        link.run(link.now + 1 / 64)
    link.run(link.now + 1.0)
    assert up.sent == packets
    assert len(up.come) >= 0.998 * packets
    assert up.receiver.outcome().delayed == down.receiver.outcome().delayed == 0
    assert up.receiver.recovered > 0.02 * packets


# --- authentic, but lying


def lying_report(rng: random.Random, highest: int) -> tuple[bytes, bytes]:
    """Random counts, or those of a receiver that wants as much or as little as there is."""
    lost = rng.choice((0, 1, 40, rng.randrange(0x10000), 0xFFFF))
    repaired = rng.choice((0, lost, rng.randrange(0x10000)))
    report = Report(
        highest=highest + rng.choice((0, 0, 5000, -5000)) & 0xFFFF,
        received=rng.choice((0, 16, 0xFFFF)),
        lost=lost,
        runs=rng.randint(0, lost),
        repaired=repaired,
        late=rng.randint(0, repaired),
        longest=rng.randint(1, 255) if lost else 0,
        path=rng.randrange(256),
    )
    return report.encode()


def lying_ask(rng: random.Random, highest: int) -> tuple[bytes, bytes]:
    oldest = highest + rng.choice((-1, -60, -130, 1, rng.randrange(0x10000))) & 0xFFFF
    return Ask(oldest, rng.choice((1, (1 << 64) - 1, rng.getrandbits(64) | 1))).encode()


def lying_repair(rng: random.Random, highest: int) -> tuple[bytes, bytes]:
    """Over packets around the highest, of bytes that sum up to nothing that was sent."""
    stride = rng.choice((1, 1, 2, 16))
    window = rng.randint(1, min(64, 127 // stride + 1))
    head = RepairHead(
        rng.randrange(2),
        window,
        highest + rng.randint(-100, 60) & 0xFFFF,
        rng.randrange(128),
        stride,
    )
    field, start = head.encode()
    size = rng.choice((2, 3, 30, 1402))
    symbol = bytes(size) if rng.random() < 0.3 else rng.randbytes(size)
    return field, start + symbol


def garbage(rng: random.Random, highest: int) -> tuple[bytes, bytes]:
    return rng.randbytes(4), rng.randbytes(rng.randrange(20))


LIES = {
    "reports": (0, lying_report),
    "asks": (0, lying_ask),
    "repairs": (REPAIR, lying_repair),
    "garbage-repairs": (REPAIR, garbage),
}
FEEDBACK = ("reports", "asks")


def held(of: object) -> tuple[int, int]:
    """How many objects it holds, and their bytes; code apart."""
    seen: dict[int, Any] = {}
    waiting: list[Any] = [of]
    while waiting:
        one = waiting.pop()
        code = (type, ModuleType, FunctionType, BuiltinFunctionType)
        if id(one) in seen or isinstance(one, code):
            continue
        seen[id(one)] = one
        waiting += gc.get_referents(one)
    return len(seen), sum(map(sys.getsizeof, seen.values()))


def victim(protection: Protection = AUTO) -> SealedFlow:
    end = SealedEnd.node(1, KEY)
    end.round_trip_s = 0.01
    return SealedFlow.open(end, ADDRESSES, protection, log=ReceptionLog(), asking=True)


@pytest.mark.parametrize("kind", LIES)
@pytest.mark.parametrize(("lies", "polled"), [(100_000, False), (20_000, True)])
def test_a_flood_of_lies_raises_nothing_and_leaves_nothing(
    kind: str, lies: int, *, polled: bool
) -> None:
    """Between packets both ways. Where it is not `polled`, what is due piles up."""
    flow, rng = victim(), random.Random(f"{kind} {polled}")
    flags, lie = LIES[kind]
    now, sent, held_before, answers = 100.0, 0, (0, 0), 0
    for number in range(lies):
        now += rng.choice((0.0, 0.0001))
        if number % 100 == 0:
            flow.wrap(rng.randbytes(100), 0, now)
            try:
                assert flow.take(0, sent.to_bytes(4, "big"), b"%d" % sent, now)[0] == b"%d" % sent
            except WireError as error:
                assert flags, "made up before by a repair, or else it is delivered"
                assert error.reason == "duplicate"
            sent += 1
        try:
            delivered = flow.take(flags, *lie(rng, sent - 1), now)
        except WireError as error:
            assert error.reason == "fec-field"
            delivered = []
        assert flags or not delivered, "feedback is nothing to deliver"
        assert all(1 <= len(payload) <= 1400 for payload in delivered)
        if polled and flow.next_deadline() <= now:
            answers += len(flow.poll(now))
        if number == 10_000:
            held_before = held(flow)
    objects, size = held(flow)
    assert objects < 1500
    assert size < 250_000
    assert objects < 1.5 * held_before[0] + 500
    assert flow.outcome().delayed == 0
    assert flow.sent_repair <= 3 * sent + 2, "at most two copies of each, and repairs by plan"
    assert answers <= flow.sent_repair + flow.sent_feedback


@settings(max_examples=40)
@given(st.integers(0, 2**32), weathers, st.sampled_from(FEEDBACK), protections)
def test_a_receiver_that_lies_harms_no_delivery(
    seed: int, weather: Weather, kind: str, protection: Protection
) -> None:
    """Nothing wrong comes of it, and what would have come without any repair still comes."""
    rng = random.Random(seed)
    link = SealedLink.open(seed, weather, up=protection, down=protection, first=65_400)
    without = play(SealedLink.open(seed, weather, repair=False, first=65_400), 100)
    flags, lie = LIES[kind]
    up, _ = link.ways
    for _ in range(100):
        for way in link.ways:
            link.play(way)
        for _ in range(rng.choice((0, 1, 20))):
            assert up.sender.take(flags, *lie(rng, 65_400 + up.sent - 1), link.now) == []
        up.due = up.sender.next_deadline()
        link.run(link.now + 1 / 64)
    link.run(link.now + 2.0)
    for way, bare in zip(link.ways, without.ways, strict=True):
        assert bare.come <= way.come
        assert way.receiver.outcome().delayed == 0


@settings(max_examples=60)
@given(
    st.integers(0, 2**32),
    st.lists(st.tuples(st.sampled_from(sorted(LIES)), st.integers(1, 40)), max_size=30),
)
def test_lies_in_any_order_deliver_each_number_once_and_hold_back_nothing(
    seed: int, lies: list[tuple[str, int]]
) -> None:
    """A liar may make up what nobody sent, as it could in a source packet; but never twice."""
    flow, rng, now, ssn = victim(), random.Random(seed), 100.0, 0
    come: set[int] = set()
    for kind, times in lies:
        flags, lie = LIES[kind]
        for _ in range(times):
            ssn += rng.choice((1, 1, 1, 2, 5))
            payload = b"%d" % ssn
            now += rng.choice((0.0, 0.004, 0.3))
            for one, field, body in (
                (0, ssn.to_bytes(4, "big"), payload),
                (flags, *lie(rng, ssn)),
            ):
                try:
                    delivered = flow.take(one, field, body, now)
                except WireError as error:
                    assert error.reason in ("duplicate", "fec-field")
                    assert one or error.reason != "duplicate" or ssn in come
                    continue
                numbers = list(flow.decoder.rebuilt) if flow.decoder is not None else []
                if one == 0 and field[0] == 0:
                    assert delivered[0] == body
                    numbers = [ssn, *(numbers if len(delivered) > 1 else [])]
                elif not delivered:
                    numbers = []
                assert len(numbers) == len(delivered)
                unwrapped = {number & 0xFFFF for number in numbers}
                assert not unwrapped & come
                come |= unwrapped
            flow.poll(now)
            flow.wrap(b"answer", 0, now)
    assert flow.outcome().delayed == 0
    assert flow.received == len(come)
