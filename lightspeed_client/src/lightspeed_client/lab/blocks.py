"""Which lost packets no repair packet could bring back, whatever became of it.

Each repair packet is made from the K source packets of its conversation before it, so a match
ends with packets that are in none. A sealed tunnel also begins with some.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from .impair import Fate, Label
from .packets import Kind


def find_unprotected(fates: Iterable[Fate], fec_k: int, *, late_start: bool) -> set[Label]:
    """Of the lost ones. `fates` are of one direction, in the order in which they were sent.

    `late_start`: the far end remembers source packets only from the first repair packet on that
    comes to it, so that one helps none of those before it. Source: `SealedFlow.take`.
    """
    lost: set[Label] = set()
    recent: dict[int, deque[Label]] = {}  # by lane
    begun: set[int] = set()  # lanes in which a repair packet has come
    for fate in fates:
        if fate.kind is Kind.SOURCE and fate.label is not None:
            recent.setdefault(fate.lane, deque(maxlen=fec_k)).append(fate.label)
            if fate.lost:
                lost.add(fate.label)
        elif fate.kind is Kind.REPAIR:
            if fate.lane in begun or not late_start:
                lost.difference_update(recent.get(fate.lane, ()))
            elif not fate.lost:
                begun.add(fate.lane)
    return lost
