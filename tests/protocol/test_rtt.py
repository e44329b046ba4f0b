from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lightspeed_protocol.rtt import RECENT, RttEstimator, percentile


def test_nothing_is_known_before_the_first_sample() -> None:
    rtt = RttEstimator()
    assert (rtt.last_s, rtt.smoothed_s, rtt.min_s, rtt.jitter_s) == (None,) * 4
    assert rtt.percentile(0.5) is None
    with pytest.raises(ValueError, match="no samples"):
        percentile([], 0.5)


def test_a_steady_path_has_no_jitter() -> None:
    rtt = RttEstimator()
    for _ in range(10):
        rtt.add(0.03)
    assert rtt.smoothed_s == pytest.approx(0.03)
    assert rtt.jitter_s == 0.0


def test_jitter_is_of_neighbours_not_of_sorted_samples() -> None:
    rtt = RttEstimator()
    for number in range(400):
        rtt.add(0.03 if number % 2 else 0.04)
    assert rtt.jitter_s == pytest.approx(0.01)


def test_percentiles_are_nearest_rank() -> None:
    samples = [float(n) for n in range(1, 101)]
    assert [percentile(samples, share) for share in (0.0, 0.5, 0.95, 0.99, 1.0)] == [
        1.0, 50.0, 95.0, 99.0, 100.0,
    ]  # fmt: skip


@given(st.lists(st.floats(0, 10), min_size=1, max_size=2 * RECENT))
def test_every_figure_stays_within_what_was_measured(samples: list[float]) -> None:
    rtt = RttEstimator()
    for sample in samples:
        rtt.add(sample)
    assert rtt.min_s == min(samples)
    assert rtt.smoothed_s is not None
    assert min(samples) - 1e-9 <= rtt.smoothed_s <= max(samples) + 1e-9
    assert rtt.jitter_s is None or 0 <= rtt.jitter_s <= max(samples) - min(samples) + 1e-9
    assert len(rtt.recent) <= RECENT


def test_the_typical_round_trip_moves_with_a_queue_and_not_with_a_stall() -> None:
    assert RttEstimator().typical_s is None
    rtt = RttEstimator()
    for sample in [0.020] * 20 + [0.250, 0.200, 0.100]:
        rtt.add(sample)
    assert rtt.typical_s == 0.020
    for _ in range(5):
        rtt.add(0.080)
    assert rtt.typical_s == 0.080
