"""Serial arithmetic and the duplicate window."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st
from lightspeed_protocol.sequence import RESTART, WINDOW, SequenceWindow, distance

numbers = st.integers(0, 0xFFFF)


@given(numbers, st.integers(-0x8000, 0x7FFF))
def test_distance_undoes_adding(older: int, step: int) -> None:
    assert distance(older, (older + step) & 0xFFFF) == step


@given(numbers, st.lists(st.integers(0, WINDOW - 1), min_size=1, max_size=60))
def test_each_number_is_accepted_once_in_any_order(start: int, steps: list[int]) -> None:
    window = SequenceWindow()
    seen: set[int] = set()
    for step in steps:
        assert window.accept((start + step) & 0xFFFF) is (step not in seen)
        seen.add(step)
    assert window.received == len(seen)
    assert window.duplicates == len(steps) - len(seen)
    assert window.expected == max(steps) - min(steps) + 1
    assert window.lost == window.expected - len(seen)


@given(numbers, st.integers(1, 200), st.integers(0, 2**32))
def test_loss_is_counted_across_the_wrap(start: int, count: int, seed: int) -> None:
    window, rng = SequenceWindow(), random.Random(seed)
    kept = [i for i in range(count) if i in (0, count - 1) or rng.random() < 0.8]
    for i in kept:
        assert window.accept((start + i) & 0xFFFF)
    assert window.lost == count - len(kept)


def test_nothing_is_known_before_the_first() -> None:
    window = SequenceWindow()
    assert (window.expected, window.lost, window.received) == (0, 0, 0)


def test_a_number_from_behind_the_window_is_refused() -> None:
    window = SequenceWindow()
    assert window.accept(10_000)
    assert window.accept(10_000 - WINDOW + 1)
    assert not window.accept(10_000 - WINDOW)
    assert window.duplicates == 1


def test_a_jump_ahead_forgets_what_it_left_behind() -> None:
    window = SequenceWindow()
    assert window.accept(0)
    assert window.accept(WINDOW + 5)
    assert not window.accept(WINDOW + 5)
    assert not window.accept(0)


def test_a_peer_that_counts_afresh_is_heard_again() -> None:
    window = SequenceWindow()
    for number in range(5000, 5010):
        assert window.accept(number)
    heard = [window.accept(number) for number in range(20)]
    assert heard == [False] * (RESTART - 1) + [True] * 13
    assert window.lost == 0


def test_copies_of_one_old_number_do_not_look_like_a_new_beginning() -> None:
    window = SequenceWindow()
    for number in range(5000, 5010):
        assert window.accept(number)
    assert not any(window.accept(7) for _ in range(50))
    assert window.accept(5010)


def test_accepting_in_between_ends_the_run() -> None:
    window = SequenceWindow()
    assert window.accept(5000)
    for number in range(1, 60):
        assert not window.accept(number)
        assert window.accept(5000 + number)


def test_a_peer_that_starts_afresh_far_ahead_has_lost_nothing() -> None:
    window = SequenceWindow()
    for number in (10, 11, 30000, 30001, 30003):
        assert window.accept(number)
    assert (window.received, window.lost) == (5, 1)
