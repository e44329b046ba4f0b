"""What is asked for again, when, and what that brings."""

from __future__ import annotations

import math
import random
from collections import Counter

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lightspeed_protocol.errors import WireError
from lightspeed_protocol.fec.asking import MOST_ASKS, WIDTH, Ask, Asking
from lightspeed_protocol.fec.report import ReceptionLog
from lightspeed_protocol.fec.window import Plan, WindowEncoder

from bench.loss_world import Losses, Weather, World, steady
from tests.support.attempts import attempt

STEP_S = 1 / 64
ROUND_TRIP_S = 0.02
FOR_EVER_S = 1e9
U16 = st.integers(0, 0xFFFF)


# --- bytes


def test_the_bytes_of_an_ask() -> None:
    field, body = Ask.of([0x2FFFE, 0x30000, 0x30008]).encode()
    assert (field.hex(), body.hex()) == ("c000fffe", "0504")
    assert Ask.decode(field, body).ssns == (0xFFFE, 0, 8)


@given(U16, st.sets(st.integers(1, WIDTH - 1)))
def test_an_ask_comes_back_from_its_bytes(oldest: int, more: set[int]) -> None:
    ask = Ask.of(0x30000 + oldest + i for i in (0, *sorted(more)))
    assert Ask.decode(*ask.encode()) == ask
    assert ask.ssns == tuple(oldest + i & 0xFFFF for i in (0, *sorted(more)))


@given(st.binary(max_size=6) | st.binary(max_size=2).map(b"\xc0\0".__add__), st.binary(max_size=10))
def test_hostile_bytes_raise_nothing_but_the_fixed_word(field: bytes, body: bytes) -> None:
    ask = attempt(Ask.decode, field, body)
    if isinstance(ask, WireError):
        assert ask.reason == "fec-field"
    else:
        assert ask.encode() == (field, body)
        assert 1 <= len(ask.ssns) <= WIDTH


@pytest.mark.parametrize(
    ("field", "body"),
    [
        pytest.param("c00000", "01", id="field cut"),
        pytest.param("c000000000", "01", id="field too long"),
        pytest.param("80000000", "01", id="a report's field"),
        pytest.param("c1000000", "01", id="low bits set"),
        pytest.param("c0010000", "01", id="second byte"),
        pytest.param("c0000000", "", id="no bitmap"),
        pytest.param("c0000000", "010000000000000001", id="bitmap of 9 bytes"),
        pytest.param("c0000000", "02", id="the oldest is not asked for"),
        pytest.param("c0000000", "0100", id="a zero byte at the end"),
    ],
)
def test_what_is_no_ask_is_refused(field: str, body: str) -> None:
    with pytest.raises(WireError, match="fec-field"):
        Ask.decode(bytes.fromhex(field), bytes.fromhex(body))


# --- when


class Receiver:
    """A reception log and who asks for what it misses."""

    def __init__(self, round_trip_s: float = ROUND_TRIP_S, budget_s: float = 0.05) -> None:
        self.log = ReceptionLog(budget_s=budget_s)
        self.asking = Asking(self.log.gaps, round_trip_s=round_trip_s)
        self.asked: list[tuple[float, int]] = []  # in milliseconds, the SSN

    def until(self, now: float) -> None:
        """Asks for what is due up to then, each at its time."""
        while (at := self.asking.next_deadline()) <= now:
            if (ask := self.asking.poll(at)) is not None:
                self.asked += [(round(1000 * at, 1), ssn) for ssn in ask.ssns]

    def hear(self, *ssns: int, step_s: float = STEP_S) -> None:
        """These come, each at its own time, counted from the first SSN 0."""
        for ssn in ssns:
            self.until(ssn * step_s)
            self.log.came(ssn & 0xFFFF, ssn * step_s)


def test_a_gap_is_asked_for_as_soon_as_a_newer_packet_shows_it() -> None:
    flow = Receiver()
    flow.hear(0, 1, 3)
    flow.until(FOR_EVER_S)
    assert flow.asked == [(47.9, 2)]  # 3 came at 46.9


def test_packets_sent_together_are_given_a_quarter_of_a_round_trip_to_change_places() -> None:
    flow = Receiver()
    for ssn in (0, 2):
        flow.log.came(ssn, 0.1)
    flow.until(FOR_EVER_S)
    assert flow.asked[0] == (105.0, 1)


def test_a_repair_that_comes_right_behind_makes_asking_needless() -> None:
    flow = Receiver()
    flow.hear(0, 1, 3)
    flow.log.recovered(2, 3 * STEP_S + 0.0005)
    assert flow.asking.next_deadline() == math.inf


def test_it_asks_a_second_time_when_the_answer_is_overdue_and_never_a_third() -> None:
    flow = Receiver(round_trip_s=0.01)
    flow.hear(0, 1, 3)
    flow.until(FOR_EVER_S)
    assert flow.asked == [(47.9, 2), (60.4, 2)]
    assert flow.asking.asked == 2


@pytest.mark.parametrize(
    ("round_trip_s", "budget_s", "asks"),
    [(0.03, 0.05, 1), (0.034, 0.05, 0), (0.06, 0.05, 0), (0.06, 0.1, 1), (0.001, 0.05, 2)],
)
def test_it_asks_only_while_an_answer_can_come_in_time(
    round_trip_s: float, budget_s: float, asks: int
) -> None:
    flow = Receiver(round_trip_s, budget_s)
    flow.hear(0, 1, 3)
    flow.until(FOR_EVER_S)
    assert len(flow.asked) == asks


def test_nothing_is_asked_for_before_the_round_trip_is_known() -> None:
    flow = Receiver(round_trip_s=math.inf)
    flow.hear(0, 1, 3)
    assert flow.asking.next_deadline() == math.inf
    flow.asking.round_trip_s = ROUND_TRIP_S
    assert flow.asking.next_deadline() < FOR_EVER_S


def test_a_poll_that_comes_too_late_asks_for_nothing_and_is_not_repeated() -> None:
    flow = Receiver()
    flow.hear(0, 1, 3)
    assert flow.asking.poll(2 * STEP_S + 0.031) is None
    assert flow.asking.next_deadline() == math.inf


def test_one_packet_asks_for_all_that_are_due_across_the_wrap() -> None:
    flow = Receiver(round_trip_s=0.01, budget_s=0.1)
    for ssn, now in ((0xFFFD, 0.0), (2, 0.05), (3, 0.06), (6, 0.06)):
        flow.log.came(ssn, now)
    ask = flow.asking.poll(0.07)
    assert ask is not None
    assert ask.ssns == (0xFFFE, 0xFFFF, 0, 1, 4, 5)


def test_what_lies_further_apart_than_one_packet_can_say_goes_into_two() -> None:
    flow = Receiver()
    for ssn in (0, 2, *range(3, 70), 71):
        flow.log.came(ssn, 0.0)
    asks = [flow.asking.poll(0.01) for _ in range(3)]
    assert [ask and ask.ssns for ask in asks] == [(1,), (70,), None]


def test_an_outage_and_a_flow_that_counts_afresh_are_not_asked_for() -> None:
    flow = Receiver()
    flow.hear(0, 1, 2)
    flow.log.came(2000, 1.0)
    for i in range(9):
        flow.log.came(i, 1.1 + i * STEP_S)
    flow.until(FOR_EVER_S)
    assert flow.asked == []


def test_it_waits_longer_when_packets_come_after_all_and_less_again_when_they_do_not() -> None:
    flow = Receiver()
    waits = []
    now = 0.0
    for i in range(40):
        now += 1.0
        ssn = 3 * i
        flow.log.came(ssn, now)
        flow.log.came(ssn + 2, now)
        deadline = flow.asking.next_deadline()
        waits.append(round(1000 * (deadline - now)))
        assert flow.asking.poll(deadline) is not None
        if i < 8:
            flow.log.came(ssn + 1, now + 0.03)  # as late as it could have been asked for
        else:
            flow.log.recovered(ssn + 1, now + 0.03)
    assert waits[:7] == [5, 10, 15, 20, 25, 29, 29]
    assert waits[-1] == 5


@given(
    st.lists(st.tuples(U16 | st.integers(0, 300), st.booleans(), st.floats(0, 0.05)), max_size=200),
    st.sampled_from((0.0, 0.002, 0.02, 0.06, math.inf)),
)
def test_whatever_comes_each_packet_is_asked_for_at_most_twice(
    events: list[tuple[int, bool, float]], round_trip_s: float
) -> None:
    log = ReceptionLog()
    asking = Asking(log.gaps, round_trip_s=round_trip_s)
    asked: Counter[int] = Counter()
    now = 0.0
    for ssn, recovered, pause in events:
        now += pause
        polls = 0
        while (at := asking.next_deadline()) <= now:
            polls += 1
            assert polls <= 1000
            if (ask := asking.poll(at)) is None:
                continue
            missing = {number & 0xFFFF: number for number in log.gaps.missing}
            numbers = [missing[each] for each in ask.ssns]
            asked.update(numbers)
            assert numbers[-1] - numbers[0] < WIDTH
            for number in numbers:
                due_s = log.gaps.missing[number].due_s
                assert at + round_trip_s <= due_s + 0.05
        (log.recovered if recovered else log.came)(ssn, now)
    assert max(asked.values(), default=0) <= MOST_ASKS
    assert asking.asked == asked.total()


# --- what it brings


def world(
    loss: float,
    *,
    rate: float = 64,
    packets: int = 60_000,
    plan: Plan | None = None,
    delay_s: float = 0.01,
    asking: bool = True,
    reordering: float = 0.0,
) -> World:
    """All that goes back is lost as often."""
    one = World(
        Losses(random.Random(3), [Weather(loss, None, FOR_EVER_S)], 1 / rate),
        plan=plan,
        delay_s=delay_s,
        asking=asking,
        report_loss=loss,
        reordering=reordering,
    )
    one.run(steady(rate, packets / rate))
    return one


def test_at_20_ms_it_is_better_and_cheaper_than_xor_of_four() -> None:
    """5 % lost both ways, 64 a second: .70 % left at 1.05x, .91 % at 1.26x."""
    asking = world(0.05).tallies[0]
    xor = world(0.05, plan=Plan.xor(4), asking=False).tallies[0]
    assert asking.r50 < 0.75 < 0.85 < xor.r50
    assert asking.both_ways <= 1.08 < 1.25 < xor.bytes_ratio
    assert asking.copies < 0.055 * asking.packets


def test_at_60_ms_nothing_is_asked_for() -> None:
    tally = world(0.05, packets=5_000, delay_s=0.03).tallies[0]
    assert (tally.copies, tally.ask_bytes, tally.repaired) == (0, 0, 0)


@pytest.mark.parametrize(("rate", "loss"), [(64, 0.0), (64, 0.02), (128, 0.0), (128, 0.02)])
def test_reordering_brings_few_useless_copies(rate: float, loss: float) -> None:
    """1 % come up to 10 ms behind the next one: nearly all would be asked for without adapting."""
    one = world(loss, rate=rate, packets=20_000, reordering=0.01)
    assert one.needless <= 0.004 * 20_000
    assert one.tallies[0].copies <= (1.15 * loss + 0.004) * 20_000


@attrs.define(eq=False)
class Fate(Losses):
    """What is lost depends on when it is sent and on its size, not on what else is sent."""

    def takes(self, now: float, size: int) -> bool:
        share = self.course[0].loss
        return random.Random(f"{now:.6f} {size}").random() < share


@pytest.mark.parametrize("plan", [None, Plan(4, 4), Plan(1, 1, delay=3)])
def test_what_comes_without_asking_comes_with_it_and_no_later(plan: Plan | None) -> None:
    known = []
    for asking in (False, True):
        losses = Fate(random.Random(1), [Weather(0.1, None, FOR_EVER_S)], STEP_S)
        one = World(losses, plan=plan, delay_s=0.008, asking=asking, report_loss=0.1)
        one.run(steady(64, 300))
        known.append(one._known_s)
    without, with_it = known
    assert set(without) < set(with_it)
    assert all(with_it[number] <= at for number, at in without.items())


@given(st.lists(st.tuples(st.booleans(), U16, st.integers(0, 2**64 - 1)), max_size=100))
def test_lying_and_flooding_asks_never_grow_anything(asks: list[tuple[bool, int, int]]) -> None:
    encoder = WindowEncoder(None, asking=True)
    sent = copies = 0
    for sends, oldest, bitmap in asks:
        if sends:
            encoder.protect(b"packet")
            sent += 1
        copies += sum(encoder.copy(ssn) is not None for ssn in Ask(oldest, bitmap | 1).ssns)
    assert copies <= 2 * sent
    assert len(encoder._kept) == 128
