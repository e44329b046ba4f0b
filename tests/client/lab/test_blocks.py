from __future__ import annotations

from lightspeed_client.lab.blocks import find_unprotected
from lightspeed_client.lab.impair import Fate
from lightspeed_client.lab.packets import Kind


def fates(script: str, lane: int = 0) -> list[Fate]:
    """`.` a source packet, `x` a lost one, `R` a repair packet, `r` a lost one, `k` a keepalive."""
    kinds = {"R": Kind.REPAIR, "r": Kind.REPAIR, "k": Kind.CONTROL}
    number = 0
    out = []
    for letter in script:
        kind = kinds.get(letter, Kind.SOURCE)
        number += kind is Kind.SOURCE
        label = (lane, number) if kind is Kind.SOURCE else None
        out.append(Fate("up", lane, kind, 0, label, letter in "xr"))
    return out


def numbers(script: str, *, late_start: bool = False) -> list[int]:
    return sorted(n for _, n in find_unprotected(fates(script), 4, late_start=late_start))


def test_what_comes_after_the_last_repair_packet_is_in_none() -> None:
    assert numbers("..x.R.x.") == [6]
    assert numbers("..x.Rk....R") == []
    assert numbers("....") == []


def test_a_lost_repair_packet_had_been_there_all_the_same() -> None:
    assert numbers(".x..r..xx.") == [7, 8]


def test_a_repair_packet_covers_its_own_block_only() -> None:
    assert numbers("x.x...R") == [1]  # repair began with the third packet
    assert numbers("x.x...R", late_start=True) == [1, 3]


def test_sealed_the_first_repair_packet_that_comes_only_begins() -> None:
    assert numbers(".x..R.x..R", late_start=True) == [2]
    assert numbers(".x..r.x..R..x.R", late_start=True) == [2, 6]
    assert numbers(".x..r.x..r..x.R.x..R", late_start=True) == [2, 6, 11]


def test_conversations_do_not_cover_each_other() -> None:
    mixed = [f for pair in zip(fates(".x..R"), fates(".x...", lane=1), strict=True) for f in pair]
    assert find_unprotected(mixed, 4, late_start=False) == {(1, 2)}
