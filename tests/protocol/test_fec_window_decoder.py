"""What the receiving end delivers, when, and what it never does."""

from __future__ import annotations

import itertools
import random
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lightspeed_protocol.errors import WireError
from lightspeed_protocol.fec.window import Plan, WindowDecoder, WindowEncoder
from lightspeed_protocol.fec.window_decoder import (
    AHEAD,
    EARNED_FIRST,
    MOST_SAVED,
    MOST_UNKNOWN,
    REMEMBERED,
    RESTART,
    SOURCE_EARNS,
)
from lightspeed_protocol.fec.window_plan import GF256, MAX_REACH, XOR, RepairHead
from lightspeed_protocol.fec.window_solver import MOST_ROWS, MOST_WORK
from lightspeed_protocol.sequence import distance

from tests.support.attempts import attempt
from tests.support.window_code import (
    Packet,
    coefficient,
    multiply,
    receive,
    receive_all,
    repair,
    sent,
)

FIELDS = pytest.mark.parametrize("field", [XOR, GF256])
MOST_AT_ONCE = 1 + 64 + MOST_WORK  # units of work that one packet may cost


def payload(ssn: int) -> bytes:
    return b"%d" % ssn * (1 + ssn % 3)


def source(ssn: int) -> Packet:
    return Packet((ssn & 0xFFFF).to_bytes(4, "big"), payload(ssn))


def over(*ssns: int, key: int = 0, field: int = GF256) -> Packet:
    """A repair over these, the newest first and evenly apart."""
    stride = ssns[0] - ssns[1] if len(ssns) > 1 else 1
    head = RepairHead(field, len(ssns), ssns[0] & 0xFFFF, key, stride)
    return Packet(*repair(head, [payload(ssn) for ssn in ssns]), is_repair=True)


def altered(packet: Packet, symbol: bytes) -> Packet:
    return Packet(packet.field, packet.body[:2] + symbol, is_repair=True)


def decoder_after(*ssns: int) -> WindowDecoder:
    decoder = WindowDecoder(from_start=True)
    for ssn in ssns:
        assert receive(decoder, source(ssn)) == [payload(ssn)]
    return decoder


def protected(plan: Plan, count: int, *, first: int = 0) -> list[Packet]:
    encoder = WindowEncoder(plan, first_ssn=first & 0xFFFF)
    return [packet for i in range(count) for packet in sent(encoder, payload(first + i))]


# --- recovery


def test_the_documented_bytes_bring_back_what_was_lost() -> None:
    decoder = WindowDecoder()
    assert decoder.source(0, b"\x01\x02\x03") == [b"\x01\x02\x03"]
    found = decoder.repair(bytes.fromhex("50020001"), bytes.fromhex("0000003477d90c21dd"))
    assert found == [b"hello"]
    assert decoder.source(2, b"") == [b""]
    found = decoder.repair(bytes.fromhex("50040003"), bytes.fromhex("0100006a4e1d8a765b0b"))
    assert found == [b"\xff" * 6]
    assert (decoder.sources, decoder.repairs, decoder.recovered) == (2, 2, 2)


@FIELDS
@pytest.mark.parametrize("lost", range(4))
@pytest.mark.parametrize("repair_at", range(4))
def test_any_one_lost_packet_returns_wherever_the_repair_arrives(
    lost: int, repair_at: int, field: int
) -> None:
    arriving = [source(ssn) for ssn in range(4) if ssn != lost]
    arriving.insert(repair_at, over(3, 2, 1, 0, field=field))
    decoder = WindowDecoder(from_start=True)
    delivered = [receive(decoder, packet) for packet in arriving]
    assert delivered[-1][-1] == payload(lost)
    assert sum(map(len, delivered)) == 4
    assert (decoder.recovered, decoder.open_rows, decoder.wasted) == (1, 0, 0)


@pytest.mark.parametrize("lost", list(itertools.combinations(range(6), 3)))
def test_any_three_lost_packets_return_by_three_repairs_over_them(lost: tuple[int, ...]) -> None:
    decoder = WindowDecoder(from_start=True)
    repairs = [over(5, 4, 3, 2, 1, 0, key=key) for key in (0, 9, 100)]
    arriving = [*(source(ssn) for ssn in range(6) if ssn not in lost), *repairs]
    delivered = [receive(decoder, packet) for packet in arriving]
    assert delivered[-1] == [payload(ssn) for ssn in lost]  # oldest first
    assert delivered[3:-1] == [[], []]


def test_a_source_packet_lets_rows_be_solved_and_comes_first_itself() -> None:
    decoder = decoder_after(0)
    assert receive(decoder, over(3, 2, 1, 0, key=1)) == []
    assert receive(decoder, over(3, 2, 1, 0, key=2)) == []
    assert decoder.open_rows == 2
    assert receive(decoder, source(3)) == [payload(3), payload(1), payload(2)]
    assert decoder.open_rows == 0


def test_several_recovered_at_once_come_oldest_first() -> None:
    decoder = decoder_after(0)
    assert receive_all(decoder, [over(6, 5), over(6, 1)]) == []
    assert receive(decoder, source(6)) == [payload(6), payload(1), payload(5)]


def test_a_late_packet_of_any_length_takes_part() -> None:
    encoder = WindowEncoder(Plan(every=2, window=2))
    payloads = [random.Random(size).randbytes(size) for size in (1400, 1399)]
    first, _, row = [packet for data in payloads for packet in sent(encoder, data)]
    decoder = WindowDecoder(from_start=True)
    assert receive_all(decoder, [row, first]) == payloads


def test_a_very_late_packet_takes_no_newer_ones_place() -> None:
    decoder = decoder_after(*range(4), *range(5, 21))
    assert receive(decoder, source(4)) == [payload(4)]
    assert receive(decoder, over(21, 20)) == [payload(21)]


def test_what_is_kept_stays_when_more_is_kept() -> None:
    decoder = decoder_after(*range(16))
    assert receive(decoder, over(16, 8)) == [payload(16)]  # so far back for the first time


def test_a_repair_may_overtake_the_packets_it_covers() -> None:
    decoder = decoder_after(0)
    assert receive(decoder, over(AHEAD, AHEAD - 1)) == []
    assert receive(decoder, source(AHEAD)) == [payload(AHEAD), payload(AHEAD - 1)]
    for ssn in range(1, AHEAD - 1):
        assert receive(decoder, source(ssn)) == [payload(ssn)]


def test_strides_delays_and_copies_are_all_one() -> None:
    for plan in (Plan(2, 2, stride=3), Plan(1, 1, delay=3), Plan(1, 1), Plan(1, 8, 16)):
        packets = protected(plan, 200, first=1000)
        decoder = WindowDecoder()
        kept = [p for p in packets if p.is_repair or p.ssn == 1000 or p.ssn % 37]
        delivered = receive_all(decoder, kept)
        lost = [ssn for ssn in range(1000, 1200) if not ssn % 37]
        assert decoder.recovered == len(lost), plan
        assert sorted(delivered) == sorted(payload(ssn) for ssn in range(1000, 1200))


def test_a_wide_window_is_kept_once_it_was_seen() -> None:
    packets = protected(Plan(every=1, window=64), 400)
    decoder = WindowDecoder()
    lost = set(range(300, 330))
    delivered = receive_all(decoder, (p for p in packets if p.is_repair or p.ssn not in lost))
    assert len(delivered) == 400
    assert decoder.recovered == 30


@FIELDS
def test_every_length_returns(field: int) -> None:
    lengths = (1, 2, 255, 256, 1400)
    encoder = WindowEncoder(Plan(every=1, window=4, field=field))
    decoder = WindowDecoder(from_start=True)
    rng = random.Random(1)
    for length in lengths:
        for other in lengths:
            data, lost = rng.randbytes(other), rng.randbytes(length)
            receive_all(decoder, sent(encoder, data))
            assert receive_all(decoder, sent(encoder, lost)[1:]) == [lost]


def test_zeros_at_the_end_of_a_payload_are_not_padding() -> None:
    decoder = decoder_after()
    encoder = WindowEncoder(Plan(every=2, window=2))
    first, second = sent(encoder, b"a\0\0"), sent(encoder, b"longer than that")
    assert receive_all(decoder, [*second]) == [b"longer than that", b"a\0\0"]
    assert first[0].body == b"a\0\0"


# --- once, and never wrong


def test_a_packet_is_delivered_once_whether_it_came_or_was_recovered() -> None:
    decoder = decoder_after(0)
    assert receive(decoder, over(1, 0)) == [payload(1)]
    assert receive(decoder, source(1)) == receive(decoder, source(0)) == []
    assert receive(decoder, over(1, 0)) == receive(decoder, over(1, 0, key=5)) == []
    assert (decoder.duplicates, decoder.recovered, decoder.wasted) == (2, 1, 2)


def test_duplicates_are_known_for_512_packets() -> None:
    decoder = decoder_after(*range(REMEMBERED + 1))
    assert receive(decoder, source(1)) == []
    assert (decoder.duplicates, decoder.late) == (1, 0)
    assert receive(decoder, source(0)) == []
    assert (decoder.duplicates, decoder.late) == (1, 1)


def test_a_packet_511_late_is_delivered() -> None:
    decoder = decoder_after(0, REMEMBERED)
    assert receive(decoder, source(1)) == [payload(1)]
    assert receive(decoder, source(1)) == []


def test_a_jump_ahead_leaves_no_marks_behind() -> None:
    decoder = decoder_after(*range(600))
    assert receive(decoder, source(20_000)) == [payload(20_000)]
    for ssn in range(20_000 - REMEMBERED + 1, 20_000):
        assert receive(decoder, source(ssn)) == [payload(ssn)]


def test_the_wrap_is_no_border() -> None:
    packets = protected(Plan(every=2, window=4), 100, first=0x10000 - 50)
    decoder = WindowDecoder()
    kept = [p for p in packets if p.is_repair or (p.ssn + 3) % 5]
    assert len(receive_all(decoder, kept)) == 100
    assert decoder.recovered == 20


def test_a_decoder_that_joined_later_does_not_deliver_what_came_before_it() -> None:
    """The first repair makes the decoder; its packets have all been delivered without one."""
    packets = protected(Plan(every=1, window=4), 40)
    decoder = WindowDecoder()
    assert receive_all(decoder, packets[7:8]) == []
    delivered = receive_all(decoder, (p for p in packets[8:] if p.is_repair or p.ssn != 9))
    assert delivered == [payload(ssn) for ssn in range(4, 40)]
    assert decoder.past == 4  # they reach back to before it

    joined_by_a_source = WindowDecoder()
    assert receive_all(joined_by_a_source, packets[8:10]) == [payload(4)]
    assert joined_by_a_source.recovered == 0


def test_a_decoder_from_the_start_recovers_even_the_first_packet() -> None:
    packets = protected(Plan(every=1, window=4), 2)
    decoder = WindowDecoder(from_start=True)
    assert receive_all(decoder, packets[1:]) == [payload(0), payload(1)]


def test_packets_older_than_the_first_are_delivered_when_they_come() -> None:
    for from_start in (False, True):
        decoder = WindowDecoder(from_start=from_start)
        for ssn in (10, 7, 9, 8):
            assert receive(decoder, source(ssn)) == [payload(ssn)]
        assert receive(decoder, source(7)) == []


def test_a_large_packet_is_delivered_and_the_others_are_still_protected() -> None:
    encoder = WindowEncoder(Plan(every=2, window=4))
    decoder = WindowDecoder(from_start=True)
    large = bytes(60_000)
    payloads = [payload(0), payload(1), payload(2), large, payload(4), payload(5)]
    packets = [packet for data in payloads for packet in sent(encoder, data)]
    lost = {2, 4}
    delivered = receive_all(decoder, (p for p in packets if p.is_repair or p.ssn not in lost))
    assert sorted(delivered) == sorted(payloads)
    assert decoder.recovered == 2


# --- repairs that lie


@FIELDS
@pytest.mark.parametrize(
    "symbol",
    [
        pytest.param(b"\x00\x08longer?", id="shorter than its length"),
        pytest.param(b"\xff\xff" + bytes(20), id="length beyond everything"),
        pytest.param(b"\x00\x02abc", id="padding is not zero"),
        pytest.param(b"\x00\x01" + bytes(7) + b"\x01", id="the last byte of the padding"),
        pytest.param(bytes(20), id="no packet is empty"),
        pytest.param(bytes(2), id="empty to the byte"),
    ],
)
def test_a_recovery_that_does_not_add_up_is_never_delivered(symbol: bytes, field: int) -> None:
    factor = coefficient(0, 1) if field == GF256 else 1
    lie = altered(over(1, field=field), bytes(multiply(factor, byte) for byte in symbol))
    decoder = decoder_after(0)
    assert receive(decoder, lie) == []
    assert (decoder.lies, decoder.recovered, decoder.open_rows) == (1, 0, 0)
    assert receive(decoder, source(1)) == [payload(1)]


def test_one_false_recovery_spoils_those_that_came_with_it() -> None:
    """Nobody knows which equation was false, so nothing that follows from them is believed."""
    decoder = decoder_after(0)
    honest = over(3, 2, 1, 0, key=1)
    lie = altered(over(3, 2, 1, 0, key=2), random.Random(5).randbytes(len(honest.body) - 2))
    assert receive_all(decoder, [honest, lie, source(3)]) == [payload(3)]
    assert (decoder.lies, decoder.recovered, decoder.open_rows) == (1, 0, 0)


def test_a_lie_undoes_the_rows_that_wait() -> None:
    decoder = decoder_after(0)
    assert receive(decoder, over(2, 1)) == []
    lie = altered(over(4, field=XOR), b"\xff\xff")
    assert receive(decoder, lie) == []
    assert (decoder.lies, decoder.open_rows) == (1, 0)
    assert receive(decoder, source(1)) == [payload(1)]


def test_a_repair_shorter_than_a_packet_it_covers_is_refused_and_changes_nothing() -> None:
    decoder = decoder_after(4)
    honest = over(5, 4)
    with pytest.raises(WireError, match="fec-field"):
        receive(decoder, altered(honest, honest.body[2 : 3 + len(payload(4))]))
    assert (decoder.repairs, decoder.open_rows) == (0, 0)
    assert receive(decoder, honest) == [payload(5)]


def test_a_packet_longer_than_the_repairs_that_covered_it_undoes_them() -> None:
    decoder = decoder_after(0)
    assert receive(decoder, over(2, 1)) == []
    for long in (bytes(1400), bytes(60_000)):
        other = decoder_after(0)
        assert receive(other, over(2, 1)) == []
        assert other.source(1, long) == [long]
        assert (other.lies, other.open_rows, other.recovered) == (1, 0, 0)
        assert receive(other, source(2)) == [payload(2)]


@pytest.mark.parametrize("key", [0, 1])
def test_repairs_that_contradict_each_other_recover_nothing(key: int) -> None:
    """The same key with another content; and with another key, one too many to be true."""
    decoder = decoder_after(0)
    honest = over(2, 1, key=0)
    assert receive(decoder, honest) == []
    assert receive(decoder, altered(over(2, 1, key=key), bytes(len(honest.body) - 2))) == []
    assert (decoder.lies, decoder.open_rows, decoder.recovered) == (1, 0, 0)
    assert receive_all(decoder, [source(1), source(2)]) == [payload(1), payload(2)]


def test_the_same_repair_again_is_wasted() -> None:
    decoder = decoder_after(0)
    assert receive_all(decoder, [over(2, 1), over(2, 1)]) == []
    assert (decoder.wasted, decoder.lies, decoder.open_rows) == (1, 0, 1)


@pytest.mark.parametrize(("ahead", "future"), [(AHEAD, 0), (AHEAD + 1, 1), (1000, 1), (0x7FFF, 1)])
def test_a_repair_from_the_far_future_moves_nothing(ahead: int, future: int) -> None:
    decoder = decoder_after(*range(100))
    assert receive(decoder, over(99 + ahead, 98 + ahead)) == []
    assert (decoder.future, decoder.open_rows) == (future, 1 - future)
    assert receive(decoder, source(100)) == [payload(100)]
    assert (decoder.late, decoder.duplicates) == (0, 0)


@pytest.mark.parametrize("behind", [MAX_REACH, 1000, 0x8000])
def test_a_repair_from_the_far_past_is_not_used(behind: int) -> None:
    newest = 40_000
    decoder = decoder_after(newest)
    assert receive(decoder, over(newest - behind)) == []
    assert (decoder.past, decoder.recovered, decoder.open_rows) == (1, 0, 0)
    only_past = dict.fromkeys(("late", "past", "future", "crowded", "work", "lies"), 0) | {
        "past": 1
    }
    assert decoder.dropped == only_past


def test_a_repair_just_inside_the_memory_is_used() -> None:
    decoder = decoder_after(1000)
    assert receive(decoder, over(1001 - MAX_REACH)) == [payload(1001 - MAX_REACH)]


def test_a_repair_over_packets_no_longer_kept_is_not_used() -> None:
    decoder = decoder_after(*range(100), *range(101, 130))
    assert receive(decoder, over(101, 100)) == []
    assert (decoder.past, decoder.recovered) == (1, 0)
    assert receive(decoder, source(100)) == [payload(100)]


def test_a_repair_that_claims_a_large_packet_is_not_used() -> None:
    decoder = WindowDecoder(from_start=True)
    decoder.source(0, bytes(1401))
    assert receive(decoder, over(1, 0)) == []
    assert (decoder.past, decoder.recovered) == (1, 0)


def test_rows_that_nothing_will_solve_are_given_up() -> None:
    decoder = decoder_after(0)
    assert receive(decoder, over(2, 1)) == []
    receive_all(decoder, [source(ssn) for ssn in range(3, 40)])
    assert (decoder.open_rows, decoder.unrecoverable) == (1, 0)  # until someone looks
    assert receive(decoder, over(40)) == [payload(40)]
    assert (decoder.open_rows, decoder.unrecoverable) == (0, 1)


def test_rows_give_way_to_newer_ones() -> None:
    decoder = decoder_after(0, 2 * MOST_ROWS + 3)
    for pair in range(MOST_ROWS + 1):
        assert receive(decoder, over(2 * pair + 2, 2 * pair + 1)) == []
    assert (decoder.open_rows, decoder.crowded) == (MOST_ROWS, 1)
    assert receive(decoder, source(1)) == [payload(1)]
    assert receive(decoder, source(3)) == [payload(3), payload(4)]


# --- a peer that counts afresh


@pytest.mark.parametrize("newest", [2000, 30_000, 0x7FFF])
def test_a_peer_that_counts_afresh_is_heard_and_protected_again(newest: int) -> None:
    decoder = decoder_after(*range(newest - 20, newest))
    packets = [p for p in protected(Plan(every=1, window=4), 40) if p.is_repair or p.ssn != 20]
    delivered = receive_all(decoder, packets)
    assert delivered == [payload(ssn) for ssn in range(RESTART - 1, 40)]
    assert decoder.late == RESTART - 1


def test_what_came_before_a_new_count_is_not_taken_for_what_comes_after() -> None:
    decoder = decoder_after(*range(2040, 2060))  # marked modulo 512, as 504 to 523 would be
    receive_all(decoder, [source(ssn) for ssn in (0, 1, 2, 4, 5, 6, 7)])
    assert receive(decoder, source(8)) == [payload(8)]
    assert receive(decoder, source(3)) == [payload(3)]


@pytest.mark.parametrize("start", [40_000, 0xFFF0])
def test_more_than_half_the_numbers_behind_is_ahead(start: int) -> None:
    decoder = decoder_after(*range(start - 20, start))
    wraps = [p for p in protected(Plan(every=1, window=4), 40) if p.is_repair or p.ssn != 20]
    if start == 40_000:  # 25 536 ahead
        assert receive_all(decoder, wraps) == [payload(ssn) for ssn in range(40)]
    else:  # 16 ahead
        assert sorted(receive_all(decoder, wraps)) == sorted(payload(ssn) for ssn in range(40))


def test_stray_old_packets_do_not_start_over() -> None:
    decoder = decoder_after(*range(5000, 5010))
    for old in (7, 7, 7, 9, 8, 7, 6, 5, 4, 3, 2, 1):
        assert receive(decoder, source(old)) == []
    for number in range(5010, 5040):
        assert receive(decoder, source(number - 4900)) == []
        assert receive(decoder, source(number)) == [payload(number)]
    assert decoder.late == 12 + 30


# --- what it costs


def test_an_empty_decoder_is_small_and_a_full_one_bounded() -> None:
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        decoders = [WindowDecoder() for _ in range(100)]
        empty = (tracemalloc.get_traced_memory()[0] - before) / len(decoders)
        assert empty <= 3 * 1024

        decoder = decoders[0]
        for ssn in range(2000):
            decoder.source(ssn, bytes(1400))
        quiet = tracemalloc.get_traced_memory()[0] - before
        assert quiet <= 100 * empty + 16 * 1500 + 4096  # no repair: 16 payloads

        for ssn in range(2000, 2400):
            if ssn % 3:
                decoder.source(ssn & 0xFFFF, bytes(1400))
            field, begin = RepairHead(GF256, 64, ssn, ssn % 128, 2).encode()
            decoder.repair(field, begin + bytes([ssn % 251]) * 1402)
        assert decoder.crowded
        full = tracemalloc.get_traced_memory()[0] - before - 100 * empty
        assert 128 * 1400 * 2 // 3 < full <= 128 * 1500 + MOST_ROWS * 1700
    finally:
        tracemalloc.stop()


def lies_after(decoder: WindowDecoder, newest: int, count: int, *, moving: bool = True) -> None:
    """Repairs of 64 packets, half of them missing, whose symbols are noise."""
    rng = random.Random(9)
    for key in range(count):
        at = newest + key * moving & 0xFFFF
        field, begin = RepairHead(GF256, 64, at, key % 128).encode()
        assert decoder.repair(field, begin + rng.randbytes(16)) == []


def half_of(count: int) -> WindowDecoder:
    decoder = decoder_after(0)
    receive(decoder, over(*range(63, -1, -1)))  # so that it keeps 128
    for ssn in range(2, count, 2):
        assert receive(decoder, source(ssn))[0] == payload(ssn)
    return decoder


@pytest.mark.parametrize("moving", [False, True])
def test_lying_repairs_cost_no_more_than_the_packets_before_them_have_earned(moving: bool) -> None:
    decoder = half_of(400)
    before = decoder.work
    lies_after(decoder, 399, 60, moving=moving)
    assert decoder.work - before > 1000  # they do find what to work on
    lies_after(decoder, 399, 5000, moving=moving)
    assert decoder.work - before <= MOST_SAVED + MOST_AT_ONCE
    assert decoder.open_rows == 0 or not decoder.exhausted
    refused = decoder.exhausted + decoder.future + decoder.past + decoder.wasted
    assert refused + decoder.lies > 4500


def test_lying_repairs_over_the_same_packets_are_dropped_and_their_rows_with_them() -> None:
    decoder = half_of(400)
    rng = random.Random(4)
    for key in range(1000):
        field, begin = RepairHead(GF256, 64 - key % 8, 399, key % 128).encode()
        decoder.repair(field, begin + rng.randbytes(12))
    assert decoder.dropped["work"] == decoder.exhausted > 800
    assert (decoder.open_rows, decoder.recovered) == (0, 0)

    # What comes after is delivered, and earns its own protection again.
    for ssn in range(400, 410):
        assert receive(decoder, source(ssn)) == [payload(ssn)]
    exhausted = decoder.exhausted
    assert receive(decoder, over(410, 409)) == [payload(410)]
    assert decoder.exhausted == exhausted


def test_a_trickle_of_packets_earns_lies_no_more_than_their_share() -> None:
    decoder = half_of(400)
    before, sources = decoder.work, decoder.sources
    for ssn in range(400, 2000, 2):
        receive(decoder, source(ssn))
        lies_after(decoder, ssn + 1, 15, moving=False)
    delivered = decoder.sources - sources
    assert delivered == 800
    assert decoder.work - before <= MOST_SAVED + SOURCE_EARNS * delivered + MOST_AT_ONCE
    assert decoder.work - before > SOURCE_EARNS * delivered // 2
    assert decoder.exhausted > 10 * delivered


def test_late_packets_work_on_rows_only_while_it_is_earned() -> None:
    """24 rows over 104 packets that come late after all, one after the other, and again."""
    rng = random.Random(6)
    decoder = half_of(400)
    before, sources, newest = decoder.work, decoder.sources, 400
    for _ in range(30):
        newest += 129
        decoder.source(newest & 0xFFFF, b"-")
        for key in range(2 * MOST_ROWS):
            field, begin = RepairHead(GF256, 48, newest - key, key, 1).encode()
            decoder.repair(field, begin + rng.randbytes(12))
        for ssn in range(newest - 128, newest):
            assert decoder.source(ssn, b"-")[:1] == [b"-"]
    delivered = decoder.sources - sources
    assert decoder.work - before <= MOST_SAVED + SOURCE_EARNS * delivered + MOST_AT_ONCE


def test_a_late_packet_is_delivered_when_no_work_is_left_and_the_rows_are_given_up() -> None:
    decoder = decoder_after(2)
    rng = random.Random(8)

    def lie(key: int, window: int = 47) -> None:
        field, begin = RepairHead(GF256, window, 49, key).encode()
        assert decoder.repair(field, begin + rng.randbytes(9)) == []

    for key in range(16):
        lie(key)
    left = EARNED_FIRST + SOURCE_EARNS - decoder.work
    assert 1 < left < 2 * MOST_ROWS
    for key in range(left - 1):
        lie(key, 64)  # more missing than can be solved: looked at and no more
    lie(16)
    assert (decoder.open_rows, decoder.exhausted) == (17, 0)
    assert decoder.work >= EARNED_FIRST + 2 * SOURCE_EARNS
    assert decoder.source(30, b"late") == [b"late"]
    assert (decoder.open_rows, decoder.crowded, decoder.lies) == (0, 17, 0)


def test_a_repair_with_more_missing_than_can_be_solved_is_not_looked_into() -> None:
    for window, rows in ((MOST_UNKNOWN, 1), (MOST_UNKNOWN + 1, 0)):
        decoder = decoder_after(0)
        receive(decoder, over(*range(window, 0, -1)))
        assert (decoder.open_rows, decoder.unrecoverable) == (rows, 1 - rows)
        assert decoder.work <= 1


def test_a_second_path_of_repairs_outlives_an_outage_of_the_first() -> None:
    packets = [p for p in protected(Plan(every=1, window=3), 5000) if p.is_repair or p.ssn < 9]
    decoder = WindowDecoder()
    assert receive_all(decoder, packets) == [payload(ssn) for ssn in range(5000)]
    assert decoder.exhausted == 0


def test_work_is_bounded_whatever_comes() -> None:
    rng = random.Random(3)
    decoder = WindowDecoder(from_start=True)
    most = newest = 0
    for _ in range(3000):
        before = decoder.work
        newest += rng.random() < 0.5
        if rng.random() < 0.3:
            decoder.source(newest - rng.randrange(100) & 0xFFFF, rng.randbytes(10))
        else:
            window, stride = rng.choice([(64, 1), (64, 2), (40, 3)])
            newest_covered = newest - rng.randrange(60) & 0xFFFF
            field, begin = RepairHead(
                GF256, window, newest_covered, rng.randrange(128), stride
            ).encode()
            attempt(decoder.repair, field, begin + rng.randbytes(12))
        most = max(most, decoder.work - before)
        assert decoder.open_rows <= MOST_ROWS
    assert MOST_ROWS < most <= MOST_AT_ONCE
    assert decoder.work <= EARNED_FIRST + SOURCE_EARNS * decoder.sources + MOST_AT_ONCE
    assert decoder.exhausted > 100


# --- arbitrary bytes


@given(
    st.lists(
        st.tuples(
            st.sampled_from((b"\x50", b"\x40", b"\x00")),
            st.integers(0, 5),
            st.sampled_from((0, 1, 2, 3, 4, 70, 0x8000, 0xFFFF)),
            st.sampled_from((0, 1, 127)),
            st.integers(0, 2),
            st.binary(max_size=5),
        ),
        max_size=40,
    ),
    st.booleans(),
)
def test_a_hostile_peer_gets_nothing_delayed_or_doubled_and_nothing_but_the_wire_error(
    packets: list[tuple[bytes, int, int, int, int, bytes]], from_start: bool
) -> None:
    decoder = WindowDecoder(from_start=from_start)
    come: dict[int, int] = {}  # how far the numbers had counted when this one came
    counted = total = 0
    for kind, window, newest, key, stride, data in packets:
        recovered = decoder.recovered
        if kind == b"\x00":
            delivered = decoder.source(newest, data)
            assert delivered[:1] == [data] or newest in come or recovered or decoder.late
            counted += max(distance(counted & 0xFFFF, newest), 0)
            again = newest in come and counted - come[newest] < 0x4000  # not a round later
            assert not (delivered and again and not decoder.late)
            come[newest] = counted
            direct = len(delivered) - (decoder.recovered - recovered)
            assert direct in (0, 1)
        else:
            field = kind + bytes([window]) + newest.to_bytes(2, "big")
            result = attempt(decoder.repair, field, bytes([key, stride]) + data)
            if isinstance(result, WireError):
                assert result.reason == "fec-field"
                continue
            delivered = result
            assert len(delivered) == decoder.recovered - recovered
        total += len(delivered)
        assert decoder.open_rows <= MOST_ROWS
    assert total == decoder.sources + decoder.recovered
    outcomes = decoder.wasted + decoder.past + decoder.future
    assert outcomes <= decoder.repairs
