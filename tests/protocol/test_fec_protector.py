"""The sending end: repairs by plan or by need, under the caps, and before a silence."""

from __future__ import annotations

import math

import pytest
from lightspeed_protocol.fec.controller import FIRST_PLAN
from lightspeed_protocol.fec.credit import FIRST_BYTES
from lightspeed_protocol.fec.protection import UNPROTECTED, Protection
from lightspeed_protocol.fec.protector import UDP_IP_BYTES, Protector
from lightspeed_protocol.fec.report import Report
from lightspeed_protocol.fec.window import Plan, WindowDecoder
from lightspeed_protocol.seal import SEALED_BYTES

AUTO = Protection(adaptive=True)


def protector(protection: Protection) -> Protector:
    return Protector(protection, SEALED_BYTES)


def send(sender: Protector, count: int, *, begin: float = 100.0, rate: float = 64) -> int:
    """How many repairs came with so many packets of 100 bytes."""
    return sum(len(sender.protect(bytes(100), begin + number / rate)[1]) for number in range(count))


def test_without_protection_packets_are_numbered_and_nothing_is_due() -> None:
    sender = protector(UNPROTECTED)
    assert [sender.protect(b"x", 1.0) for _ in range(2)] == [(bytes(4), ()), (b"\0\0\0\1", ())]
    assert (sender.next_deadline(), sender.poll(1e9)) == (math.inf, None)


def test_a_fixed_plan_stays_whatever_is_reported() -> None:
    sender = protector(Protection(plan=Plan.xor(4)))
    for second in range(20):
        assert send(sender, 64, begin=100.0 + second) == 16
        sender.report(Report(received=44, lost=20, runs=10, longest=3), 101.0 + second, 0.04)
    assert sender.explain().startswith("1 XOR repair per 4 packets over 4: 31.2 % lost in runs")


def test_what_adapts_follows_the_reports() -> None:
    sender = protector(AUTO)
    assert sender.encoder.plan == FIRST_PLAN
    for second in range(8):
        send(sender, 64, begin=100.0 + second)
        sender.report(Report(received=57, lost=7, runs=7, longest=1), 101.0 + second, 0.04)
    assert send(sender, 64, begin=108.0) > 32
    assert sender.explain().startswith("1 repair per packet")


def test_a_cap_holds_repairs_back_and_counts_them() -> None:
    free, capped = (
        protector(Protection(plan=Plan(1, 2))),
        protector(Protection(plan=Plan(1, 2), cap=1.25)),
    )
    count = 4000
    assert send(free, count) == count
    saved = 512 / 168  # what may be spent before it is earned
    assert send(capped, count) == pytest.approx(count / 4 + saved, rel=0.05)
    assert capped.refused == count - send(protector(Protection(plan=Plan(1, 2), cap=1.25)), count)


def test_what_else_is_sent_counts_towards_the_cap() -> None:
    sender = protector(Protection(plan=Plan(1, 2), cap=1.5))
    sent = 0
    for number in range(4000):
        sender.owe(bytes(12), number / 64)  # 76 bytes with all headers
        sent += len(sender.protect(bytes(100), number / 64)[1])
    assert 76 * 4000 + 168 * sent == pytest.approx(0.5 * 164 * 4000 + 512, rel=0.01)
    protector(UNPROTECTED).owe(bytes(12), 0.0)  # there is no cap


def test_the_last_packet_before_a_silence_is_repaired_in_time() -> None:
    sender, far = protector(Protection(plan=Plan(4, 4))), WindowDecoder(from_start=True)
    for number in range(6):
        _, repairs = sender.protect(b"packet %d" % number, 1 + number / 64)
        if number != 5:
            far.source(number, b"packet %d" % number)
        for repair in repairs:
            far.repair(*repair)
    assert 1 + 5 / 64 < sender.next_deadline() < 1 + 5 / 64 + 0.05
    last = sender.poll(sender.next_deadline())
    assert last is not None
    assert far.repair(*last) == [b"packet 5"]


def test_a_slow_flow_is_no_row_of_silences() -> None:
    """At 10 packets a second each of them would be a last one."""
    sender = protector(Protection(plan=Plan.xor(4)))
    extra = 0
    for number in range(100):
        now = 1 + number / 10
        while sender.next_deadline() < now:
            extra += sender.poll(sender.next_deadline()) is not None
        sender.protect(bytes(100), now)
    assert extra <= 4, "only the first two look like it"


def test_a_change_keeps_the_numbers() -> None:
    sender = protector(Protection(plan=Plan(4, 4)))
    send(sender, 10)
    sender.change(Protection(plan=Plan(1, 1)))
    field, repairs = sender.protect(b"x", 200.0)
    assert field == b"\0\0\0\x0a"
    assert [repair[0].hex() for repair in repairs] == ["5001000a"]
    sender.change(UNPROTECTED)
    assert sender.protect(b"x", 200.1) == (b"\0\0\0\x0b", ())
    assert sender.poll(300.0) is None


def test_what_was_refused_stays_counted_when_the_protection_changes() -> None:
    sender = protector(Protection(plan=Plan(1, 1), cap=1.0))
    send(sender, 1000)
    assert (refused := sender.refused) > 500
    for other in (UNPROTECTED, Protection(plan=Plan(1, 1), cap=1.5)):
        sender.change(other)
        assert sender.refused == refused


def test_changing_the_protection_again_and_again_earns_no_bytes() -> None:
    sender = protector(UNPROTECTED)
    header = SEALED_BYTES + UDP_IP_BYTES
    source = repair = 0
    for number in range(1000):
        sender.change(Protection(plan=Plan(1, 1 + number % 2), cap=1.25))
        _, repairs = sender.protect(bytes(100), number / 64)
        source += 100 + header
        repair += sum(len(body) + header for _, body in repairs)
    assert 0 < repair <= 0.25 * source + FIRST_BYTES
