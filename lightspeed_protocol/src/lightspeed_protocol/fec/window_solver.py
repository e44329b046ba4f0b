"""The linear equations that repairs make over the packets still missing.

A row is 128 coefficients, one byte for each SSN modulo 128, then the symbol they sum to; adding
and scaling treat both alike. Rows are kept fully reduced: each is for one packet, the oldest it
covers, with coefficient 1, and no other row covers that packet. So a packet is known exactly
when its row covers nothing else, and to forget the oldest packets costs only their own rows.

Work: one call adds at most `MOST_WORK` rows to others; `operations` counts them.
Memory: at most `MOST_ROWS` rows of at most 128 + 1402 bytes.

Source: Gauss-Jordan elimination, one equation at a time.
"""

from __future__ import annotations

from typing import Final

from ..errors import WireError
from . import gf256
from .gf256 import COEFFICIENTS, INVERSES, PRODUCTS

# Equations that wait for one another. Measured over 2·10^5 packets: at most 15 with windows of 16
# at 20 % loss or bursts of 3, 22 with windows of 64 at 20 %. A flood of useless ones displaces
# the oldest.
MOST_ROWS: Final = 24
MOST_WORK: Final = 2 * MOST_ROWS

Solved = list[tuple[int, bytes]]  # SSN, symbol with its padding


class WindowSolver:
    """Takes equations, and packets that came after all; gives the packets that follow.

    SSNs are unwrapped. All that are unknown lie in the 128 that begin where `forget` said last.
    When two equations cannot both be true, nobody can tell which one lies: all are forgotten and
    `WireError` "fec-contradiction" is raised.
    """

    __slots__ = ("_begin", "_rows", "displaced", "given_up", "operations")

    def __init__(self) -> None:
        self.operations = 0  # rows added to others
        self.given_up = 0  # equations whose packet was forgotten unsolved
        self.displaced = 0  # equations that made room for newer ones, or for want of time
        self._rows: dict[int, bytes] = {}  # by the packet each row is for
        self._begin = 0

    def __len__(self) -> int:
        """Equations that wait for more."""
        return len(self._rows)

    def forget(self, before: int) -> None:
        """Give up packets older than SSN `before`. Due before each call of the other two."""
        self._begin = before
        for ssn in [ssn for ssn in self._rows if ssn < before]:
            del self._rows[ssn]
            self.given_up += 1

    def clear(self) -> None:
        """Forget every equation."""
        self._rows.clear()

    def displace(self) -> None:
        """Give up every equation, because they are worth no more work."""
        self.displaced += len(self._rows)
        self._rows.clear()

    def equation(self, unknown: list[tuple[int, int]], symbol: bytes) -> Solved | None:
        """Add that the packets (SSN, coefficient) sum to `symbol`; what is known by it.

        None: it says nothing that those before did not.
        """
        coefficients = bytearray(COEFFICIENTS)
        for ssn, factor in unknown:
            coefficients[ssn & 127] = factor
        row = bytes(coefficients) + symbol
        for ssn, factor in unknown:
            if (its := self._rows.get(ssn)) is not None:
                row = self._sum(row, its, factor)
        return self._insert(row)

    def packet(self, ssn: int, symbol: bytes) -> Solved:
        """A packet that was unknown is known; what else is known by it."""
        own = self._rows.pop(ssn, None)
        slot = ssn & 127
        known = bytes(slot) + b"\1" + bytes(COEFFICIENTS - 1 - slot) + symbol
        for row in (own, *self._rows.values()):
            if row is not None and row[slot] and len(known) > len(row):
                self._contradict()  # a symbol is as long as the longest packet in it
        solved = self._substitute(slot, known)
        if own is not None:
            solved += self._insert(self._sum(own, known, 1)) or []
        return solved

    def _insert(self, row: bytes) -> Solved | None:
        """Take in a row that covers no other row's packet."""
        turn = self._begin & 127  # slots from the oldest packet's on
        rest = (row[turn:COEFFICIENTS] + row[:turn]).lstrip(b"\0")
        if not rest:
            if row.strip(b"\0"):
                self._contradict()
            return None
        ssn = self._begin + COEFFICIENTS - len(rest)
        if rest[0] != 1:
            row = row.translate(PRODUCTS[INVERSES[rest[0]]])
        solved = self._substitute(ssn & 127, row)
        if _is_alone(row):
            solved.append((ssn, row[COEFFICIENTS:]))
            return solved
        if len(self._rows) == MOST_ROWS:
            del self._rows[min(self._rows)]
            self.displaced += 1
        self._rows[ssn] = row
        return solved

    def _substitute(self, slot: int, row: bytes) -> Solved:
        """Take the packet in `slot` out of every row by means of one where it has 1."""
        solved: Solved = []
        for ssn, its in list(self._rows.items()):
            if its[slot]:
                its = self._rows[ssn] = self._sum(its, row, its[slot])
                if _is_alone(its):
                    del self._rows[ssn]
                    solved.append((ssn, its[COEFFICIENTS:]))
        return solved

    def _sum(self, row: bytes, other: bytes, factor: int) -> bytes:
        self.operations += 1
        return gf256.add(row, other.translate(PRODUCTS[factor]))

    def _contradict(self) -> None:
        self._rows.clear()
        raise WireError("fec-contradiction")


def _is_alone(row: bytes) -> bool:
    return row.count(0, 0, COEFFICIENTS) == COEFFICIENTS - 1
