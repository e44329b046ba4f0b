"""Which packets of one flow are missing: newer ones have overtaken them, and they did not come yet.

`report` counts those that stay missing, `asking` asks for them while there is time. A step ahead
of `JUMP` or more is an outage or a flow that counts afresh, as in `sequence`: nothing is missing.
So is one over more packets than those that came account for: to note what is missing is work, which
must not grow with numbers that cost their sender nothing.
"""

from __future__ import annotations

from typing import Final

import attrs

from ..sequence import JUMP, RESTART, distance

SMOOTHING: Final = 1 / 16  # of the distance in time between packets
EARNED: Final = 8  # missing packets that one accounts for which came: 89 % may be lost for ever
MOST_EARNED: Final = 2 * JUMP


@attrs.define(eq=False)
class Missing:
    """A packet that newer ones have overtaken."""

    due_s: float  # when it would have come
    noticed_s: float  # when a newer one was there
    repaired: bool = False
    late: bool = False  # repaired after the budget
    asks: int = 0  # that it had, or can have no more
    asked_s: float | None = None  # the last time


class Gaps:
    """Tell it what is delivered. `settle` gives up what has been missing for the budget.

    Memory: what is missing for less than that, at most `JUMP` after `settle`.
    """

    __slots__ = (
        "_came_s",
        "_earned",
        "_interval_s",
        "_old",
        "_old_run",
        "budget_s",
        "highest",
        "missing",
        "needless",
    )

    def __init__(self, budget_s: float = 0.05) -> None:
        self.budget_s = budget_s
        self.highest: int | None = None  # SSN, unwrapped: no number is used twice
        self.missing: dict[int, Missing] = {}  # by unwrapped SSN, oldest first
        self.needless = 0  # packets that were asked for and came after all
        self._came_s = 0.0  # when the highest came
        self._earned = MOST_EARNED  # packets that may be missing
        self._interval_s = 0.0  # smoothed, between packets
        self._old = 0  # last SSN from far behind
        self._old_run = 0  # of those in a row, counting upwards

    def came(self, ssn: int, now: float) -> None:
        """A source packet (its SSN as u16) was delivered."""
        self._earned = min(self._earned + EARNED, MOST_EARNED)
        if self.highest is None or not self._follows(self.highest, ssn, now):
            self._begin(ssn, now)

    def recovered(self, ssn: int, now: float) -> Missing | None:
        """Repair rebuilt this packet; None if it had been given up."""
        ahead = JUMP if self.highest is None else distance(self.highest & 0xFFFF, ssn)
        if abs(ahead) >= JUMP or ahead > self._earned:
            self._begin(ssn - 1, now)
        assert self.highest is not None
        at = self.highest + distance(self.highest & 0xFFFF, ssn)
        if (ahead := at - self.highest) > 0:  # nothing newer has come to say when it was due
            step_s = min(self._interval_s, (now - self._came_s) / ahead)
            self._miss(ahead, step_s, now)
            self.highest, self._came_s = at, self._came_s + ahead * step_s
        if (missing := self.missing.get(at)) is not None:
            missing.repaired = True
            missing.late = now - missing.due_s > self.budget_s
        return missing

    def settle(self, now: float) -> list[tuple[int, Missing]]:
        """Give up what has had its time, the oldest first."""
        given_up: list[tuple[int, Missing]] = []
        for at, missing in self.missing.items():
            in_time = now < missing.noticed_s + self.budget_s
            if in_time and len(self.missing) - len(given_up) <= JUMP:
                break
            given_up.append((at, missing))
        for at, _ in given_up:
            del self.missing[at]
        return given_up

    def _begin(self, ssn: int, now: float) -> None:
        before = 0xFFFF if self.highest is None else self.highest | 0xFFFF
        self.highest = before + 1 + (ssn & 0xFFFF)
        self._came_s = now
        self.missing.clear()
        self._old_run = 0

    def _follows(self, highest: int, ssn: int, now: float) -> bool:
        """Whether it belongs to what came before, which is then up to date."""
        ahead = distance(highest & 0xFFFF, ssn)
        if ahead >= JUMP or ahead - 1 > self._earned:
            return False
        if ahead <= -JUMP:
            newer = distance(self._old, ssn) > 0
            self._old_run = self._old_run + 1 if newer else 1
            self._old = ssn
            return self._old_run < RESTART
        self._old_run = 0
        if ahead <= 0:
            missing = self.missing.pop(highest + ahead, None)  # reordered, not lost
            if missing is not None and missing.asked_s is not None:
                self.needless += 1
            return True
        step_s = (now - self._came_s) / ahead
        if ahead > 1:
            self._miss(ahead - 1, step_s, now)
        self._interval_s += (step_s - self._interval_s) * SMOOTHING
        self.highest, self._came_s = highest + ahead, now
        return True

    def _miss(self, count: int, step_s: float, now: float) -> None:
        """So many behind the highest are missing; they were due that far apart."""
        assert self.highest is not None
        self._earned -= count
        for i in range(1, count + 1):
            self.missing[self.highest + i] = Missing(self._came_s + i * step_s, now)
