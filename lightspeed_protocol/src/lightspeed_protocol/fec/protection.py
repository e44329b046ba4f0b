"""What a sender is to do against loss in one direction, and how a client tells a node.

A client decides for both directions: it protects what it sends, and says in Register how it wants
to be sent to.

     0      1       2        3        4       5       6-9      10-11     12-13   14-17
    ┌──────┬───────┬────────┬────────┬───────┬───────┬────────┬─────────┬───────┬──────┐
    │ mode │ every │ window │ stride │ field │ delay │ target │ budget  │ cap   │ rate │
    │      │       │        │        │       │       │ 1e-6   │ ms      │ 1/100 │ kbit │
    └──────┴───────┴────────┴────────┴───────┴───────┴────────┴─────────┴───────┴──────┘

Mode 0 sends no repair, 1 follows the plan, 2 adapts to what the receiver reports. A cap or a rate
of 0 is none.
Source: PROTOCOL.md, "Extensions".
"""

from __future__ import annotations

import struct
from typing import Final, Self

import attrs
from attrs.validators import and_, ge, gt, le, lt, optional

from ..errors import WireError
from .controller import Settings
from .credit import FIRST_BYTES, Credit
from .window_plan import Plan

OFF: Final = 0
FIXED: Final = 1
ADAPTIVE: Final = 2

CAP: Final = 2.0  # bytes in all over bytes of source packets, where nobody says
MORE_THAN_PLAN: Final = 1.25
LARGEST_CAP: Final = 100.0

_CAP_RANGE: Final = optional(and_(ge(1.0), le(LARGEST_CAP)))
_RATE_RANGE: Final = optional(and_(ge(1), le(0xFFFFFFFF)))
_FORM: Final = struct.Struct("!6BIHHI")
BYTES: Final = _FORM.size
_PARTS: Final = 1_000_000
_HUNDREDTHS: Final = 100
_MS: Final = 1000


@attrs.frozen(kw_only=True)
class Protection:
    """One direction's loss repair: off, a plan that stays, or one that adapts.

    `target` is the share of packets that may be missing `budget_s` after they were due. `cap` is
    bytes in all over bytes of source packets, `cap_kbps` kbit/s in all, of each conversation,
    reports and asks included. None for any rate, and for a `cap` of 2 on repair alone, or a little
    more than a plan costs that is dearer.
    """

    adaptive: bool = False
    plan: Plan | None = None
    target: float = attrs.field(default=0.001, validator=[gt(0), lt(1)])
    budget_s: float = attrs.field(default=0.05, validator=[ge(0.005), le(1.0)])
    cap: float | None = attrs.field(default=None, validator=_CAP_RANGE)
    cap_kbps: int | None = attrs.field(default=None, validator=_RATE_RANGE)

    @property
    def active(self) -> bool:
        """Whether repair is ever sent."""
        return self.adaptive or self.plan is not None

    def capped(self, most: float) -> Self:
        """The same under a cap of somebody else's, who pays for the bytes."""
        return self if self._cap <= most else attrs.evolve(self, cap=most)

    def settings(self, header_bytes: int, *, asking: bool = False) -> Settings:
        """For the controller. `header_bytes`: of a whole packet, less its payload; `asking`: the
        peer may ask again.
        """
        return Settings(
            target=self.target,
            budget_s=self.budget_s,
            cap=self._cap,
            cap_kbps=self.cap_kbps,
            header_bytes=header_bytes,
            asking=asking,
        )

    def credit(self, saved: float = FIRST_BYTES) -> Credit | None:
        """With so many bytes saved before; None where no repair is ever sent."""
        if not self.active:
            return None
        return Credit(
            cap=self._cap, cap_kbps=self.cap_kbps, strict=self.cap is not None, saved=saved
        )

    @property
    def _cap(self) -> float:
        if self.cap is not None:
            return self.cap
        # beyond the plan's own for the repairs before a silence, which a slow flow is full of
        return CAP if self.plan is None else max(CAP, 1 + MORE_THAN_PLAN / self.plan.every)

    def encode(self) -> bytes:
        """The 18 bytes."""
        plan = self.plan
        parts = (0,) * 5
        if plan is not None and not self.adaptive:
            parts = (plan.every, plan.window, plan.stride, plan.field, plan.delay)
        return _FORM.pack(
            ADAPTIVE if self.adaptive else OFF if plan is None else FIXED,
            *parts,
            max(round(self.target * _PARTS), 1),
            round(self.budget_s * _MS),
            0 if self.cap is None else round(self.cap * _HUNDREDTHS),
            self.cap_kbps or 0,
        )

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Raises `WireError` "tlv": another length or mode, or values out of range."""
        if len(data) != BYTES:
            raise WireError("tlv", got=len(data), need=BYTES)
        mode, every, window, stride, field, delay, target, budget, cap, rate = _FORM.unpack(data)
        if mode not in (OFF, FIXED, ADAPTIVE):
            raise WireError("tlv", got=mode)
        try:
            return cls(
                adaptive=mode == ADAPTIVE,
                plan=Plan(every, window, stride, field, delay) if mode == FIXED else None,
                target=target / _PARTS,
                budget_s=budget / _MS,
                cap=cap / _HUNDREDTHS if cap else None,
                cap_kbps=rate or None,
            )
        except ValueError:
            raise WireError("tlv") from None


UNPROTECTED: Final = Protection()
