"""Whether protection makes the loss it is there against, and how much is then too much.

A full link delivers as many packets whatever is sent: repair takes the place of packets. So when
loss or the round trip grows after more was sent, or repair is of little use for long, none is sent
for a moment. A full link then loses less, and what it delivered before tells how much repair it
has room for; any other loses the same share. More than there is room for stays forbidden for a
while, then a little more is tried at a time.

Source: the numbers below, from simulation (`bench.full_link`).
"""

from __future__ import annotations

import math
from typing import Final

import attrs

from .loss_history import LONG_S, SHORT_S, SURE, UNKNOWN, Estimate, LossHistory
from .report import INTERVAL_S

WATCH_S: Final = LONG_S  # after a raise
TEST_S: Final = 3.0
LEAST_PACKETS: Final = 48  # to judge by
PLAIN: Final = 1.0  # standard errors from a full link that end a test early
HOLD_S: Final = 60.0  # of a limit, or until repair that is of no use is tested again; doubles
MOST_HOLD_S: Final = 600.0
STEP_S: Final = 5.0  # between steps of a limit that is lifted
SLACK: Final = 0.01  # repairs for each packet, beyond those of a plan that is allowed
LEAST_STEP: Final = 1 / 8 + SLACK
STEP_ERRORS: Final = 2.0  # standard errors that loss grows by after a step too many
USELESS: Final = 0.01  # the share that repair leaves at least,
USELESS_S: Final = 6.0  # for so long, to be tested for that alone
QUEUE_S: Final = 0.02  # that a round trip grows by, or a quarter, if packets queue


@attrs.define(eq=False)
class Backoff:
    """`step` with each report.

    `limit`: as many repairs for each source packet, or more, are forbidden; infinity while any are
    allowed.
    """

    limit: float = math.inf
    more: Estimate = UNKNOWN  # what was lost with too many,
    less: Estimate = UNKNOWN  # and with none
    queued: bool = False  # too many made the round trip grow
    testing: bool = False  # none are sent, to see what becomes of the loss
    _repairs: float = 0.0  # that are watched, or were given up for the test
    _begin: float = 0.0  # of the watch or the test, as the reports show it
    _watching: bool = False
    _fitted: float = 0.0  # repairs before the watch,
    _before: Estimate = UNKNOWN  # what was lost then, or before the test,
    _before_s: float = 0.0  # and the round trip
    _least_s: float = math.inf  # round trip of late,
    _longest_s: float = 0.0  # round trip of this test
    _hold_s: float = HOLD_S / 2
    _until: float = 0.0  # end of the limit, or when to test again

    @property
    def ceiling(self) -> float:
        """Fewer repairs than this."""
        return 0.0 if self.testing else self.limit

    def step(
        self, history: LossHistory, repairs: float, left: float, now: float, round_trip_s: float
    ) -> None:
        """A report came while so many were sent, which should leave that share of packets lost."""
        self._least_s = min(self._least_s, round_trip_s)
        if self.testing:
            self._judge(history.since(self._begin), now, round_trip_s)
            return
        self._notice(history, repairs, now, round_trip_s)
        seen = history.since(max(self._begin, now - SHORT_S))
        enough = seen.packets >= LEAST_PACKETS
        late = _queues(round_trip_s, self._least_s)
        if self.limit < math.inf:
            self._lift(seen, now)
            if enough and self._watching and seen.exceeds(self._before, STEP_ERRORS):
                self._hold(self._fitted + SLACK, now)
            elif self._watching and late:
                self._test(seen, now, round_trip_s)
            return
        shows = enough and self._shows(seen)
        queued = _queues(round_trip_s, self._before_s)
        if not late and not (shows and left > USELESS):
            self._until = max(self._until, now + USELESS_S)
        grew = self._watching and (queued or (shows and seen.above(self._before)))
        if repairs and (grew or now >= self._until):
            self._test(seen, now, round_trip_s)

    def _notice(
        self, history: LossHistory, repairs: float, now: float, round_trip_s: float
    ) -> None:
        """A raise is watched for a while."""
        if repairs > self._repairs:
            step = self.limit < math.inf
            if not self._watching:
                self._before_s = round_trip_s
            before = history.since(max(self._begin, now - (LONG_S if step else SHORT_S)))
            if step or not self._watching or before.packets >= LEAST_PACKETS:
                self._before, self._fitted = before, self._repairs
            self._watching = True
        elif repairs < self._repairs or now > self._begin + WATCH_S:
            self._watching = False
        if repairs != self._repairs:
            self._repairs = repairs
            self._begin = _seen_from(now, round_trip_s)

    def _shows(self, seen: Estimate) -> bool:
        """Whether a test could tell a full link from another that loses so much."""
        return seen.loss - self._if_full(seen, 0.0) > SURE * math.sqrt(2) * seen.error

    def _if_full(self, more: Estimate, repairs: float) -> float:
        """What a full link that loses so much with those watched would lose with these."""
        return max(1 - (1 - more.loss) * (1 + self._repairs) / (1 + repairs), 0.0)

    def _beyond(self, more: Estimate, less: Estimate, repairs: float) -> float:
        """How far from a full link, which is below 0, what is lost with these is."""
        return less.loss - (self._if_full(more, repairs) + more.loss) / 2

    def _test(self, seen: Estimate, now: float, round_trip_s: float) -> None:
        """Send no repair; with it so much was lost."""
        self._before, self._longest_s = seen, round_trip_s
        self._begin = _seen_from(now, round_trip_s)
        self._watching, self.testing = False, True

    def _judge(self, seen: Estimate, now: float, round_trip_s: float) -> None:
        """Has loss, or the round trip, shrunk as it does on a full link?"""
        if seen.packets < LEAST_PACKETS and now < self._begin + 2 * TEST_S:
            return
        before, queued = self._before, _queues(self._longest_s, self._least_s)
        self._longest_s = max(self._longest_s, round_trip_s)
        shrunk = self._longest_s - round_trip_s > (self._longest_s - self._least_s) / 4
        error = before.error * math.sqrt(before.packets / max(seen.packets, 1))  # if not full
        beyond = self._beyond(before, seen, 0.0)
        plain = shrunk if queued else beyond > PLAIN * max(error, seen.error)
        if now < self._begin + TEST_S and not plain:
            return
        self.testing = False
        if beyond < 0 and before.loss - seen.loss > SURE * math.hypot(before.error, error):
            delivered = (1 - before.loss - 2 * before.error) * (1 + self._repairs)  # at least
            self._hold(delivered / (1 - seen.loss) - 1, now)
        elif queued and shrunk:
            self._hold(self._repairs / 2, now)
        else:
            self._until, self._least_s = now + self._hold_s, round_trip_s
        if self.limit < math.inf:
            self.less, self.more, self.queued = seen, before, queued and shrunk
        self._repairs = 0.0

    def _hold(self, limit: float, now: float) -> None:
        self.limit = limit
        self._hold_s = min(2 * self._hold_s, MOST_HOLD_S)
        self._until = now + self._hold_s
        self._watching = False

    def _lift(self, seen: Estimate, now: float) -> None:
        """By a step when its time is over; at once if as much is lost without the repairs."""
        middle = (self.less.loss + self.more.loss) / 2
        settled = seen.packets >= LEAST_PACKETS and now >= self._begin + SHORT_S
        if settled and seen.likely(2) > middle and not self.queued:
            self.limit = math.inf
        elif now < self._until:
            return
        elif self._watching and self._beyond(seen, self._before, self._fitted) < 0:
            self._hold(self._fitted + SLACK, now)
            return
        else:
            self.limit = max(2 * self.limit, LEAST_STEP)
        if self.limit > 1:
            self.limit, self._until = math.inf, now + self._hold_s
        else:
            self._until = now + STEP_S


def _queues(round_trip_s: float, before_s: float) -> bool:
    return round_trip_s > before_s + max(QUEUE_S, before_s / 4)


def _seen_from(now: float, round_trip_s: float) -> float:
    """When reports are only about what is sent from now on."""
    return now + round_trip_s + 2 * INTERVAL_S
