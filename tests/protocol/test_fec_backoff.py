"""Protection that makes loss is taken back, and loss from elsewhere does not disarm it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable

import pytest
from lightspeed_protocol.fec.backoff import HOLD_S, LEAST_STEP, MOST_HOLD_S, STEP_S, Backoff
from lightspeed_protocol.fec.loss_history import LossHistory
from lightspeed_protocol.fec.report import Report

from bench.full_link import QUEUE_S, Narrow, play
from bench.loss_world import Weather

ROUND_TRIP_S = 0.04
LEVELS = (0.0, 1 / 8, 1 / 4, 1 / 3, 1 / 2, 1.0)


class Link:
    """Reports four times a second on 64 packets a second, with the loss that repairs cause."""

    def __init__(self, loss: Callable[[float], float], wanted: float = 1 / 4) -> None:
        self.loss = loss
        self.now = 100.0
        self.history = LossHistory()
        self.backoff = Backoff()
        self.wanted = wanted  # repairs per packet
        self.round_trip_s: Callable[[float], float] = lambda repairs: ROUND_TRIP_S
        self.left = 0.3  # of what is lost, by repair
        self._carried = 0.0

    @property
    def repairs(self) -> float:
        return max(x for x in LEVELS if x <= self.wanted and (not x or x < self.backoff.ceiling))

    def run(self, seconds: float) -> None:
        for _ in range(round(4 * seconds)):
            repairs = self.repairs
            self._carried += 16 * self.loss(repairs)
            lost = int(self._carried)
            self._carried -= lost
            self.now += 0.25
            self.history.add(Report(received=16 - lost, lost=lost, runs=lost), self.now)
            left = self.left * self.loss(repairs)
            self.backoff.step(self.history, repairs, left, self.now, self.round_trip_s(repairs))

    def climb(self) -> None:
        """Some seconds at a quarter, then one for each packet is wanted."""
        self.run(4)
        self.wanted = 1.0

    def hold(self) -> None:
        self.climb()
        self.run(10)


def full(capacity: float) -> Callable[[float], float]:
    """3 % from elsewhere, and what exceeds so many times the game's own packets."""
    return lambda repairs: 1 - 0.97 * min(1.0, capacity / (1 + repairs))


@pytest.mark.parametrize(
    ("capacity", "allowed"), [(1.6, 1 / 3), (1.4, 1 / 8), (1.2, 0.0), (1.0, 0.0)]
)
def test_on_a_full_link_it_comes_down_to_what_surely_fits(capacity: float, allowed: float) -> None:
    """Two standard errors less than what was delivered."""
    link = Link(full(capacity))
    link.hold()
    assert link.repairs == allowed
    assert not link.backoff.testing
    assert link.backoff.more.loss > 0.2
    assert link.backoff.less.loss == pytest.approx(link.loss(0), abs=0.02)


def test_loss_that_came_from_elsewhere_is_tested_for_a_moment_and_allowed() -> None:
    """A lossier time that begins just after the raise."""
    link = Link(lambda repairs: 0.01)
    link.climb()
    link.run(0.5)
    link.loss = lambda repairs: 0.3
    seen = []
    for seconds in (2, 2):
        link.run(seconds)
        seen.append((link.backoff.testing, link.repairs))
    assert seen == [(True, 0.0), (False, 1.0)]
    assert link.backoff.limit == math.inf


def test_loss_that_did_not_grow_is_not_tested_while_repair_is_of_use() -> None:
    link = Link(lambda repairs: 0.3)
    link.left = 0.01
    link.climb()
    for _ in range(60):
        link.run(1)
        assert link.backoff.ceiling == math.inf


def test_loss_that_did_not_grow_is_tested_when_repair_is_of_no_use() -> None:
    link = Link(lambda repairs: 0.03)
    link.hold()
    link.loss = full(1.0)
    link.run(20)
    assert link.repairs == 0


def test_repair_that_is_of_no_use_is_seldom_tested_where_it_does_no_harm() -> None:
    link = Link(lambda repairs: 0.3)
    tests = 0
    for _ in range(480):
        before = link.backoff.testing
        link.run(0.25)
        tests += link.backoff.testing and not before
    assert 1 <= tests <= 4


def test_a_limit_is_lifted_by_steps_and_a_step_too_many_is_taken_back() -> None:
    link = Link(full(1.3))
    link.hold()
    held = []
    for _ in range(6):
        begin, limit = link.now, link.backoff.limit
        while link.backoff.limit == limit:
            link.run(0.25)
        held.append(link.now - begin)
        assert link.backoff.limit == max(2 * limit, LEAST_STEP)
        link.run(3 * STEP_S)
        assert link.repairs == 1 / 4
    assert held == pytest.approx([50, 110, 230, 470, 590, 590], abs=10)
    assert HOLD_S * 10 == MOST_HOLD_S


def test_room_is_found_again() -> None:
    link = Link(full(1.2))
    link.hold()
    link.loss = lambda repairs: 0.03
    link.run(HOLD_S + 3 * STEP_S)
    assert link.repairs == 1
    assert link.backoff.limit == math.inf


def test_a_limit_ends_at_once_when_loss_is_as_large_without_the_repairs() -> None:
    link = Link(full(1.6))
    link.hold()
    link.run(20)
    assert link.backoff.limit < 1
    link.loss = lambda repairs: 0.25
    link.run(4)
    assert link.backoff.limit == math.inf


def test_a_lossier_time_just_after_a_step_holds_it_back_for_seconds_only() -> None:
    link = Link(full(1.6))
    link.hold()
    assert link.repairs == 1 / 3
    link.loss = lambda repairs: 0.25
    seen = []
    for _ in range(7):
        link.run(1)
        seen.append(link.repairs)
    assert 0 in seen
    assert seen[-1] == 1


def test_a_plan_that_was_lowered_meanwhile_is_not_watched() -> None:
    link = Link(full(1.2))
    link.climb()
    link.run(0.5)
    link.wanted = 1 / 8
    link.run(20)
    assert link.backoff.ceiling == math.inf


def test_without_packets_a_test_does_not_last() -> None:
    link = Link(full(1.2))
    link.climb()
    link.run(2)
    testing = [link.backoff.testing]
    for _ in range(40):
        link.now += 0.25
        link.history.add(Report(received=1), link.now)
        link.backoff.step(link.history, link.repairs, 0.0, link.now, ROUND_TRIP_S)
    testing.append(link.backoff.testing)
    assert testing == [True, False]


# --- the round trip


def test_a_round_trip_that_grows_with_what_is_sent_shows_a_queue() -> None:
    link = Link(lambda repairs: 0.03)
    link.climb()
    link.round_trip_s = lambda repairs: ROUND_TRIP_S + (0.05 if repairs > 1 / 3 else 0)
    link.run(8)
    assert link.backoff.queued
    assert 0 < link.backoff.limit <= 1 / 2
    assert link.repairs == 1 / 3


def test_a_round_trip_that_is_longer_for_good_is_tested_once_and_then_taken_for_granted() -> None:
    link = Link(lambda repairs: 0.03)
    link.hold()
    link.round_trip_s = lambda repairs: 2 * ROUND_TRIP_S
    tests = 0
    for _ in range(240):
        before = link.backoff.testing
        link.run(0.25)
        tests += link.backoff.testing and not before
    assert tests == 1
    assert link.repairs == 1


# --- whole flows: what is missed in time, against no repair on the same link, 15 s after the start


def ever(room: float) -> Narrow:
    return ((math.inf, room),)


@pytest.mark.parametrize(
    ("room", "weather", "asking"),
    [
        (0.9, Weather(0), False),
        (0.9, Weather(0), True),
        (1.0, Weather(0), False),
        (1.0, Weather(0.05), False),
        (1.0, Weather(0.05, 3), True),
        (1.1, Weather(0), False),
        (1.2, Weather(0), True),
        (1.2, Weather(0.05), False),
        (1.2, Weather(0.05, 3), False),
        (1.6, Weather(0), False),
    ],
)
def test_a_full_link_loses_no_more_than_without_repair(
    room: float, weather: Weather, asking: bool
) -> None:
    none, left = [], []
    for seed in (1, 2, 3):
        none.append(play(ever(room), seed, weather=weather, adaptive=False)[0].r50)
        left.append(play(ever(room), seed, weather=weather, asking=asking)[0].r50)
    assert statistics.fmean(left) <= 1.1 * statistics.fmean(none) + 0.3


@pytest.mark.parametrize("room", [1.1, 1.2, 1.6])
@pytest.mark.parametrize("weather", [Weather(0), Weather(0.05)])
def test_packets_do_not_queue_for_long_behind_repair(room: float, weather: Weather) -> None:
    """A queue of 100 ms, on which repair makes every packet late before it makes loss."""
    none = play(ever(room), 1, weather=weather, queue_s=QUEUE_S, adaptive=False)[0].r50
    left = play(ever(room), 1, weather=weather, queue_s=QUEUE_S)[0].r50
    assert left <= 1.1 * none + 0.8


def test_where_there_is_room_little_is_lost() -> None:
    """Plans that fit leave .1 % at 1.6 times, and nothing at 2.2 times; no repair leaves 5 %."""
    for room, most in ((1.6, 1.5), (2.2, 0.3)):
        left = [play(ever(room), seed, weather=Weather(0.05))[0].r50 for seed in (1, 2, 3)]
        assert statistics.fmean(left) <= most


@pytest.mark.parametrize("queue_s", [None, QUEUE_S])
def test_a_link_that_was_narrow_for_a_minute_is_protected_again(queue_s: float | None) -> None:
    narrow = ((60, None), (120, 1.1), (math.inf, None))
    left = play(narrow, 1, weather=Weather(0.05), queue_s=queue_s, seconds=300, warm_s=240)[0]
    assert left.r50 < 0.5
