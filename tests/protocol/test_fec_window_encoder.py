"""Which packets a repair covers, and when it leaves."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lightspeed_protocol.fec.window import Plan, WindowDecoder, WindowEncoder
from lightspeed_protocol.fec.window_plan import XOR, RepairHead, decode_repair

from tests.support.window_code import Packet, repair, sent

PAYLOADS = [b"\x01\x02\x03", b"hello", b"", b"\xff" * 6]
LARGE = bytes(1401)


def payload(number: int) -> bytes:
    return b"packet %d" % number


def send(encoder: WindowEncoder, count: int, *, first: int = 0) -> list[Packet]:
    return [packet for i in range(count) for packet in sent(encoder, payload(first + i))]


def covered(packet: Packet | tuple[bytes, bytes]) -> list[int]:
    """The SSNs in a repair, the newest first."""
    field, body = (packet.field, packet.body) if isinstance(packet, Packet) else packet
    head = decode_repair(field, body)
    return [head.newest - i * head.stride & 0xFFFF for i in range(head.window)]


def repairs(packets: list[Packet]) -> list[list[int]]:
    return [covered(packet) for packet in packets if packet.is_repair]


# --- bytes


def test_the_bytes_are_the_documented_ones() -> None:
    encoder = WindowEncoder(Plan(every=2, window=4))
    packets = [packet for data in PAYLOADS for packet in sent(encoder, data)]
    assert [(p.field + p.body).hex() for p in packets] == [
        "00000000010203",
        "0000000168656c6c6f",
        "50020001" + "0000" + "003477d90c21dd",
        "00000002",
        "00000003ffffffffffff",
        "50040003" + "0100" + "006a4e1d8a765b0b",
    ]


def test_an_xor_block_is_one_repair_over_each_k() -> None:
    encoder = WindowEncoder(Plan.xor(2))
    packets = [packet for data in PAYLOADS for packet in sent(encoder, data)]
    assert [(p.field + p.body).hex() for p in packets if p.is_repair] == [
        "40020001" + "0000" + "0006" + "69676f6c6f",
        "40020003" + "0100" + "0006" + "ffffffffffff",
    ]


@given(
    st.integers(1, 3),
    st.integers(1, 6),
    st.integers(1, 3),
    st.sampled_from((0, 1)),
    st.integers(0, 3),
    st.lists(st.binary(max_size=6), min_size=1, max_size=20),
    st.sampled_from((0, 0xFFFA)),
)
def test_a_repair_is_the_sum_written_in_the_format(
    every: int,
    window: int,
    stride: int,
    field: int,
    delay: int,
    payloads: list[bytes],
    first: int,
) -> None:
    encoder = WindowEncoder(Plan(every, window, stride, field, delay), first_ssn=first)
    for i, data in enumerate(payloads):
        source, *following = sent(encoder, data)
        assert (source.ssn, source.body) == (first + i & 0xFFFF, data)
        for packet in following:
            head = decode_repair(packet.field, packet.body)
            assert (head.field, head.stride) == (field, stride)
            assert head.newest == first + i - delay & 0xFFFF
            members = payloads[: i + 1 - delay][::-1][::stride][:window]
            # the coefficients do not notice the wrap: it is a multiple of 128
            assert (packet.field, packet.body) == repair(head, members)


# --- when, and over what


def test_the_window_slides_and_grows_from_the_first_packet_on() -> None:
    assert repairs(send(WindowEncoder(Plan(every=2, window=3)), 8)) == [
        [1, 0],
        [3, 2, 1],
        [5, 4, 3],
        [7, 6, 5],
    ]


def test_a_strided_window_leaves_gaps() -> None:
    assert repairs(send(WindowEncoder(Plan(every=2, window=2, stride=3)), 8)) == [
        [1],
        [3, 0],
        [5, 2],
        [7, 4],
    ]


def test_a_delayed_copy_follows_its_packet_at_that_distance() -> None:
    packets = send(WindowEncoder(Plan(every=1, window=1, field=XOR, delay=2)), 4)
    assert repairs(packets) == [[0], [1]]
    assert packets[3].body == b"\0\0" + b"\0\x08" + payload(0)  # key, stride, length, payload


def test_numbers_and_keys_wrap() -> None:
    encoder = WindowEncoder(Plan(every=1, window=2), first_ssn=0xFFFF)
    packets = send(encoder, 130)
    assert [p.ssn for p in packets if not p.is_repair][:3] == [0xFFFF, 0, 1]
    assert repairs(packets)[:2] == [[0xFFFF], [0, 0xFFFF]]
    keys = [p.body[0] for p in packets if p.is_repair]
    assert keys == [*range(128), 0, 1]
    assert encoder.sent_repair == 130


def test_without_a_plan_packets_are_numbered_and_nothing_else() -> None:
    encoder = WindowEncoder(None)
    packets = send(encoder, 3)
    assert [p.ssn for p in packets] == [0, 1, 2]
    assert (encoder.pending(), encoder.flush(), encoder.flush(again=True)) == (False, None, None)
    assert encoder.sent_repair == 0


def test_a_plan_may_change_between_any_two_packets() -> None:
    encoder = WindowEncoder(Plan(every=4, window=4))
    send(encoder, 3)
    encoder.plan = Plan(every=2, window=2)
    assert repairs(send(encoder, 1, first=3)) == [[3, 2]]
    encoder.plan = Plan(every=1, window=8)
    assert repairs(send(encoder, 1, first=4)) == [[4, 3, 2]]  # no more was kept
    encoder.plan = None
    assert repairs(send(encoder, 5, first=5)) == []
    encoder.plan = Plan(every=1, window=8)
    assert encoder.plan == Plan(every=1, window=8)
    assert repairs(send(encoder, 2, first=10)) == [[10], [11, 10]]


# --- silence


def test_a_flush_covers_what_is_in_no_repair() -> None:
    encoder = WindowEncoder(Plan(every=4, window=4))
    assert (encoder.pending(), encoder.flush()) == (False, None)
    send(encoder, 6)
    assert encoder.pending()
    last = encoder.flush()
    assert last is not None
    assert covered(last) == [5, 4]
    assert decode_repair(*last) == RepairHead(1, 2, 5, key=1)
    assert last == repair(decode_repair(*last), [payload(5), payload(4)])
    assert (encoder.pending(), encoder.flush(), encoder.sent_repair) == (False, None, 2)


def test_a_second_flush_is_over_the_whole_window() -> None:
    encoder = WindowEncoder(Plan(every=4, window=4))
    send(encoder, 6)
    encoder.flush()
    again = encoder.flush(again=True)
    assert again is not None
    assert covered(again) == [5, 4, 3, 2]
    assert decode_repair(*again).key == 2
    send(encoder, 1, first=6)
    third = encoder.flush(again=True)
    assert third is not None
    assert covered(third) == [6, 5, 4, 3]


def test_a_flush_after_a_delay_or_a_stride_finds_the_bare_ones() -> None:
    delayed = WindowEncoder(Plan(every=1, window=1, delay=3))
    send(delayed, 8)
    last = delayed.flush()
    assert last is not None
    assert covered(last) == [7, 6, 5]

    strided = WindowEncoder(Plan(every=2, window=2, stride=3))
    send(strided, 10)  # the last repairs cover 9 and 6, 7 and 4: 8 is bare
    last = strided.flush()
    assert last is not None
    assert covered(last) == [9, 8]


def test_a_flush_begins_the_count_to_the_next_repair() -> None:
    encoder = WindowEncoder(Plan(every=3, window=3))
    send(encoder, 2)
    encoder.flush()
    assert repairs(send(encoder, 3, first=2)) == [[4, 3, 2]]


def test_packets_that_the_plan_no_longer_reaches_are_not_pending() -> None:
    encoder = WindowEncoder(Plan(every=8, window=2))
    packets = send(encoder, 8)
    assert repairs(packets) == [[7, 6]]
    assert not encoder.pending()


def test_what_a_new_plan_does_not_reach_is_not_pending() -> None:
    encoder = WindowEncoder(Plan(every=2, window=2, stride=3))
    send(encoder, 10)
    assert encoder.pending()  # 8
    encoder.plan = Plan(every=1, window=1)
    assert (encoder.pending(), encoder.flush()) == (False, None)


def test_no_repair_is_wider_than_the_format_allows() -> None:
    encoder = WindowEncoder(Plan(every=200, window=2, stride=16, delay=100))
    send(encoder, 117)
    last = encoder.flush()
    assert last is not None
    assert covered(last) == [*range(116, 52, -1)]


# --- packets too large for a repair


def test_a_large_packet_is_in_no_repair_and_ends_the_run() -> None:
    encoder = WindowEncoder(Plan(every=2, window=4))
    send(encoder, 3)
    large, last = sent(encoder, LARGE)
    assert (large.ssn, large.body) == (3, LARGE)
    assert covered(last) == [2]
    assert not encoder.pending()
    assert repairs(send(encoder, 4, first=4)) == [[5, 4], [7, 6, 5, 4]]


def test_large_packets_in_a_row_bring_no_repair() -> None:
    encoder = WindowEncoder(Plan(every=1, window=4))
    assert [len(sent(encoder, LARGE)) for _ in range(3)] == [1, 1, 1]
    assert repairs(send(encoder, 1)) == [[3]]


@pytest.mark.parametrize(("largest", "used"), [(100, 100), (9000, 1400)])
def test_a_narrow_path_has_its_own_limit_but_1400_is_the_most(largest: int, used: int) -> None:
    encoder = WindowEncoder(Plan(every=1, window=1), largest_payload=largest)
    assert len(sent(encoder, bytes(used))) == 2
    assert len(sent(encoder, bytes(used + 1))) == 1


# --- asked for again


def test_a_copy_is_an_xor_repair_over_that_packet_alone() -> None:
    encoder = WindowEncoder(Plan(every=2, window=4), first_ssn=0xFFFF, asking=True)
    send(encoder, 3)
    copy = encoder.copy(0)
    assert copy is not None
    assert copy == repair(RepairHead(XOR, 1, 0), [payload(1)])
    assert (copy[0].hex(), copy[1][:4].hex()) == ("40010000", "00000008")
    decoder = WindowDecoder()
    decoder.source(0xFFFF, payload(0))
    assert decoder.repair(*copy) == [payload(1)]


@pytest.mark.parametrize("plan", [None, Plan(4, 4), Plan(1, 1, delay=3)])
def test_copies_change_nothing_else(plan: Plan | None) -> None:
    plain, asked = WindowEncoder(plan), WindowEncoder(plan, asking=True)
    for i in range(40):
        assert sent(plain, payload(i)) == sent(asked, payload(i))
        assert asked.copy(i) is not None
        assert plain.copy(i) is None
        assert plain.pending() == asked.pending()
    assert asked.sent_repair == plain.sent_repair + 40


def test_the_newest_128_are_kept_and_each_is_copied_twice() -> None:
    encoder = WindowEncoder(None, asking=True)
    assert encoder.copy(0xFFFF) is None
    send(encoder, 200)
    assert [ssn for ssn in range(-100, 300) if encoder.copy(ssn & 0xFFFF)] == [*range(72, 200)]
    assert [ssn for ssn in range(-100, 300) if encoder.copy(ssn & 0xFFFF)] == [*range(72, 200)]
    assert [ssn for ssn in range(0x10000) if encoder.copy(ssn)] == []
    send(encoder, 1, first=200)
    assert encoder.copy(200) is not None


def test_what_is_too_large_for_a_repair_is_not_copied_but_what_is_before_it_is() -> None:
    encoder = WindowEncoder(Plan(2, 4), asking=True)
    send(encoder, 1)
    sent(encoder, LARGE)
    assert encoder.copy(1) is None
    assert encoder.copy(0) is not None


def test_without_a_plan_the_last_before_a_silence_is_copied_for_who_may_ask() -> None:
    encoder = WindowEncoder(None, asking=True)
    assert encoder.flush(again=True) is None
    send(encoder, 3)
    assert encoder.flush() is None
    assert encoder.flush(again=True) == repair(RepairHead(XOR, 1, 2), [payload(2)])
