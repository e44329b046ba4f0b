"""The receiving end of the window code: what is delivered now, and what never is.

A source packet is delivered when it comes. A repair whose packets are all here is forgotten at
once; the others become equations (`window_solver`).

Memory: the newest 16 payloads; twice what repairs reach back, at most 128, once they reach
further; and the rows of the solver. About 1 KiB while empty, 225 KiB at the very most.
Work: a packet costs at most 64 multiplications of a payload and the solver's `MOST_WORK`. In the
long run at most `SOURCE_EARNS` for each source packet that came: repairs alone, which cost their
sender nothing to invent, cost next to nothing here.
"""

from __future__ import annotations

from typing import Final

from ..errors import WireError
from ..sequence import distance
from .gf256 import SCALED, coefficient
from .window_plan import (
    BODY_HEAD_BYTES,
    GF256,
    LENGTH_BYTES,
    MAX_PAYLOAD,
    MAX_REACH,
    RepairHead,
    decode_repair,
)
from .window_solver import MOST_ROWS, Solved, WindowSolver

REMEMBERED: Final = 512  # SSNs that are known to have come or not: 4 s at 128 packets/s
KEPT_AT_FIRST: Final = 16  # payloads, a power of 2
AHEAD: Final = 64  # SSNs that a repair may be in front of every source packet
NOWHERE: Final = -1  # SSN below all that are used
RESTART: Final = 8  # source packets from behind `REMEMBERED`, in a row, that mean a new count

# Work that packets earn, and how much of it may be saved up; `WindowDecoder.work` says in what
# units. Measured over 60 000 packets of each plan at 20 % loss, 2 % of them out of order: windows
# up to 16 use 4.1 for each source packet that came, and at most 98 at once beyond what they earn;
# windows of 64 in runs of 3 use 17.4 and 5378, in runs of 5 17.6 and 4405. Only windows of 64
# with a stride of 2, which nobody plans, use more in runs of 5: 4 % of their repairs are refused.
# What was recovered earns as well, so that repairs on a second path outlive an outage of the first.
SOURCE_EARNS: Final = 32
RECOVERED_EARNS: Final = 4
EARNED_FIRST: Final = 256
MOST_SAVED: Final = 6144
# With twice as many missing as rows, half would have to come late after all.
MOST_UNKNOWN: Final = 2 * MOST_ROWS


class WindowDecoder:
    """Turns one flow's packets in one direction into payloads for the game, each once."""

    __slots__ = (
        "_come",
        "_floor",
        "_forfeited",
        "_highest",
        "_kept",
        "_late_run",
        "_late_sources",
        "_late_ssn",
        "_solver",
        "_spent",
        "duplicates",
        "exhausted",
        "future",
        "late",
        "lies",
        "past",
        "rebuilt",
        "recovered",
        "repairs",
        "sources",
        "wasted",
    )

    def __init__(self, *, from_start: bool = False) -> None:
        """`from_start`: no packet of this flow came before this decoder was there.

        Otherwise what lies before the first source packet may have been delivered by others, so it
        is never recovered.
        """
        self.sources = 0  # source packets delivered
        self.repairs = 0  # repair packets that were in order
        self.recovered = 0
        self.rebuilt: tuple[int, ...] = ()  # SSNs (unwrapped) that were recovered last
        self.duplicates = 0  # source packets that had come or been recovered
        self.late = 0  # source packets from behind `REMEMBERED`: nobody knows if they had come
        self.wasted = 0  # repairs that told nothing new
        self.past = 0  # repairs that need packets no longer (or not ever) kept
        self.future = 0  # repairs more than `AHEAD` in front of all source packets
        self.lies = 0  # times that repairs contradicted packets, each other or the protocol
        self.exhausted = 0  # repairs for which no packet had earned the work
        self._highest = 0xFFFF  # SSN, unwrapped; a flow usually begins with 0
        self._floor = NOWHERE if from_start else 0xFFFF  # nothing is recovered up to here
        self._come = bytearray(REMEMBERED)  # by SSN modulo 512: 1 if delivered
        # Payloads by SSN modulo the length, of SSNs that `_come` marks; None: not kept.
        self._kept: list[bytes | None] = [None] * KEPT_AT_FIRST
        self._solver = WindowSolver()
        self._spent = 0  # repairs looked into, and packets taken out of them
        self._forfeited = 0  # earned beyond `MOST_SAVED`
        self._late_run = 0
        self._late_ssn = 0
        self._late_sources = 0  # `sources` when the last late one came

    @property
    def open_rows(self) -> int:
        """Repairs that wait for more."""
        return len(self._solver)

    @property
    def unrecoverable(self) -> int:
        """Repairs given up: more of their packets were missing than repairs could rebuild."""
        return self._solver.given_up

    @property
    def crowded(self) -> int:
        """Repairs given up to make room for newer ones, or for want of earned work."""
        return self._solver.displaced

    @property
    def work(self) -> int:
        """Multiplications of a payload, or of a row by the solver; one more for each repair."""
        return self._spent + self._solver.operations

    @property
    def dropped(self) -> dict[str, int]:
        """Packets that were in order and of no use, by reason."""
        return {
            "late": self.late,
            "past": self.past,
            "future": self.future,
            "crowded": self.crowded,
            "work": self.exhausted,
            "lies": self.lies,
        }

    def source(self, ssn: int, payload: bytes) -> list[bytes]:
        """The payloads to deliver now: this one, then what it lets us recover, oldest first.

        Empty if the SSN (u16) was delivered or recovered before.
        """
        at = self._highest + 1
        if ssn != at & 0xFFFF:
            return self._out_of_order(ssn, payload)
        self._highest = at  # no row covers it: rows end at the highest
        self._come[at & 511] = 1
        kept = self._kept
        kept[at & len(kept) - 1] = payload if len(payload) <= MAX_PAYLOAD else None
        self.sources += 1
        return [payload]

    def repair(self, field: bytes, body: bytes) -> list[bytes]:
        """The payloads that this repair rebuilds now, oldest first.

        Raises `WireError` "fec-field" when it is malformed, or shorter than a packet it covers.
        """
        head = decode_repair(field, body)
        if not self.sources:
            if self._floor != NOWHERE:  # as far as is known here, all it covers came to others
                self.repairs += 1
                self.past += 1
                return []
            if not self.repairs:
                self._highest = 0x10000 + head.newest
        newest = self._highest + distance(self._highest, head.newest)
        oldest = newest - (head.window - 1) * head.stride
        highest = max(self._highest, newest)
        if newest > self._highest + AHEAD:
            self.repairs += 1
            self.future += 1
            return []
        if highest - oldest >= MAX_REACH:
            self.repairs += 1
            self.past += 1
            return []
        if 2 * (highest - oldest + 1) > len(self._kept) < MAX_REACH:
            self._keep(2 * (highest - oldest + 1))
        if newest <= self._highest and self._all_came(oldest, newest, head.stride):
            self.repairs += 1
            self.wasted += 1
            return []
        if self._is_exhausted():
            self.repairs += 1
            self.exhausted += 1
            return []
        self._spent += 1
        known: list[int] = []
        unknown: list[int] = []
        for at in range(oldest, newest + 1, head.stride):
            (known if at <= self._highest and self._come[at & 511] else unknown).append(at)
        if len(unknown) > MOST_UNKNOWN:
            self.repairs += 1
            self._solver.given_up += 1
            return []
        symbol = None if unknown[0] <= self._floor else self._without(known, head, body)
        self.repairs += 1
        if symbol is None:
            self.past += 1
            return []

        if newest > self._highest:
            self._advance(newest)
        self._solver.forget(highest - len(self._kept) + 1)
        factors = [(at, coefficient(head.key, at) if head.field == GF256 else 1) for at in unknown]
        try:
            solved = self._solver.equation(factors, symbol)
        except WireError:
            self.lies += 1
            return []
        if solved is None:
            self.wasted += 1
            return []
        return self._recover(solved)

    def _all_came(self, oldest: int, newest: int, stride: int) -> bool:
        """Whether a repair over these, none newer than the highest, tells nothing new."""
        come, at = self._come, oldest & 511
        end = at + newest - oldest + 1
        return 0 not in (come if end <= REMEMBERED else come + come)[at:end:stride]

    def _is_exhausted(self) -> bool:
        """Whether all work that packets have earned is done; then no repair waits on."""
        earned = EARNED_FIRST + SOURCE_EARNS * self.sources + RECOVERED_EARNS * self.recovered
        left = earned - self._forfeited - self.work
        if left > MOST_SAVED:
            self._forfeited += left - MOST_SAVED
        elif left <= 0:
            self._solver.displace()  # they cost what there was and brought too little
        return left <= 0

    def _without(self, known: list[int], head: RepairHead, body: bytes) -> bytes | None:
        """The symbol less the packets that are here; None if one of them was not kept."""
        size = len(body) - BODY_HEAD_BYTES
        kept = self._kept
        payloads: list[bytes] = []
        for at in known:
            payload = kept[at & len(kept) - 1]
            if payload is None:
                return None
            if len(payload) + LENGTH_BYTES > size:
                raise WireError("fec-field")
            payloads.append(payload)
        total = int.from_bytes(body[BODY_HEAD_BYTES:], "little")
        for at, payload in zip(known, payloads, strict=True):
            part = len(payload).to_bytes(LENGTH_BYTES, "big") + payload
            if head.field == GF256:
                part = part.translate(SCALED[(head.key ^ at) & 127])
            total ^= int.from_bytes(part, "little")
        self._spent += len(known)
        return total.to_bytes(size, "little")

    def _recover(self, solved: Solved) -> list[bytes]:
        """Deliver what the solver found, if each is a length, so many bytes, and zeros.

        No packet is empty: none is sent, and as a source packet it would be refused.
        """
        solved.sort()
        found: list[bytes] = []
        for _, symbol in solved:
            end = LENGTH_BYTES + int.from_bytes(symbol[:LENGTH_BYTES], "big")
            if not LENGTH_BYTES < end <= len(symbol) or symbol[end:].strip(b"\0"):
                self._solver.clear()  # one of its rows was not true, and nobody knows which
                self.lies += 1
                return []
            found.append(symbol[LENGTH_BYTES:end])
        for (at, _), payload in zip(solved, found, strict=True):
            self._mark(at, payload)
        self.recovered += len(found)
        if found:
            self.rebuilt = tuple(at for at, _ in solved)
        return found

    def _mark(self, at: int, payload: bytes) -> None:
        """This packet, not newer than the highest, is delivered."""
        self._come[at & 511] = 1
        kept = self._kept
        if self._highest - at < len(kept):
            kept[at & len(kept) - 1] = payload if len(payload) <= MAX_PAYLOAD else None

    def _out_of_order(self, ssn: int, payload: bytes) -> list[bytes]:
        if not self.sources and (self._floor != NOWHERE or not self.repairs):
            self._highest = 0xFFFF + ssn
            if self._floor != NOWHERE:
                self._floor = self._highest
            return self.source(ssn, payload)
        at = self._highest + distance(self._highest, ssn)
        if at > self._highest:
            self._advance(at - 1)
            return self.source(ssn, payload)
        if at <= self._highest - REMEMBERED:
            if not self._began_afresh(ssn):
                self.late += 1
                return []
            self._come = bytearray(REMEMBERED)
            self._highest = self._floor = (self._highest | 0xFFFF) + ssn
            return self.source(ssn, payload)
        if self._come[at & 511]:
            self.duplicates += 1
            return []
        self._mark(at, payload)
        self.sources += 1
        return [payload, *self._substitute(at, payload)] if len(self._solver) else [payload]

    def _substitute(self, at: int, payload: bytes) -> list[bytes]:
        """What the rows yield now that one of their packets has come after all."""
        if self._is_exhausted():
            return []
        self._solver.forget(self._highest - len(self._kept) + 1)
        part = payload[: MAX_PAYLOAD + 1]  # too long for any row, if it was in one
        try:
            solved = self._solver.packet(at, len(part).to_bytes(LENGTH_BYTES, "big") + part)
        except WireError:
            self.lies += 1
            return []
        return self._recover(solved)

    def _advance(self, highest: int) -> None:
        """Move on over packets that have not come."""
        for at in range(max(self._highest, highest - REMEMBERED) + 1, highest + 1):
            self._come[at & 511] = 0
        self._highest = highest

    def _keep(self, count: int) -> None:
        """Keep at least so many payloads from now on, or the most there may be."""
        old, size = self._kept, min(1 << (count - 1).bit_length(), MAX_REACH)
        self._kept = [None] * size
        for at in range(self._highest - len(old) + 1, self._highest + 1):
            self._kept[at & size - 1] = old[at & len(old) - 1]

    def _began_afresh(self, ssn: int) -> bool:
        """Whether this late packet ends a run of `RESTART` that count upwards."""
        follows = self._late_sources == self.sources and distance(self._late_ssn, ssn) > 0
        self._late_run = self._late_run + 1 if follows else 1
        self._late_ssn = ssn
        self._late_sources = self.sources
        return self._late_run >= RESTART
