"""The sending end of one flow's repair: numbers its packets, and adds what plan and caps allow.

`WindowEncoder` makes the repairs, `Controller` says after which packets, `Credit` which of them
may leave, `QuietTimer` when the last packets before a silence get their own.
Source: PROTOCOL.md, "Window repair", "Receiver reports".
"""

from __future__ import annotations

from typing import Final

from .controller import Controller
from .credit import Credit
from .protection import Protection
from .quiet import QuietTimer
from .report import Report
from .window_encoder import Repair, WindowEncoder

__all__ = ["Protector", "Repair"]

UDP_IP_BYTES: Final = 28  # of IPv4; what goes out is metered as the wire has it


class Protector:
    """Tell it each payload (`protect`) and each `report`; `poll` it at `next_deadline`.

    `header_bytes` is of a tunnel packet, without UDP and IP.
    """

    __slots__ = (
        "_credit",
        "_header_bytes",
        "_quiet",
        "controller",
        "encoder",
        "protection",
        "watched",
    )

    def __init__(self, protection: Protection, header_bytes: int, *, first_ssn: int = 0) -> None:
        self.protection = protection
        self._header_bytes = header_bytes + UDP_IP_BYTES
        self.controller = Controller(
            protection.settings(self._header_bytes),
            fixed=None if protection.adaptive else (protection.plan,),
        )
        self.encoder = WindowEncoder(self.controller.plan, first_ssn=first_ssn)
        self.watched = protection.active  # else nothing is ever decided here
        self._credit: Credit | None = protection.credit()
        self._quiet = QuietTimer(protection.budget_s)

    @property
    def refused(self) -> int:
        """Repairs that the caps held back."""
        return 0 if self._credit is None else self._credit.refused

    def change(self, protection: Protection) -> None:
        """Protect in another way from the next packet on; the numbers go on."""
        if protection == self.protection:
            return
        other = Protector(protection, self._header_bytes - UDP_IP_BYTES)
        self.protection, self.controller = protection, other.controller
        self.watched = other.watched
        self._credit, self._quiet = other._credit, other._quiet
        self.encoder.plan = other.encoder.plan

    def protect(self, payload: bytes, now: float) -> tuple[bytes, tuple[Repair, ...]]:
        """The FEC field of this source packet, and the repairs to send right after it."""
        encoder = self.encoder
        if not self.watched:
            return encoder.protect(payload)
        controller = self.controller
        controller.sent(len(payload), now)
        if encoder.plan != controller.plan:
            encoder.plan = controller.plan
        credit = self._credit
        if credit is not None:
            credit.earn(len(payload) + self._header_bytes, now)
        field, repairs = encoder.protect(payload)
        if repairs and credit is not None:
            repairs = tuple(each for each in repairs if self._pays(credit, each, now))
        if encoder.plan is not None:
            self._quiet.sent(now, pending=encoder.pending(), interval_s=controller.interval_s)
        return field, repairs

    def report(self, report: Report, now: float, round_trip_s: float) -> None:
        """What the receiver says came of the packets sent."""
        self.controller.report(report, now, round_trip_s)

    def next_deadline(self) -> float:
        """When `poll` has a repair; infinity while there is nothing to wait for."""
        return self._quiet.next_deadline()

    def poll(self, now: float) -> Repair | None:
        """A repair for the last packets before a silence."""
        if now < self._quiet.next_deadline() or not self._quiet.poll(now):
            return None
        repair = self.encoder.flush(again=True)
        if repair is None:
            self._quiet.stop()
            return None
        if self._credit is not None and not self._pays(self._credit, repair, now):
            return None
        return repair

    def explain(self) -> str:
        """What is done now and why, in one line."""
        return self.controller.explain()

    def _pays(self, credit: Credit, repair: Repair, now: float) -> bool:
        return credit.spend(len(repair[1]) + self._header_bytes, now)
