"""Repair stays inside what was allowed to it."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lightspeed_protocol.fec.credit import DEPTH_BYTES, DEPTH_S, FIRST_BYTES, Credit


@given(
    sizes=st.lists(st.integers(64, 1464), max_size=300),
    repairs=st.integers(0, 5),
    cap=st.floats(1, 3),
)
def test_the_share_is_never_exceeded_by_more_than_what_was_saved(
    sizes: list[int], repairs: int, cap: float
) -> None:
    credit = Credit(cap)
    sent = earned = 0
    for size in sizes:
        credit.earn(size, 0.0)
        earned += size
        sent += sum(size + 4 for _ in range(repairs) if credit.spend(size + 4, 0.0))
        assert sent <= (cap - 1) * earned + FIRST_BYTES + 1


def test_a_repair_per_packet_goes_out_for_minutes_and_then_in_part() -> None:
    """4 bytes more than the cap on every packet: 2 % of them are not sent in the long run."""
    credit = Credit()
    for number in range(-200, 0):  # without loss
        credit.earn(164, number / 64)
    out = []
    for number in range(20_000):
        credit.earn(164, number / 64)
        out.append(credit.spend(168, number / 64))
    assert all(out[:8000])
    assert sum(out[-4100:]) == pytest.approx(4100 * 164 / 168, abs=2)
    assert credit.refused == out.count(False)


def test_a_cap_of_one_spends_what_was_saved_and_no_more() -> None:
    credit = Credit(cap=1.0)
    sent = 0
    for _ in range(1000):
        credit.earn(100, 0.0)
        sent += 100 * credit.spend(100, 0.0)
    assert sent == FIRST_BYTES // 100 * 100


def test_no_more_is_saved_than_a_moment_of_loss_may_take() -> None:
    credit = Credit(cap=2.0)
    for _ in range(1000):
        credit.earn(1000, 0.0)
    assert sum(credit.spend(100, 0.0) for _ in range(1000)) == DEPTH_BYTES // 100


@pytest.mark.parametrize("kbps", [None, 100.0])
def test_reports_always_leave_and_repairs_pay_for_them(kbps: float | None) -> None:
    credit = Credit(cap=1.3, cap_kbps=kbps)
    sent = earned = 0
    for number in range(64 * 60):
        now = 1000 + number / 64
        credit.earn(164, now)
        credit.owe(20, now)
        earned += 164
        sent += 20 + 168 * credit.spend(168, now)
    limit = 0.3 * earned + FIRST_BYTES
    if kbps is not None:
        limit = kbps * 125 * (60 + DEPTH_S) - earned
    assert 0.98 * limit <= sent <= limit


def test_what_is_owed_is_not_part_of_a_share_that_nobody_set() -> None:
    credit = Credit(cap=2.0, strict=False)
    for _ in range(1000):
        credit.owe(100, 0.0)
        credit.earn(168, 0.0)
        assert credit.spend(168, 0.0)


def test_debts_are_forgiven_some_day() -> None:
    """A cap of 1 earns nothing to pay reports from; one that is lifted must not pay for hours."""
    credit = Credit(cap=1.0)
    for _ in range(10_000):
        credit.owe(100, 0.0)
    credit.cap = 2.0
    for _ in range(40):
        credit.earn(1000, 0.0)
    assert credit.spend(1000, 0.0)


@pytest.mark.parametrize("kbps", [100.0, 128.0])
def test_the_rate_holds_for_everything_that_is_sent(kbps: float) -> None:
    credit = Credit(cap_kbps=kbps)
    sent = 0
    for number in range(64 * 60):
        now = 1000 + number / 64
        credit.earn(164, now)
        sent += 164 + 168 * credit.spend(168, now)
    limit = kbps * 125 * (60 + DEPTH_S)
    assert 0.98 * limit <= sent <= limit


def test_a_rate_below_the_flows_own_leaves_no_repair() -> None:
    credit = Credit(cap_kbps=50)
    out = []
    for number in range(64 * 60):
        credit.earn(164, number / 64)
        out.append(credit.spend(168, number / 64))
    assert not any(out[256:])
    assert not credit.spend(168, 60.5)  # it has overdrawn
    assert credit.spend(168, 62.5)


def test_no_rate_is_no_limit() -> None:
    credit = Credit(cap=math.inf)
    credit.earn(164, 0.0)
    assert all(credit.spend(1400, 0.0) for _ in range(20))
