from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lightspeed_protocol.endpoint import Endpoint
from lightspeed_protocol.errors import WireError
from lightspeed_protocol.fec.xor import MAX_PAYLOAD
from lightspeed_protocol.header import HEADER_BYTES, decode, pack_addresses, swap_addresses

KEY = pack_addresses(("127.0.0.1", 7777), ("192.0.2.1", 27015))


def pair(fec_k: int | None) -> tuple[Endpoint, Endpoint]:
    return Endpoint.open(KEY, fec_k=fec_k, token=3), Endpoint.open(swap_addresses(KEY))


def test_a_plain_packet_is_header_and_payload() -> None:
    sender, _ = pair(None)
    [datagram] = sender.wrap(b"hello", 1_000_000)
    header = decode(datagram)
    assert (header.version, header.token, header.sequence) == (1, 3, 0)
    assert (header.source, header.destination) == (("127.0.0.1", 7777), ("192.0.2.1", 27015))
    assert header.timestamp_us == 1_000_000
    assert datagram[HEADER_BYTES:] == b"hello"
    assert sender.bytes_out == 25
    assert sender.payload_bytes_out == 5


def test_a_block_ends_with_one_repair_packet_after_its_last_source_packet() -> None:
    sender, _ = pair(4)
    sent = [datagram for n in range(8) for datagram in sender.wrap(b"%d" % n, 0)]
    assert [(d[0], d[2] << 8 | d[3], d[20:24].hex()) for d in sent] == [
        (0x20, 0, "00000004"), (0x20, 1, "00000104"), (0x20, 2, "00000204"),
        (0x20, 3, "00000304"), (0x20, 4, "00000404"),
        (0x20, 5, "00010004"), (0x20, 6, "00010104"), (0x20, 7, "00010204"),
        (0x20, 8, "00010304"), (0x20, 9, "00010404"),
    ]  # fmt: skip
    assert (sender.sent_source, sender.sent_repair) == (8, 2)


def test_a_payload_too_large_for_the_code_leaves_unprotected() -> None:
    sender, receiver = pair(2)
    [large] = sender.wrap(bytes(MAX_PAYLOAD + 1), 0)
    assert decode(large).version == 1
    assert receiver.unwrap(large) == [bytes(MAX_PAYLOAD + 1)]
    assert decode(sender.wrap(bytes(MAX_PAYLOAD), 0)[0]).version == 2


def test_empty_and_repeated_packets_are_refused() -> None:
    sender, receiver = pair(None)
    [datagram] = sender.wrap(b"x", 0)
    assert receiver.unwrap(datagram) == [b"x"]
    for bad, reason in ((datagram, "duplicate"), (datagram[:HEADER_BYTES], "empty")):
        with pytest.raises(WireError, match=reason):
            receiver.unwrap(bad)


def test_a_source_packet_that_was_recovered_is_a_duplicate_when_it_comes_late() -> None:
    sender, receiver = pair(2)
    first, second, repair = *sender.wrap(b"one", 0), *sender.wrap(b"two", 0)
    assert receiver.unwrap(first) == [b"one"]
    assert receiver.unwrap(repair) == [b"two"]
    with pytest.raises(WireError, match="duplicate"):
        receiver.unwrap(second)


def test_a_repair_packet_needs_no_number_of_its_own() -> None:
    sender, receiver = pair(2)
    first, _, repair = *sender.wrap(b"one", 0), *sender.wrap(b"two", 0)
    assert receiver.unwrap(first) == [b"one"]
    repeated = repair[:2] + first[2:4] + repair[4:]
    assert receiver.unwrap(repeated) == [b"two"]


def test_an_old_block_seen_twice_is_delivered_once() -> None:
    sender, receiver = pair(2)
    old, *_ = sender.wrap(b"old", 0)
    later = [d for n in range(200) for d in sender.wrap(b"%d" % n, 0)]
    assert receiver.unwrap(old) == [b"old"]
    for datagram in later:
        receiver.unwrap(datagram)
    with pytest.raises(WireError, match="duplicate"):
        receiver.unwrap(old)


@given(
    seed=st.integers(0, 10**6),
    k=st.sampled_from([None, 2, 3, 4, 8, 16]),
    loss=st.floats(0, 0.5),
    count=st.integers(1, 300),
)
def test_repair_only_adds(seed: int, k: int | None, loss: float, count: int) -> None:
    """The delivered set holds every source packet that came, each once, each at once."""
    rng = random.Random(seed)
    sender, receiver = pair(k)
    flight: list[tuple[float, bytes]] = []
    for number in range(count):
        payload = b"%d:" % number + rng.randbytes(rng.randrange(60))
        for datagram in sender.wrap(payload, 0):
            copies = (rng.random() >= loss) * (1 + (rng.random() < 0.05))
            flight += [(number + rng.uniform(0, 6), datagram)] * copies
    delivered: list[bytes] = []
    for _, datagram in sorted(flight, key=lambda item: item[0]):
        source = datagram[0] == 0x10 or datagram[22] < datagram[23]
        payload = datagram[HEADER_BYTES + (4 if datagram[0] == 0x20 else 0) :]
        try:
            payloads = receiver.unwrap(datagram)
        except WireError as error:
            assert error.reason == "duplicate"
            assert payload in delivered
            continue
        assert not source or payloads[0] == payload
        delivered += payloads
    assert len(set(delivered)) == len(delivered)


@given(st.binary(min_size=16, max_size=80), st.sampled_from([b"\x10", b"\x18", b"\x20", b"\x28"]))
def test_any_bytes_raise_nothing_but_a_wire_error(data: bytes, first: bytes) -> None:
    _, receiver = pair(None)
    datagram = (first + data).ljust(HEADER_BYTES, b"\0")
    for _ in range(2):
        try:
            receiver.unwrap(datagram)
        except WireError as error:
            assert error.reason in {"empty", "duplicate", "malformed", "fec-index"}


@pytest.mark.parametrize("fec_k", [None, 4])
@pytest.mark.parametrize("first", [0, 3, 90, 0xFFF0])
def test_a_peer_started_again_is_heard_at_once(fec_k: int | None, first: int) -> None:
    """Wherever its numbers begin, also among those just seen."""
    receiver = Endpoint.open(swap_addresses(KEY))
    heard: list[bytes] = []
    for life, clock_us in ((0, 5_000_000), (1, 3_000_000_000)):
        sender = Endpoint.open(KEY, fec_k=fec_k, first=first * life)
        for number in range(100):
            for datagram in sender.wrap(b"%d %d" % (life, number), clock_us + number * 15_625):
                heard += receiver.unwrap(datagram)
    assert len(heard) == 200
    assert len(set(heard)) == 200


def test_a_replayed_stretch_is_refused_whole() -> None:
    sender, receiver = pair(None)
    sent = [d for n in range(100) for d in sender.wrap(b"%d" % n, 7_000_000 + n * 15_625)]
    for datagram in sent:
        receiver.unwrap(datagram)
    for datagram in sent:
        with pytest.raises(WireError, match="duplicate"):
            receiver.unwrap(datagram)


def test_two_counters_in_one_session_both_get_through() -> None:
    """The original may have two listeners at once, each numbering its packets from 0."""
    receiver = Endpoint.open(swap_addresses(KEY))
    senders = [Endpoint.open(KEY), Endpoint.open(KEY)]
    for sender in senders:
        sender.sequence = 0
    heard: list[bytes] = []
    for number in range(400):
        who = 0 if number < 100 else number % 2
        for datagram in senders[who].wrap(b"%d" % number, number * 10_000 + 1):
            heard += receiver.unwrap(datagram)
    assert heard == [b"%d" % number for number in range(400)]


@pytest.mark.parametrize(("fec_k", "per_s"), [(2, 64), (4, 20), (4, 30), (8, 64), (16, 100)])
def test_two_encoders_that_number_alike_make_nothing_twice_and_nothing_false(
    fec_k: int, per_s: int
) -> None:
    """The original's second listener joins 5 s into a session, and its blocks begin at 0 too."""
    rng = random.Random(fec_k * per_s)
    receiver = Endpoint.open(swap_addresses(KEY))
    senders = [Endpoint.open(KEY, fec_k=fec_k), Endpoint.open(KEY, fec_k=fec_k)]
    sent, arrived = set[bytes](), set[bytes]()
    heard: list[bytes] = []
    for number in range(4000):
        sender = senders[rng.randrange(2) if number > 5 * per_s else 0]
        payload = b"%d" % number + rng.randbytes(rng.choice((0, 40, 300)))
        sent.add(payload)
        for datagram in sender.wrap(payload, number * 1_000_000 // per_s):
            if rng.random() < 0.05:
                continue
            if datagram[22] < fec_k:
                arrived.add(payload)
            heard += receiver.unwrap(datagram)
    assert len(set(heard)) == len(heard)
    assert arrived < set(heard)
    assert set(heard) <= sent
