from __future__ import annotations

from lightspeed_proxy.counters import DROP_REASONS, Counters


def test_every_reason_is_there_from_the_start_and_the_total_is_their_sum() -> None:
    counters = Counters()
    assert tuple(counters.drops) == DROP_REASONS
    assert counters.packets_dropped == 0
    counters.drops["short"] += 2
    counters.drops["rate-bytes"] += 3
    assert counters.packets_dropped == 5


def test_two_nodes_do_not_share_their_drops() -> None:
    one, other = Counters(), Counters()
    one.drops["short"] += 1
    assert other.drops["short"] == 0
