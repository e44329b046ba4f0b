"""What a receiver tells the sender about one flow, and how it comes to know it.

A report travels in the sealed header, unprotected by repair; its FEC field and payload are

     0       1       2    3
    ┌───────┬───────┬─────────┐      highest: the newest SSN that came or was vouched for
    │ 0x80  │ 0x00  │ highest │
    └───────┴───────┴─────────┘
    ┌──────────┬──────┬──────┬──────────┬──────┬─────────┬──────┐
    │ received │ lost │ runs │ repaired │ late │ longest │ path │    5 u16, 2 u8
    └──────────┴──────┴──────┴──────────┴──────┴─────────┴──────┘

All since the report before. A packet that was rebuilt counts as lost too. One that does not come
within the budget counts as lost, however it travels on: too late is lost, for a game.

Source: PROTOCOL.md, "Receiver reports".
"""

from __future__ import annotations

import math
import struct
from typing import Final, Self

import attrs

from ..errors import WireError
from .gaps import Gaps
from .header import FEC_BYTES

INTERVAL_S: Final = 0.25

_KIND: Final = 0x80  # kind 2 in the top two bits
_FIELD: Final = struct.Struct("!BBH")
_BODY: Final = struct.Struct("!HHHHHBB")
_MOST: Final = 0xFFFF
_LONGEST: Final = 0xFF


@attrs.frozen(kw_only=True)
class Report:
    """Counts of packets since the report before. `runs`: losses that follow no other loss."""

    highest: int = 0
    received: int = 0
    lost: int = 0
    runs: int = 0
    repaired: int = 0
    late: int = 0  # of those repaired, after the budget
    longest: int = 0  # run of losses, as far as it is known to reach
    path: int = 0

    def encode(self) -> tuple[bytes, bytes]:
        """The FEC field and the payload. Counts that do not fit say their largest value."""
        counts = (self.received, self.lost, self.runs, self.repaired, self.late)
        return (
            _FIELD.pack(_KIND, 0, self.highest),
            _BODY.pack(*(min(n, _MOST) for n in counts), min(self.longest, _LONGEST), self.path),
        )

    @classmethod
    def decode(cls, field: bytes, body: bytes) -> Self:
        """Raises `WireError` "fec-field": not a report, or one that contradicts itself."""
        if len(field) != FEC_BYTES:
            raise WireError("fec-field", got=len(field), need=FEC_BYTES)
        if len(body) != _BODY.size:
            raise WireError("fec-field", got=len(body), need=_BODY.size)
        kind, zero, highest = _FIELD.unpack(field)
        received, lost, runs, repaired, late, longest, path = _BODY.unpack(body)
        # A run may have begun, and a packet been lost, before the last report.
        possible = runs <= lost and late <= repaired and (longest > 0) == (lost > 0)
        if kind != _KIND or zero or not possible:
            raise WireError("fec-field")
        return cls(
            highest=highest,
            received=received,
            lost=lost,
            runs=runs,
            repaired=repaired,
            late=late,
            longest=longest,
            path=path,
        )


@attrs.define(eq=False)
class ReportSums:
    """What the reports of a flow say in all."""

    received: int = 0
    lost: int = 0
    repaired: int = 0
    late: int = 0

    def add(self, report: Report) -> None:
        self.received += report.received
        self.lost += report.lost
        self.repaired += report.repaired
        self.late += report.late


class ReceptionLog:
    """Tell it what comes of one flow; ask it `next_deadline`; at that time call `poll`.

    A gap is not a loss before it has had the budget's time to fill, so reordering is not
    reported. `gaps` is what it knows of them, for others to use.
    """

    __slots__ = (
        "_counts",
        "_deadline",
        "_every_s",
        "_last_lost",
        "_path",
        "_reported_s",
        "_run",
        "gaps",
    )

    def __init__(
        self, *, budget_s: float = 0.05, every_s: float = INTERVAL_S, path: int = 0
    ) -> None:
        """`every_s`: between reports while there is traffic."""
        self.gaps = Gaps(budget_s)
        self._every_s = every_s
        self._path = path
        self._last_lost = -1  # SSN, of the run of losses that is counted last
        self._run = 0  # its length
        self._counts = [0, 0, 0, 0, 0, 0]  # as in the report, up to `longest`
        self._reported_s = -math.inf
        self._deadline = math.inf

    def came(self, ssn: int, now: float) -> None:
        """A source packet (its SSN as u16) that the decoder delivered."""
        self._settle(now)
        self.gaps.came(ssn, now)
        self._settle(now)
        self._counts[0] += 1
        self._arm(now)

    def came_again(self, ssn: int, now: float) -> None:
        """A source packet that was delivered before; if repair was faster, it is not lost."""
        self._settle(now)
        self._counts[0] += self.gaps.came_again(ssn, now)

    def recovered(self, ssn: int, now: float) -> None:
        """A packet that repair rebuilt just now."""
        self._settle(now)
        if self.gaps.recovered(ssn, now) is None:  # it had been given up
            self._counts[3] += 1
            self._counts[4] += 1
        self._settle(now)
        self._arm(now)

    def next_deadline(self) -> float:
        """When `poll` has a report; infinity while there is no traffic."""
        return self._deadline

    def poll(self, now: float) -> Report | None:
        """The report that is due. Send it and forget it: the next one does not repeat it."""
        if now < self._deadline:
            return None
        self._settle(now)
        received, lost, runs, repaired, late, longest = self._counts
        report = Report(
            highest=(self.gaps.highest or 0) & 0xFFFF,
            received=received,
            lost=lost,
            runs=runs,
            repaired=repaired,
            late=late,
            longest=min(longest, _LONGEST),
            path=self._path,
        )
        self._counts = [0, 0, 0, 0, 0, 0]
        self._reported_s = now
        self._deadline = now + self._every_s if self.gaps.missing else math.inf
        return report

    def _arm(self, now: float) -> None:
        """A report is due an interval after the last one, or after the first packet since."""
        if self._deadline == math.inf:
            due = self._reported_s + self._every_s
            self._deadline = due if due > now else now + self._every_s

    def _settle(self, now: float) -> None:
        """Count as lost what has had its time."""
        if not self.gaps.missing:
            return
        counts = self._counts
        for at, missing in self.gaps.settle(now):
            counts[1] += 1
            follows = at == self._last_lost + 1
            self._run = self._run + 1 if follows else 1
            counts[2] += not follows
            counts[3] += missing.repaired
            counts[4] += missing.late
            counts[5] = max(counts[5], self._run)
            self._last_lost = at
