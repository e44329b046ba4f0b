"""What one end received of a numbered stream: what is missing, late, doubled, and the freeze.

The lab's ends share one clock, so a packet's transit is its arrival minus its time of sending.
"Late" is measured against the fastest packet of the same stream: that is when it was due.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import Final

import attrs

LATE_S: Final = 0.050  # a game shows a state about three ticks after it was due, then gives up


@attrs.define(eq=False)
class Receipts:
    """Tell it every arrival with `note`. Numbers begin at 1."""

    transit_s: dict[int, float] = attrs.field(factory=dict)  # number -> how long it travelled
    arrived_at: dict[int, float] = attrs.field(factory=dict)
    duplicates: int = 0
    freeze_s: float = 0.0  # longest time without anything newer
    newest: int = 0
    fastest_s: float | None = None
    _news_at: float | None = None

    def note(self, number: int, sent_at: float, now: float) -> bool:
        """One arrival; False when this number came before."""
        if number in self.transit_s:
            self.duplicates += 1
            return False
        transit_s = now - sent_at
        self.transit_s[number] = transit_s
        self.arrived_at[number] = now
        if self.fastest_s is None or transit_s < self.fastest_s:
            self.fastest_s = transit_s
        if number > self.newest:
            self.newest = number
            if self._news_at is not None:
                self.freeze_s = max(self.freeze_s, now - self._news_at)
            self._news_at = now
        return True

    @property
    def numbers(self) -> AbstractSet[int]:
        """Every number that arrived."""
        return self.transit_s.keys()

    def close(self, now: float) -> None:
        """The stream's sender stopped at `now`: silence until then is a freeze too."""
        if self._news_at is not None:
            self.freeze_s = max(self.freeze_s, now - self._news_at)

    def late(self, budget_s: float = LATE_S) -> set[int]:
        """Those that came more than `budget_s` after they were due."""
        if self.fastest_s is None:
            return set()
        limit_s = self.fastest_s + budget_s
        return {number for number, transit_s in self.transit_s.items() if transit_s > limit_s}
