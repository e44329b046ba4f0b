"""The controller on the ten-regime timeline, and how soon it is cheap again after loss."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final

import attrs
from lightspeed_protocol.fec.controller import Controller, Settings
from lightspeed_protocol.fec.credit import Credit

from .loss_world import TIMELINE, Losses, Tally, Weather, World, steady

RATE: Final = 64.0
REPORT_LOSS: Final = 0.05
CALM_S: Final = 15.0  # after which
CALM_MOST: Final = 1.17  # so many bytes may still be sent,
COURSE_MOST: Final = 1.70  # and on the whole timeline,
COURSE_R50: Final = 0.70  # and percent not known in time
# Loss ends after a minute; what is sent from 15 s on is judged.
CALM: Final = (Weather(0.05), Weather(0.0, seconds=CALM_S), Weather(0.0, seconds=30.0))


@attrs.define
class Course:
    """Each of its parts, over all runs, and the whole."""

    course: Sequence[Weather]
    parts: list[Tally]
    total: Tally

    @classmethod
    def over(cls, course: Sequence[Weather], runs: Sequence[list[Tally]]) -> Course:
        parts = [Tally() for _ in course]
        total = Tally()
        for tallies in runs:
            for part, tally in zip(parts, tallies, strict=True):
                part.add(tally)
                total.add(tally)
        return cls(course, parts, total)


def drive(course: Sequence[Weather], seed: object) -> list[Tally]:
    """One flow of 64 packets a second through it, with all that a real one has."""
    world = World(
        Losses(random.Random(f"{seed} course"), course, 1 / RATE),
        controller=Controller(Settings()),
        credit=Credit(),
        quiet=True,
        report_loss=REPORT_LOSS,
    )
    world.run(steady(RATE, sum(weather.seconds for weather in course)))
    return world.tallies


def runs(packets: int) -> int:
    """How often the timeline must be gone through for so many."""
    return -(-packets // round(RATE * sum(weather.seconds for weather in TIMELINE)))
