"""Control messages, and the frames they travel in."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lightspeed_protocol.control import (
    ControlMessage,
    Disconnect,
    DisconnectReason,
    FrameReader,
    Ping,
    Pong,
    Register,
    RegisterAck,
    ServerInfo,
)
from lightspeed_protocol.errors import WireError

from lightspeed_protocol import control
from tests.support.attempts import attempt

u8, u32, u64 = (st.integers(0, 2**bits - 1) for bits in (8, 32, 64))
short_text = st.text(max_size=60)
tail = st.binary(max_size=12)
messages: st.SearchStrategy[ControlMessage] = st.one_of(
    st.builds(Ping, u64),
    st.builds(Pong, u64, u64),
    st.builds(Register, u8, u8, tail),
    st.builds(RegisterAck, u32, u8, short_text, short_text, tail),
    st.builds(Disconnect, u8),
    st.builds(ServerInfo, u8, u32, u32),
)


@given(messages)
def test_what_was_encoded_is_decoded(message: ControlMessage) -> None:
    assert control.decode(control.encode(message)) == message


@given(st.binary(max_size=64))
def test_arbitrary_bytes_raise_only_the_wire_error(body: bytes) -> None:
    message = attempt(control.decode, body)
    if isinstance(message, WireError):
        assert message.reason in ("short", "unknown", "utf8")
    else:
        assert body.startswith(control.encode(message))


@given(messages, st.integers(0, 40))
def test_a_message_cut_anywhere_is_short_or_still_whole(message: ControlMessage, keep: int) -> None:
    body = control.encode(message)[:keep]
    found = attempt(control.decode, body)
    if isinstance(found, WireError):
        assert found.reason in ("short", "utf8")
        assert found.reason == "utf8" or (found.got or 0) < (found.need or 0)


def test_nothing_at_all_is_short() -> None:
    with pytest.raises(WireError, match="short") as caught:
        control.decode(b"")
    assert (caught.value.got, caught.value.need) == (0, 1)


def test_extensions_travel_behind_the_known_fields() -> None:
    ack = RegisterAck(1, 2, "node", "region", b"\x01\x00\x01x")
    assert control.encode(ack).endswith(b"\x06region\x01\x00\x01x")
    assert control.decode(b"\x03\x02\x09tlv") == Register(2, 9, b"tlv")


def test_reasons_have_names_and_unknown_ones_stay_numbers() -> None:
    known, unknown = control.decode(b"\x05\x02"), control.decode(b"\x05\xc8")
    assert isinstance(known, Disconnect)
    assert known.reason is DisconnectReason.SERVER_SHUTDOWN
    assert unknown == Disconnect(200)


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (RegisterAck(1, 2, "n" * 256, "r"), "node_id holds at most 255 UTF-8 bytes, got 256"),
        (RegisterAck(1, 2, "n", "é" * 128), "region holds at most 255 UTF-8 bytes, got 256"),
        (Ping(2**64), "Ping.* does not fit"),
        (Pong(-1, 0), "Pong.* does not fit"),
        (Register(256), "Register.* does not fit"),
        (ServerInfo(0, 0, 2**32), "ServerInfo.* does not fit"),
    ],
)
def test_what_does_not_fit_is_refused_not_cut(message: ControlMessage, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        control.encode(message)


def test_the_longest_string_fits() -> None:
    ack = RegisterAck(1, 2, "n" * 255, "")
    assert control.decode(control.encode(ack)) == ack


@pytest.mark.parametrize("size", [0, 0x10000])
def test_a_frame_has_a_size(size: int) -> None:
    with pytest.raises(ValueError, match=f"got {size}"):
        control.frame(bytes(size))


@given(st.lists(messages, max_size=8), st.integers(0, 2**32))
def test_messages_come_out_whole_however_the_stream_was_cut(
    sent: list[ControlMessage], seed: int
) -> None:
    stream = b"".join(control.frame(control.encode(message)) for message in sent)
    reader, received, rng = FrameReader(), [], random.Random(seed)
    while stream:
        size = rng.randint(1, 30)
        received += reader.feed(stream[:size])
        stream = stream[size:]
    assert received == sent
    reader.finish()


@given(st.lists(st.binary(max_size=40), max_size=20))
def test_arbitrary_streams_give_at_most_one_error_and_it_is_last(chunks: list[bytes]) -> None:
    reader = FrameReader(largest=64)
    results = [result for chunk in chunks for result in reader.feed(chunk)]
    errors = [result for result in results if isinstance(result, WireError)]
    assert len(errors) == reader.broken
    assert errors == results[len(results) - len(errors) :]
    end = attempt(reader.finish)
    if isinstance(end, WireError):
        assert end.reason == "cut"
        assert not errors


def test_a_frame_over_the_limit_is_refused_before_it_is_held() -> None:
    reader = FrameReader(largest=10)
    (error,) = reader.feed(b"\x00\x0b")
    assert isinstance(error, WireError)
    assert (error.reason, error.got, error.need) == ("long", 11, 10)
    assert reader.feed(control.frame(control.encode(Ping(1)))) == []
    assert FrameReader(largest=10).feed(control.frame(control.encode(Ping(1)))) == [Ping(1)]


def test_a_stream_that_ends_inside_a_message_says_so() -> None:
    reader = FrameReader()
    assert reader.feed(control.frame(control.encode(Ping(1)))[:-1]) == []
    with pytest.raises(WireError, match="cut") as caught:
        reader.finish()
    assert (caught.value.got, caught.value.need) == (8, 9)
    lone = FrameReader()
    assert lone.feed(b"\x00") == []
    lone.finish()
