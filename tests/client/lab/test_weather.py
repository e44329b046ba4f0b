from __future__ import annotations

import itertools
import math
import statistics

import pytest
from lightspeed_client.lab.packets import Kind
from lightspeed_client.lab.weather import (
    LOWER_LAYERS_BYTES,
    Blackhole,
    Burst,
    Link,
    Weather,
)

STEP_S = 1 / 64
MANY = 20_000


def arrivals(link: Link, count: int = MANY, kind: Kind = Kind.SOURCE) -> list[list[float]]:
    return [link.pass_through(kind, 200, n * STEP_S) for n in range(count)]


def lost(fates: list[list[float]]) -> list[bool]:
    return [not copies for copies in fates]


def bound(share: float, count: int = MANY) -> float:
    """Five standard deviations of a binomial share."""
    return 5 * math.sqrt(share * (1 - share) / count)


def test_the_default_weather_is_a_perfect_wire() -> None:
    assert arrivals(Link(Weather(), 1), 100) == [[n * STEP_S] for n in range(100)]


@pytest.mark.parametrize("share", [0.01, 0.05, 0.3])
def test_independent_loss_meets_its_share(share: float) -> None:
    link = Link(Weather(loss=share), 7)
    fates = lost(arrivals(link))
    assert statistics.fmean(fates) == pytest.approx(share, abs=bound(share))
    assert link.lost_by["loss"] == sum(fates)
    pairs = sum(a and b for a, b in itertools.pairwise(fates)) / (MANY - 1)
    assert pairs == pytest.approx(share * share, abs=2 * bound(share * share))


def test_bursts_meet_their_share_and_their_length() -> None:
    link = Link(Weather(burst=Burst(share=0.05, mean_s=0.1)), 3)
    count = 400_000
    step_s = 0.002
    fates = [not link.pass_through(Kind.SOURCE, 100, n * step_s) for n in range(count)]
    # 800 s hold about 400 bursts; their number and length each spread by 5 %.
    assert statistics.fmean(fates) == pytest.approx(0.05, rel=0.35)
    runs = "".join("x" if fate else " " for fate in fates).split()
    lengths_s = [len(run) * step_s for run in runs]
    assert statistics.fmean(lengths_s) == pytest.approx(0.1, rel=0.3)
    assert link.lost_by["burst"] == sum(fates)


def test_a_burst_may_lose_only_a_part() -> None:
    whole = lost(arrivals(Link(Weather(burst=Burst(0.3, 0.5)), 5)))
    half = lost(arrivals(Link(Weather(burst=Burst(0.3, 0.5, loss=0.5)), 5)))
    assert all(w for w, h in zip(whole, half, strict=True) if h)
    assert sum(half) / sum(whole) == pytest.approx(0.5, abs=0.05)


def test_source_packets_meet_the_same_fate_with_and_without_repair_packets() -> None:
    weather = Weather(
        loss=0.1,
        burst=Burst(0.05, 0.1),
        delay_s=0.02,
        jitter_s=0.01,
        reorder=0.1,
        duplicate=0.1,
    )
    plain, protected = Link(weather, "s"), Link(weather, "s")
    for n in range(5000):
        now = n * STEP_S
        alone = plain.pass_through(Kind.SOURCE, 200, now)
        assert protected.pass_through(Kind.SOURCE, 204, now) == alone
        if n % 4 == 3:
            protected.pass_through(Kind.REPAIR, 300, now)
        if n % 16 == 0:
            protected.pass_through(Kind.CONTROL, 20, now)
            protected.pass_through(Kind.SOURCE, 90, now, lane=1)


def test_seeds_kinds_lanes_and_nothing_else_tell_fates_apart() -> None:
    weather = Weather(loss=0.5)
    base = lost(arrivals(Link(weather, 1), 200))
    assert base == lost(arrivals(Link(weather, 1), 200))
    assert base != lost(arrivals(Link(weather, 2), 200))
    assert base != lost(arrivals(Link(weather, 1), 200, Kind.REPAIR))
    link = Link(weather, 1)
    assert base != [not link.pass_through(Kind.SOURCE, 1, 0.0, lane=1) for _ in range(200)]


def test_jitter_stays_in_its_range_and_keeps_the_order() -> None:
    flat = [copies[0] for copies in arrivals(Link(Weather(delay_s=0.02, jitter_s=0.05), 2))]
    assert flat == sorted(flat)
    transit = [arrival - n * STEP_S for n, arrival in enumerate(flat)]
    assert min(transit) >= 0.02 - 1e-9
    assert max(transit) <= 0.07 + 1e-9
    assert max(transit) > 0.065


def test_reordered_packets_come_behind_their_followers() -> None:
    flat = [copies[0] for copies in arrivals(Link(Weather(reorder=0.05), 2))]
    overtaken = sum(later < earlier for earlier, later in itertools.pairwise(flat))
    assert overtaken / MANY == pytest.approx(0.05 * 0.95, abs=bound(0.05))


def test_duplicates_meet_their_share_and_come_after_the_first() -> None:
    fates = arrivals(Link(Weather(duplicate=0.1), 2))
    double = [copies for copies in fates if len(copies) == 2]
    assert len(double) / MANY == pytest.approx(0.1, abs=bound(0.1))
    assert all(first < second for first, second in double)


def test_a_rate_limit_spaces_packets_and_loses_what_finds_no_room() -> None:
    weather = Weather(rate_bps=10_000, bucket_bytes=1000, queue_bytes=3000)
    link = Link(weather, 1)
    size = 500 - LOWER_LAYERS_BYTES
    fates = [link.pass_through(Kind.SOURCE, size, 0.0) for _ in range(20)]
    passed = [copies[0] for copies in fates if copies]
    # Two in the bucket at once, then one each 50 ms while 3000 bytes wait.
    assert passed == pytest.approx([0.0, 0.0, 0.05, 0.10, 0.15, 0.20, 0.25, 0.30])
    assert link.lost_by["queue"] == 12
    assert link.cause == "queue"
    assert link.pass_through(Kind.SOURCE, size, 10.0) == [10.0]


def test_a_rate_limit_carries_its_rate_over_time() -> None:
    link = Link(Weather(rate_bps=8_000, queue_bytes=2000), 1)
    passed = [n for n in range(6400) if link.pass_through(Kind.SOURCE, 222, n * STEP_S)]
    assert len(passed) * 250 / 100 == pytest.approx(8_000, rel=0.06)  # bucket and queue on top


def test_repair_packets_do_compete_under_a_rate_limit() -> None:
    link = Link(Weather(rate_bps=10_000), 1)
    link.pass_through(Kind.REPAIR, 5000, 0.0)
    assert link.pass_through(Kind.SOURCE, 100, 0.0)[0] > 0.1


def test_a_blackhole_swallows_everything_for_its_time_only() -> None:
    link = Link(Weather(blackholes=(Blackhole(at_s=2.0, for_s=1.0),)), 1, began=100.0)
    fates = {n: link.pass_through(Kind.CONTROL, 20, 100 + n * 0.25) for n in range(20)}
    assert [n for n, copies in fates.items() if not copies] == [8, 9, 10, 11]
    assert link.lost_by["blackhole"] == 4


def test_a_repair_packet_never_overtakes_nor_holds_back_source_packets() -> None:
    link = Link(Weather(jitter_s=0.1), 4)
    newest = 0.0
    for n in range(500):
        newest = link.pass_through(Kind.SOURCE, 100, n * STEP_S)[0]
        assert link.pass_through(Kind.REPAIR, 100, n * STEP_S)[0] >= newest


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Weather(loss=1.5),
        lambda: Weather(delay_s=-1),
        lambda: Weather(jitter_s=math.nan),
        lambda: Weather(rate_bps=0),
        lambda: Burst(1.0, 0.1),
        lambda: Burst(0.1, 0.0),
        lambda: Blackhole(-1, 1),
    ],
)
def test_impossible_weather_is_refused(wrong: object) -> None:
    assert callable(wrong)
    with pytest.raises(ValueError, match=r"must|needs"):
        wrong()


def test_before_a_link_has_begun_it_has_neither_bursts_nor_blackholes() -> None:
    weather = Weather(burst=Burst(0.5, 1.0), blackholes=(Blackhole(0.0, 5.0),))
    early, usual = Link(weather, 6, math.inf), Link(weather, 6, 100.0)
    assert not any(lost(arrivals(early, 1000)))
    early.began = 100.0
    fates = [
        [bool(link.pass_through(Kind.SOURCE, 200, 100 + n * STEP_S)) for n in range(2000)]
        for link in (early, usual)
    ]
    assert fates[0] == fates[1]  # however long it took to begin
    assert 100 < sum(fates[0]) < 1900


def test_a_weather_names_what_can_lose_packets_in_it() -> None:
    assert Weather(delay_s=0.1, jitter_s=0.1, reorder=0.1, duplicate=0.1).causes() == []
    stormy = Weather(loss=0.1, burst=Burst(0.1, 0.1), rate_bps=9e9, blackholes=(Blackhole(1, 1),))
    assert stormy.causes() == ["loss", "burst", "queue", "blackhole"]
