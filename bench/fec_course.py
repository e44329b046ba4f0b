"""The controller on the ten-regime timeline, and how soon it is cheap again after loss."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, Final

import attrs
from lightspeed_protocol.fec.asking import Ask
from lightspeed_protocol.fec.controller import Controller, Settings
from lightspeed_protocol.fec.credit import Credit
from lightspeed_protocol.fec.report import Report

from .fec_world import BUDGET_S, SECOND_PATH_S
from .loss_world import TIMELINE, Datagram, Losses, Tally, Weather, World, steady

RATE: Final = 64.0
REPORT_LOSS: Final = 0.05
CALM_S: Final = 15.0  # after which
CALM_MOST: Final = 1.17  # so many bytes may still be sent,
COURSE_MOST: Final = 1.70  # and on the whole timeline,
COURSE_R50: Final = 0.70  # and percent not known in time,
TWO_PATHS_R50: Final = 0.25  # or with a second path
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


@attrs.frozen
class Courses:
    """The timeline on one path and with a second one, and what follows loss."""

    one_path: Course
    two_paths: Course
    calm: Course


@attrs.define(eq=False, kw_only=True)
class TwoPaths(World):
    """Repairs go by a second path: longer, with losses of its own. Reports are about the first."""

    second: Losses

    def _launch(self, now: float, datagram: Datagram) -> None:
        first = self.losses
        self.losses = self.second if datagram[2] else first
        super()._launch(now, datagram)
        self.losses = first

    def _later(self, at: float, what: Datagram | Report | Ask) -> None:
        longer = isinstance(what, tuple) and what[2]
        super()._later(at + SECOND_PATH_S * longer, what)


def drive(course: Sequence[Weather], seed: object, *, second_path: bool = False) -> list[Tally]:
    """One flow of 64 packets a second through it, with all that a real one has."""
    first, second = (
        Losses(random.Random(f"{seed} {name}"), course, 1 / RATE) for name in ("first", "second")
    )
    budget_s = BUDGET_S - SECOND_PATH_S * second_path
    controller = Controller(Settings(budget_s=budget_s))
    options: dict[str, Any] = {"controller": controller, "credit": Credit()}
    options |= {"quiet": True, "report_loss": REPORT_LOSS, "losses": first}
    world = TwoPaths(second=second, **options) if second_path else World(**options)
    world.run(steady(RATE, sum(weather.seconds for weather in course)))
    return world.tallies


def runs(packets: int) -> int:
    """How often the timeline must be gone through for so many."""
    return -(-packets // round(RATE * sum(weather.seconds for weather in TIMELINE)))
