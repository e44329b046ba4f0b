"""What a sealed session has agreed on for loss repair: how it is sent to, what it is told.

A client that says nothing is protected as it protects itself, with XOR over as many packets.
Source: PROTOCOL.md, "Extensions" (protection, reports).
"""

from __future__ import annotations

from typing import Final

import attrs
from lightspeed_protocol.extensions import FecScheme, RegisterExtensions
from lightspeed_protocol.fec.protection import CAP, Protection
from lightspeed_protocol.fec.report import INTERVAL_S, ReceptionLog
from lightspeed_protocol.fec.window import Plan

SCHEMES: Final = frozenset(FecScheme)
LEAST_REPORT_S: Final = 0.1  # between two reports, whatever a client wishes


@attrs.frozen(kw_only=True)
class RepairTerms:
    """`down` None: nothing was said. `reports_s` None: the client is told nothing.

    `asking`: either end may ask the other again for what is missing. `most`: bytes in all over
    bytes of source packets that the node's operator allows.
    """

    down: Protection | None = None
    reports_s: float | None = None
    budget_s: float = 0.05
    asking: bool = False
    most: float = CAP

    @classmethod
    def agree(cls, ext: RegisterExtensions, most: float) -> RepairTerms:
        """What a client wishes, under the operator's limit."""
        wish = ext.protection
        wanted = INTERVAL_S if ext.reports_ms is None else ext.reports_ms / 1000
        reports = FecScheme.RECEIVER_REPORTS in ext.fec and wanted > 0
        return cls(
            down=None if wish is None else wish.capped(most),
            reports_s=max(wanted, LEAST_REPORT_S) if reports else None,
            budget_s=Protection().budget_s if wish is None else wish.budget_s,
            asking=FecScheme.NACK in ext.fec,
            most=most,
        )

    def mirrored(self, window: int) -> Protection:
        """As a client protects that said nothing of what it wants: XOR over so many packets."""
        return Protection(plan=Plan.xor(window)).capped(self.most)

    def log(self) -> ReceptionLog | None:
        """For one flow of this session."""
        if self.reports_s is None:
            return None
        return ReceptionLog(budget_s=self.budget_s, every_s=self.reports_s)


NOTHING_SAID: Final = RepairTerms()


def accepted(offered: tuple[int, ...]) -> tuple[int, ...]:
    """The schemes of a client's offer that a node takes, each once, in the client's order."""
    return tuple(dict.fromkeys(scheme for scheme in offered if scheme in SCHEMES))
