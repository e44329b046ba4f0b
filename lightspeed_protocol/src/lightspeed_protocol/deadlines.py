"""Which of many things is due next, when most deadlines move before they come.

A heap with lazy removal: moving a deadline costs a dictionary write, and a push only when it
moves forward. What has become stale is thrown out once it outweighs what is real.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Hashable
from typing import Final, Generic, TypeVar

import attrs

SPARE: Final = 64  # stale entries that are never worth a clean-up

K = TypeVar("K", bound=Hashable)


@attrs.define(eq=False)
class Deadlines(Generic[K]):
    """One deadline for each key."""

    _at: dict[K, float] = attrs.field(factory=dict)
    _queued: dict[K, float] = attrs.field(factory=dict)  # its earliest entry in the heap
    _heap: list[tuple[float, int, K]] = attrs.field(factory=list)
    _tie: int = 0  # keys need no order of their own

    def __len__(self) -> int:
        return len(self._at)

    def set(self, key: K, at: float) -> None:
        """`at` replaces what was set for `key`; `math.inf` is never."""
        self._at[key] = at
        if at < self._queued.get(key, math.inf):
            self._push(key, at)

    def hasten(self, key: K, at: float) -> bool:
        """Have it due at `at`, or at what was set for it if that is earlier. True if it is news
        to the heap, which then may be due earlier as a whole.
        """
        if at >= self._at.get(key, math.inf):
            return False
        self._at[key] = at
        if at >= self._queued.get(key, math.inf):
            return False
        self._push(key, at)
        return True

    def drop(self, key: K) -> None:
        self._at.pop(key, None)
        self._queued.pop(key, None)

    def next_deadline(self) -> float:
        """When `due` next matters. May be early, after a deadline has moved back; never late."""
        heap = self._heap
        while heap and self._queued.get(heap[0][2]) != heap[0][0]:
            heapq.heappop(heap)
        return heap[0][0] if heap else math.inf

    def due(self, now: float) -> list[K]:
        """The keys whose time has come; each has no deadline until it is set again."""
        ready = []
        while self.next_deadline() <= now:
            _, _, key = heapq.heappop(self._heap)
            del self._queued[key]
            at = self._at[key]
            if at <= now:
                del self._at[key]
                ready.append(key)
            elif at < math.inf:
                self._push(key, at)
        return ready

    def _push(self, key: K, at: float) -> None:
        if len(self._heap) > SPARE + 2 * len(self._at):
            self._heap = [entry for entry in self._heap if self._queued.get(entry[2]) == entry[0]]
            heapq.heapify(self._heap)
        self._tie += 1
        heapq.heappush(self._heap, (at, self._tie, key))
        self._queued[key] = at
