"""The TLVs of Register, RegisterAck and Disconnect."""

from __future__ import annotations

import ipaddress
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lightspeed_protocol.errors import WireError
from lightspeed_protocol.extensions import (
    AckExtensions,
    Limits,
    Refusal,
    RefusalCode,
    RegisterExtensions,
    decode_ack,
    decode_refusal,
    decode_register,
    encode_ack,
    encode_refusal,
    encode_register,
)

from lightspeed_protocol import tlv
from tests.support.attempts import attempt

TOKEN, SECRET = bytes(range(32)), bytes(range(16))


def numbers(most: int, least: int = 0) -> st.SearchStrategy[tuple[int, ...]]:
    return st.lists(st.integers(0, 255), min_size=least, max_size=most).map(tuple)


def optional(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


def short_text(most_bytes: int) -> st.SearchStrategy[str]:
    return st.text(max_size=most_bytes).filter(lambda text: len(text.encode()) <= most_bytes)


u16, u32 = st.integers(0, 0xFFFF), st.integers(0, 0xFFFFFFFF)
registers = st.builds(
    RegisterExtensions,
    credential=optional(st.binary(min_size=32, max_size=32)),
    versions=numbers(8),
    fec=numbers(8),
    resume=optional(st.binary(min_size=16, max_size=16)),
    client=short_text(32),
    features=numbers(8),
)


@st.composite
def acks(draw: st.DrawFn) -> AckExtensions:
    version = draw(optional(st.sampled_from([8, 2, 1])))
    port, resume_s = draw(optional(u16)), draw(optional(u32))
    return AckExtensions(
        version=version,
        key=draw(st.binary(min_size=16, max_size=16)) if version == 8 else None,
        data_port=port,
        data_host="" if port is None else draw(short_text(255)),
        fec=draw(numbers(8)),
        limits=draw(
            optional(st.builds(Limits, packets_per_s=u32, bytes_per_s=u32, largest_datagram=u16))
        ),
        visible=draw(optional(st.ip_addresses().map(str))),
        capabilities=draw(numbers(16)),
        resume=None if resume_s is None else draw(st.binary(min_size=16, max_size=16)),
        resume_s=resume_s,
        resumed=draw(st.booleans()),
    )


refusals = st.builds(Refusal, code=optional(st.integers(0, 255)), text=short_text(200))


def encode(ext: RegisterExtensions | AckExtensions | Refusal) -> bytes:
    match ext:
        case RegisterExtensions():
            return encode_register(ext)
        case AckExtensions():
            return encode_ack(ext)
        case Refusal():
            return encode_refusal(ext)


@given(registers)
def test_a_register_survives_the_way(ext: RegisterExtensions) -> None:
    assert decode_register(encode_register(ext)) == ext


@given(acks())
def test_an_ack_survives_the_way(ext: AckExtensions) -> None:
    assert decode_ack(encode_ack(ext)) == ext


@given(refusals)
def test_a_refusal_survives_the_way(ext: Refusal) -> None:
    assert decode_refusal(encode_refusal(ext)) == ext


@given(
    st.binary(max_size=80)
    | st.dictionaries(st.integers(0, 10), st.binary(max_size=33), max_size=5).map(tlv.encode)
)
def test_arbitrary_bytes_raise_only_the_wire_error(data: bytes) -> None:
    for decode in (decode_register, decode_ack, decode_refusal):
        found = attempt(decode, data)
        if isinstance(found, WireError):
            assert found.reason in ("short", "tlv", "utf8")


def test_nothing_at_all_means_the_defaults() -> None:
    assert decode_register(b"") == RegisterExtensions()
    assert decode_ack(b"") == AckExtensions()
    assert decode_refusal(b"") == Refusal()
    assert encode_register(RegisterExtensions()) == b""
    assert encode_ack(AckExtensions()) == b""
    assert encode_refusal(Refusal()) == b""


def test_tags_that_nobody_knows_are_skipped() -> None:
    stranger = tlv.encode({0xEE: b"from next year"})
    ext = RegisterExtensions(versions=(8, 2), client="0.2.0")
    assert decode_register(stranger + encode_register(ext)) == ext
    assert decode_ack(stranger) == AckExtensions()
    assert decode_refusal(stranger) == Refusal()


# Per decoder: tag, the sizes that are right. One byte less and one more are not.
SIZES: list[tuple[Any, int, int, int]] = [
    (decode_register, 1, 32, 32),
    (decode_register, 2, 1, 8),
    (decode_register, 3, 0, 8),
    (decode_register, 4, 16, 16),
    (decode_register, 5, 1, 32),
    (decode_register, 6, 0, 8),
    (decode_ack, 1, 1, 1),
    (decode_ack, 2, 16, 16),
    (decode_ack, 3, 2, 257),
    (decode_ack, 4, 0, 8),
    (decode_ack, 5, 10, 10),
    (decode_ack, 6, 4, 4),
    (decode_ack, 6, 16, 16),
    (decode_ack, 7, 0, 16),
    (decode_ack, 8, 20, 20),
    (decode_ack, 9, 1, 1),
    (decode_refusal, 1, 1, 1),
    (decode_refusal, 2, 1, 200),
]


@pytest.mark.parametrize(("decode", "tag", "least", "most"), SIZES)
def test_a_value_has_its_size(decode: Any, tag: int, least: int, most: int) -> None:
    for size in {least, most}:
        decode(tlv.encode({tag: bytes(size)}))
    for size in {least - 1, most + 1} - {-1}:
        with pytest.raises(WireError, match="tlv") as caught:
            decode(tlv.encode({tag: bytes(size)}))
        assert caught.value.got == size


def test_text_is_utf8_or_refused() -> None:
    for decode, fields in (
        (decode_register, {5: b"\xff"}),
        (decode_ack, {3: b"\x11\x52\xc3"}),
        (decode_refusal, {2: b"\xed\xa0\x80"}),
    ):
        with pytest.raises(WireError, match="utf8"):
            decode(tlv.encode(fields))


@pytest.mark.parametrize(
    ("ext", "words"),
    [
        (RegisterExtensions(credential=b"short"), "extension 1 holds 32 bytes, got 5"),
        (RegisterExtensions(versions=tuple(range(9))), "extension 2 holds 1 to 8 bytes, got 9"),
        (RegisterExtensions(fec=(256,)), r"range\(0, 256\)"),
        (RegisterExtensions(resume=bytes(15)), "extension 4 holds 16 bytes, got 15"),
        (RegisterExtensions(client="v" * 33), "extension 5 holds 1 to 32 bytes, got 33"),
        (RegisterExtensions(features=(-1,)), r"range\(0, 256\)"),
        (AckExtensions(version=256), r"range\(0, 256\)"),
        (AckExtensions(version=8, key=bytes(32)), "extension 2 holds 16 bytes, got 32"),
        (AckExtensions(version=2, key=SECRET), "only version 8 has a session key"),
        (AckExtensions(data_host="h"), "data host h needs a data port"),
        (AckExtensions(data_port=65536), "does not fit its fields"),
        (AckExtensions(data_port=1, data_host="h" * 256), "extension 3 holds 2 to 257 bytes"),
        (
            AckExtensions(limits=Limits(packets_per_s=2**32, bytes_per_s=1, largest_datagram=1)),
            "does not fit its fields",
        ),
        (AckExtensions(visible="nowhere"), "'nowhere' does not appear to be an IPv4 or IPv6"),
        (AckExtensions(resume=SECRET), "a resume secret and its seconds go together"),
        (AckExtensions(resume_s=60), "a resume secret and its seconds go together"),
        (AckExtensions(resume=b"x", resume_s=60), "a resume secret is 16 bytes, got 1"),
        (AckExtensions(resume=SECRET, resume_s=-1), "does not fit its fields"),
        (Refusal(code=256), r"range\(0, 256\)"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_before_it_is_sent(
    ext: RegisterExtensions | AckExtensions | Refusal, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        encode(ext)


def test_a_long_refusal_is_cut_at_a_character() -> None:
    found = decode_refusal(encode_refusal(Refusal(text="é" * 150)))
    assert found.text == "é" * 100
    assert decode_refusal(encode_refusal(Refusal(text="a" + "é" * 100))).text == "a" + "é" * 99


def test_refusals_have_names_and_unknown_ones_stay_numbers() -> None:
    known = decode_refusal(b"\x01\x00\x01\x03")
    assert known.code is RefusalCode.REVOKED
    assert decode_refusal(b"\x01\x00\x01\xc8").code == 200


def test_only_one_is_a_resumed_session() -> None:
    assert decode_ack(b"\x09\x00\x01\x01").resumed
    assert not decode_ack(b"\x09\x00\x01\x00").resumed
    assert not decode_ack(b"\x09\x00\x01\x02").resumed


def test_no_log_line_can_show_a_secret() -> None:
    shown = repr(RegisterExtensions(credential=TOKEN, resume=SECRET))
    shown += repr(AckExtensions(version=8, key=SECRET, resume=SECRET, resume_s=1))
    assert "\\x0" not in shown


@given(st.ip_addresses())
def test_the_visible_address_is_of_either_family(address: Any) -> None:
    raw = encode_ack(AckExtensions(visible=str(address)))
    assert tlv.decode(raw)[6] == address.packed
    assert ipaddress.ip_address(str(decode_ack(raw).visible)) == address


def test_every_field_has_a_tag_of_its_own() -> None:
    everything = AckExtensions(
        version=8,
        key=SECRET,
        data_port=4434,
        data_host="node.example.com",
        fec=(1,),
        limits=Limits(packets_per_s=1, bytes_per_s=2, largest_datagram=3),
        visible="192.0.2.1",
        capabilities=(1,),
        resume=SECRET,
        resume_s=60,
        resumed=True,
    )
    assert set(tlv.decode(encode_ack(everything))) == set(range(1, 10))
    for field in attrs.fields(AckExtensions):
        assert getattr(everything, field.name) != field.default
