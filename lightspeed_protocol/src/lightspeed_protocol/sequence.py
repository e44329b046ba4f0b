"""16-bit sequence numbers that wrap, and the window that tells a duplicate from news.

Source: serial arithmetic as in RFC 1982; the sliding bitmap as in RFC 4303 §3.4.3; loss as in
RFC 3550 appendix A.3 (expected minus received), a large jump as its MAX_DROPOUT in A.1.
"""

from __future__ import annotations

from typing import Final

import attrs

WINDOW: Final = 512  # numbers remembered: 4 s at 128 packets/s
RESTART: Final = 8  # numbers too old in a row that mean the peer counts afresh
JUMP: Final = WINDOW  # a step ahead this large is an outage or a new count, not loss
_MASK: Final = (1 << WINDOW) - 1


def distance(older: int, newer: int) -> int:
    """How far `newer` is ahead of `older`, -32768..32767; negative when it is behind."""
    return ((newer - older + 0x8000) & 0xFFFF) - 0x8000


@attrs.define(eq=False)
class SequenceWindow:
    """Accepts each number once, and knows how many never came.

    A number more than `WINDOW` behind the highest cannot be told from a duplicate and is
    refused, unless the peer began to count afresh: `RESTART` of them in a row, each newer than
    the one before, start over.
    """

    lost: int = 0  # numbers that have not come (yet)
    duplicates: int = 0  # refusals, those too old to judge included
    _lowest: int = 0
    _highest: int = -1  # unwrapped: counts on beyond 65535
    _seen: int = 0  # bit i: number (_highest - i) has been accepted
    _expected_before: int = 0  # numbers expected before the last restart
    _refused_in_a_row: int = 0
    _refused: int = 0  # the last number too old to judge

    def accept(self, sequence: int) -> bool:
        """True for news; False for a duplicate or a number too old to judge."""
        highest = self._highest
        if self._seen == _MASK and sequence == (highest + 1) & 0xFFFF:
            self._highest = highest + 1  # in order, as were the 512 before: nothing to shift
            if self._refused_in_a_row:
                self._refused_in_a_row = 0
            return True
        if highest < 0:
            self._begin(sequence)
            return True
        ahead = ((sequence - highest + 0x8000) & 0xFFFF) - 0x8000
        if ahead >= JUMP:
            self._begin_again(sequence)
        elif ahead > 0:
            self._seen = (self._seen << ahead | 1) & _MASK if ahead < WINDOW else 1
            self._highest = highest + ahead
            self.lost += ahead - 1
        else:
            bit = 1 << -ahead
            if ahead <= -WINDOW or self._seen & bit:
                return self._refuse(sequence, old=ahead <= -WINDOW)
            self._seen |= bit
            below = self._lowest - (highest + ahead)
            if below > 0:  # reordered before the very first
                self._lowest -= below
                self.lost += below - 1
            else:
                self.lost -= 1
        self._refused_in_a_row = 0
        return True

    @property
    def received(self) -> int:
        """Numbers accepted."""
        return self.expected - self.lost

    @property
    def expected(self) -> int:
        """Numbers the peer has used, as far as can be known here."""
        return self._expected_before + (
            self._highest - self._lowest + 1 if self._highest >= 0 else 0
        )

    def _begin(self, sequence: int) -> None:
        self._lowest = self._highest = 0x10000 + sequence  # room below for early reordering
        self._seen = 1
        self._refused_in_a_row = 0

    def _refuse(self, sequence: int, *, old: bool) -> bool:
        self.duplicates += 1
        if not old:
            return False
        newer = distance(self._refused, sequence) > 0
        self._refused_in_a_row = self._refused_in_a_row + 1 if newer else 1
        self._refused = sequence
        if self._refused_in_a_row < RESTART:
            return False
        self.duplicates -= 1
        self._begin_again(sequence)
        return True

    def _begin_again(self, sequence: int) -> None:
        self._expected_before = self.expected
        self._begin(sequence)
