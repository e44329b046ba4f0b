from __future__ import annotations

import random

import pytest
from lightspeed_client.lab.bound import least_unknown
from lightspeed_client.lab.impair import Fate
from lightspeed_client.lab.packets import Kind

STEP_S = 1 / 64
WAY_S = 0.02
FASTEST_S = {0: WAY_S, 1: WAY_S}


def fates(script: str, lane: int = 0, *, delay_s: float = WAY_S) -> list[Fate]:
    """`.` a source packet, `x` a lost one, `R` a repair packet, `r` a lost one, `k` a keepalive.

    A repair leaves with the packet before it.
    """
    kinds = {"R": Kind.REPAIR, "r": Kind.REPAIR, "k": Kind.CONTROL}
    number = 0
    out = []
    for letter in script:
        kind = kinds.get(letter, Kind.SOURCE)
        number += kind is Kind.SOURCE
        label = (lane, number) if kind is Kind.SOURCE else None
        lost = letter in "xr"
        sent_s = number * STEP_S
        came_s = None if lost else sent_s + delay_s
        out.append(Fate("up", lane, kind, 0, label, sent_s, lost, None, came_s))
    return out


def least(script: str, budget_s: float = 0.05) -> int:
    return least_unknown(fates(script), FASTEST_S, budget_s)


def test_without_repair_all_that_was_lost_stays_unknown() -> None:
    assert least("..x.x.") == 2
    assert least("......") == 0


def test_a_repair_packet_that_came_brings_back_one_packet_before_it() -> None:
    assert least("..x.R.") == 0
    assert least(".xx.R.") == 1
    assert least(".xx.RR") == 0
    assert least("..x.r.") == 1
    assert least(".Rx...") == 1
    assert least("..x.k.") == 1


def test_it_has_to_come_within_the_budget() -> None:
    assert least("x...R") == 0  # three packets later: 47 ms
    assert least("x....R") == 1
    assert least("x....R", 0.08) == 0


def test_a_packet_that_came_late_by_itself_may_be_saved_as_well() -> None:
    late = fates(".", delay_s=WAY_S + 0.06)
    assert least_unknown(late, FASTEST_S, 0.05) == 1
    assert least_unknown([*late, *fates(".R")[1:]], FASTEST_S, 0.05) == 0


def test_conversations_do_not_help_each_other() -> None:
    mixed = [f for pair in zip(fates(".x..R"), fates(".x...", lane=1), strict=True) for f in pair]
    assert least_unknown(mixed, FASTEST_S, 0.05) == 1


def test_of_a_player_of_whom_nothing_came_all_is_unknown() -> None:
    assert least_unknown(fates("..R"), {}, 0.05) == 2


@pytest.mark.parametrize("seed", range(5))
def test_it_is_never_above_what_blocks_of_xor_leave(seed: int) -> None:
    rng = random.Random(seed)
    losses = [rng.random() < 0.1 for _ in range(500)]
    script = "".join(
        ("x" if lost else ".") + ("R" if n % 4 == 3 else "") for n, lost in enumerate(losses)
    )
    blocks = [losses[n : n + 4] for n in range(0, 500, 4)]
    left = sum(sum(block) for block in blocks if sum(block) > 1)
    assert 0 < least(script) <= left
