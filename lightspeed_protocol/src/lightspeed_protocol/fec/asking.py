"""Asking again for packets that are missing, where a round trip fits into the latency budget.

An ask travels in the sealed header, unprotected by repair; its FEC field and payload are

     0       1       2    3
    ┌───────┬───────┬─────────┐      oldest: SSN of the oldest packet asked for
    │ 0xC0  │ 0x00  │ oldest  │      bitmap: 1 to 8 bytes; bit i, the least significant first,
    └───────┴───────┴─────────┘      asks for SSN oldest + i. Bit 0 is set and the last byte is
    ┌────────────┬────                not zero, so that there is one way to ask for each set
    │ bitmap     │ ...
    └────────────┴────

The answer is a repair that covers that one packet. A gap is asked for once reordering is less
likely than loss: a share of a round trip after the packet was due, which grows when packets that
were asked for come after all.

Source: PROTOCOL.md, "Asking again"; the wait and how it adapts as in RFC 8985, 6.2 (RACK).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable
from itertools import islice
from typing import Final, Self

import attrs

from ..errors import WireError
from .gaps import Gaps, Missing
from .header import FEC_BYTES

WIDTH: Final = 64  # SSNs that one packet can ask for
MOST_ASKS: Final = 2  # for each packet
REORDERING: Final = 1 / 4  # of a round trip
MARGIN: Final = 1 / 16  # of a round trip, which an answer may take longer than usual
LEAST_S: Final = 0.001  # of both, and after a newer packet: a repair may follow it closely
MOST_WAITS: Final = 8  # times the usual wait for reordering,
WAITS_ASKS: Final = 16  # for so many packets asked for

_KIND: Final = 0xC0  # kind 3 in the top two bits
_FIELD: Final = struct.Struct("!BBH")
_MOST_BYTES: Final = WIDTH // 8


@attrs.frozen
class Ask:
    """`bitmap` as an integer of up to 64 bits; bit 0 stands for `oldest`, an SSN (u16)."""

    oldest: int
    bitmap: int = 1

    @classmethod
    def of(cls, numbers: Iterable[int]) -> Self:
        """For these SSNs, unwrapped and ascending, the last less than 64 after the first."""
        numbers = list(numbers)
        return cls(numbers[0] & 0xFFFF, sum(1 << number - numbers[0] for number in numbers))

    @property
    def ssns(self) -> tuple[int, ...]:
        """What is asked for, as u16, the oldest first; 1 to 64 of them."""
        return tuple(self.oldest + i & 0xFFFF for i in range(WIDTH) if self.bitmap >> i & 1)

    def encode(self) -> tuple[bytes, bytes]:
        """The FEC field and the payload."""
        size = (self.bitmap.bit_length() + 7) // 8
        return _FIELD.pack(_KIND, 0, self.oldest), self.bitmap.to_bytes(size, "little")

    @classmethod
    def decode(cls, field: bytes, body: bytes) -> Self:
        """Raises `WireError` "fec-field" for anything that `encode` would not write."""
        if len(field) != FEC_BYTES:
            raise WireError("fec-field", got=len(field), need=FEC_BYTES)
        if not 1 <= len(body) <= _MOST_BYTES:
            raise WireError("fec-field", got=len(body), need=1)
        kind, zero, oldest = _FIELD.unpack(field)
        if kind != _KIND or zero or not body[0] & 1 or not body[-1]:
            raise WireError("fec-field")
        return cls(oldest, int.from_bytes(body, "little"))


def margin_s(round_trip_s: float) -> float:
    """How much later than a round trip after the ask an answer is still counted on."""
    return max(MARGIN * round_trip_s, LEAST_S)


def reordering_s(round_trip_s: float) -> float:
    """How long after it was due a packet is taken to be on its way."""
    return max(REORDERING * round_trip_s, LEAST_S)


class Asking:
    """Ask it `next_deadline` after each packet; at that time call `poll` and send what it says.

    `gaps` is kept by others (`report.ReceptionLog`). Nothing is asked before `round_trip_s` is set,
    nor what cannot come within the budget, nor anything more than twice.
    Work: the newest 64 that are missing.
    """

    __slots__ = ("_gaps", "_needless", "_waits", "_waits_for", "asked", "round_trip_s")

    def __init__(self, gaps: Gaps, *, round_trip_s: float = math.inf) -> None:
        self.round_trip_s = round_trip_s  # smoothed; the caller's to renew
        self.asked = 0  # packets, each time counted
        self._gaps = gaps
        self._needless = gaps.needless  # of those that came after all
        self._waits = 1
        self._waits_for = 0  # packets asked for until it is 1 again

    def next_deadline(self) -> float:
        """When `poll` has something to ask for; infinity for never."""
        if not self._gaps.missing:
            return math.inf
        self._adapt()
        return min(self._when(missing) for _, missing in self._newest())

    def poll(self, now: float) -> Ask | None:
        """What to ask for now. There may be more: look at `next_deadline` again."""
        self._adapt()
        due: list[tuple[int, Missing]] = []
        for at, missing in self._newest():
            if self._when(missing) > now:
                continue
            if now + self.round_trip_s > missing.due_s + self._gaps.budget_s:
                missing.asks = MOST_ASKS  # polled too late
            else:
                due.append((at, missing))
        if not due:
            return None
        due.reverse()
        due = [(at, missing) for at, missing in due if at < due[0][0] + WIDTH]
        for _, missing in due:
            missing.asks += 1
            missing.asked_s = now
        self.asked += len(due)
        self._waits_for -= len(due)
        return Ask.of(at for at, _ in due)

    def _newest(self) -> Iterable[tuple[int, Missing]]:
        return islice(reversed(self._gaps.missing.items()), WIDTH)

    def _when(self, missing: Missing) -> float:
        """When to ask for this one; infinity for not (again)."""
        if missing.repaired or missing.asks >= MOST_ASKS:
            return math.inf
        round_trip_s, wait_s = self.round_trip_s, self._waits * reordering_s(self.round_trip_s)
        latest = missing.due_s + self._gaps.budget_s - round_trip_s - margin_s(round_trip_s)
        if missing.asked_s is None:
            earliest = missing.noticed_s + LEAST_S
            wanted = missing.due_s + wait_s
        else:
            earliest = missing.asked_s + round_trip_s + margin_s(round_trip_s)
            wanted = missing.asked_s + round_trip_s + wait_s
        return min(max(earliest, wanted), latest) if earliest <= latest else math.inf

    def _adapt(self) -> None:
        """Wait longer for a while if that would have been enough."""
        if self._gaps.needless > self._needless:
            self._needless = self._gaps.needless
            self._waits = min(self._waits + 1, MOST_WAITS)
            self._waits_for = WAITS_ASKS
        elif self._waits_for <= 0:
            self._waits = 1
