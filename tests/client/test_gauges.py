from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lightspeed_client.flows import FlowTable, Tally
from lightspeed_client.gauges import (
    Gauges,
    Meter,
    describe_down,
    down_losses,
    overhead,
    share,
    up_loss,
    up_losses,
)
from lightspeed_protocol.keepalive import Prober, SendProbe


def fresh() -> Gauges:
    return Gauges(FlowTable(), Prober(0.25, 0.0), 0.0)


def test_what_is_not_known_is_none_and_never_zero() -> None:
    figures = fresh().figures(1.0, strangers=0, notice=None)
    for name in (
        "rtt_ms", "rtt_min_ms", "rtt_p95_ms", "jitter_ms", "loss", "loss_down", "loss_up",
        "residual_down", "overhead", "sent_per_s", "received_per_s",
    ):  # fmt: skip
        assert getattr(figures, name) is None, name
    totals = fresh().totals(1.0, strangers=0, server="a", node="b")
    assert (totals.loss, totals.loss_down, totals.rtt_median_ms) == (None, None, None)


def test_shares_and_round_trips_but_the_best_vanish_while_the_node_is_dead() -> None:
    gauges = fresh()
    probe = gauges.prober.poll(0.0)[0]
    assert isinstance(probe, SendProbe)
    gauges.prober.answered(probe.sequence, 0.05)
    assert gauges.figures(0.1, strangers=0, notice=None).rtt_ms == pytest.approx(50)
    now = 0.1
    lossy = Tally(sent=9, received=4, expected_down=9, arrived_down=4, wanted_down=9)
    gauges.sample(0.1)
    gauges.table._closed = lossy
    before = gauges.figures(1.1, strangers=0, notice=None)
    assert before.loss_down == pytest.approx(5 / 9)
    assert before.residual_down == pytest.approx(5 / 9)
    while not gauges.prober.dead:
        now += 0.25
        gauges.prober.poll(now)
    figures = gauges.figures(now, strangers=0, notice=None)
    for name in (
        "rtt_ms", "rtt_p95_ms", "jitter_ms", "loss", "loss_down", "loss_up", "residual_down",
    ):  # fmt: skip
        assert getattr(figures, name) is None, name
    assert figures.rtt_min_ms == pytest.approx(50)


def test_rates_and_recent_loss_forget_the_distant_past() -> None:
    meter = Meter()
    for second in range(60):
        lost = min(second, 10) * 5  # 10 s of heavy loss, then none
        meter.sample(
            float(second),
            Tally(sent=second * 64, expected_down=second * 64, arrived_down=second * 64 - lost),
        )
    now = Tally(sent=60 * 64, expected_down=60 * 64, arrived_down=60 * 64 - 50)
    found = meter.since(60.0, now, 15.0)
    assert found is not None
    span_s, recent = found
    assert span_s == pytest.approx(15, abs=1)
    assert recent.sent / span_s == pytest.approx(64)
    assert down_losses(recent)[0] == 0.0
    assert len(meter._samples) < 20, "bounded"


def test_before_the_first_half_second_nothing_is_recent() -> None:
    meter = Meter()
    assert meter.since(0.0, Tally(), 3.0) is None
    meter.sample(0.0, Tally())
    assert meter.since(0.1, Tally(sent=5), 3.0) is None


def test_up_loss_is_what_the_round_trip_leaves() -> None:
    assert up_loss(1 - 0.95 * 0.9, 0.05) == pytest.approx(0.1)
    assert up_loss(0.0, 0.2) == 0.0
    assert up_loss(None, 0.2) is None
    assert up_loss(0.2, None) is None
    assert up_loss(1.0, 1.0) is None


@given(st.floats(0, 1), st.floats(0, 1))
def test_up_loss_stays_a_share(round_trip: float, down: float) -> None:
    up = up_loss(round_trip, down)
    assert up is None or 0 <= up <= 1


def test_overhead_counts_headers_repair_and_keepalives_against_game_bytes() -> None:
    sent = Tally(game_bytes_out=1000, tunnel_bytes_out=1240)
    assert overhead(sent, keepalives=3, keepalive_bytes=20) == pytest.approx((240 + 60) / 1000)
    assert overhead(sent, keepalives=3, keepalive_bytes=38) == pytest.approx((240 + 114) / 1000)
    assert overhead(Tally(tunnel_bytes_out=20), keepalives=3, keepalive_bytes=20) is None


def test_shares_are_clamped() -> None:
    assert share(-1, 10) == 0.0
    assert share(0, 0) is None
    assert share(11, 10) == 1.0


def test_what_the_node_does_against_loss_is_told_from_what_came() -> None:
    assert describe_down(Tally()) is None
    bare = Tally(wanted_down=100, received=95, expected_down=100, arrived_down=95)
    assert describe_down(bare) == "no repair: 5.0 % lost, 5.0 % left"
    helped = Tally(
        wanted_down=100, received=99, expected_down=150, arrived_down=141, repair_received=47
    )
    assert describe_down(helped) == "0.47 repairs per packet: 6.0 % lost, 1.0 % left"


def test_the_way_up_is_as_the_node_reports_it_or_not_known() -> None:
    assert up_losses(Tally(sent=5)) == (None, None)
    told = Tally(reported_up=200, lost_up=10, repaired_up=9, late_up=2)
    assert up_losses(told) == (0.05, 0.015)
