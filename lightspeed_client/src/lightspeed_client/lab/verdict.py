"""Says in plain words what loss repair did between two matches, from their figures alone.

Both matches met the same losses, so every comparison is packet by packet over the numbers
that both of them sent. What did not get better is said as well as what did.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import attrs

from ..words import count
from .game import TICKS_PER_S
from .promise import Check, check
from .tally import Tally
from .way import in_ms

# What chance and this machine move by themselves; a smaller difference is "about the same".
CLEARLY: Final = 0.95  # shares of packets: the losses are the same ones both times
CLEARLY_RARE: Final = 0.75  # the one longest freeze
SHARE_NOISE: Final = 0.001  # of packets late: one in a thousand is a hiccup of the machine
FREEZE_NOISE_S: Final = 1 / TICKS_PER_S  # freezes come in whole ticks
ROUND_TRIP_NOISE_S: Final = 0.5 / TICKS_PER_S  # it contains the wait for a tick, up to a whole one
TRANSIT_NOISE_S: Final = 0.003

NO_ROUTE: Final = (
    "whether the way through a node is shorter than yours: that takes a real node and a real game"
    " server"
)
BUSY: Final = (
    "Inconclusive: this machine was too busy to tell. The game's own clock came late too often, so"
    " delays and freezes are this machine's as well as the link's. Close other programs and run"
    " it again."
)

Outcome = Literal["helped", "no loss", "no help", "inconclusive"]


@attrs.frozen
class Pair:
    """One figure, smaller is better, without repair and with it."""

    without: float
    with_fec: float
    clearly: float = CLEARLY
    noise: float = 0.0

    @property
    def better(self) -> bool:
        return (
            self.with_fec < self.without * self.clearly
            and self.without - self.with_fec > self.noise
        )

    @property
    def worse(self) -> bool:
        return Pair(self.with_fec, self.without, self.clearly, self.noise).better


@attrs.frozen(kw_only=True)
class Verdict:
    """What to tell the player."""

    outcome: Outcome
    headline: str
    better: list[str] = attrs.field(factory=list)
    cost: list[str] = attrs.field(factory=list)
    same: list[str] = attrs.field(factory=list)
    not_better: list[str] = attrs.field(factory=list)
    counted: list[str] = attrs.field(factory=list)  # what holds on a busy machine too
    not_shown: list[str] = attrs.field(factory=list)
    checks: list[Check]

    @property
    def held(self) -> bool:
        """Whether the promise held: nothing lost by repair, nothing doubled."""
        return all(each.held for each in self.checks)

    def lines(self) -> list[str]:
        out = [self.headline]
        if not self.held:
            out.append("It also broke its promise: see the last lines.")
        for title, items in (
            ("Better:", self.better),
            ("Cost:", self.cost),
            ("About the same:", self.same),
            ("Not better:", self.not_better),
            ("Counted all the same (this machine's speed does not decide it):", self.counted),
            ("What a demo on one machine cannot show:", self.not_shown),
            ("Checked packet by packet:", [each.line() for each in self.checks]),
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
    lost = Pair(_share_lost(without), _share_lost(with_fec))
    repaired = with_fec.up.repaired + with_fec.down.repaired
    lost_line = (
        f"lost game packets: {lost.without:.2%} without, {lost.with_fec:.2%} with"
        f" ({repaired} repaired)"
    )
    if without.busy or with_fec.busy:
        return Verdict(
            outcome="inconclusive",
            headline=BUSY,
            counted=[lost_line, *_bytes(without, with_fec)],
            not_shown=[NO_ROUTE],
            checks=checks,
        )
    useless = Pair(_share_useless(without), _share_useless(with_fec), noise=SHARE_NOISE)
    figures = [
        (lost, lost_line),
        (useless, _useless_line(useless, with_fec)),
        *_freezes(without, with_fec),
        *_medians(without, with_fec),
    ]
    outcome, headline = _headline(lost, useless, without, with_fec)
    return Verdict(
        outcome=outcome,
        headline=headline,
        better=[line for pair, line in figures if pair.better],
        cost=[*_bytes(without, with_fec), *_waiting(with_fec)],
        same=[line for pair, line in figures if not pair.better and not pair.worse],
        not_better=[*(line for pair, line in figures if pair.worse), *_still_lost(with_fec)],
        not_shown=[NO_ROUTE],
        checks=checks,
    )


def _headline(lost: Pair, useless: Pair, without: Tally, with_fec: Tally) -> tuple[Outcome, str]:
    repair = f"Loss repair ({with_fec.fec})"
    if lost.without == 0:
        return "no loss", (
            "Loss repair had nothing to do: no game packet was lost without it. It only cost bytes."
        )
    if not lost.better:
        return "no help", (
            f"{repair} did NOT help: {lost.without:.2%} of the game's packets were lost"
            f" without it, {lost.with_fec:.2%} with it."
        )
    unusable = f"{useless.without:.2%} of the game's packets were lost or came too late"
    if not useless.better:
        return "no help", (
            f"{repair} did NOT help play: fewer packets were lost ({lost.without:.2%} without,"
            f" {lost.with_fec:.2%} with), but {unusable} without it and {useless.with_fec:.2%}"
            " with it."
        )
    more = _more_bytes(without, with_fec)
    price = f" It cost {more:.0%} more bytes." if more and more > 0 else ""
    return "helped", (
        f"{repair} helped: {unusable} without it, {useless.with_fec:.2%} with it.{price}"
    )


def _useless_line(useless: Pair, with_fec: Tally) -> str:
    late = with_fec.up.repaired_late + with_fec.down.repaired_late
    though = f"; {late} of the repaired came too late and count here" if late else ""
    budget_ms = with_fec.up.budget_s * 1000
    return (
        f"lost, or more than {budget_ms:.0f} ms after the moment they would have come"
        f" undisturbed: {useless.without:.2%} without, {useless.with_fec:.2%} with{though}"
    )


def _freezes(without: Tally, with_fec: Tally) -> list[tuple[Pair, str]]:
    out = []
    for name, one, two in (
        ("states", without.down.freeze_s, with_fec.down.freeze_s),
        ("inputs", without.up.freeze_s, with_fec.up.freeze_s),
    ):
        line = f"longest freeze of {name}: {one * 1000:.0f} ms without, {two * 1000:.0f} ms with"
        out.append((Pair(one, two, CLEARLY_RARE, FREEZE_NOISE_S), line))
    return out


def _medians(without: Tally, with_fec: Tally) -> list[tuple[Pair, str]]:
    out = []
    for name, noise_s, one, two in (
        (
            "round trip from input to state",
            ROUND_TRIP_NOISE_S,
            without.round_trips_s,
            with_fec.round_trips_s,
        ),
        (
            "packets that needed no repair, one way",
            TRANSIT_NOISE_S,
            (*without.up.own_transits_s, *without.down.own_transits_s),
            (*with_fec.up.own_transits_s, *with_fec.down.own_transits_s),
        ),
    ):
        one_ms, two_ms = in_ms(one, 0.5), in_ms(two, 0.5)
        if one_ms is not None and two_ms is not None:
            line = f"{name}, median: {one_ms:.1f} ms without, {two_ms:.1f} ms with"
            out.append((Pair(one_ms, two_ms, noise=noise_s * 1000), line))
    return out


def _still_lost(with_fec: Tally) -> list[str]:
    """What repair did not bring back, and how much of that any other could have."""
    ways = (with_fec.up, with_fec.down)
    elsewhere = sum(max(0, way.lost_elsewhere) for way in ways)
    stayed = sum(way.lost for way in ways) - elsewhere
    unknown = sum(way.unknown for way in ways)
    bound = sum(way.bound for way in ways)
    lines = []
    if stayed > 0:
        lines.append(
            f"{count(stayed, 'packet')} stayed lost: fewer repair packets came for them than"
            " packets were lost close together"
        )
    if unknown > 0:
        lines.append(
            f"{count(unknown, 'packet')} lost or too late with repair; with as many repair packets"
            f" at the same times any code would have left at least {bound}"
        )
    if elsewhere > 0:
        lines.append(
            f"{count(elsewhere, 'packet')} stayed lost: not lost on the link, but by a limit or a"
            " full buffer on this machine"
        )
    return lines


def _more_bytes(without: Tally, with_fec: Tally) -> float | None:
    """Bytes a second beyond those without repair, as a share of them."""
    if not (without.seconds > 0 and with_fec.seconds > 0 and without.tunnel_bytes):
        return None
    rate = without.tunnel_bytes / without.seconds
    return with_fec.tunnel_bytes / with_fec.seconds / rate - 1


def _bytes(without: Tally, with_fec: Tally) -> list[str]:
    more = _more_bytes(without, with_fec)
    if more is None:
        return []
    one, two = (each.tunnel_bytes / each.seconds / 1000 for each in (without, with_fec))
    return [f"bytes: {one:.1f} kB/s without, {two:.1f} kB/s with, both ways together ({more:+.0%})"]


def _waiting(with_fec: Tally) -> list[str]:
    delays = (*with_fec.up.repair_delays_s, *with_fec.down.repair_delays_s)
    p50, p95 = in_ms(delays, 0.5), in_ms(delays, 0.95)
    if p50 is None or p95 is None:
        return []
    return [
        f"waiting: a repaired packet came {p50:.0f} ms after its moment (95 % within {p95:.0f} ms)"
    ]


def _share_lost(tally: Tally) -> float:
    sent = tally.up.sent + tally.down.sent
    return (tally.up.lost + tally.down.lost) / sent if sent else 0.0


def _share_useless(tally: Tally) -> float:
    sent = tally.up.sent + tally.down.sent
    late = tally.up.late + tally.down.late
    return (tally.up.lost + tally.down.lost + late) / sent if sent else 0.0
