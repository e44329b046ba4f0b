from __future__ import annotations

import random

import pytest
from lightspeed_protocol.keepalive import (
    DEAD_AFTER_S,
    FIRST_NUMBER,
    LAST_NUMBER,
    TIMEOUT_S,
    PathDead,
    Prober,
    SendProbe,
)


def play(prober: Prober, seconds: float, lost: float, rng: random.Random) -> list[PathDead]:
    """Probes over a path of 40 ms that loses round trips; what was said of its death."""
    now, end, dead = 0.0, seconds, []
    answers: list[tuple[float, int]] = []
    while now < end:
        now = min([prober.next_deadline(), *(at for at, _ in answers)])
        now = max(now, 0.0)
        for at, number in [answer for answer in answers if answer[0] <= now]:
            answers.remove((at, number))
            prober.answered(number, at)
        for event in prober.poll(now):
            match event:
                case SendProbe(number):
                    if rng.random() >= lost:
                        answers.append((now + 0.04, number))
                case PathDead():
                    dead.append(event)
    return dead


def test_numbers_start_at_60000_and_begin_again_there() -> None:
    prober, seen = Prober(1.0, last_heard=0.0), []
    for second in range(LAST_NUMBER - FIRST_NUMBER + 2):
        for event in prober.poll(float(second)):
            if isinstance(event, SendProbe):
                seen.append(event.sequence)
                prober.answered(event.sequence, float(second))
    assert (seen[0], seen[-2], seen[-1]) == (FIRST_NUMBER, LAST_NUMBER, FIRST_NUMBER)


def test_a_silent_path_dies_once_and_comes_back_with_the_first_answer() -> None:
    prober = Prober(0.25, last_heard=0.0)
    dead = play(prober, 10.0, 1.0, random.Random(1))
    assert len(dead) == 1
    assert DEAD_AFTER_S <= dead[0].silent_s < DEAD_AFTER_S + 0.5
    assert prober.dead
    number = next(e.sequence for e in prober.poll(20.0) if isinstance(e, SendProbe))
    assert prober.answered(number, 20.03) == pytest.approx(0.03)
    assert not prober.dead


@pytest.mark.parametrize("seed", range(3))
def test_an_hour_of_20_percent_loss_each_way_is_no_outage(seed: int) -> None:
    prober = Prober(0.25, last_heard=0.0)
    assert play(prober, 3600.0, 0.36, random.Random(seed)) == []
    assert prober.lost_fraction == pytest.approx(0.36, abs=0.2)
    assert prober.lost / prober.sent == pytest.approx(0.36, abs=0.02)


def test_loss_is_unknown_until_a_probe_has_met_its_fate() -> None:
    prober = Prober(0.25, last_heard=0.0)
    prober.poll(0.0)
    assert prober.lost_fraction is None
    prober.poll(TIMEOUT_S)
    assert prober.lost_fraction == 1.0


def test_an_answer_counts_once_and_only_if_it_was_asked() -> None:
    prober = Prober(0.25, last_heard=0.0)
    prober.poll(0.0)
    assert prober.answered(FIRST_NUMBER + 5, 0.1) is None
    assert prober.answered(FIRST_NUMBER, 0.1) == pytest.approx(0.1)
    assert prober.answered(FIRST_NUMBER, 0.2) is None
    assert prober.answers == 1


@pytest.mark.parametrize("interval_s", [0.05, 0.25, 0.7, 1.0, 5.0])
def test_a_dead_path_is_noticed_at_every_interval(interval_s: float) -> None:
    dead = play(Prober(interval_s, last_heard=0.0), 60.0, 1.0, random.Random(1))
    assert len(dead) == 1
    assert dead[0].silent_s <= max(DEAD_AFTER_S, 3 * interval_s) + interval_s
