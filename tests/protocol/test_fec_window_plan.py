"""The plan's limits, and the bytes that a repair says them in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lightspeed_protocol.errors import WireError
from lightspeed_protocol.fec.window_plan import (
    GF256,
    MAX_PAYLOAD,
    MAX_REACH,
    REPAIR_EXTRA_BYTES,
    XOR,
    Plan,
    RepairHead,
    decode_repair,
    source_field,
)

from tests.support.attempts import attempt


def test_the_documented_scheme_is_a_plan() -> None:
    assert Plan.xor(4) == Plan(every=4, window=4, stride=1, field=XOR, delay=0)


@pytest.mark.parametrize(
    ("plan", "reach"),
    [
        (Plan(2, 4), 4),
        (Plan(2, 2, stride=3), 4),
        (Plan(1, 1, delay=3), 4),
        (Plan(1, 8, 16, 1, 15), 128),
    ],
)
def test_the_reach_counts_from_the_oldest_needed_to_the_newest(plan: Plan, reach: int) -> None:
    assert plan.reach == reach


@pytest.mark.parametrize(
    ("every", "window", "stride", "field", "delay"),
    [
        (0, 4, 1, 1, 0),
        (1, 0, 1, 1, 0),
        (1, 65, 1, 1, 0),
        (1, 4, 0, 1, 0),
        (1, 4, 17, 1, 0),
        (1, 4, 1, 2, 0),
        (1, 4, 1, 1, -1),
        (1, 9, 16, 1, 0),
        (1, 1, 1, 1, MAX_REACH),
    ],
)
def test_a_plan_out_of_range_is_refused(
    every: int, window: int, stride: int, field: int, delay: int
) -> None:
    with pytest.raises(ValueError, match=r"must be|more than 128"):
        Plan(every, window, stride, field, delay)


def test_the_bytes() -> None:
    assert source_field(0x1234).hex() == "00001234"
    field, begin = RepairHead(GF256, 4, 3, key=1).encode()
    assert (field.hex(), begin.hex()) == ("50040003", "0100")
    field, begin = RepairHead(XOR, 64, 0xFFFF, key=127, stride=2).encode()
    assert (field.hex(), begin.hex()) == ("4040ffff", "7f01")


@given(
    st.sampled_from((XOR, GF256)),
    st.integers(1, 64),
    st.integers(0, 0xFFFF),
    st.integers(0, 127),
    st.integers(1, 16),
    st.binary(min_size=2, max_size=8),
)
def test_what_is_written_can_be_read_unless_it_reaches_too_far(
    field: int, window: int, newest: int, key: int, stride: int, symbol: bytes
) -> None:
    head = RepairHead(field, window, newest, key, stride)
    begin, body = head.encode()
    read = attempt(decode_repair, begin, body + symbol)
    if (window - 1) * stride + 1 <= MAX_REACH:
        assert read == head
    else:
        assert isinstance(read, WireError)


@pytest.mark.parametrize(
    ("field", "body"),
    [
        pytest.param("000003", "01000000", id="field cut"),
        pytest.param("5004000300", "01000000", id="field too long"),
        pytest.param("00040003", "01000000", id="a source packet's field"),
        pytest.param("80040003", "01000000", id="a report's field"),
        pytest.param("60040003", "01000000", id="a field nobody knows"),
        pytest.param("51040003", "01000000", id="low bits set"),
        pytest.param("50000003", "01000000", id="covers nothing"),
        pytest.param("50410003", "01000000", id="window of 65"),
        pytest.param("50040003", "80000000", id="key of 128"),
        pytest.param("50040003", "01100000", id="stride of 17"),
        pytest.param("50400003", "010f0000", id="window of 64, stride 16"),
        pytest.param("50090003", "010f0000", id="129 packets"),
        pytest.param("50040003", "", id="no body"),
        pytest.param("50040003", "010000", id="no room for a length"),
        pytest.param("50040003", "0100" + "00" * (3 + MAX_PAYLOAD), id="symbol too long"),
    ],
)
def test_a_malformed_repair_is_refused(field: str, body: str) -> None:
    with pytest.raises(WireError, match="fec-field"):
        decode_repair(bytes.fromhex(field), bytes.fromhex(body))


def test_the_longest_and_the_shortest_repair_are_taken() -> None:
    field, begin = RepairHead(GF256, 8, 3, stride=16).encode()
    for size in (2, 2 + MAX_PAYLOAD):
        body = begin + bytes(size)
        assert decode_repair(field, body).stride == 16
        assert len(body) - REPAIR_EXTRA_BYTES in (0, MAX_PAYLOAD)


@given(st.binary(max_size=6), st.binary(max_size=12))
def test_arbitrary_bytes_raise_only_the_wire_error(field: bytes, body: bytes) -> None:
    read = attempt(decode_repair, field, body)
    assert isinstance(read, RepairHead) or read.reason == "fec-field"
