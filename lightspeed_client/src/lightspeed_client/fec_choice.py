"""Reads the loss-repair choice that players write, for both directions.

    off            no repair
    auto           as much as the reported loss needs, under the caps
    xor:K          one XOR repair packet for every K game packets
    window:N:W     one repair for every N game packets, made from the newest W
    UP,DOWN        one choice for what the game sends, another for what the server sends

Source: the wire form, `fec.protection`.
"""

from __future__ import annotations

import re
from typing import Final

import attrs
from lightspeed_protocol.extensions import FecScheme
from lightspeed_protocol.fec.protection import UNPROTECTED, Protection
from lightspeed_protocol.fec.report import INTERVAL_S, ReceptionLog
from lightspeed_protocol.fec.window_plan import GF256, MAX_WINDOW, XOR, Plan

BUDGET_MS: Final = (5, 1000)
TARGET_PERCENT: Final = (0.0001, 50.0)
K_LEAST: Final = 2
K_MOST: Final = 16
FIGURES_S: Final = 1.0  # between reports that only figures are made of
OLD_NODE_K: Final = 4  # towards a node that takes XOR and reports nothing
WANTED: Final = (
    f"off, auto, xor:K with K from {K_LEAST} to {K_MOST}, window:N:W with W up to {MAX_WINDOW},"
    " or two of them, UP,DOWN"
)

LEAST_KBPS: Final = 16  # less than that no game sends
MOST_KBPS: Final = 1_000_000

_CAP: Final = re.compile(r"(?P<number>\d+(\.\d+)?)\s*(?P<unit>x|kbit|kbit/s)?")


@attrs.frozen(kw_only=True)
class Caps:
    """The most that repair may cost: `ratio` of all bytes to the game's packets, or a rate."""

    ratio: float | None = None
    kbps: int | None = None


@attrs.frozen(kw_only=True)
class FecChoice:
    """`up` is what the game sends, `down` what the game server sends."""

    up: Protection = UNPROTECTED
    down: Protection = UNPROTECTED

    def __str__(self) -> str:
        """As `parse_fec` reads it."""
        up, down = write_protection(self.up), write_protection(self.down)
        return up if up == down else f"{up},{down}"

    @property
    def k(self) -> int | None:
        """For an open tunnel, which protects both ways alike with XOR or not at all.

        Raises `ValueError` with the remedy for any other choice.
        """
        plan = self.up.plan
        if self.up == self.down and not self.up.active:
            return None
        if self.up != self.down or plan is None or plan.field != XOR:
            raise ValueError(
                f"loss repair {self} needs a node with an invite; an open one takes off or xor:K"
            )
        return plan.window

    @property
    def offer(self) -> tuple[FecScheme, ...]:
        """The schemes to offer. Whoever may ask can be asked, so both ways must adapt for that."""
        base = (FecScheme.WINDOW_XOR, FecScheme.WINDOW_GF256, FecScheme.RECEIVER_REPORTS)
        return (*base, FecScheme.NACK) if self.up.adaptive and self.down.adaptive else base

    def agreed(self, schemes: frozenset[int]) -> RepairTerms:
        """What of it holds with a node that has accepted these schemes."""
        reports = FecScheme.RECEIVER_REPORTS in schemes
        return RepairTerms(
            up=within(self.up, schemes),
            budget_s=self.down.budget_s,
            reports_s=reports_s(self.down) if reports else None,
            asking=FecScheme.NACK in schemes,
        )


@attrs.frozen(kw_only=True)
class RepairTerms:
    """What holds with one node. `reports_s`: how often it is told what came; None never.

    `asking`: either end may ask the other again for what is missing.
    """

    up: Protection = UNPROTECTED
    budget_s: float = 0.05
    reports_s: float | None = None
    asking: bool = False

    def log(self) -> ReceptionLog | None:
        """For one game's conversation."""
        if self.reports_s is None:
            return None
        return ReceptionLog(budget_s=self.budget_s, every_s=self.reports_s)


OFF: Final = FecChoice()
NO_REPAIR: Final = RepairTerms()


def parse_fec(
    text: str, *, budget_ms: int = 50, target: float = 0.001, caps: Caps | None = None
) -> FecChoice:
    """`target`: share of packets that may be missing. Raises `ValueError` with the remedy."""
    ways = [way.strip() for way in text.split(",")]
    if len(ways) > 2:
        raise ValueError(f"want {WANTED}; got {text!r}")
    caps = caps or Caps()
    both = [
        attrs.evolve(
            _scheme(way, text),
            budget_s=budget_ms / 1000,
            target=target,
            cap=caps.ratio,
            cap_kbps=caps.kbps,
        )
        for way in ways
    ]
    return FecChoice(up=both[0], down=both[-1])


def _scheme(way: str, text: str) -> Protection:
    if way == "auto":
        return Protection(adaptive=True)
    if way == "off":
        return UNPROTECTED
    scheme, *numbers = way.split(":")
    if all(number.isascii() and number.isdecimal() for number in numbers):
        match scheme, [int(number) for number in numbers]:
            case "xor", [k] if K_LEAST <= k <= K_MOST:
                return Protection(plan=Plan.xor(k))
            case "window", [every, window] if every >= 1 and 1 <= window <= MAX_WINDOW:
                return Protection(plan=Plan(every, window, field=GF256))
    raise ValueError(f"want {WANTED}; got {text!r}")


def parse_caps(text: str) -> Caps:
    """ "2x", "128", "128kbit", or a ratio and a rate, "1.5x,128". Raises `ValueError`."""
    ratio: float | None = None
    kbps: int | None = None
    for word in text.split(","):
        match = _CAP.fullmatch(word.strip())
        if match is None:
            raise ValueError(
                f"want a ratio such as 1.5x, a rate in kbit/s such as 128, or both as 1.5x,128;"
                f" got {text!r}"
            )
        number = float(match["number"])
        if match["unit"] == "x":
            if not 1 <= number <= 100:
                raise ValueError(f"a ratio is from 1x to 100x, got {word.strip()!r}")
            ratio = number
        else:
            if not LEAST_KBPS <= number <= MOST_KBPS:
                meant = f": did you mean {number:g}x?" if match["unit"] is None else ""
                wanted = f"a rate is from {LEAST_KBPS} to {MOST_KBPS} kbit/s"
                raise ValueError(f"{wanted}, got {word.strip()!r}{meant}")
            kbps = round(number)
    return Caps(ratio=ratio, kbps=kbps)


def reports_s(protection: Protection) -> float:
    """How often the sender is to be told: what adapts needs it soon, figures can wait."""
    return INTERVAL_S if protection.adaptive else FIGURES_S


def write_protection(protection: Protection) -> str:
    """The choice for one direction, as players write it."""
    plan = protection.plan
    if protection.adaptive:
        return "auto"
    if plan is None:
        return "off"
    if plan.field == XOR:
        return f"xor:{plan.window}"
    return f"window:{plan.every}:{plan.window}"


def within(protection: Protection, schemes: frozenset[int]) -> Protection:
    """What of it a node takes that has accepted these schemes."""
    plan = protection.plan
    needed = {FecScheme.WINDOW_GF256}
    if protection.adaptive:
        needed.add(FecScheme.RECEIVER_REPORTS)
    elif plan is None or plan.field == XOR:
        needed = set() if plan is None else {FecScheme.WINDOW_XOR}
    if needed <= schemes:
        return protection
    fallback = Plan.xor(OLD_NODE_K) if FecScheme.WINDOW_XOR in schemes else None
    return attrs.evolve(protection, adaptive=False, plan=fallback)
