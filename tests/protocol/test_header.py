"""The tunnel header: bytes, limits and arithmetic."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lightspeed_protocol.errors import WireError
from lightspeed_protocol.header import Header

from lightspeed_protocol import header
from tests.support.attempts import attempt

addresses = st.tuples(st.ip_addresses(v=4).map(str), st.integers(0, 0xFFFF))
headers = st.builds(
    Header,
    version=st.sampled_from((1, 2)),
    flags=st.integers(0, 15),
    token=st.integers(0, 0xFF),
    sequence=st.integers(0, 0xFFFF),
    timestamp_us=st.integers(0, 0xFFFFFFFF),
    source=addresses,
    destination=addresses,
)


@given(headers)
def test_what_was_encoded_is_decoded(one: Header) -> None:
    data = one.encode()
    assert len(data) == header.HEADER_BYTES
    assert header.decode(data + b"payload") == one


@given(st.binary(max_size=64))
def test_arbitrary_bytes_raise_only_the_wire_error(data: bytes) -> None:
    found = attempt(header.decode, data)
    if isinstance(found, WireError):
        assert found.reason == ("short" if len(data) < 20 else "version")
    else:
        assert found.encode() == data[:20]


def test_errors_carry_the_numbers() -> None:
    with pytest.raises(WireError, match="short") as short:
        header.decode(b"\xf0")
    assert (short.value.got, short.value.need) == (1, 20)
    with pytest.raises(WireError, match="version") as version:
        header.decode(b"\xf0" + bytes(19))
    assert version.value.got == 15


@given(headers)
def test_an_answer_goes_back_where_the_request_came_from(one: Header) -> None:
    answer = one.answer(sequence=3, timestamp_us=4)
    assert (answer.version, answer.token, answer.flags) == (one.version, one.token, 0)
    assert (answer.source, answer.destination) == (one.destination, one.source)
    assert (answer.sequence, answer.timestamp_us) == (3, 4)
    key = header.pack_addresses(one.source, one.destination)
    assert answer.encode()[header.ADDRESSES] == header.swap_addresses(key)


@given(addresses, addresses)
def test_addresses_survive_packing(source: tuple[str, int], destination: tuple[str, int]) -> None:
    key = header.pack_addresses(source, destination)
    assert header.unpack_addresses(key) == (source, destination)
    assert header.swap_addresses(header.swap_addresses(key)) == key


def test_an_ipv6_address_does_not_fit() -> None:
    with pytest.raises(OSError, match="illegal"):
        header.pack_addresses(("::1", 1), ("192.0.2.1", 2))


def test_the_clock_wraps_after_71_minutes() -> None:
    assert header.microseconds(1.5) == 1_500_000
    assert header.microseconds(2**32 / 1e6) == 0
    assert header.microseconds(4295.0) == 4_295_000_000 - 2**32


def test_a_control_packet_is_a_bare_header() -> None:
    data = header.control_packet(header.KEEPALIVE, token=42, sequence=60000, timestamp_us=500000)
    assert header.decode(data) == Header(
        flags=header.KEEPALIVE, token=42, sequence=60000, timestamp_us=500000
    )
    assert len(data) == header.HEADER_BYTES
