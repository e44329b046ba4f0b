"""The sending end of one flow's repair: numbers its packets, and adds what plan and caps allow.

`WindowEncoder` makes the repairs, `Controller` says after which packets, `Credit` which of them
may leave, `QuietTimer` when the last packets before a silence get their own.
Source: PROTOCOL.md, "Window repair", "Receiver reports".
"""

from __future__ import annotations

from typing import Final

from .asking import Ask
from .controller import Controller
from .credit import FIRST_BYTES, Credit
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
        "_asking",
        "_credit",
        "_header_bytes",
        "_quiet",
        "_refused_before",
        "_saved",
        "controller",
        "encoder",
        "protection",
        "watched",
    )

    def __init__(
        self,
        protection: Protection,
        header_bytes: int,
        *,
        first_ssn: int = 0,
        asking: bool = False,
    ) -> None:
        """`asking`: the peer may ask again, and is answered where the protection adapts."""
        self._header_bytes = header_bytes + UDP_IP_BYTES
        self.encoder = WindowEncoder(None, first_ssn=first_ssn)
        self._credit: Credit | None = None
        self._refused_before = 0  # by the caps of protections before this one
        self._saved: float = FIRST_BYTES  # by the last of them; changing often must earn nothing
        self._adopt(protection, asking=asking)

    def _adopt(self, protection: Protection, *, asking: bool) -> None:
        self.protection = protection
        self._asking = asking and protection.adaptive
        self.controller = Controller(
            protection.settings(self._header_bytes, asking=self._asking),
            fixed=None if protection.adaptive else (protection.plan,),
        )
        self.encoder.plan = self.controller.plan
        if self._asking:
            self.encoder.keep()
        self.watched = protection.active  # else nothing is ever decided here
        self._refused_before = self.refused
        if self._credit is not None:
            self._saved = self._credit.saved
        self._credit = protection.credit(self._saved)
        self._quiet = QuietTimer(protection.budget_s)

    @property
    def refused(self) -> int:
        """Repairs that the caps held back, since the beginning."""
        return self._refused_before + (0 if self._credit is None else self._credit.refused)

    def change(self, protection: Protection, *, asking: bool = False) -> None:
        """Protect in another way from the next packet on; the numbers go on."""
        if protection != self.protection or (asking and protection.adaptive) != self._asking:
            self._adopt(protection, asking=asking)

    def protect(self, payload: bytes, now: float) -> tuple[bytes, tuple[Repair, ...]]:
        """The FEC field of this source packet, and the repairs to send right after it."""
        encoder = self.encoder
        if not self.watched:
            return encoder.protect(payload)
        controller = self.controller
        controller.sent(len(payload), now)
        if encoder.plan is not controller.plan:  # `!=` compares four fields
            encoder.plan = controller.plan
        credit = self._credit
        if credit is not None:
            credit.earn(len(payload) + self._header_bytes, now)
        field, repairs = encoder.protect(payload)
        if repairs:
            controller.repaired(len(repairs[0][1]))
            repairs = tuple(each for each in repairs if self._pays(each, now))
        if controller.repairs_silence:
            self._quiet.sent(now, pending=encoder.pending(), interval_s=controller.interval_s)
        return field, repairs

    def report(self, report: Report, now: float, round_trip_s: float) -> None:
        """What the receiver says came of the packets sent."""
        self.controller.report(report, now, round_trip_s)

    def answer(self, ask: Ask, now: float) -> list[Repair]:
        """Copies of what is asked for, as far as they are still kept and the caps allow."""
        if not self._asking or not self.controller.answers:
            return []
        copies = (self.encoder.copy(ssn) for ssn in ask.ssns)
        return [each for each in copies if each is not None and self._pays(each, now)]

    def owe(self, body: bytes, now: float) -> None:
        """A report or an ask with this body leaves: it counts towards the caps."""
        if self._credit is not None:
            self._credit.owe(len(body) + self._header_bytes, now)

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
        return repair if self._pays(repair, now) else None

    def explain(self) -> str:
        """What is done now and why, in one line."""
        return self.controller.explain()

    def _pays(self, repair: Repair, now: float) -> bool:
        credit = self._credit
        return credit is None or credit.spend(len(repair[1]) + self._header_bytes, now)
