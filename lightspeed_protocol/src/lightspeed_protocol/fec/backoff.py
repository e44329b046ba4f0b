"""Whether protection makes the loss it is there against, and how much is then too much.

On a link that is full, repair takes the place of packets. So when loss grows after more was
sent, less is sent for a moment. A full link then delivers as much as before and loses what is
left; any other loses the same share. If it is full, that much stays forbidden for a while, and
the next cheaper protection is tried in the same way.
"""

from __future__ import annotations

import math
from typing import Final

import attrs

from .loss_history import LONG_S, SHORT_S, UNKNOWN, Estimate, LossHistory
from .report import INTERVAL_S

WATCH_S: Final = LONG_S  # after a raise
TEST_S: Final = 3.0
LEAST_PACKETS: Final = 48  # to judge by
PLAIN: Final = 3.0  # standard errors from both possibilities that end a test early
HOLD_S: Final = 60.0  # of a limit, or until the next test; doubles if it was not the last
MOST_HOLD_S: Final = 600.0


@attrs.define(eq=False)
class Backoff:
    """Tell it `raised` and `lowered`, and `step` with each report.

    `repairs` are those sent for each source packet. `limit`: as many or more are forbidden;
    infinity while any are allowed.
    """

    limit: float = math.inf
    more: Estimate = UNKNOWN  # what was lost at the limit,
    less: Estimate = UNKNOWN  # and below it
    _before: Estimate = UNKNOWN  # what was lost before the raise or the test
    _repairs: float = 0.0  # that are watched, or were given up for the test
    _begin: float = 0.0  # of the watch or the test, as the reports show it
    _watching: bool = False
    _testing: bool = False
    _hold_s: float = HOLD_S / 2
    _until: float = math.inf  # end of the limit, or when to test again

    @property
    def testing(self) -> bool:
        """Less is sent to see what becomes of the loss."""
        return self._testing

    @property
    def ceiling(self) -> float:
        """Fewer repairs than this."""
        return min(self.limit, self._repairs) if self._testing else self.limit

    def raised(self, repairs: float, before: Estimate, now: float, round_trip_s: float) -> None:
        """So many are sent from now on; `before` is what was lost with fewer."""
        if not self._testing:
            self._repairs, self._before = repairs, before
            self._begin = _seen_from(now, round_trip_s)
            self._watching = True

    def lowered(self) -> None:
        """Fewer are sent, for other reasons than this."""
        self._watching = False

    def step(self, history: LossHistory, repairs: float, now: float, round_trip_s: float) -> None:
        """A report came while so many were sent."""
        seen = history.since(self._begin)
        if self._testing:
            self._judge(seen, repairs, now, round_trip_s)
            return
        short = history.since(max(self._begin, now - SHORT_S))
        if self._watching and seen.packets >= LEAST_PACKETS and seen.above(self._before):
            self._hold_s = min(2 * self._hold_s, MOST_HOLD_S)
            self._test(seen, repairs, now, round_trip_s)
        elif now >= self._until:
            self._until = now + self._hold_s
            if self.limit < math.inf:
                self.limit = math.inf
            elif repairs and short.likely(2) > 0:
                self._hold_s = min(2 * self._hold_s, MOST_HOLD_S)
                self._test(short, repairs, now, round_trip_s)
            else:
                self._hold_s, self._until = HOLD_S / 2, math.inf
        elif self.limit < math.inf and self._is_lost_anyway(short):
            self.limit = math.inf
        self._watching = self._watching and now <= self._begin + WATCH_S

    def _is_lost_anyway(self, seen: Estimate) -> bool:
        """Whether so much is lost below the limit that it is not to blame."""
        middle = (self.less.loss + self.more.loss) / 2
        return seen.packets >= LEAST_PACKETS and seen.likely(1) > middle

    def _test(self, seen: Estimate, repairs: float, now: float, round_trip_s: float) -> None:
        """Send less than these repairs, with which so much was lost."""
        self._before, self._repairs = seen, repairs
        self._begin = _seen_from(now, round_trip_s)
        self._watching, self._testing = False, True

    def _judge(self, seen: Estimate, repairs: float, now: float, round_trip_s: float) -> None:
        """Has loss shrunk as it does on a full link, or not?"""
        if seen.packets < LEAST_PACKETS and now < self._begin + 2 * TEST_S:
            return
        before = self._before
        full = max(1 - (1 - before.loss) * (1 + self._repairs) / (1 + repairs), 0.0)
        beyond = seen.loss - (full + before.loss) / 2
        if abs(beyond) < PLAIN * seen.error and now < self._begin + TEST_S:
            return
        self._testing = False
        self._until = now + self._hold_s
        if beyond < 0:
            self.limit, self.more, self.less = self._repairs, before, seen
            if repairs and seen.likely(2) > 0:
                self._test(seen, repairs, now, round_trip_s)


def _seen_from(now: float, round_trip_s: float) -> float:
    """When reports are only about what is sent from now on."""
    return now + round_trip_s + 2 * INTERVAL_S
