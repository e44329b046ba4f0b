"""How a plan and a share read in a line for people."""

from __future__ import annotations

from .window_plan import GF256, Plan


def percent(share: float) -> str:
    """Two digits that mean something, for a share of 0..1."""
    value = 100 * share
    return f"{value:.1f} %" if value >= 1 else f"{value:.2g} %"


def plan_words(plan: Plan | None) -> str:
    """What is sent, and after which packets."""
    if plan is None:
        return "no repair"
    if plan.delay:
        return f"a copy of each packet {plan.delay} later"
    packets = "packet" if plan.every == 1 else f"{plan.every} packets"
    kind = "repair" if plan.field == GF256 else "XOR repair"
    over = f"{plan.window}" if plan.stride == 1 else f"{plan.window} that are {plan.stride} apart"
    return f"1 {kind} per {packets} over {over}"
