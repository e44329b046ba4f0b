"""The fewest lost packets that any code could leave unknown in time, given what else was lost.

A repair is worth at most one packet: it tells one payload's worth of bytes about packets sent
before it. Take any packets that were known in time, and tell the receiver all others for nothing.
They must follow from the repairs sent after the first of them and come before the last one's
deadline, less those that fall between two of them, too late for one and too early for the other,
for such a repair says only what was known before. So every set of them has as many repairs of
its own, and by Hall's theorem all can be paired off, each with a repair sent after it that came
within its budget. The bound is what the largest pairing leaves over, and the repair that was sent
first for each packet in turn makes the largest.

It knows the losses beforehand, which no sender does, so it may not be reached. It does not hold
where repairs are longer than packets, as when one covers packets of many sizes.

Source: P. Hall, "On Representatives of Subsets", 1935; the pairing is earliest deadline first.
"""

from __future__ import annotations

import heapq
from typing import Final

SLACK_S: Final = 1e-6  # sums of floats that should be equal differ by less


class Bound:
    """Tell it `lost` and `repair` in any order; `settle` decides what is old enough.

    Seconds throughout, on one clock. A packet counts as due when it was sent, so times of coming
    are less the way's undisturbed delay. Work: O(log n) for each call. Memory: what `settle` has
    not decided yet.
    """

    __slots__ = ("_came", "_lost", "_usable", "budget_s", "unknown")

    def __init__(self, budget_s: float) -> None:
        self.budget_s = budget_s
        self.unknown = 0  # packets so far that no code could have given in time
        self._lost: list[float] = []  # heaps, all three
        self._came: list[tuple[float, float]] = []  # repairs: when they came, when they were sent
        self._usable: list[float] = []  # repairs that came before the deadline in turn: when sent

    def lost(self, sent_s: float) -> None:
        """A packet that did not come by itself within the budget."""
        heapq.heappush(self._lost, sent_s)

    def repair(self, sent_s: float, came_s: float) -> None:
        """A repair that came. One that left with a packet is made from it as well."""
        heapq.heappush(self._came, (came_s, sent_s))

    def settle(self, now: float) -> int:
        """Decide packets whose time is over, and return `unknown`.

        All that came before `now` must have been told, and all lost packets that were due.
        """
        lost, came, usable = self._lost, self._came, self._usable
        while lost and (deadline := lost[0] + self.budget_s) < now:
            sent_s = heapq.heappop(lost)
            while came and came[0][0] <= deadline + SLACK_S:
                heapq.heappush(usable, heapq.heappop(came)[1])
            while usable and usable[0] < sent_s - SLACK_S:
                heapq.heappop(usable)
            if usable:
                heapq.heappop(usable)
            else:
                self.unknown += 1
        if not lost:
            self._forget(now - self.budget_s)
        return self.unknown

    def _forget(self, before: float) -> None:
        """Repairs sent earlier are of no use to packets whose time is not over."""
        while self._came and self._came[0][1] < before:
            heapq.heappop(self._came)
        while self._usable and self._usable[0] < before:
            heapq.heappop(self._usable)
