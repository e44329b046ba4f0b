from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from lightspeed_proxy.rate_limit import BURST_S, Meter, Rates


def test_a_burst_of_one_second_passes_and_no_more() -> None:
    meter = Meter(Rates(1000, 10**9))
    verdicts = [meter.admit(100, 5.0) for _ in range(1100)]
    assert verdicts.count(None) == 1000
    assert set(verdicts[1000:]) == {"rate-packets"}


def test_bytes_are_limited_beside_packets() -> None:
    meter = Meter(Rates(10**6, 1000))
    assert [meter.admit(400, 0.0) for _ in range(3)] == [None, None, "rate-bytes"]
    assert meter.admit(400, 0.2) is None


def test_what_may_use_half_of_the_bucket_leaves_the_other_half() -> None:
    meter = Meter(Rates(10, 10**6))
    assert [meter.admit(1, 0.0, 0.5) for _ in range(6)] == [None] * 5 + ["rate-packets"]
    assert [meter.admit(1, 0.0) for _ in range(6)] == [None] * 5 + ["rate-packets"]


def test_a_datagram_larger_than_the_bucket_never_passes() -> None:
    meter = Meter(Rates(10, 1000))
    assert [meter.admit(1001, float(second)) for second in range(5)] == ["rate-bytes"] * 5


def test_a_reload_holds_from_the_next_packet() -> None:
    rates = Rates(1, 10**6)
    meter = Meter(rates)
    assert [meter.admit(1, 0.0) for _ in range(2)] == [None, "rate-packets"]
    rates.set(100, 10**6)
    assert meter.admit(1, 0.02) is None


@given(
    gaps=st.lists(st.floats(0, 0.5), min_size=1, max_size=200),
    size=st.integers(1, 1500),
    pps=st.integers(1, 50),
    bps=st.integers(2000, 20000),
)
def test_no_span_of_time_sees_more_than_its_rate_and_one_burst(
    gaps: list[float], size: int, pps: int, bps: int
) -> None:
    meter, now, passed = Meter(Rates(pps, bps)), 0.0, 0
    for gap in gaps:
        now += gap
        passed += meter.admit(size, now) is None
        assert passed <= pps * (now + BURST_S) + 1e-3
        assert passed * size <= bps * (now + BURST_S) + 1e-3
