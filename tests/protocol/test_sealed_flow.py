"""One end of a sealed flow: every packet at once, repair only adds, figures from the numbers."""

from __future__ import annotations

import random

import pytest
from lightspeed_protocol.errors import WireError
from lightspeed_protocol.fec.protection import Protection
from lightspeed_protocol.fec.report import ReceptionLog
from lightspeed_protocol.fec.window import Plan, WindowDecoder
from lightspeed_protocol.header import pack_addresses, swap_addresses
from lightspeed_protocol.seal import REPAIR, SEALED6_BYTES, SEALED_BYTES, SealedEnd
from lightspeed_protocol.sealed_flow import BARE, SealedFlow

from tests.support.repair import fixed

KEY = b"k" * 16
ADDRESSES = pack_addresses(("192.0.2.1", 50000), ("198.51.100.7", 27960))
ADDRESSES6 = pack_addresses(("2001:db8::1", 50000), ("2001:db8::7", 27960))


def flows(plan: Plan | None = None, addresses: bytes = ADDRESSES) -> tuple[SealedFlow, SealedFlow]:
    client, node = SealedEnd.client(1, KEY), SealedEnd.node(1, KEY)
    return (
        SealedFlow.open(client, addresses, fixed(plan)),
        SealedFlow.open(node, swap_addresses(addresses), fixed(None)),
    )


def receive(flow: SealedFlow, datagram: bytes, now: float = 0.0) -> list[bytes]:
    return flow.receive(flow.end.open(datagram, now), now)


@pytest.mark.parametrize(
    ("addresses", "header"), [(ADDRESSES, SEALED_BYTES), (ADDRESSES6, SEALED6_BYTES)]
)
def test_payloads_pass_and_are_counted(addresses: bytes, header: int) -> None:
    one, other = flows(addresses=addresses)
    assert one.header_bytes == header
    for number in range(5):
        [datagram] = one.wrap(b"packet %d" % number, 0, 0.0)
        assert len(datagram) == header + 8
        assert receive(other, datagram) == [b"packet %d" % number]
    assert (one.sent_source, one.sent_repair) == (5, 0)
    assert (one.payload_bytes_out, one.bytes_out) == (40, 5 * (header + 8))
    assert (other.received, other.expected, other.payload_bytes_in) == (5, 5, 40)


def test_what_was_lost_is_recovered_once_and_known_to_be_missing() -> None:
    rng = random.Random(4)
    one, other = flows(Plan.xor(4))
    got: list[bytes] = []
    lost = 0
    for number in range(2000):
        for datagram in one.wrap(b"%06d" % number, 0, 0.0):
            if rng.random() < 0.03 and number > 4:
                lost += not datagram[0] & REPAIR
            else:
                got += receive(other, datagram)
    assert len(got) == len(set(got)) == other.received
    assert other.expected == 2000
    assert other.recovered == len(got) - (2000 - lost) > 0.7 * lost


def test_a_source_packet_that_comes_after_its_recovery_is_a_duplicate() -> None:
    one, other = flows(Plan.xor(2))
    for word in (b"a", b"b"):
        for datagram in one.wrap(word, 0, 0.0):
            receive(other, datagram)
    [late] = one.wrap(b"late", 0, 0.0)
    kept, repair = one.wrap(b"kept", 0, 0.0)
    assert receive(other, kept) == [b"kept"]
    assert receive(other, repair) == [b"late"]
    with pytest.raises(WireError, match="duplicate"):
        receive(other, late)


def test_a_packet_that_says_nothing_is_refused() -> None:
    one, other = flows()
    seal = one.end.sealer.seal
    for first, field, payload, reason in (
        (0x80, bytes(4), b"", "empty"),
        (0x80, b"\x01\0\0\0", b"x", "fec-field"),
        (0x80, b"\x20\0\0\0", b"x", "fec-field"),
        (0x80, b"\0\x01\0\0", b"x", "fec-field"),
        (0x80, b"\x40\0\0\0", b"x", "fec-field"),
        (0x80, b"\x80\0\0\0", b"x", "fec-field"),
        (0x80, b"\xc0\0\0\0", b"x", "fec-field"),
        (0x88, b"\0\0\0\0", b"x", "fec-field"),
        (0x88, b"\x50\0\0\0", b"", "fec-field"),
    ):
        with pytest.raises(WireError, match=reason):
            receive(other, seal(first, 0, ADDRESSES, field, payload))
    assert other.received == 0


def test_a_flow_opened_again_is_heard_although_the_peer_remembers_the_first() -> None:
    client, node = SealedEnd.client(1, KEY), SealedEnd.node(1, KEY)
    first = SealedFlow.open(client, ADDRESSES, fixed(Plan.xor(2)))
    far = SealedFlow.open(node, swap_addresses(ADDRESSES))
    for number in range(3000):
        for datagram in first.wrap(b"%d" % number, 0, 0.0):
            receive(far, datagram)
    assert far.expected == 3000
    again = SealedFlow.open(client, ADDRESSES, fixed(Plan.xor(2)))
    got = []
    for number in range(100):
        for datagram in again.wrap(b"%d" % number, 0, 0.0):
            got += receive(far, datagram)
    assert got == [b"%d" % number for number in range(100)]
    assert far.expected == 3100


def test_the_very_first_block_is_protected() -> None:
    one, other = flows(Plan.xor(4))
    got = []
    for number in range(4):
        for datagram in one.wrap(b"%d" % number, 0, 0.0):
            if number != 1:
                got += receive(other, datagram)
    assert sorted(got) == [b"0", b"1", b"2", b"3"]


def test_an_end_that_asks_uses_the_answer_though_no_repair_was_ever_seen() -> None:
    one, other = flows()
    one.protector.change(Protection(adaptive=True), asking=True)
    other.listen(ReceptionLog(), asking=True)
    other.end.round_trip_s = 0.01
    got = list[bytes]()
    for number in range(2 * BARE):
        now = number / 64
        source, *_ = one.wrap(b"%d" % number, 0, now)
        if number != BARE + 9:
            got += receive(other, source, now)
        for ask in other.poll(now + 0.005):
            receive(one, ask, now + 0.01)
            for answer in one.poll(now + 0.01):
                got += receive(other, answer, now + 0.015)
    assert sorted(got, key=int) == [b"%d" % number for number in range(2 * BARE)]
    assert (other.recovered, other.asked) == (1, 1)


def test_what_was_asked_for_stays_counted_when_another_log_is_taken() -> None:
    one, other = flows()
    other.listen(ReceptionLog(), asking=True)
    other.end.round_trip_s = 0.01
    for number in range(4):
        [source] = one.wrap(b"%d" % number, 0, number / 64)
        if number != 2:
            receive(other, source, number / 64)
    assert len(other.poll(4 / 64)) == 1
    assert other.outcome().asked == 1
    other.listen(ReceptionLog(), asking=True)
    assert other.outcome().asked == 1
    other.listen(None, asking=False)
    assert other.outcome().asked == 1


def test_what_is_rebuilt_after_it_was_given_up_takes_nothing_back_that_was_counted() -> None:
    one, other = flows(Plan(1, 1))
    other.listen(ReceptionLog(), asking=False)
    counted = []
    late = b""
    for number in range(40):
        now = 0.1 * number
        source, repair = one.wrap(b"%d" % number, 0, now)
        if number == 5:
            late = repair
        elif number != 25:
            receive(other, source, now)
        if number == 15:
            assert receive(other, late, now) == [b"5"]
        other.poll(now)
        counted.append(other.outcome().unrepaired)
    assert (counted[10], counted[20], counted[-1]) == (1, 1, 1)
    assert (other.outcome().late, other.outcome().lost) == (1, 2)


@pytest.mark.parametrize("lost", range(5))
def test_copies_that_come_under_new_keys_bring_nothing_that_came_under_the_old(lost: int) -> None:
    one, other = flows(Plan(1, 1, delay=3))
    got = []
    for number in range(10):
        for datagram in one.wrap(b"%d" % number, 0, 0.0):
            got += receive(other, datagram)
    one.end, other.end = SealedEnd.client(1, b"z" * 16), SealedEnd.node(1, b"z" * 16)
    other.decoder = WindowDecoder()
    for number in range(10, 20):
        source, copy = one.wrap(b"%d" % number, 0, 0.0)
        if number >= 10 + lost:
            got += receive(other, source)
        got += receive(other, copy)
    assert len(got) == len(set(got))
    assert {b"%d" % number for number in range(10 + lost, 20)} <= set(got)


def test_a_flow_without_repair_soon_stops_keeping_packets_and_begins_again_with_it() -> None:
    one, other = flows()
    for number in range(BARE):
        assert other.decoder is not None
        receive(other, one.wrap(b"%d" % number, 0, 0.0)[0])
    assert other.decoder is None
    assert receive(other, one.wrap(b"bare", 0, 0.0)[0]) == [b"bare"]
    one.protector.change(fixed(Plan.xor(2)))
    for number in range(4):
        for datagram in one.wrap(b"again %d" % number, 0, 0.0):
            receive(other, datagram)
    lost, (kept, repair) = one.wrap(b"lost", 0, 0.0), one.wrap(b"kept", 0, 0.0)
    assert len(lost) == 1
    assert receive(other, kept) + receive(other, repair) == [b"kept", b"lost"]
