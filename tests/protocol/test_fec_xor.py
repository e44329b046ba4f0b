"""XOR repair: what is delivered, when, and what never is."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lightspeed_protocol.errors import WireError
from lightspeed_protocol.fec import header
from lightspeed_protocol.fec.header import FecHeader
from lightspeed_protocol.fec.xor import RESTART, WINDOW, XorDecoder, XorEncoder

from tests.support.attempts import attempt

K4 = [b"one", b"two!", b"", b"four packets"]


def source(block: int, index: int, k: int, payload: bytes) -> bytes:
    return FecHeader(block, index, k).encode() + payload


def encoded(
    payloads: list[bytes], k: int = 4, *, first_block: int = 0
) -> tuple[list[bytes], bytes]:
    """The source bodies of one block, and its repair body."""
    encoder = XorEncoder(k, block=first_block)
    sources, repair = [], None
    for payload in payloads:
        field, repair = encoder.protect(payload)
        sources.append(field + payload)
    repair = repair or encoder.flush()
    assert repair is not None
    return sources, repair


# --- the encoder


@pytest.mark.parametrize(("asked", "used"), [(-1, 2), (1, 2), (2, 2), (16, 16), (17, 16)])
def test_k_is_clamped(asked: int, used: int) -> None:
    assert XorEncoder(asked).k == used


def test_a_repair_is_the_sum_of_payloads_and_lengths() -> None:
    sources, repair = encoded([b"\x01\x02\x03", b"\x10"], 2)
    assert sources == [b"\0\0\x00\x02\x01\x02\x03", b"\0\0\x01\x02\x10"]
    assert repair == b"\0\0\x02\x02" + b"\x11\x02\x03" + b"\x00\x02"


def test_the_bytes_are_the_documented_ones() -> None:
    """The design's example: an empty packet takes part, and the longest is not the last to."""
    sources, repair = encoded([b"\x01\x02\x03", b"hello", b"", b"\xff" * 6])
    assert [body.hex() for body in sources] == [
        "00000004010203",
        "0000010468656c6c6f",
        "00000204",
        "00000304ffffffffffff",
    ]
    assert repair.hex() == "000004049698909390ff0000"


def test_block_ids_wrap() -> None:
    assert XorEncoder(block=0x10005).block == 5
    encoder = XorEncoder(2, block=0xFFFF)
    encoder.protect(b"a")
    _, repair = encoder.protect(b"b")
    assert repair is not None
    assert header.decode(repair) == FecHeader(0xFFFF, 2, 2)
    assert encoder.block == 0


def test_a_flush_names_the_packets_it_covers() -> None:
    encoder = XorEncoder(8)
    assert encoder.flush() is None
    for payload in K4[:3]:
        assert encoder.protect(payload)[1] is None
    repair = encoder.flush()
    assert repair is not None
    assert header.decode(repair) == FecHeader(0, 3, 3)
    assert (encoder.block, encoder.flush()) == (1, None)


# --- recovery


@pytest.mark.parametrize("lost", range(4))
@pytest.mark.parametrize("repair_at", range(4))
def test_any_one_lost_packet_returns_wherever_the_repair_arrives(lost: int, repair_at: int) -> None:
    sources, repair = encoded(K4)
    arriving = [body for index, body in enumerate(sources) if index != lost]
    arriving.insert(repair_at, repair)
    decoder = XorDecoder()
    delivered = [decoder.receive(body) for body in arriving]
    assert delivered[-1][-1] == K4[lost]
    assert sum(map(len, delivered)) == 4
    assert (decoder.recovered, decoder.open_blocks, decoder.failures) == (1, 0, 0)


def test_two_lost_packets_stay_lost_and_are_counted_when_the_window_has_passed() -> None:
    sources, repair = encoded(K4)
    decoder = XorDecoder()
    for body in (sources[0], sources[1], repair):
        decoder.receive(body)
    assert (decoder.open_blocks, decoder.failures, decoder.unrecoverable) == (1, 1, 0)
    decoder.receive(source(WINDOW - 1, 0, 4, b"x"))
    assert decoder.unrecoverable == 0
    decoder.receive(source(WINDOW, 0, 4, b"x"))
    assert (decoder.unrecoverable, decoder.failures, decoder.open_blocks) == (1, 1, 2)


def test_a_late_packet_is_not_delivered_after_its_recovery() -> None:
    sources, repair = encoded(K4)
    decoder = XorDecoder()
    for body in (*sources[:3], repair):
        decoder.receive(body)
    assert decoder.receive(sources[3]) == []
    assert (decoder.duplicates, decoder.recovered) == (1, 1)


def test_copies_are_dropped_in_open_and_closed_blocks() -> None:
    sources, repair = encoded(K4)
    decoder = XorDecoder()
    assert decoder.receive(sources[0]) == [K4[0]]
    assert decoder.receive(sources[0]) == []
    assert decoder.receive(repair) == decoder.receive(repair) == []
    for body in sources[1:]:
        decoder.receive(body)
    for body in (*sources, repair):
        assert decoder.receive(body) == []
    assert decoder.recovered == 1  # the fourth, before it came itself
    assert decoder.duplicates == 3 + 4


def test_equal_payloads_in_different_places_are_different_packets() -> None:
    sources, _ = encoded([b"same"] * 4)
    decoder = XorDecoder()
    assert [decoder.receive(body) for body in sources] == [[b"same"]] * 4


@pytest.mark.parametrize("lost", [None, 0, 1, 2])
def test_a_flushed_block_yields_the_true_packet_and_no_phantom(lost: int | None) -> None:
    sources, repair = encoded(K4[:3], 8)
    decoder = XorDecoder()
    delivered = []
    for index, body in enumerate([*sources, repair]):
        if index != lost:
            delivered += decoder.receive(body)
    assert Counter(delivered) == Counter(K4[:3])
    assert decoder.open_blocks == 0


def test_k_of_1_is_a_copy() -> None:
    first, second = source(7, 0, 1, b"p"), source(7, 1, 1, b"p\x00\x01")
    decoder = XorDecoder()
    assert decoder.receive(second) == [b"p"]
    assert decoder.receive(first) == []
    other = XorDecoder()
    assert other.receive(first) == [b"p"]
    assert other.receive(second) == []


# --- peers that lie, collide or start again


def test_two_packets_under_one_number_are_both_delivered_and_never_mixed() -> None:
    """The original node runs two encoders that number alike."""
    ours, repair = encoded(K4)
    theirs, other_repair = encoded([b"A", b"B", b"C", b"D"])
    decoder = XorDecoder()
    delivered = []
    for body in (ours[0], theirs[0], ours[1], ours[2], repair, theirs[2], theirs[3], other_repair):
        delivered += decoder.receive(body)
    assert delivered == [K4[0], b"A", K4[1], K4[2], b"C", b"D"]
    assert (decoder.recovered, decoder.open_blocks) == (0, 0)
    assert decoder.conflicts == 2


def test_two_different_repair_packets_for_one_block_recover_nothing() -> None:
    sources, repair = encoded(K4)
    _, other = encoded([b"A", b"B", b"C", b"D"])
    decoder = XorDecoder()
    assert decoder.receive(other) == decoder.receive(repair) == []
    assert [decoder.receive(body) for body in sources[1:]] == [[p] for p in K4[1:]]
    assert (decoder.conflicts, decoder.recovered) == (1, 0)


def test_a_packet_of_another_k_is_delivered_and_takes_no_part() -> None:
    sources, repair = encoded(K4[:2], 2)
    decoder = XorDecoder()
    assert decoder.receive(sources[0]) == [K4[0]]
    assert decoder.receive(source(0, 3, 4, b"stray")) == [b"stray"]
    assert decoder.receive(repair) == [K4[1]]

    decoder = XorDecoder()
    assert decoder.receive(sources[0]) == [K4[0]]
    assert decoder.receive(source(0, 1, 4, b"stray")) == [b"stray"]
    assert decoder.receive(repair) == []
    assert decoder.conflicts == 1


def test_a_repair_that_covers_fewer_than_have_come_mixes_nothing() -> None:
    decoder = XorDecoder()
    for index in (0, 2, 3):
        decoder.receive(source(0, index, 4, b"p%d" % index))
    _, repair = encoded([b"p0", b"p1"], 2)
    assert decoder.receive(repair) == []
    assert (decoder.conflicts, decoder.open_blocks) == (1, 0)


def test_strays_in_the_places_of_a_block_mix_nothing() -> None:
    sources, repair = encoded([b"p0", b"p1", b"p2", b"p3"])
    decoder = XorDecoder()
    decoder.receive(sources[0])
    for index in (1, 2):
        assert decoder.receive(source(0, index, 5, b"s%d" % index)) == [b"s%d" % index]
    assert decoder.receive(repair) == []
    assert decoder.recovered == 0


@pytest.mark.parametrize(
    "repair",
    [
        pytest.param(source(0, 2, 2, bytes(3) + b"\0\x08"), id="longer than its symbol"),
        pytest.param(source(0, 2, 2, b"abcd\0\x06"), id="padding is not zero"),
        pytest.param(source(0, 2, 2, bytes(9) + b"\0\x01"), id="symbol longer than the longest"),
        pytest.param(source(0, 2, 2, b"a\0\x05"), id="shorter than a packet it covers"),
    ],
)
def test_a_recovery_that_does_not_add_up_is_never_delivered(repair: bytes) -> None:
    for order in (0, 1):
        decoder = XorDecoder()
        arriving = [source(0, 0, 2, b"wxyz"), repair]
        delivered = [p for body in arriving[:: -1 if order else 1] for p in decoder.receive(body)]
        assert delivered == [b"wxyz"]
        assert (decoder.lies, decoder.failures, decoder.recovered) == (1, 1, 0)


def test_a_packet_from_behind_the_window_is_delivered_and_its_repair_is_not_used() -> None:
    sources, repair = encoded(K4)
    decoder = XorDecoder()
    decoder.receive(source(WINDOW, 0, 4, b"new"))
    assert decoder.receive(sources[0]) == [K4[0]]
    assert decoder.receive(repair) == []
    assert (decoder.stale, decoder.open_blocks) == (2, 1)


@pytest.mark.parametrize("newest", [200, 0x8000, 0xFFFF])
def test_a_peer_that_numbers_afresh_is_protected_again(newest: int) -> None:
    decoder = XorDecoder()
    decoder.receive(source(newest, 0, 4, b"before"))
    encoder = XorEncoder(4)
    sent, delivered = [], []
    for number in range(40):
        payload = b"%d" % number
        field, repair = encoder.protect(payload)
        sent.append(payload)
        if number != 33:
            delivered += decoder.receive(field + payload)
        if repair is not None:
            delivered += decoder.receive(repair)
    assert sorted(delivered) == sorted(sent)
    assert decoder.recovered == 1
    assert decoder.stale <= RESTART


@pytest.mark.parametrize(
    "strays",
    [
        pytest.param(range(1, RESTART), id="a run that is too short"),
        pytest.param([5, 300, 20, 310, 40, 320, 60, 330, 80, 340], id="up and down"),
        pytest.param(range(100, 900, 70), id="in leaps"),
    ],
)
def test_stray_old_packets_do_not_move_the_window(strays: Iterable[int]) -> None:
    decoder = XorDecoder()
    sources, repair = encoded(K4, first_block=1000)
    for turn, body in enumerate(sources[:3]):
        decoder.receive(body)
        for block in strays:
            decoder.receive(source(block + turn * RESTART, 0, 4, b"old"))
    assert decoder.receive(repair) == [K4[3]]


def test_what_is_too_large_to_keep_is_delivered() -> None:
    decoder = XorDecoder()
    large = bytes(60_000)
    assert decoder.receive(source(0, 0, 2, large)) == [large]
    assert decoder.open_blocks == 0
    with pytest.raises(WireError, match="malformed"):
        decoder.receive(source(0, 2, 2, large))


# --- arbitrary bytes, arbitrary networks


@given(st.lists(st.binary(max_size=24), max_size=40))
def test_arbitrary_bytes_raise_only_the_wire_error(bodies: list[bytes]) -> None:
    decoder = XorDecoder()
    for body in bodies:
        delivered = attempt(decoder.receive, body)
        if isinstance(delivered, WireError):
            assert delivered.reason in ("malformed", "fec-index")
        else:
            assert len(delivered) <= 2


bodies_in_few_blocks = st.builds(
    lambda block, index, k, payload: source(block, index, k, payload),
    st.sampled_from((0, 1, 65, 0xFFFF)),
    st.integers(0, 4),
    st.integers(0, 4),
    st.binary(max_size=4),
)


@given(st.lists(bodies_in_few_blocks, max_size=60))
def test_a_hostile_peer_gets_nothing_delayed_and_nothing_but_the_wire_error(
    bodies: list[bytes],
) -> None:
    decoder = XorDecoder()
    seen: set[tuple[bytes, bytes]] = set()
    for body in bodies:
        delivered = attempt(decoder.receive, body)
        if isinstance(delivered, WireError):
            continue
        if body[2] < body[3]:
            packet = (body[:3], body[4:])
            assert delivered[:1] == [body[4:]] or packet in seen or decoder.recovered
            seen.add(packet)
        assert decoder.open_blocks <= WINDOW


@given(
    k=st.integers(2, 16),
    start=st.sampled_from((0, 40, 0xFFF8, 0xFFFF)),
    count=st.integers(1, 150),
    loss=st.sampled_from((0.0, 0.05, 0.3)),
    delay=st.sampled_from((0.0, 6.0, 60.0)),
    flushing=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_delivery_is_a_superset_without_copies_or_inventions(
    k: int,
    start: int,
    count: int,
    loss: float,
    delay: float,
    flushing: bool,
    seed: int,
) -> None:
    """Any loss, reordering within the window, duplication, flushes and the wrap of block ids."""
    rng = random.Random(seed)
    encoder = XorEncoder(k, block=start)
    sent: list[bytes] = []
    network: list[tuple[float, bytes, bytes | None]] = []

    def put(body: bytes, payload: bytes | None) -> None:
        copies = 2 if rng.random() < 0.1 else 1
        network.extend(
            (len(sent) + rng.random() * delay, body, payload)
            for _ in range(copies)
            if rng.random() >= loss
        )

    for number in range(count):
        payload = number.to_bytes(2, "big") + bytes(rng.randrange(20))
        sent.append(payload)
        field, repair = encoder.protect(payload)
        put(field + payload, payload)
        if repair is None and flushing and rng.random() < 0.05:
            repair = encoder.flush()
        if repair is not None:
            put(repair, None)
    network.sort(key=lambda entry: entry[0])

    decoder = XorDecoder()
    delivered: list[bytes] = []
    already: set[bytes] = set()
    for _, body, original in network:
        now = decoder.receive(body)
        if original is not None and original not in already:
            assert now[0] == original  # at once, before anything recovered
        delivered += now
        already.update(now)
    assert len(delivered) == len(already)
    assert already <= set(sent)
    assert already >= {original for _, _, original in network if original is not None}
    assert (decoder.conflicts, decoder.lies, decoder.stale) == (0, 0, 0)


def test_one_loss_per_block_is_always_repaired() -> None:
    rng = random.Random(7)
    encoder, decoder = XorEncoder(4), XorDecoder()
    sent, delivered = [], []
    for block in range(200):
        lost = rng.randrange(5)
        repair = None
        for index in range(4):
            payload = b"%d.%d" % (block, index)
            field, repair = encoder.protect(payload)
            sent.append(payload)
            if index != lost:
                delivered += decoder.receive(field + payload)
        assert repair is not None
        if lost != 4:
            delivered += decoder.receive(repair)
    assert sorted(delivered) == sorted(sent)
    assert decoder.unrecoverable == 0


@pytest.mark.parametrize("lag", [40, 63, 64, 70])
@pytest.mark.parametrize("seed", range(5))
def test_two_encoders_in_one_session_never_make_a_wrong_packet(lag: int, seed: int) -> None:
    """The original's node: one encoder alone for `lag` blocks, then a second one from block 0."""
    rng = random.Random(seed)
    encoders = [XorEncoder(4), XorEncoder(4)]
    decoder, sent, heard = XorDecoder(), set(), []
    sequence = 0
    for number in range(lag * 4 + 2000):
        encoder = encoders[0 if number < lag * 4 else rng.randrange(2)]
        payload = b"%06d" % number + bytes(50)  # equal sizes: nothing gives a mixture away
        sent.add(payload)
        field, repair = encoder.protect(payload)
        for body in (field + payload, repair):
            if body is None:
                continue
            sequence += 1
            if rng.random() >= 0.1:
                heard += decoder.receive(body, sequence & 0xFFFF)
    assert decoder.recovered > 50
    assert set(heard) <= sent
    assert len(set(heard)) == len(heard)
