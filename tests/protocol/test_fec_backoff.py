"""Protection that makes loss is taken back, and loss from elsewhere does not disarm it."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from lightspeed_protocol.fec.backoff import HOLD_S, MOST_HOLD_S, Backoff
from lightspeed_protocol.fec.loss_history import Estimate, LossHistory
from lightspeed_protocol.fec.report import Report

ROUND_TRIP_S = 0.04
BEFORE = Estimate.of(186, 6, 6)  # 3 %


class Link:
    """Reports four times a second on 64 packets a second, with the loss that repairs cause."""

    def __init__(self, loss: Callable[[float], float]) -> None:
        self.loss = loss
        self.now = 100.0
        self.history = LossHistory()
        self.backoff = Backoff()
        self.wanted = 1.0  # repairs per packet
        self._carried = 0.0

    @property
    def repairs(self) -> float:
        levels = (0.0, 1 / 8, 1 / 4, 1 / 3, 1 / 2, 1.0)
        return max(x for x in levels if x <= self.wanted and x < self.backoff.ceiling)

    def run(self, seconds: float) -> None:
        for _ in range(round(4 * seconds)):
            self._carried += 16 * self.loss(self.repairs)
            lost = int(self._carried)
            self._carried -= lost
            self.now += 0.25
            self.history.add(Report(received=16 - lost, lost=lost, runs=lost), self.now)
            self.backoff.step(self.history, self.repairs, self.now, ROUND_TRIP_S)

    def climb(self) -> None:
        self.backoff.raised(self.repairs, BEFORE, self.now, ROUND_TRIP_S)


def full(capacity: float) -> Callable[[float], float]:
    """3 % from elsewhere, and what exceeds so many times the game's own packets."""
    return lambda repairs: 1 - 0.97 * min(1.0, capacity / (1 + repairs))


@pytest.mark.parametrize(
    ("capacity", "most"), [(1.6, 1.0), (1.4, 1 / 2), (1.3, 1 / 2), (1.2, 1 / 4)]
)
def test_on_a_full_link_it_comes_down_to_what_fits(capacity: float, most: float) -> None:
    link = Link(full(capacity))
    link.climb()
    link.run(25)
    assert link.backoff.limit == most
    assert link.backoff.more.loss > 1.5 * link.backoff.less.loss
    assert not link.backoff.testing
    assert link.loss(link.repairs) < 0.06  # 3 % is not the link's


def test_loss_that_came_from_elsewhere_is_tested_for_a_moment_and_allowed() -> None:
    link = Link(lambda repairs: 0.2)
    link.climb()
    seen = []
    for seconds in (2, 4):
        link.run(seconds)
        seen.append((link.backoff.testing, link.repairs))
    assert seen == [(True, 1 / 2), (False, 1.0)]
    assert link.backoff.limit == math.inf


def test_loss_that_did_not_grow_is_not_tested() -> None:
    link = Link(lambda repairs: 0.03)
    link.climb()
    for _ in range(60):
        link.run(1)
        assert link.backoff.ceiling == math.inf


def test_a_limit_ends_and_the_next_one_lasts_longer() -> None:
    link = Link(full(1.6))
    held = []
    for _ in range(6):
        link.climb()
        link.run(10)
        assert link.backoff.limit == 1
        begin = link.now
        while link.backoff.limit < math.inf:
            link.run(0.25)
        held.append(link.now - begin)
    assert held[0] == pytest.approx(HOLD_S, abs=8)
    assert held[1] == pytest.approx(2 * HOLD_S, abs=8)
    assert held[-1] == pytest.approx(MOST_HOLD_S, abs=8)


def test_a_limit_ends_at_once_when_loss_is_as_large_without_the_repairs() -> None:
    link = Link(full(1.6))
    link.climb()
    link.run(12)
    assert link.backoff.limit == 1
    link.loss = lambda repairs: 0.25
    link.run(4)
    assert link.backoff.limit == math.inf


def test_a_plan_that_was_lowered_meanwhile_is_not_watched() -> None:
    link = Link(full(1.2))
    link.climb()
    link.backoff.lowered()
    link.run(20)
    assert link.backoff.ceiling == math.inf


def test_without_packets_a_test_does_not_last() -> None:
    link = Link(full(1.2))
    link.climb()
    link.run(2.5)
    testing = [link.backoff.testing]
    for _ in range(40):
        link.now += 0.25
        link.history.add(Report(received=1), link.now)
        link.backoff.step(link.history, link.repairs, link.now, ROUND_TRIP_S)
    testing.append(link.backoff.testing)
    assert testing == [True, False]
