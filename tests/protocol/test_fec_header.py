"""The 4-byte FEC field."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lightspeed_protocol.errors import WireError
from lightspeed_protocol.fec import header
from lightspeed_protocol.fec.header import FecHeader

from tests.support.attempts import attempt


@given(st.integers(0, 0xFFFF), st.integers(0, 0xFF), st.integers(1, 16))
def test_what_was_encoded_is_decoded(block: int, index: int, k: int) -> None:
    field = FecHeader(block, index, k)
    assert header.decode(field.encode() + b"payload") == field
    assert field.is_repair is (index >= k)


@given(st.binary(max_size=16))
def test_arbitrary_bytes_raise_only_the_wire_error(data: bytes) -> None:
    found = attempt(header.decode, data)
    if isinstance(found, WireError):
        assert found.reason == "malformed"
        assert len(data) < 4 or not 1 <= data[3] <= 16
    else:
        assert found.encode() == data[:4]


@pytest.mark.parametrize("k", [0, 17, 255])
def test_k_out_of_range_is_malformed(k: int) -> None:
    with pytest.raises(WireError, match="malformed"):
        header.decode(bytes((0, 1, 0, k)))
