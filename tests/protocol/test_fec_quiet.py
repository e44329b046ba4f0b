"""When the last packets before silence get repairs of their own."""

from __future__ import annotations

import math
import random

import pytest
from lightspeed_protocol.fec.quiet import QuietTimer
from lightspeed_protocol.fec.window import Plan

from bench.loss_world import Losses, Weather, World, bursts


def fired(timer: QuietTimer) -> list[float]:
    """The times at which it wants a repair, if nothing more is sent."""
    times = []
    while (now := timer.next_deadline()) < math.inf:
        assert not timer.poll(math.nextafter(now, 0))
        assert timer.poll(now)
        times.append(now)
    return times


def test_it_waits_for_nothing_before_the_first_packet() -> None:
    assert QuietTimer().next_deadline() == math.inf
    assert not QuietTimer().poll(1e9)


@pytest.mark.parametrize(("budget_s", "quiet_s"), [(0.05, 0.02), (0.1, 0.02), (0.03, 0.015)])
def test_two_repairs_for_a_packet_in_none(budget_s: float, quiet_s: float) -> None:
    timer = QuietTimer(budget_s)
    timer.sent(1.0, pending=True)
    assert fired(timer) == pytest.approx([1 + quiet_s, 1 + 2 * quiet_s])


def test_one_repair_for_a_packet_that_is_in_one() -> None:
    timer = QuietTimer()
    timer.sent(1.0, pending=False)
    assert fired(timer) == pytest.approx([1.02])


def test_none_while_packets_go_on_or_when_told_to_stop() -> None:
    timer = QuietTimer()
    for number in range(10):
        timer.sent(number / 64, pending=True)
        assert not timer.poll((number + 1) / 64)
    timer.stop()
    assert fired(timer) == []


def test_a_slow_flow_is_quiet_only_when_it_is_slower_than_ever() -> None:
    timer = QuietTimer()
    timer.sent(1.0, pending=True, interval_s=1 / 30)
    assert fired(timer) == pytest.approx([1.05, 1.1])


@pytest.mark.parametrize("plan", [Plan(4, 4), Plan(2, 4)], ids=["1 per 4", "1 per 2"])
def test_the_last_of_ten_packets_is_as_safe_as_the_others(plan: Plan) -> None:
    """10 packets, 250 ms of silence, 5 % loss: .05 % of the last ones missing, at most 1.70x.

    6·10^4 packets; .11 % is what the figure may come to by chance in one of a thousand runs.
    """
    world = World(Losses(random.Random(3), [Weather(0.05)], 1 / 64), plan=plan, quiet=True)
    tally = world.run(bursts(64, 10, 0.25, 6000))
    last = sum(number % 10 == 9 for number in world.missing_numbers())
    assert 0 < 100 * last / 6000 <= 0.11
    assert tally.bytes_ratio <= 1.70
