"""What protection does to a link that is full, against none and each fixed plan on the same link.

    python -m bench.full_link [SEEDS]

A link carries so many times the game's own bytes. What exceeds it is lost at random, as behind a
queue shared with others, or waits in a queue of this flow alone and is lost when that is full. The
first 15 s are not counted.
"""

from __future__ import annotations

import math
import random
import statistics
import sys
from collections.abc import Sequence
from typing import Final

import attrs
from lightspeed_protocol.fec.controller import Controller, Settings
from lightspeed_protocol.fec.credit import Credit
from lightspeed_protocol.fec.residual import candidates
from lightspeed_protocol.fec.window import Plan

from .loss_world import HEADER_BYTES, Losses, Tally, Weather, World, steady

RATE: Final = 64  # packets a second
OWN_BPS: Final = RATE * (100 + HEADER_BYTES) * 8
WARM_S: Final = 15.0
CAPACITIES: Final = (0.9, 1.0, 1.1, 1.2, 1.3, 1.6, 2.2)
LOSSES: Final = (Weather(0.0), Weather(0.01), Weather(0.05), Weather(0.05, 3))
QUEUE_S: Final = 0.1

Narrow = Sequence[tuple[float, float | None]]  # until when, and what it carries; None for all


@attrs.define(eq=False)
class FullLink(Losses):
    """`narrow` is in times of the game's own bytes; `queue_s` None for losses at random."""

    narrow: Narrow = ()
    queue_s: float | None = None
    _busy_until: float = 0.0

    def takes(self, now: float, size: int) -> bool:
        carries = next((share for until, share in self.narrow if now < until), None)
        own_bps = None if carries is None else carries * OWN_BPS
        self.wait_s = max(self._busy_until - now, 0.0)
        self.capacity_bps = own_bps if self.queue_s is None else None
        if self.queue_s is not None and own_bps is not None:
            wait_s = self.wait_s + size * 8 / own_bps
            if wait_s > self.queue_s:
                return True
            self._busy_until, self.wait_s = now + wait_s, wait_s
        return super().takes(now, size)


def play(
    narrow: Narrow,
    seed: int,
    *,
    weather: Weather = LOSSES[0],
    queue_s: float | None = None,
    plan: Plan | None = None,
    adaptive: bool = True,
    asking: bool = False,
    delay_s: float = 0.01,
    seconds: float = 120,
    warm_s: float = WARM_S,
) -> tuple[Tally, World]:
    """What became of the packets after the first `warm_s`; `plan` counts if not `adaptive`."""
    parts = (warm_s, seconds - warm_s)
    course = [attrs.evolve(weather, seconds=part) for part in parts]
    world = World(
        FullLink(random.Random(seed), course, 1 / RATE, narrow=narrow, queue_s=queue_s),
        plan=plan,
        controller=Controller(Settings(asking=asking)) if adaptive else None,
        credit=Credit(),
        quiet=True,
        report_loss=0.05,
        asking=asking,
        delay_s=delay_s,
    )
    world.run(steady(RATE, seconds))
    return world.tallies[1], world


@attrs.frozen
class Case:
    """One line of the table."""

    queue_s: float | None
    weather: Weather
    carries: float

    def mean(
        self, seeds: int, *, plan: Plan | None = None, adaptive: bool = True, asking: bool = False
    ) -> tuple[float, float]:
        """Missed in time, in percent, and bytes over those of source packets."""
        tallies = [
            play(
                ((math.inf, self.carries),),
                seed,
                weather=self.weather,
                queue_s=self.queue_s,
                plan=plan,
                adaptive=adaptive,
                asking=asking,
            )[0]
            for seed in range(seeds)
        ]
        r50 = statistics.fmean(tally.r50 for tally in tallies)
        return r50, statistics.fmean(tally.bytes_ratio for tally in tallies)

    def line(self, seeds: int) -> str:
        fixed = [self.mean(seeds, plan=plan, adaptive=False)[0] for plan in (None, *candidates(3))]
        adaptive, asks = self.mean(seeds), self.mean(seeds, asking=True)
        return (
            f"{'random' if self.queue_s is None else 'queue':7} {self.carries:.1f}x"
            f"  {self.weather.loss:3.0%} {self.weather.run or '':1}"
            f"  {fixed[0]:7.2f} {min(fixed):7.2f}"
            f"  {adaptive[0]:7.2f} {adaptive[1]:.2f}x  {asks[0]:7.2f} {asks[1]:.2f}x"
        )


def main() -> None:
    """A line for each link."""
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 4
    print("excess  room  loss      none    best   adaptive         and asking")
    for queue_s in (None, QUEUE_S):
        for weather in LOSSES:
            for carries in CAPACITIES:
                print(Case(queue_s, weather, carries).line(seeds), flush=True)


if __name__ == "__main__":
    main()
