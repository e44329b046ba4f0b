"""The figures that plans are chosen by: against the codec, and against one another."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lightspeed_protocol.fec.residual import (
    AHEAD,
    CLUMPS,
    EVERY,
    LOSSES,
    Again,
    candidates,
    packets_ahead,
    residual,
)
from lightspeed_protocol.fec.residual_table import SHARES
from lightspeed_protocol.fec.window import Plan

from bench.loss_world import Losses, Weather, World, steady
from bench.residual_table import LEAST, cell


@pytest.mark.parametrize(
    ("most", "every", "clump", "loss"),
    [(3, 2, 0, 4), (3, 4, 0, 3), (3, 1, 3, 4), (0, 1, 0, 4), (6, 3, 2, 3), (12, 8, 5, 6)],
)
def test_the_table_is_what_its_generator_writes(
    most: int, every: int, clump: int, loss: int
) -> None:
    written = SHARES[most, every][clump][loss]
    assert written == cell(every, most, LOSSES[loss], CLUMPS[clump] if clump else None)


def test_the_table_is_whole() -> None:
    assert set(SHARES) == {(most, every) for most in AHEAD for every in EVERY}
    for rows in SHARES.values():
        assert [len(row) for row in rows] == [len(LOSSES)] * len(CLUMPS)
        assert all(0 <= number <= LEAST for row in rows for number in row)


@pytest.mark.parametrize(
    ("plan", "rate", "loss", "run"),
    [
        pytest.param(Plan(4, 4), 64, 0.05, None, id="1 per 4, 5 %"),
        pytest.param(Plan(2, 4), 64, 0.10, None, id="1 per 2, 10 %"),
        pytest.param(Plan(1, 4), 64, 0.20, None, id="1 per 1, 20 %"),
        pytest.param(Plan(1, 4), 64, 0.05, 3.0, id="1 per 1, bursts of 3"),
        pytest.param(Plan(2, 2, stride=3), 64, 0.05, 3.0, id="pairs, bursts of 3"),
        pytest.param(Plan(1, 1, delay=3), 64, 0.05, 3.0, id="delayed copy, bursts of 3"),
        pytest.param(Plan(2, 2), 30, 0.05, None, id="1 per 2, 5 %, 30 a second"),
        pytest.param(Plan(4, 7), 128, 0.05, None, id="1 per 4, 5 %, 128 a second"),
    ],
)
def test_the_codec_leaves_what_the_table_says(
    plan: Plan, rate: int, loss: float, run: float | None
) -> None:
    ahead = packets_ahead(0.05 * rate)
    assert plan in candidates(ahead)
    said = residual(plan, ahead, loss, 1.0 if run is None else run * (1 - loss))
    world = World(Losses(random.Random(10), [Weather(loss, run)], 1 / rate), plan=plan)
    seen = world.run(steady(rate, 40_000 / rate)).r50 / 100
    assert seen == pytest.approx(said, rel=0.3)


@given(
    ahead=st.sampled_from(AHEAD),
    loss=st.floats(0, 1),
    clump=st.floats(0.5, 20),
)
def test_a_plan_leaves_no_more_than_is_lost(ahead: int, loss: float, clump: float) -> None:
    assert residual(None, ahead, loss, clump) == loss
    for plan in candidates(ahead):
        assert 0 <= residual(plan, ahead, loss, clump) <= loss + 1e-12


@given(ahead=st.sampled_from(AHEAD), loss=st.floats(0.002, 0.3), clump=st.floats(1, 9))
def test_more_repair_and_less_loss_leave_less(ahead: int, loss: float, clump: float) -> None:
    windows = [plan for plan in candidates(ahead) if plan.window == ahead + 1 and not plan.delay]
    left = [residual(plan, ahead, loss, clump) for plan in windows if plan.stride == 1]
    assert left == sorted(left, reverse=True) or ahead == 0
    for plan in candidates(ahead):
        more = residual(plan, ahead, 1.3 * loss, clump)
        assert more >= residual(plan, ahead, loss, clump) * 0.97


def test_every_candidate_can_be_sent_and_is_in_time() -> None:
    for ahead in AHEAD:
        for plan in candidates(ahead):
            assert plan.reach <= ahead + 1
            assert plan.stride == 1 or plan.stride % 2


@pytest.mark.parametrize(("count", "ahead"), [(0, 0), (0.9, 0), (3.2, 3), (7.9, 6), (99, 12)])
def test_no_more_packets_than_the_budget_has_room_for(count: float, ahead: int) -> None:
    assert packets_ahead(count) == ahead


# --- asking again


@pytest.mark.parametrize(
    ("rate", "round_trip_s", "asks"),
    [
        (64, 0.02, (1,)),
        (64, 0.01, (2, 1)),
        (64, 0.03, (1,)),
        (128, 0.02, (1, 1, 1)),
        (30, 0.01, (1,)),
        (1000, 0.01, (2,) * 8),
    ],
)
def test_how_often_each_of_the_next_packets_leaves_time_to_ask(
    rate: float, round_trip_s: float, asks: tuple[int, ...]
) -> None:
    again = Again.within(0.05, 1 / rate, round_trip_s)
    assert again == Again(asks, round_trip_s * rate)


@pytest.mark.parametrize(
    ("rate", "round_trip_s"), [(64, 0.034), (64, 0.06), (30, 0.02), (64, math.inf)]
)
def test_nothing_is_asked_for_where_no_answer_is_in_time(rate: float, round_trip_s: float) -> None:
    assert Again.within(0.05, 1 / rate, round_trip_s) is None
    assert Again.within(0.05, 0.0, 0.01) is None  # the rate is not known yet


@pytest.mark.parametrize(
    ("plan", "rate", "round_trip_s", "loss", "run", "low", "high"),
    [
        pytest.param(None, 64, 0.02, 0.05, None, 0.9, 1.1, id="5 %, 20 ms"),
        pytest.param(None, 64, 0.01, 0.10, None, 0.9, 1.1, id="10 %, 10 ms"),
        pytest.param(None, 128, 0.02, 0.05, None, 0.9, 1.1, id="5 %, 128 a second"),
        pytest.param(None, 64, 0.02, 0.05, 3.0, 0.9, 1.1, id="bursts of 3"),
        pytest.param(None, 128, 0.01, 0.05, 3.0, 0.85, 1.1, id="bursts of 3, 128 a second"),
        pytest.param(Plan(8, 4), 64, 0.02, 0.05, None, 0.7, 1.1, id="and 1 per 8"),
        pytest.param(Plan(4, 4), 64, 0.02, 0.05, None, 0.7, 1.1, id="and 1 per 4"),
        pytest.param(Plan(4, 4), 64, 0.01, 0.10, None, 0.5, 1.1, id="and 1 per 4, 10 ms"),
        pytest.param(Plan(2, 4), 64, 0.02, 0.10, None, 0.7, 1.3, id="and 1 per 2, 10 %"),
        pytest.param(Plan(2, 4), 64, 0.02, 0.05, 3.0, 0.9, 1.1, id="and 1 per 2, bursts"),
        pytest.param(Plan(1, 1, delay=3), 64, 0.02, 0.05, 3.0, 0.9, 1.1, id="and a copy, bursts"),
    ],
)
def test_asking_leaves_what_is_said_of_it(
    plan: Plan | None,
    rate: int,
    round_trip_s: float,
    loss: float,
    run: float | None,
    low: float,
    high: float,
) -> None:
    """Beside a plan it leaves less than is said, if anything, but no less than half."""
    again = Again.within(0.05, 1 / rate, round_trip_s)
    clump = 1.0 if run is None else run * (1 - loss)
    said = residual(plan, packets_ahead(0.05 * rate), loss, clump, again)
    losses = Losses(random.Random(10), [Weather(loss, run)], 1 / rate)
    world = World(losses, plan=plan, delay_s=round_trip_s / 2, asking=True, report_loss=loss)
    seen = world.run(steady(rate, 40_000 / rate)).r50 / 100
    assert low * said <= seen <= high * said


@given(
    ahead=st.sampled_from(AHEAD),
    loss=st.floats(0, 1),
    clump=st.floats(0.5, 20),
    interval_s=st.floats(0.001, 0.1),
    round_trip_s=st.floats(0, 0.1),
)
def test_asking_never_leaves_more(
    ahead: int, loss: float, clump: float, interval_s: float, round_trip_s: float
) -> None:
    again = Again.within(0.05, interval_s, round_trip_s)
    for plan in (None, *candidates(ahead)):
        most = residual(plan, ahead, loss, clump)
        assert 0 <= residual(plan, ahead, loss, clump, again) <= most + 1e-12


@pytest.mark.parametrize(("loss", "run"), [(0.01, None), (0.05, None), (0.10, None), (0.05, 3.0)])
def test_as_many_copies_are_sent_as_is_said(loss: float, run: float | None) -> None:
    again = Again.within(0.05, 1 / 64, 0.02)
    assert again is not None
    losses = Losses(random.Random(10), [Weather(loss, run)], 1 / 64)
    world = World(losses, delay_s=0.01, asking=True, report_loss=loss)
    tally = world.run(steady(64, 600))
    said = again.copies(loss, 1.0 if run is None else run * (1 - loss))
    assert tally.copies / tally.packets == pytest.approx(said, rel=0.15)
