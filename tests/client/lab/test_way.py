from __future__ import annotations

import pytest
from lightspeed_client.lab.impair import Counts
from lightspeed_client.lab.packets import Kind
from lightspeed_client.lab.way import Way, Wire, in_ms, mean_in_ms


def way(
    sent: int = 10,
    lost: frozenset[int] = frozenset(),
    healed: frozenset[int] = frozenset(),
    elsewhere: frozenset[int] = frozenset(),
    **more: int,
) -> Way:
    numbers = set(range(1, sent + 1))
    return Way(
        sent_by={0: sent},
        delivered=frozenset((0, n) for n in (numbers - lost - elsewhere) | healed),
        dropped=frozenset((0, n) for n in lost),
        **more,  # type: ignore[arg-type]
    )


def test_every_packet_is_in_exactly_one_heap() -> None:
    one = way(10, frozenset({2, 5, 6}), healed=frozenset({5}), elsewhere=frozenset({9}))
    assert (one.sent, one.arrived, one.repaired, one.lost) == (10, 7, 1, 3)
    assert one.lost_elsewhere == 1
    record = one.to_json()
    assert record["lost_before_repair"] == 3
    assert record["lost_after_repair"] == 3


def test_lost_or_late_is_not_there_in_time() -> None:
    one = way(10, frozenset({2, 5}), healed=frozenset({5}), late=2, bound=1)
    assert one.unknown == 3
    record = one.to_json()
    assert (record["unknown"], record["unknown_share"]) == (3, 0.3)
    assert (record["bound"], record["bound_share"], record["budget_ms"]) == (1, 0.1, 50)
    assert way(0).to_json()["unknown_share"] is None


def test_bytes_are_ip_packets_over_source_packets_alone() -> None:
    """Ten source packets of 72 bytes are 1000 with 28 in front of each."""
    one, two = Counts(), Counts()
    for kind, packets, size in (
        (Kind.SOURCE, 10, 720),
        (Kind.REPAIR, 5, 385),
        (Kind.FEEDBACK, 1, 50),
        (Kind.CONTROL, 9, 900),
    ):
        one.received[kind], one.bytes[kind] = packets, size
    two.received[Kind.SOURCE], two.bytes[Kind.SOURCE] = 10, 720
    wire = Wire.of([one, two])
    assert wire == Wire(source=2000, repair=525, feedback=78)
    assert wire.over_source(wire.repair) == pytest.approx(0.2625)
    assert wire.ratio == pytest.approx(1.3015)
    assert Wire().ratio is None


def test_percentiles_and_means_of_nothing_are_not_known() -> None:
    assert in_ms((), 0.5) is None
    assert mean_in_ms(()) is None
    assert mean_in_ms((0.001, 0.004)) == 2.5
    assert in_ms((0.001, 0.002, 0.003), 0.5) == 2.0
