"""What a receiver counts as lost, and what it says of it."""

from __future__ import annotations

import math
import random

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lightspeed_protocol.errors import WireError
from lightspeed_protocol.fec.report import INTERVAL_S, ReceptionLog, Report

STEP_S = 1 / 64
U16 = st.integers(0, 0xFFFF)


@st.composite
def reports(draw: st.DrawFn) -> Report:
    lost, repaired = draw(U16), draw(U16)
    return Report(
        highest=draw(U16),
        received=draw(U16),
        lost=lost,
        runs=draw(st.integers(0, lost)),
        repaired=repaired,
        late=draw(st.integers(0, repaired)),
        longest=draw(st.integers(1, 255)) if lost else 0,
        path=draw(st.integers(0, 255)),
    )


def total(log: ReceptionLog, until: float) -> Report:
    """All reports up to then in one; the highest SSN of the last."""
    together = Report()
    while log.next_deadline() <= until:
        report = log.poll(log.next_deadline())
        assert report is not None
        counts = ("received", "lost", "runs", "repaired", "late")
        together = attrs.evolve(
            together,
            highest=report.highest,
            longest=max(together.longest, report.longest),
            **{name: getattr(together, name) + getattr(report, name) for name in counts},
        )
    return together


def feed(log: ReceptionLog, ssns: list[int], *, step_s: float = STEP_S) -> float:
    """These came, each at its own time; says when the last one did."""
    now = 0.0
    for ssn in ssns:
        now = (ssn - ssns[0]) * step_s
        log.came(ssn & 0xFFFF, now)
    return now


def test_the_bytes_of_a_report() -> None:
    report = Report(
        highest=0x0102, received=14, lost=3, runs=2, repaired=2, late=1, longest=2, path=1
    )
    field, body = report.encode()
    assert field.hex() == "80000102"
    assert body.hex() == "000e00030002000200010201"


@given(reports())
def test_a_report_comes_back_from_its_bytes(report: Report) -> None:
    assert Report.decode(*report.encode()) == report


@given(st.binary(max_size=6), st.binary(max_size=16))
def test_hostile_bytes_raise_nothing_but_the_fixed_word(field: bytes, body: bytes) -> None:
    try:
        report = Report.decode(field, body)
    except WireError as error:
        assert error.reason == "fec-field"
    else:
        assert report.encode() == (field, body)


@pytest.mark.parametrize(
    ("field", "body"),
    [
        pytest.param("00000102", "000e00030002000200010201", id="a source packet's field"),
        pytest.param("80010102", "000e00030002000200010201", id="second byte"),
        pytest.param("800001", "000e00030002000200010201", id="short field"),
        pytest.param("80000102", "000e000300020002000102", id="short body"),
        pytest.param("80000102", "000e0003000200020001020100", id="long body"),
        pytest.param("80000102", "000e00030004000200010201", id="more runs than losses"),
        pytest.param("80000102", "000e00030002000200030201", id="more late than repaired"),
        pytest.param("80000102", "000e00030002000200010001", id="losses without a longest run"),
        pytest.param("80000102", "000e00000000000000000201", id="a longest run without losses"),
    ],
)
def test_what_is_no_report_is_refused(field: str, body: str) -> None:
    with pytest.raises(WireError, match="fec-field"):
        Report.decode(bytes.fromhex(field), bytes.fromhex(body))


def test_counts_that_do_not_fit_say_their_largest_value() -> None:
    report = Report(received=70_000, lost=300, runs=1, longest=300)
    assert Report.decode(*report.encode()) == attrs.evolve(report, received=0xFFFF, longest=0xFF)


def test_a_report_every_interval_of_traffic_and_none_in_silence() -> None:
    log = ReceptionLog()
    assert log.next_deadline() == math.inf
    assert log.poll(1e9) is None

    due = []
    for ssn in range(64):
        now = ssn * STEP_S
        if now >= log.next_deadline():
            report = log.poll(now)
            assert report is not None
            due.append((now, report.received))
        log.came(ssn, now)
    assert due == [(0.25, 16), (0.5, 16), (0.75, 16)]

    last = log.poll(1.0)
    assert last is not None
    assert last.received == 16
    assert log.next_deadline() == math.inf
    log.came(64, 100.0)
    assert log.next_deadline() == 100.0 + INTERVAL_S


def test_losses_and_their_runs_across_the_wrap() -> None:
    log = ReceptionLog()
    gone = {0xFFFF, 0x10000, 0x10001, 0x10008}
    now = feed(log, [ssn for ssn in range(0xFFF0, 0x10020) if ssn not in gone])
    report = total(log, now + 1)
    assert (report.received, report.lost, report.runs, report.longest) == (44, 4, 2, 3)
    assert report.highest == 0x1F


def test_a_run_across_two_reports_is_one_run() -> None:
    log = ReceptionLog(budget_s=0.01)
    log.came(0, 0.0)
    log.recovered(1, 0.2)  # nothing newer came, so it is missing from here on
    first = log.poll(0.25)
    log.came(4, 0.3)
    second = log.poll(0.5)
    assert first is not None
    assert second is not None
    assert (first.lost, first.runs, first.longest) == (1, 1, 1)
    assert (second.lost, second.runs, second.longest) == (2, 0, 3)
    assert Report.decode(*second.encode()) == second


def test_reordering_is_no_loss() -> None:
    log = ReceptionLog()
    for ssn, now in ((0, 0.0), (3, 0.03), (1, 0.04), (2, 0.05), (4, 0.06)):
        log.came(ssn, now)
    report = total(log, 2)
    assert (report.received, report.lost, report.runs) == (5, 0, 0)


def test_later_than_the_budget_is_lost() -> None:
    log = ReceptionLog(budget_s=0.05)
    log.came(0, 0.0)
    log.came(2, 0.02)
    log.came(1, 0.08)
    report = total(log, 2)
    assert (report.received, report.lost) == (3, 1)


def test_a_gap_is_not_reported_before_it_is_certain() -> None:
    log = ReceptionLog(budget_s=0.05)
    log.came(0, 0.0)
    log.came(2, 0.24)
    first, second = log.poll(0.25), log.poll(0.5)
    assert first is not None
    assert second is not None
    assert (first.lost, second.lost) == (0, 1)


def test_repair_in_time_and_too_late_are_told_apart() -> None:
    log = ReceptionLog(budget_s=0.05)
    log.came(0, 0.0)
    log.came(2, 0.02)  # 1 was due at 0.01
    log.recovered(1, 0.055)
    log.came(3, 0.06)
    log.came(5, 0.1)  # 4 was due at 0.08
    log.recovered(4, 0.14)
    log.came(7, 0.2)
    log.came(8, 0.5)
    log.recovered(6, 0.5)  # given up long ago
    report = total(log, 2)
    assert (report.lost, report.repaired, report.late) == (3, 3, 2)


def test_a_packet_that_comes_after_its_repair_was_not_lost() -> None:
    log = ReceptionLog()
    log.came(0, 0.0)
    log.came(2, 0.02)
    log.recovered(1, 0.025)
    log.came(1, 0.03)
    report = total(log, 2)
    assert (report.lost, report.repaired) == (0, 0)


def test_what_repair_finds_before_anything_newer_was_lost_too() -> None:
    log = ReceptionLog()
    log.recovered(9, 0.0)
    log.came(10, 0.02)
    report = total(log, 2)
    assert (report.received, report.lost, report.repaired, report.late) == (1, 1, 1, 0)


@pytest.mark.parametrize("step", [600, 0x7FFF])
def test_an_outage_is_no_loss(step: int) -> None:
    log = ReceptionLog()
    feed(log, [0, 1, 2])
    now = 60.0
    for ssn in range(step, step + 10):
        log.came(ssn, now)
    report = total(log, now + 1)
    assert (report.received, report.lost, report.highest) == (13, 0, step + 9)


def test_a_flow_that_counts_afresh_is_followed_and_a_stray_packet_is_not() -> None:
    log = ReceptionLog()
    feed(log, list(range(2000, 2100)))
    log.came(3, 2.0)
    log.came(2100, 2.1)
    report = total(log, 3)
    assert (report.highest, report.lost) == (2100, 0)
    for ssn in range(20):
        log.came(ssn, 4 + ssn * STEP_S)
    report = total(log, 6)
    assert (report.highest, report.lost) == (19, 0)


def test_memory_is_bounded_whatever_comes() -> None:
    rng = random.Random(1)
    log = ReceptionLog(budget_s=1e9)
    ssn = 0
    for _ in range(2000):
        ssn += rng.randrange(1, 511)
        log.came(ssn & 0xFFFF, 0.0)
    assert len(log.gaps.missing) <= 512


@given(st.lists(st.tuples(U16, st.booleans(), st.floats(0, 0.1)), max_size=300))
def test_any_order_gives_reports_that_can_be_sent(events: list[tuple[int, bool, float]]) -> None:
    log = ReceptionLog()
    now = 0.0
    came = 0
    seen = 0
    for ssn, recovered, pause in events:
        now += pause
        if recovered:
            log.recovered(ssn, now)
        else:
            log.came(ssn, now)
            came += 1
        if (report := log.poll(now)) is not None:
            assert Report.decode(*report.encode()) == report
            seen += report.received
    assert seen + total(log, now + 10).received == came
