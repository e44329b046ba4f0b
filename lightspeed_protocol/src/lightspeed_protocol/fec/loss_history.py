"""How much is lost and in what runs, from the reports of the last seconds.

Two windows: a short one that notices at once, and a long one that is sure. Each gives an estimate
and the least that is likely, because a few losses more in three seconds are chance.

Source: standard error of a binomial share with one more of each outcome (Agresti and Coull,
1998), and of sums that are correlated for `clump` packets.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Final

import attrs

from .report import Report

SHORT_S: Final = 3.0
LONG_S: Final = 12.0
SURE: Final = 3.0  # standard errors
MOST: Final = 128  # reports kept; at four a second 48 are due
PRIOR_RUNS: Final = 2  # losses alone that run lengths are averaged with, so that two are no run


@attrs.frozen
class Estimate:
    """`loss` as a share of packets, `run` in packets, `clump` as in `residual`.

    `error` is the standard error of `loss`; 1 if nothing is known.
    """

    loss: float = 0.0
    error: float = 1.0
    run: float = 1.0
    clump: float = 1.0
    packets: int = 0

    def likely(self, errors: float) -> float:
        """The least loss so many standard errors below the estimate."""
        return max(self.loss - errors * self.error, 0.0)

    def exceeds(self, other: Estimate, errors: float) -> bool:
        """Whether it is more than the other by so many standard errors."""
        return self.loss - other.loss > errors * math.hypot(self.error, other.error)

    def above(self, other: Estimate) -> bool:
        """Whether it is surely, and by half, more than the other."""
        return self.loss > 1.5 * other.loss and self.exceeds(other, SURE)

    @classmethod
    def of(cls, received: int, lost: int, runs: int) -> Estimate:
        packets = received + lost
        if not packets:
            return cls()
        loss = lost / packets
        run = (lost + PRIOR_RUNS) / (runs + PRIOR_RUNS)
        clump = max(run * (1 - loss), 1.0)
        share = (lost + 1) / (packets + 2)  # never 0 or 1, which would be certainty
        error = math.sqrt(share * (1 - share) * (2 * clump - 1) / packets)
        return cls(loss, error, run, clump, packets)


UNKNOWN: Final = Estimate()


@attrs.define(eq=False)
class LossHistory:
    """Reports of the last `LONG_S`."""

    reported_s: float | None = None  # when the last one came
    lossy_s: float | None = None  # when the last one with losses came
    _reports: deque[tuple[float, int, int, int]] = attrs.field(factory=lambda: deque(maxlen=MOST))

    def add(self, report: Report, now: float) -> None:
        self._reports.append((now, report.received, report.lost, report.runs))
        while self._reports[0][0] <= now - LONG_S:
            self._reports.popleft()
        self.reported_s = now
        if report.lost:
            self.lossy_s = now

    def since(self, begin: float) -> Estimate:
        """From the reports that came after that time."""
        received = lost = runs = 0
        for at, its_received, its_lost, its_runs in reversed(self._reports):
            if at <= begin:
                break
            received += its_received
            lost += its_lost
            runs += its_runs
        return Estimate.of(received, lost, runs)
