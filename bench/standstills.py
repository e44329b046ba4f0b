"""When this virtual machine was not given a processor: nothing a program here did or left undone.

    python -m bench.standstills CORE

Runs before everything else on one core, wakes every millisecond, and notes when it could not. Says
what it noted as JSON when its input ends: [from, to] in seconds of `time.monotonic`. Needs root.
"""

from __future__ import annotations

import json
import os
import select
import sys
import time
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Final

import attrs

from .load import child, last_words

EVERY_S: Final = 0.001
LATE_S: Final = 0.001  # woken later than this: stood still


def watch(core: int) -> list[tuple[float, float]]:
    os.sched_setaffinity(0, {core})
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(2))
    found = []
    last = time.monotonic()
    while not select.select([sys.stdin], [], [], EVERY_S)[0]:
        now = time.monotonic()
        if now - last > EVERY_S + LATE_S:
            found.append((last, now))
        last = now
    return found


@attrs.define
class Standstills:
    """Of all cores, in order; empty until the block around the measurement has ended."""

    known: list[tuple[float, float]] = attrs.field(factory=list)
    _ends: list[float] = attrs.field(factory=list)

    def add(self, found: Sequence[tuple[float, float]]) -> None:
        """Merge those of one core in."""
        merged: list[tuple[float, float]] = []
        for began, ended in sorted([*self.known, *found]):
            if merged and began <= merged[-1][1]:
                merged[-1] = merged[-1][0], max(merged[-1][1], ended)
            else:
                merged.append((began, ended))
        self.known = merged
        self._ends = [ended for _, ended in merged]

    def touch(self, began: float, ended: float) -> bool:
        """Whether any core stood still within this time."""
        at = bisect_left(self._ends, began)
        return at < len(self.known) and self.known[at][0] <= ended

    def seconds(self) -> float:
        return sum(ended - began for began, ended in self.known)


@contextmanager
def standstills() -> Iterator[Standstills | None]:
    """Watch every core meanwhile; None where that is not allowed."""
    if os.geteuid() != 0:
        yield None
        return
    noted = Standstills()
    with ExitStack() as stack:
        watchers = [
            stack.enter_context(child("-m", "bench.standstills", str(core), talks=True))
            for core in sorted(os.sched_getaffinity(0))
        ]
        yield noted
        for watcher in watchers:
            noted.add([(began, ended) for began, ended in last_words(watcher)])


if __name__ == "__main__":
    print(json.dumps(watch(int(sys.argv[1]))), flush=True)
