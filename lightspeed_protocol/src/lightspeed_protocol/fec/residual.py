"""How much of a flow would not be known in time, for a plan and a kind of loss.

Loss is told by two numbers: the share of packets lost, and how much losses cling together. Where
each is lost by itself, runs of them are 1 / (1 - loss) long in the mean; `clump` is how many
times longer they are. From 1.5 on, losses are bad times that take along whatever is sent meanwhile,
a repair just as the packet before it.

Source: `residual_table`, a simulation; delayed copies and pairs exactly, from the same model.
"""

from __future__ import annotations

import bisect
import functools
import math
from typing import Final

from .residual_table import SHARES
from .window_plan import Plan

EVERY: Final = (1, 2, 3, 4, 8)  # packets per repair
AHEAD: Final = (0, 1, 2, 3, 4, 5, 6, 8, 10, 12)  # packets within the budget
LOSSES: Final = (0.001, 0.003, 0.01, 0.03, 0.1, 0.2, 0.4)
CLUMPS: Final = (1.2, 1.5, 2.0, 3.0, 5.0, 9.0)  # the first stands for all below it: no clumping

_LOG_LOSSES: Final = [math.log(loss) for loss in LOSSES]
_LOG_CLUMPS: Final = [math.log(clump) for clump in CLUMPS]


def packets_ahead(count: float) -> int:
    """The largest of `AHEAD` that is not larger."""
    return AHEAD[max(bisect.bisect_right(AHEAD, count) - 1, 0)]


@functools.cache
def candidates(ahead: int) -> tuple[Plan, ...]:
    """The plans worth comparing when `ahead` (one of `AHEAD`) packets fit into the budget."""
    plans = [Plan(every, ahead + 1) for every in reversed(EVERY)]
    if ahead >= 3:
        odd = ahead if ahead % 2 else ahead - 1  # an even stride skips every second packet
        plans.append(Plan(2, 2, stride=odd))
    if ahead:
        plans.append(Plan(1, 1, delay=ahead))
    return tuple(plans)


def residual(plan: Plan | None, ahead: int, loss: float, clump: float) -> float:
    """The share of packets lost or repaired too late, 0..1; `plan` is one of `candidates`."""
    if plan is None or loss <= 0:
        return max(loss, 0.0)
    at, part = _place(_LOG_CLUMPS, math.log(max(clump, CLUMPS[0])))
    low, high = (_share(plan, ahead, min(loss, 1.0), at + i) for i in (0, 1))
    return loss * _between(low, high, part)  # as if some losses were of either kind


def _share(plan: Plan, ahead: int, loss: float, column: int) -> float:
    """Of lost packets, how many are not known in time."""
    alone = column == 0
    stay = 1 - 1 / CLUMPS[column]
    if plan.delay:  # the copy is lost as well
        return loss if alone else loss + (1 - loss) * stay**plan.delay
    if plan.stride > 1:  # pairs: the other one or the repair, which leaves with the newer one
        if alone:
            return loss * (2 - loss)
        return (1 + loss + (1 - loss) * stay**plan.stride) / 2
    row = SHARES[ahead, plan.every][column]
    at, part = _place(_LOG_LOSSES, math.log(loss))
    return 10 ** (-_between(row[at], row[at + 1], part) / 100)


def _place(grid: list[float], value: float) -> tuple[int, float]:
    """The interval of the grid that holds it, and how far in, 0..1."""
    at = min(max(bisect.bisect_right(grid, value) - 1, 0), len(grid) - 2)
    return at, min(max((value - grid[at]) / (grid[at + 1] - grid[at]), 0.0), 1.0)


def _between(low: float, high: float, part: float) -> float:
    return low + (high - low) * part
