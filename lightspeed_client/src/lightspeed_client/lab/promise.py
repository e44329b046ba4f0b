"""Checks packet by packet what loss repair promises: nothing less arrives, and nothing twice."""

from __future__ import annotations

import attrs

from .way import Way


@attrs.frozen(kw_only=True)
class Check:
    """The promise of loss repair for one direction, packet by packet."""

    way: str
    common: int  # packets that both matches sent
    dropped: int  # of those, by the link without repair
    same_losses: bool
    missing: int  # delivered without repair but not with it: must be 0
    gained: int  # delivered with repair but not without
    duplicates: int  # must be 0

    @property
    def held(self) -> bool:
        return self.missing == 0 and self.duplicates == 0

    def line(self) -> str:
        losses = (
            f"the link dropped the same {self.dropped} of {self.common} both times"
            if self.same_losses
            else "the link dropped other packets the second time, so compare the shares only"
        )
        superset = (
            "every one that arrived without repair arrived with it"
            if self.missing == 0
            else f"{self.missing} arrived without repair but NOT with it"
        )
        return (
            f"{self.way}: {losses}; {superset}, and {self.gained} more;"
            f" delivered twice: {self.duplicates}"
        )


def check(way: str, without: Way, with_fec: Way) -> Check:
    """Compare one direction over the numbers that both matches sent."""
    common = {
        (who, number)
        for who, sent in without.sent_by.items()
        for number in range(1, min(sent, with_fec.sent_by.get(who, 0)) + 1)
    }
    plain, protected = without.delivered & common, with_fec.delivered & common
    dropped = without.dropped & common
    return Check(
        way=way,
        common=len(common),
        dropped=len(dropped),
        same_losses=dropped == with_fec.dropped & common,
        missing=len(plain - protected),
        gained=len(protected - plain),
        duplicates=with_fec.duplicates,
    )
