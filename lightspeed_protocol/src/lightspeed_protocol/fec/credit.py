"""How many bytes a flow may add to its own packets: a share of their bytes, and a rate in all.

Repairs that exceed neither in the long run may exceed both for a while, by what was saved before,
`DEPTH_BYTES` at most, so protection need not wait for room when loss begins.
"""

from __future__ import annotations

from typing import Final

import attrs

DEPTH_BYTES: Final = 32_768  # 200 repairs of 100-byte packets
FIRST_BYTES: Final = 512  # saved when a flow begins, which may fall silent at once
DEPTH_S: Final = 1.0  # of the rate


@attrs.define(eq=False)
class Credit:
    """`earn` with each source packet, ask `spend` before each repair, `owe` with everything else;
    sizes of whole packets.

    `cap` is bytes in all over bytes of source packets, at least 1, what is owed left out unless
    `strict`; `cap_kbps` is kbit/s in all, None for any.
    """

    cap: float = 2.0
    cap_kbps: float | None = None
    strict: bool = True
    refused: int = 0  # repairs
    saved: float = FIRST_BYTES
    _room: float = attrs.field(init=False)  # bytes that the rate leaves
    _at: float | None = None

    def __attrs_post_init__(self) -> None:
        self._room = self._deepest()

    def earn(self, size: int, now: float) -> None:
        """A source packet of so many bytes leaves. It is never refused."""
        self.saved = min(self.saved + (self.cap - 1) * size, DEPTH_BYTES)
        if self.cap_kbps is not None:
            self._refill(now)
            self._room = max(self._room - size, -self._deepest())

    def owe(self, size: int, now: float) -> None:
        """A report or an ask of so many bytes leaves. It is never refused: repairs pay for it."""
        if self.strict:
            self.saved = max(self.saved - size, -DEPTH_BYTES)
        if self.cap_kbps is not None:
            self._refill(now)
            self._room = max(self._room - size, -self._deepest())

    def spend(self, size: int, now: float) -> bool:
        """Whether a repair of so many bytes may leave; it is counted if it may."""
        if self.cap_kbps is not None:
            self._refill(now)
            if self._room < size:
                self.refused += 1
                return False
        if self.saved < size:
            self.refused += 1
            return False
        self.saved -= size
        self._room -= size
        return True

    def _deepest(self) -> float:
        return (self.cap_kbps or 0.0) * 125 * DEPTH_S

    def _refill(self, now: float) -> None:
        assert self.cap_kbps is not None
        since = 0.0 if self._at is None else now - self._at
        self._room = min(self._room + since * self.cap_kbps * 125, self._deepest())
        self._at = now
