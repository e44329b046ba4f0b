"""How few packets any code could have left unknown in time, with the repair packets of a match.

What the link lost, source packets and repair packets, is what it lost; each repair packet is
taken to tell one packet's worth, however long it is. Times of coming are less the time that the
fastest packet of the stream took from end to end, which is how `receipts` tells what is late. So
what came in time there is in time here, and the bound is never above what was left.
Source: `lightspeed_protocol.fec.bound`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from lightspeed_protocol.fec.bound import Bound

from .impair import Fate
from .packets import Kind


def least_unknown(fates: Iterable[Fate], fastest_s: Mapping[int, float], budget_s: float) -> int:
    """`fates` are of one relay and one direction, in the order in which they were sent.

    `fastest_s` is by player; packets of one of whom nothing came are all unknown.
    """
    fates = list(fates)
    players = {fate.lane: fate.label[0] for fate in fates if fate.label is not None}
    bounds = {lane: Bound(budget_s) for lane in players}
    for fate in fates:
        bound = bounds.get(fate.lane)
        if bound is None or fate.kind not in (Kind.SOURCE, Kind.REPAIR):
            continue
        came_s = math.inf
        if fate.released_at is not None:
            came_s = fate.released_at - fastest_s.get(players[fate.lane], -math.inf)
        if fate.kind is Kind.REPAIR:
            bound.repair(fate.came_at, came_s)
        elif came_s > fate.came_at + budget_s:
            bound.lost(fate.came_at)
    return sum(bound.settle(math.inf) for bound in bounds.values())
