"""Lists of tagged values."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lightspeed_protocol.errors import WireError

from lightspeed_protocol import tlv
from tests.support.attempts import attempt

lists = st.dictionaries(st.integers(0, 255), st.binary(max_size=40), max_size=6)


def test_a_tag_a_length_and_a_value() -> None:
    assert tlv.encode({1: b"xy", 255: b""}) == b"\x01\x00\x02xy\xff\x00\x00"
    assert tlv.decode(b"\x01\x00\x02xy\xff\x00\x00") == {1: b"xy", 255: b""}
    assert tlv.decode(b"") == {}


@given(lists)
def test_what_was_encoded_is_decoded(fields: dict[int, bytes]) -> None:
    assert tlv.decode(tlv.encode(fields)) == fields


@given(st.binary(max_size=64))
def test_arbitrary_bytes_raise_only_the_wire_error(data: bytes) -> None:
    found = attempt(tlv.decode, data)
    if isinstance(found, WireError):
        assert found.reason in ("short", "tlv")
    else:
        assert tlv.encode(found) == data


@given(lists, st.data())
def test_a_list_cut_inside_a_value_or_a_head_is_short(
    fields: dict[int, bytes], data: st.DataObject
) -> None:
    whole = tlv.encode(fields)
    edges = {len(tlv.encode(dict(list(fields.items())[:n]))) for n in range(len(fields) + 1)}
    at = data.draw(st.integers(0, len(whole)))
    found = attempt(tlv.decode, whole[:at])
    if at in edges:
        assert not isinstance(found, WireError)
    else:
        assert isinstance(found, WireError)
        assert found.reason == "short"
        assert (found.got or 0) < (found.need or 0)


def test_a_tag_that_comes_twice_is_refused_and_named() -> None:
    with pytest.raises(WireError, match="tlv") as caught:
        tlv.decode(b"\x07\x00\x00\x07\x00\x01x")
    assert caught.value.got == 7


@pytest.mark.parametrize("fields", [{256: b""}, {-1: b""}, {1: bytes(0x10000)}])
def test_what_does_not_fit_is_refused(fields: dict[int, bytes]) -> None:
    with pytest.raises(ValueError, match=r"want a tag in 0\.\.255 and up to 65535 bytes"):
        tlv.encode(fields)
