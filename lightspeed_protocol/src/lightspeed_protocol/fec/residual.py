"""How much of a flow would not be known in time, for a plan and a kind of loss.

Loss is told by two numbers: the share of packets lost, and how much losses cling together. Where
each is lost by itself, runs of them are 1 / (1 - loss) long in the mean; `clump` is how many
times longer they are. From 1.5 on, losses are bad times that take along whatever is sent meanwhile,
a repair just as the packet before it.

Source: `residual_table`, a simulation; delayed copies, pairs and asking again exactly, from the
same model. What a plan and asking leave together is known within a factor of two (`_together`).
"""

from __future__ import annotations

import bisect
import functools
import math
from typing import Final, Self

import attrs

from .asking import LEAST_S, margin_s, reordering_s
from .residual_table import SHARES
from .window_plan import Plan

EVERY: Final = (1, 2, 3, 4, 8)  # packets per repair
AHEAD: Final = (0, 1, 2, 3, 4, 5, 6, 8, 10, 12)  # packets within the budget
LOSSES: Final = (0.001, 0.003, 0.01, 0.03, 0.1, 0.2, 0.4)
CLUMPS: Final = (1.2, 1.5, 2.0, 3.0, 5.0, 9.0)  # the first stands for all below it: no clumping

MOST_NEXT: Final = 8  # packets of which the first that comes shows what is missing

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


@attrs.frozen
class Again:
    """What can be asked for again in time.

    `asks`: how often, if the first packet to come is the next one, the one after it, and so on.
    `apart`: how many packets are sent in a round trip.
    """

    asks: tuple[int, ...]
    apart: float

    @classmethod
    def within(cls, budget_s: float, interval_s: float, round_trip_s: float) -> Self | None:
        """None if nothing can be asked for. `interval_s` is between packets, 0 if not known."""
        answer_s = round_trip_s + margin_s(round_trip_s)
        latest_s = budget_s - answer_s
        asks: list[int] = []
        while interval_s > 0 and len(asks) < MOST_NEXT:
            noticed_s = (len(asks) + 1) * interval_s + LEAST_S
            if noticed_s > latest_s:
                break
            asked_s = max(noticed_s, min(reordering_s(round_trip_s), latest_s))
            asks.append(1 + (asked_s + answer_s <= latest_s))
        return cls(tuple(asks), round_trip_s / interval_s) if asks else None

    def copies(self, loss: float, clump: float) -> float:
        """For each source packet, how many copies are sent, if nothing else repairs any."""
        unseen = _after_lost(loss, 1 - 1 / max(clump, 1.0), 1) ** len(self.asks)
        return float(loss * (1 - unseen) * (1 - loss))

    def fails(self, loss: float, stay: float) -> float:
        """Of lost packets, how many no answer brings. `stay`: 0 where each is lost by itself.

        The way back is taken to lose as much, at times of its own.
        """
        unseen, total = 1.0, 0.0  # unseen: none of the next has come
        for asks in self.asks:
            total += unseen * (1 - loss) * (1 - stay) * self._unanswered(asks, loss, stay)
            unseen *= _after_lost(loss, stay, 1)
        return total + unseen

    def _unanswered(self, asks: int, loss: float, stay: float) -> float:
        """How often, after a packet that came, neither ask brings an answer."""
        taken = _after_good(loss, stay, self.apart)  # the answer, which leaves so much later
        if asks == 1:
            return loss + (1 - loss) * taken
        later = _after_good(loss, stay, 2 * self.apart)
        ask_lost = loss * (loss + (1 - loss) * later)
        again = _after_lost(loss, stay, self.apart)  # as the answer before it
        return ask_lost + (1 - loss) * taken * (loss + (1 - loss) * again)


def residual(
    plan: Plan | None, ahead: int, loss: float, clump: float, again: Again | None = None
) -> float:
    """The share of packets lost or repaired too late, 0..1; `plan` is one of `candidates`."""
    if (plan is None and again is None) or loss <= 0:
        return max(loss, 0.0)
    at, part = _place(_LOG_CLUMPS, math.log(max(clump, CLUMPS[0])))
    low, high = (_left(plan, ahead, min(loss, 1.0), at + i, again) for i in (0, 1))
    return loss * _between(low, high, part)  # as if some losses were of either kind


def _left(plan: Plan | None, ahead: int, loss: float, column: int, again: Again | None) -> float:
    """Of lost packets, how many neither the plan nor an answer brings in time."""
    alone = column == 0
    if again is None:
        return 1.0 if plan is None else _share(plan, ahead, loss, column)
    unanswered = again.fails(loss, 0.0 if alone else 1 - 1 / CLUMPS[column])
    if plan is None:
        return unanswered
    return _together(_share(plan, ahead, loss, column), unanswered, plan, alone=alone)


def _together(unrepaired: float, unanswered: float, plan: Plan, *, alone: bool) -> float:
    """How often both fail: more often than by chance, because the same losses are in their way.

    In bad times whatever outlasts the better one outlasts the other. Apart from them a loss of the
    next packet hides the first from asking and takes a part of its window.
    """
    less, more = sorted((unrepaired, unanswered))
    if not alone:
        return less
    return less * (more if plan.delay else math.sqrt(more))


def _after_lost(loss: float, stay: float, packets: float) -> float:
    """How often a packet is lost that is sent so many packets after a lost one."""
    return loss + (1 - loss) * math.pow(stay, packets)


def _after_good(loss: float, stay: float, packets: float) -> float:
    """How often a packet is lost that is sent so many packets after one that came."""
    return loss * (1 - math.pow(stay, packets))


def _share(plan: Plan, ahead: int, loss: float, column: int) -> float:
    """Of lost packets, how many are not known in time."""
    alone = column == 0
    stay = 1 - 1 / CLUMPS[column]
    if plan.delay:  # the copy is lost as well
        return loss if alone else _after_lost(loss, stay, plan.delay)
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
