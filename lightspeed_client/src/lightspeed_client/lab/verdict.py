"""Says in plain words what loss repair did between two matches, from their figures alone.

Both matches met the same losses, so every comparison is packet by packet over the numbers
that both of them sent. What did not get better is said as well as what did.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import attrs

from .receipts import LATE_S
from .tally import Tally, Way, in_ms

CLEARLY: Final = 0.95  # a figure below this share of the other is better, not merely different
CLEARLY_RARE: Final = 0.75  # for the one longest of its kind, which chance moves more

Outcome = Literal["helped", "no loss", "no help"]


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


@attrs.frozen(kw_only=True)
class Verdict:
    """What to tell the player."""

    outcome: Outcome
    headline: str
    better: list[str]
    cost: list[str]
    not_better: list[str]
    checks: list[Check]

    @property
    def held(self) -> bool:
        """Whether the promise held: nothing lost by repair, nothing doubled."""
        return all(check.held for check in self.checks)

    def lines(self) -> list[str]:
        out = [self.headline]
        for title, items in (
            ("Better:", self.better),
            ("Cost:", self.cost),
            ("Not better:", self.not_better),
            ("Checked packet by packet:", [check.line() for check in self.checks]),
        ):
            if items:
                out += ["", title, *(f"  - {item}" for item in items)]
        return out

    def to_json(self) -> dict[str, Any]:
        return {**attrs.asdict(self), "held": self.held}


def judge(without: Tally, with_fec: Tally) -> Verdict:
    """Compare a match without repair with one that had it."""
    checks = [
        check("inputs", without.up, with_fec.up),
        check("states", without.down, with_fec.down),
    ]
    before, after = _share_lost(without), _share_lost(with_fec)
    late_before, late_after = _share_useless(without), _share_useless(with_fec)
    better: list[str] = []
    not_better: list[str] = []

    def sort(improved: bool, line: str) -> None:
        (better if improved else not_better).append(line)

    repaired = with_fec.up.repaired + with_fec.down.repaired
    lost = f"lost game packets: {before:.2%} without, {after:.2%} with ({repaired} repaired)"
    budget_ms = LATE_S * 1000
    useless = (
        f"lost or more than {budget_ms:.0f} ms late: {late_before:.2%} without,"
        f" {late_after:.2%} with"
    )
    sort(after < before * CLEARLY, lost)
    sort(late_after < late_before * CLEARLY, useless)
    for name, one, two in (
        ("states", without.down.freeze_s, with_fec.down.freeze_s),
        ("inputs", without.up.freeze_s, with_fec.up.freeze_s),
    ):
        freeze = f"longest freeze of {name}: {one * 1000:.0f} ms without, {two * 1000:.0f} with"
        sort(two < one * CLEARLY_RARE, freeze)
    one_ms, two_ms = in_ms(without.round_trips_s, 0.5), in_ms(with_fec.round_trips_s, 0.5)
    if one_ms is not None and two_ms is not None:
        not_better.append(
            f"round trip from input to state: {one_ms:.1f} ms without, {two_ms:.1f} ms with;"
            " repair does not make a link shorter"
        )
    still = with_fec.up.lost + with_fec.down.lost
    if still:
        not_better.append(
            f"{still} packets stayed lost: a block and its repair packet can spare one packet, not"
            " two, and the match ended before the last block was full"
        )
    not_better.append(
        "everything ran on this machine, so this cannot show whether the way through a node is"
        " shorter than yours; that takes a real node and a real game server"
    )
    outcome, headline = _headline(before, after, late_before, late_after, with_fec.fec)
    return Verdict(
        outcome=outcome,
        headline=headline,
        better=better,
        cost=_cost(without, with_fec),
        not_better=not_better,
        checks=checks,
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


def _headline(
    before: float, after: float, late_before: float, late_after: float, fec: str
) -> tuple[Outcome, str]:
    if before == 0:
        return "no loss", (
            "Loss repair had nothing to do: no game packet was lost without it. It only cost bytes."
        )
    if after >= before * CLEARLY:
        return "no help", (
            f"Loss repair ({fec}) did NOT help: {before:.2%} of the game's packets were lost"
            f" without it, {after:.2%} with it."
        )
    if late_after >= late_before * CLEARLY:
        return "no help", (
            f"Loss repair ({fec}) did NOT help play: fewer packets were lost ({before:.2%} without,"
            f" {after:.2%} with), but the repaired ones came too late to be of use."
        )
    return "helped", (
        f"Loss repair ({fec}) helped: {before:.2%} of the game's packets were lost without it,"
        f" {after:.2%} with it."
    )


def _cost(without: Tally, with_fec: Tally) -> list[str]:
    out = []
    if without.seconds > 0 and with_fec.seconds > 0 and without.tunnel_bytes:
        one, two = (each.tunnel_bytes / each.seconds / 1000 for each in (without, with_fec))
        out.append(
            f"bytes: {one:.1f} kB/s without, {two:.1f} kB/s with, both ways together"
            f" ({(two / one - 1):+.0%})"
        )
    delays = (*with_fec.up.repair_delays_s, *with_fec.down.repair_delays_s)
    p50, p95 = in_ms(delays, 0.5), in_ms(delays, 0.95)
    if p50 is not None and p95 is not None:
        out.append(
            f"waiting: a repaired packet came {p50:.0f} ms after its moment (95 % within"
            f" {p95:.0f} ms)"
        )
    own = [in_ms((*t.up.own_transits_s, *t.down.own_transits_s), 0.5) for t in (without, with_fec)]
    if own[0] is not None and own[1] is not None:
        out.append(
            f"no wait for the others: packets that needed no repair took {own[0]:.1f} ms without"
            f" and {own[1]:.1f} ms with (median, one way)"
        )
    return out


def _share_lost(tally: Tally) -> float:
    sent = tally.up.sent + tally.down.sent
    return (tally.up.lost + tally.down.lost) / sent if sent else 0.0


def _share_useless(tally: Tally) -> float:
    sent = tally.up.sent + tally.down.sent
    late = tally.up.late + tally.down.late
    return (tally.up.lost + tally.down.lost + late) / sent if sent else 0.0
