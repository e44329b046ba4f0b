from __future__ import annotations

import random

import pytest
from aioquic._buffer import Buffer
from aioquic.quic.packet import (
    QuicPacketType,
    QuicProtocolVersion,
    encode_quic_version_negotiation,
    get_retry_integrity_tag,
    pull_quic_header,
)
from hypothesis import given
from hypothesis import strategies as st
from lightspeed_protocol.cookie import RetryCookies
from lightspeed_protocol.runtime.quic_door import (
    MOST_HOSTS,
    Admitted,
    Door,
    QuicCounters,
    QuicLimits,
    destination,
    host_of,
    long_header,
)

SOURCE = ("198.51.100.7", 40000)
ODCID, SCID = b"12345678", b"client-1"


def make_door(**limits: float) -> Door:
    rng = random.Random(7)
    chosen = QuicLimits(**limits)  # type: ignore[arg-type]
    return Door(RetryCookies(rng.randbytes), rng.randbytes, chosen, QuicCounters())


def initial(
    to: bytes = ODCID, token: bytes = b"", *, version: int = 1, size: int = 1200, kind: int = 0
) -> bytes:
    """As a client would send it, but that what is inside is no cipher text."""
    head = bytes((0xC0 | kind << 4,)) + version.to_bytes(4, "big")
    head += bytes((len(to),)) + to + bytes((len(SCID),)) + SCID
    if kind == 0:
        head += bytes((len(token),)) + token  # a token here has fewer than 64 bytes
    rest = size - len(head) - 2
    return head + (rest | 0x4000).to_bytes(2, "big") + bytes(rest)


def retry_of(door: Door, source: tuple[str, int] = SOURCE, now: float = 0.0) -> bytes:
    answer = door.knock(initial(), source, now)
    assert isinstance(answer, bytes)
    return answer


def second_initial(door: Door, source: tuple[str, int] = SOURCE, now: float = 0.0) -> bytes:
    header = pull_quic_header(Buffer(data=retry_of(door, source, now)))
    return initial(header.source_cid, header.token)


def admit(door: Door, source: tuple[str, int] = SOURCE, now: float = 0.0) -> Admitted | None:
    verdict = door.knock(second_initial(door, source, now), source, now)
    assert not isinstance(verdict, bytes)
    return verdict


def test_who_has_shown_nothing_gets_a_retry_and_is_forgotten() -> None:
    door = make_door()

    answer = retry_of(door)

    header = pull_quic_header(Buffer(data=answer))
    assert header.packet_type is QuicPacketType.RETRY
    assert header.destination_cid == SCID
    assert header.source_cid != ODCID
    assert header.integrity_tag == get_retry_integrity_tag(answer[:-16], ODCID, version=1)
    assert len(answer) < 120
    assert door.connections == 0
    assert door.counters.unproven_bytes_in == 1200
    assert door.counters.unproven_bytes_out == len(answer)


def test_who_shows_the_cookie_is_let_in_with_what_it_was_made_of() -> None:
    door = make_door()
    packet = second_initial(door)

    guest = door.knock(packet, SOURCE, 0.0)

    assert guest == Admitted(ODCID, destination(packet), "198.51.100.7")
    assert (door.connections, door.half_open) == (1, 1)


@pytest.mark.parametrize(
    ("source", "later", "foreign_id"),
    [(("198.51.100.8", 40000), 0, False), (SOURCE, 11, False), (SOURCE, 0, True)],
    ids=["elsewhere", "too-late", "another-connection"],
)
def test_a_cookie_out_of_place_gets_another_retry(
    source: tuple[str, int], later: float, foreign_id: bool
) -> None:
    door = make_door()
    packet = second_initial(door)
    if foreign_id:
        packet = packet.replace(destination(packet), b"anything", 1)

    answer = door.knock(packet, source, later)

    assert isinstance(answer, bytes)
    assert door.counters.cookies_refused == 1
    assert door.connections == 0


def test_handshakes_are_paced_and_a_second_of_them_may_come_at_once() -> None:
    door = make_door(handshakes_per_s=10, half_open=1000, half_open_per_host=1000)

    at_once = sum(admit(door) is not None for _ in range(30))
    assert at_once == 10
    assert door.counters.dropped["paced"] == 20
    later = sum(admit(door, now=0.5) is not None for _ in range(30))
    assert later == 5


def test_a_cookie_opens_one_connection() -> None:
    door = make_door()
    packet = second_initial(door)
    guest = door.knock(packet, SOURCE, 0.0)
    assert isinstance(guest, Admitted)
    door.established(guest)
    door.left(guest, half_open=False)
    for now in range(10):
        assert door.knock(packet, SOURCE, float(now)) is None
    assert door.counters.dropped["spent"] == 10
    assert door.counters.admitted == 1


def test_who_found_no_room_may_show_the_same_cookie_again() -> None:
    door = make_door(half_open=1)
    one = admit(door, ("198.51.100.1", 1))
    assert one is not None
    packet = second_initial(door)
    assert door.knock(packet, SOURCE, 0.0) is None
    assert door.counters.dropped["half-open"] == 1
    door.established(one)
    assert isinstance(door.knock(packet, SOURCE, 1.0), Admitted)


@pytest.mark.parametrize("host", ["198.51.100.7", "2001:db8:1:2::{}"])
def test_one_host_does_not_use_up_the_nodes_pace(host: str) -> None:
    door = make_door()

    def come(number: int, now: float) -> bool:
        guest = admit(door, (host.format(number), 1 + number), now)
        if guest is not None:
            door.established(guest)
        return guest is not None

    at_once = sum(come(number, 0.0) for number in range(90))
    assert at_once == QuicLimits().handshakes_burst_per_host
    assert door.counters.dropped["paced"] == 90 - at_once
    neighbours = [admit(door, (f"203.0.113.{n}", 1)) for n in range(1, 30)]
    assert all(neighbour is not None for neighbour in neighbours)
    assert sum(come(number, 1.0) for number in range(90)) == 50


def test_paces_are_forgotten_when_they_are_over_and_never_too_many() -> None:
    door = make_door(handshakes_per_s=1e9, handshakes_per_s_per_host=1.0)
    for number in range(MOST_HOSTS + 5):
        assert door._pace(str(number), 0.0)
    assert len(door._rested_at) == MOST_HOSTS
    assert door._pace("anybody", 100.0)
    assert len(door._rested_at) == 1


def test_one_host_cannot_take_all_the_half_open_places() -> None:
    door = make_door(half_open=8, half_open_per_host=3)

    taken = [admit(door, ("198.51.100.7", port)) for port in range(1, 9)]
    assert sum(guest is not None for guest in taken) == 3
    assert door.counters.dropped["half-open"] == 5
    assert admit(door, ("198.51.100.8", 1)) is not None


def test_half_open_places_come_back_with_the_end_of_a_handshake() -> None:
    door = make_door(half_open=2)
    one, two = admit(door, ("198.51.100.1", 1)), admit(door, ("198.51.100.2", 1))
    assert one is not None
    assert two is not None
    assert admit(door, ("198.51.100.3", 1)) is None

    door.established(one)
    door.left(two, half_open=True)

    assert door.half_open == 0
    assert door.connections == 1
    assert admit(door, ("198.51.100.3", 1)) is not None


def test_connections_are_bounded_for_the_node_and_for_each_host() -> None:
    door = make_door(connections=3, connections_per_host=2)
    for port in range(3):
        guest = admit(door, ("198.51.100.1", port + 1))
        if guest is not None:
            door.established(guest)
    assert door.counters.dropped["full"] == 1

    assert admit(door, ("198.51.100.2", 1)) is not None
    assert admit(door, ("198.51.100.3", 1)) is None
    assert door.counters.dropped["full"] == 2


def test_nothing_is_kept_of_hosts_that_have_left() -> None:
    door = make_door()
    guests = [admit(door, (f"198.51.100.{n}", 1)) for n in range(1, 30)]
    for guest in guests:
        assert guest is not None
        door.left(guest, half_open=True)

    assert (door.connections, door.half_open, door._hosts) == (0, 0, {})


def test_a_version_we_do_not_speak_is_told_which_we_do() -> None:
    door = make_door()

    answer = door.knock(initial(version=0x1A2A3A4A), SOURCE, 0.0)

    assert isinstance(answer, bytes)
    header = pull_quic_header(Buffer(data=answer))
    assert header.packet_type is QuicPacketType.VERSION_NEGOTIATION
    assert header.supported_versions == [QuicProtocolVersion.VERSION_1]
    assert (header.destination_cid, header.source_cid) == (SCID, ODCID)


def test_the_longest_ids_make_no_answer_longer_than_the_question() -> None:
    door = make_door()
    question = b"\xc0\x0a\x0a\x0a\x0a\xff" + bytes(255) + b"\xff" + bytes(255)
    question += bytes(1200 - len(question))

    answer = door.knock(question, SOURCE, 0.0)

    assert isinstance(answer, bytes)
    assert len(answer) == 521


@pytest.mark.parametrize(
    ("packet", "reason"),
    [
        (b"", "malformed"),
        (b"\x00" * 100, "malformed"),
        (b"\xff" * 100, "malformed"),
        (initial(size=1199), "short"),
        (initial(size=1199, version=0x0A0A0A0A), "version"),
        (initial(b"1234567"), "malformed"),
        (initial(b"x" * 21), "malformed"),
        (initial(kind=1), "unknown"),
        (initial(kind=2), "unknown"),
        (b"\x40" + bytes(30), "unknown"),
        (encode_quic_version_negotiation(SCID, ODCID, [1] * 400), "malformed"),
    ],
    ids=[
        "nothing",
        "zeros",
        "ones",
        "short-initial",
        "short-version",
        "short-id",
        "long-id",
        "0-rtt",
        "handshake",
        "short-header",
        "version-negotiation",
    ],
)
def test_what_is_not_answered_is_counted_by_reason(packet: bytes, reason: str) -> None:
    door = make_door()

    assert door.knock(packet, SOURCE, 0.0) is None
    assert {name for name, count in door.counters.dropped.items() if count} == {reason}
    assert door.counters.unproven_bytes_out == 0


heads = st.one_of(
    st.binary(max_size=60),
    st.builds(lambda rest: b"\xc0\x00\x00\x00\x01" + rest, st.binary(max_size=60)),
    st.builds(lambda rest: b"\xc0\x00\x00\x00\x01\x08" + ODCID + rest, st.binary(max_size=60)),
)


@given(st.lists(st.tuples(heads, st.booleans()), max_size=20))
def test_any_bytes_raise_nothing_and_get_no_more_than_came(
    script: list[tuple[bytes, bool]],
) -> None:
    door = make_door()
    for head, padded in script:
        packet = head + bytes(max(0, 1200 - len(head))) if padded else head
        answer = door.knock(packet, SOURCE, 0.0)
        assert not isinstance(answer, Admitted)
        assert answer is None or len(answer) < len(packet) / 2
    counters = door.counters
    answered = counters.retries_sent + counters.version_negotiations
    assert sum(counters.dropped.values()) + answered == len(script)
    assert counters.unproven_bytes_out <= counters.unproven_bytes_in


@given(st.binary(max_size=600))
def test_ids_are_read_as_aioquic_reads_them(data: bytes) -> None:
    try:
        header = pull_quic_header(Buffer(data=data), host_cid_length=8)
    except ValueError:
        return
    assert destination(data) == header.destination_cid
    parsed = long_header(data)
    if header.version is None:
        assert parsed is None
    else:
        assert parsed == (header.version, header.destination_cid, header.source_cid)


def test_a_host_is_an_ipv4_address_or_what_an_ipv6_subscriber_has() -> None:
    assert host_of(("192.0.2.1", 5)) == host_of(("::ffff:192.0.2.1", 6)) == "192.0.2.1"
    assert host_of(("2001:db8:1:2:3::4", 5)) == host_of(("2001:db8:1:2:ffff::", 5))
    assert host_of(("2001:db8:1:2::1", 5)) != host_of(("2001:db8:1:3::1", 5))
    assert host_of(("fe80::1%lo", 5)) == "fe80::"
