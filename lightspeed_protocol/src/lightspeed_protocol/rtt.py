"""Round-trip time of one path: smoothed, minimum, jitter and percentiles of the recent past.

Source: smoothing as in RFC 6298 §2 (gain 1/8); jitter as in RFC 3550 §6.4.1 (mean change
between neighbours, gain 1/16). Times are seconds.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Sequence
from itertools import islice
from typing import Final

import attrs

RECENT: Final = 240  # samples kept: a minute at four a second
FEW: Final = 9  # of them: two seconds


def percentile(samples: Sequence[float], share: float) -> float:
    """Nearest rank: the smallest sample that at least `share` (0..1) do not exceed.

    Raises `ValueError` without samples.
    """
    if not samples:
        raise ValueError("no samples")
    return sorted(samples)[max(0, math.ceil(share * len(samples)) - 1)]


@attrs.define(eq=False)
class RttEstimator:
    """Feed it round trips in order; every figure is None until the first."""

    last_s: float | None = None
    smoothed_s: float | None = None
    min_s: float | None = None
    jitter_s: float | None = None  # None until the second sample
    recent: deque[float] = attrs.field(factory=lambda: deque(maxlen=RECENT))

    def add(self, sample_s: float) -> None:
        """One measured round trip."""
        if self.last_s is None or self.smoothed_s is None or self.min_s is None:
            self.smoothed_s = self.min_s = sample_s
        else:
            change = abs(sample_s - self.last_s)
            self.jitter_s = (
                change if self.jitter_s is None else self.jitter_s + (change - self.jitter_s) / 16
            )
            self.smoothed_s += (sample_s - self.smoothed_s) / 8
            self.min_s = min(self.min_s, sample_s)
        self.last_s = sample_s
        self.recent.append(sample_s)

    @property
    def typical_s(self) -> float | None:
        """The median of the last few: a stall of either machine does not move it, a queue does."""
        return statistics.median(islice(reversed(self.recent), FEW)) if self.recent else None

    def percentile(self, share: float) -> float | None:
        """Nearest rank among the recent samples; `share` in 0..1."""
        return percentile(self.recent, share) if self.recent else None
