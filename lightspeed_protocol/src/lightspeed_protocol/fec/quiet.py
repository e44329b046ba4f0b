"""When a sender that falls silent repairs the packets that no later packet will.

Repair covers the packets before it, so the last one before a pause has less of it than the others,
or none. Once the sender has been quiet, one repair goes out for the newest packets if they are in
none, and a second one as long after that, which covers the loss of either.

Source: PROTOCOL.md, "Window repair"; the times are from simulation.
"""

from __future__ import annotations

import math
from typing import Final

import attrs

QUIET_S: Final = 0.02
# A flow this much slower than its habit is quiet. Below it every packet of a slow flow would
# get the repairs of a last one.
SLOWER: Final = 1.5


@attrs.define(eq=False)
class QuietTimer:
    """Tell it `sent`; ask it `next_deadline`; at that time call `poll`."""

    budget_s: float = 0.05
    _deadline: float = math.inf
    _quiet_s: float = 0.0
    _due: int = 0

    def sent(self, now: float, *, pending: bool, interval_s: float = 0.0) -> None:
        """A source packet left, and no repair has covered it yet if `pending`.

        `interval_s`: how far apart the flow's packets usually are, if that is known.
        """
        self._quiet_s = max(min(QUIET_S, self.budget_s / 2), SLOWER * interval_s)
        self._due = 2 if pending else 1
        self._deadline = now + self._quiet_s

    def stop(self) -> None:
        """No repair is wanted now."""
        self._deadline = math.inf

    def next_deadline(self) -> float:
        """When `poll` has an answer; infinity when there is nothing left to repair."""
        return self._deadline

    def poll(self, now: float) -> bool:
        """Whether to send `WindowEncoder.flush(again=True)`."""
        if now < self._deadline:
            return False
        self._due -= 1
        self._deadline = self._deadline + self._quiet_s if self._due else math.inf
        return True
