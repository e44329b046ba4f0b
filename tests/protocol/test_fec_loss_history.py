"""What reports of the last seconds say about loss."""

from __future__ import annotations

import random

import pytest
from lightspeed_protocol.fec.loss_history import MOST, UNKNOWN, Estimate, LossHistory
from lightspeed_protocol.fec.report import Report


def report(received: int, lost: int = 0, runs: int | None = None) -> Report:
    return Report(received=received, lost=lost, runs=lost if runs is None else runs)


def test_a_window_takes_in_what_came_after_its_begin() -> None:
    history = LossHistory()
    for second in range(20):
        history.add(report(64, lost=second), float(second))
    assert history.since(16.0).packets == 3 * 64 + 17 + 18 + 19
    assert history.since(19.0) == UNKNOWN
    assert history.since(-100.0).packets == 12 * 64 + sum(range(8, 20))  # older ones are gone
    assert (history.reported_s, history.lossy_s) == (19.0, 19.0)


def test_the_last_losses_are_dated() -> None:
    history = LossHistory()
    assert (history.reported_s, history.lossy_s) == (None, None)
    history.add(report(15, 1), 1.0)
    history.add(report(16), 2.0)
    assert (history.reported_s, history.lossy_s) == (2.0, 1.0)


def test_a_flood_of_reports_is_not_kept() -> None:
    history = LossHistory()
    for number in range(10_000):
        history.add(report(1), 1.0 + number * 1e-6)
    assert history.since(0.0).packets == MOST


def test_nothing_known_is_no_loss_and_no_certainty() -> None:
    assert (UNKNOWN.loss, UNKNOWN.error, UNKNOWN.likely(1)) == (0, 1, 0)
    assert not UNKNOWN.above(UNKNOWN)


def test_losses_by_themselves_do_not_clump_and_bursts_do() -> None:
    alone = Estimate.of(received=730, lost=38, runs=36)
    assert alone.loss == pytest.approx(38 / 768)
    assert alone.run == pytest.approx(40 / 38)
    assert alone.clump == pytest.approx(1, abs=0.01)
    burst = Estimate.of(received=730, lost=38, runs=13)
    assert burst.run == pytest.approx(40 / 15)
    assert burst.error > 1.8 * alone.error
    assert Estimate.of(received=190, lost=2, runs=1).run < 1.4  # two in a row may be chance


def test_the_error_is_the_one_seen_in_repeated_draws() -> None:
    rng = random.Random(4)
    draws = [sum(rng.random() < 0.05 for _ in range(192)) for _ in range(2000)]
    mean = sum(draws) / len(draws)
    spread = (sum((x - mean) ** 2 for x in draws) / len(draws)) ** 0.5 / 192
    assert Estimate.of(182, 10, 10).error == pytest.approx(spread, rel=0.1)


def test_above_asks_for_size_and_for_certainty() -> None:
    much, little = Estimate.of(150, 50, 40), Estimate.of(190, 6, 6)
    assert much.above(little)
    assert not little.above(much)
    assert not Estimate.of(18, 2, 2).above(Estimate.of(190, 6, 6))  # too few to say
    assert not Estimate.of(88_000, 12_000, 10_000).above(Estimate.of(90_000, 10_000, 9000))
