"""Nobody but the two ends can write a sealed packet, and each is taken once."""

from __future__ import annotations

import random
from hashlib import blake2s

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lightspeed_protocol.errors import WireError
from lightspeed_protocol.header import FIN, KEEPALIVE, pack_addresses
from lightspeed_protocol.seal import (
    PREVIOUS_S,
    SEALED6_BYTES,
    SEALED_BYTES,
    WINDOW,
    Opener,
    SealedEnd,
    Sealer,
    direction_keys,
    header_bytes,
)

KEY = bytes(range(16))
ADDRESSES = pack_addresses(("192.0.2.1", 50000), ("198.51.100.7", 27960))
ADDRESSES6 = pack_addresses(("2001:db8::1", 50000), ("2001:db8::7", 27960))


def ends() -> tuple[SealedEnd, SealedEnd]:
    return SealedEnd.client(7, KEY), SealedEnd.node(7, KEY)


def source(end: SealedEnd, payload: bytes = b"input", ssn: int = 0) -> bytes:
    return end.sealer.seal(0x80, 1000, ADDRESSES, ssn.to_bytes(4, "big"), payload)


def reason_of(end: SealedEnd, datagram: bytes, now: float = 0.0) -> str:
    with pytest.raises(WireError) as caught:
        end.open(datagram, now)
    return caught.value.reason


def test_the_bytes_are_those_of_the_page() -> None:
    client, _ = ends()
    client.sealer.number = 0x10002
    datagram = source(client, b"hello", ssn=5)
    head = bytes.fromhex("80 00 0002 000003e8") + ADDRESSES + bytes.fromhex("00000005 00000007")
    key = blake2s(b"\0\0\0\7", digest_size=32, key=KEY, person=b"LS up").digest()
    tag = blake2s(b"\0\0\0\1" + head + b"hello", digest_size=8, key=key).digest()
    assert datagram == head + tag + b"hello"
    assert len(head + tag) == SEALED_BYTES


@pytest.mark.parametrize("addresses", [ADDRESSES, ADDRESSES6])
def test_both_directions_open_what_the_other_sealed(addresses: bytes) -> None:
    client, node = ends()
    first = 0x80 if addresses is ADDRESSES else 0x90
    size = SEALED_BYTES if addresses is ADDRESSES else SEALED6_BYTES
    for one, other in ((client, node), (node, client)):
        datagram = one.sealer.seal(first, 77, addresses, b"\0\0\0\x09", b"text")
        assert header_bytes(datagram) == size
        opened = other.open(datagram, 0.0)
        assert (opened.flags, opened.number, opened.timestamp_us) == (0, 0, 77)
        assert (opened.addresses, opened.fec_field) == (addresses, b"\0\0\0\x09")
        assert (opened.payload, opened.newest) == (b"text", True)


def test_the_payload_stays_readable() -> None:
    assert b"a readable word" in source(ends()[0], b"a readable word")


def test_a_packet_is_not_for_its_own_sender() -> None:
    client, node = ends()
    assert reason_of(client, source(client)) == "forged"
    assert reason_of(node, source(node)) == "forged"


@given(st.data())
def test_no_bit_can_be_changed(data: st.DataObject) -> None:
    client, node = ends()
    datagram = bytearray(source(client))
    bit = data.draw(st.integers(0, len(datagram) * 8 - 1))
    datagram[bit // 8] ^= 1 << bit % 8
    assert reason_of(node, bytes(datagram)) in ("forged", "version", "short", "session")
    assert (node.opener.highest, node.opener.received) == (-1, 0)


@given(st.binary(max_size=100))
def test_arbitrary_bytes_raise_nothing_but_the_wire_error(data: bytes) -> None:
    node = ends()[1]
    reason_of(node, data)
    assert node.opener.highest == -1


@given(st.integers(0, 59), st.sampled_from([0x80, 0x90]))
def test_cut_anywhere_in_the_header_is_short(length: int, first: int) -> None:
    client, node = ends()
    addresses = ADDRESSES if first == 0x80 else ADDRESSES6
    datagram = client.sealer.seal(first, 0, addresses, bytes(4), b"")
    if length < len(datagram):
        assert reason_of(node, datagram[:length]) == "short"


def test_another_session_is_told_from_a_forgery() -> None:
    node = ends()[1]
    assert reason_of(node, source(SealedEnd.client(8, KEY))) == "session"


def test_a_replay_is_refused_however_often_and_moves_nothing() -> None:
    client, node = ends()
    first = source(client, b"one")
    second = source(client, b"two")
    node.open(first, 0.0)
    node.open(second, 0.0)
    for _ in range(1000):
        assert reason_of(node, first) == "replayed"
        assert not node.opener.newest
    assert (node.opener.received, node.opener.duplicates) == (2, 1000)


def test_late_packets_are_taken_within_the_window_and_only_there() -> None:
    client, node = ends()
    packets = [source(client) for _ in range(WINDOW + 1)]
    node.open(packets[-1], 0.0)
    assert reason_of(node, packets[0]) == "too-old"
    for packet in reversed(packets[1:-1]):
        assert not node.open(packet, 0.0).newest
    assert node.opener.lost == 0
    assert all(reason_of(node, packet) == "replayed" for packet in packets[1:])


def test_numbers_go_on_over_the_wrap_and_over_losses() -> None:
    client, node = ends()
    rng = random.Random(5)
    taken = 0
    for number in range(0, 400_000, 31):
        client.sealer.number = number
        datagram = source(client)
        if rng.random() < 0.9:
            assert node.open(datagram, 0.0).number == number
            taken += 1
    assert node.opener.received == taken
    assert node.opener.expected == node.opener.highest - node.opener.lowest + 1


def test_a_jump_beyond_inference_is_from_the_future() -> None:
    client, node = ends()
    client.sealer.number = 0x10000
    with pytest.raises(WireError, match="future"):
        node.open(source(client), 0.0)  # nobody begins there
    client.sealer.number = 0xFFFF
    node.open(source(client), 0.0)
    client.sealer.number = 0xFFFF + 0x8000
    assert reason_of(node, source(client)) == "future"
    assert node.opener.highest == 0xFFFF
    client.sealer.number = 0xFFFF + 0x7FFF
    assert node.open(source(client), 0.0).number == 0xFFFF + 0x7FFF


def test_a_change_of_keys_loses_nothing_in_flight() -> None:
    client, node = ends()
    before_up, before_down = source(client, b"old up"), source(node, b"old down")
    assert node.rekey(b"B" * 16, 10.0)
    assert not node.rekey(b"C" * 16, 10.0)  # one at a time
    down_meanwhile = source(node, b"still old")
    client.rekey(b"B" * 16, 10.0)
    first_new = source(client, b"new up")
    assert node.open(first_new, 10.1).payload == b"new up"
    assert node.offered is None
    down_new = source(node, b"new down")
    for late in (before_down, down_meanwhile, down_new):
        client.open(late, 10.2)
    assert node.open(before_up, 10.3).payload == b"old up"
    assert reason_of(client, before_down, 10.4) == "replayed"


def test_the_previous_key_ends_after_half_a_minute() -> None:
    client, node = ends()
    late = [source(client, b"late"), source(client, b"later")]
    node.rekey(b"B" * 16, 0.0)
    client.rekey(b"B" * 16, 0.0)
    node.open(source(client), 1.0)
    assert node.open(late[0], 1.0 + PREVIOUS_S - 0.01).payload == b"late"
    assert reason_of(node, late[1], 1.0 + PREVIOUS_S) == "forged"


def test_keys_follow_each_other_faster_than_packets_come() -> None:
    client, node = ends()
    for turn in range(60):
        in_flight_up, in_flight_down = source(client), source(node)
        assert node.rekey(bytes([turn]) * 16, float(turn))
        client.rekey(bytes([turn]) * 16, float(turn))
        node.open(source(client), turn + 0.1)
        node.open(in_flight_up, turn + 0.2)
        client.open(in_flight_down, turn + 0.3)
    assert node.opener.lost == client.opener.lost == 0


def test_a_key_that_was_never_used_does_not_stand_in_the_way_of_the_next() -> None:
    client, node = ends()
    client.rekey(b"B" * 16, 0.0)
    client.rekey(b"C" * 16, 1.0)  # the node had seen B in use, or it would not give C
    down = direction_keys(b"B" * 16, 7)[1]
    node.sealer.use(down)
    assert client.open(source(node, b"under B"), 1.0).payload == b"under B"


def test_control_packets_carry_flags_and_an_echo() -> None:
    client, node = ends()
    opened = node.open(client.control(KEEPALIVE, 5, b"\x12\x34"), 0.0)
    assert (opened.flags, opened.payload, any(opened.addresses)) == (KEEPALIVE, b"\x12\x34", False)
    opened = node.open(client.control(FIN, 5, addresses=ADDRESSES6), 0.0)
    assert (opened.flags, opened.addresses) == (FIN, ADDRESSES6)


def test_session_keys_have_sixteen_bytes() -> None:
    with pytest.raises(ValueError, match="16 bytes, got 15"):
        direction_keys(bytes(15), 1)


def test_sealer_and_opener_work_without_an_end() -> None:
    up, _ = direction_keys(KEY, 1)
    sealer, opener = Sealer(up, b"\0\0\0\1", path=3), Opener(up)
    datagram = sealer.seal(0x88, 0, ADDRESSES, b"\x50\x02\0\1", b"repair")
    assert datagram[1] == 3
    assert opener.open(datagram, SEALED_BYTES, 0.0) == 0


def test_a_packet_that_was_not_sent_leaves_no_gap() -> None:
    client, node = SealedEnd.client(1, KEY), SealedEnd.node(1, KEY)
    client.open(node.control(0x1, 0, b"first"), 0.0)
    unsent = node.control(0x1, 0, b"unsent")
    node.sealer.take_back(unsent)
    last = node.control(0x1, 0, b"last")
    node.sealer.take_back(unsent[:2] + b"\xff\xff" + unsent[4:])  # not the newest: stays
    assert client.open(last, 0.0).payload == b"last"
    assert (client.opener.expected, client.opener.lost) == (2, 0)
