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
    Peer,
    Peers,
    PeersRequest,
    Ping,
    Pong,
    Probe,
    ProbeMethod,
    ProbeResult,
    Register,
    RegisterAck,
    Rekey,
    ServerInfo,
)
from lightspeed_protocol.errors import WireError

from lightspeed_protocol import control
from tests.support.attempts import attempt

u8, u16, u32, u64 = (st.integers(0, 2**bits - 1) for bits in (8, 16, 32, 64))
short_text = st.text(max_size=60)
tail = st.binary(max_size=12)
pin = st.binary(min_size=32, max_size=32)
peers = st.lists(st.builds(Peer, short_text, short_text, short_text, u16, pin), max_size=3)
messages: st.SearchStrategy[ControlMessage] = st.one_of(
    st.builds(Ping, u64),
    st.builds(Pong, u64, u64),
    st.builds(Register, u8, u8, tail),
    st.builds(RegisterAck, u32, u8, short_text, short_text, tail),
    st.builds(Disconnect, u8, tail),
    st.builds(ServerInfo, u8, u32, u32),
    st.builds(Probe, u8, st.integers(1, 10), st.ip_addresses().map(str), u16),
    st.builds(ProbeResult, u8, u8, u8, u32, u32),
    st.just(PeersRequest()),
    st.builds(Peers, peers.map(tuple)),
    st.builds(Rekey, u8, st.binary(min_size=16, max_size=16)),
)


@given(messages)
def test_what_was_encoded_is_decoded(message: ControlMessage) -> None:
    assert control.decode(control.encode(message)) == message


@given(
    st.binary(max_size=64)
    | st.tuples(st.sampled_from(control.Kind), st.binary(max_size=64)).map(
        lambda parts: bytes(parts[:1]) + parts[1]
    )
)
def test_arbitrary_bytes_raise_only_the_wire_error(body: bytes) -> None:
    message = attempt(control.decode, body)
    if isinstance(message, WireError):
        assert message.reason in ("short", "unknown", "utf8", "value")
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
    assert control.decode(b"\x05\x04tlv") == Disconnect(4, b"tlv")


def test_reasons_have_names_and_unknown_ones_stay_numbers() -> None:
    known, unknown = control.decode(b"\x05\x02"), control.decode(b"\x05\xc8")
    assert isinstance(known, Disconnect)
    assert known.reason is DisconnectReason.SERVER_SHUTDOWN
    assert unknown == Disconnect(200)
    icmp = control.decode(bytes((0x11, 2)) + bytes(10))
    assert isinstance(icmp, ProbeResult)
    assert icmp.method is ProbeMethod.ICMP
    assert control.decode(bytes((0x11, 9)) + bytes(10)) == ProbeResult(9, 0, 0, 0, 0)


def test_bytes_behind_the_known_fields_are_ignored() -> None:
    for message in (Probe(1, 10, "2001:db8::1", 7777), Peers(), PeersRequest(), Rekey()):
        assert control.decode(control.encode(message) + b"later") == message


@pytest.mark.parametrize(
    ("body", "got"),
    [
        (b"\x10\x01\x00\x1e\x61\x04\xc0\x00\x02\x01", 0),
        (b"\x10\x01\x0b\x1e\x61\x04\xc0\x00\x02\x01", 11),
        (b"\x10\x01\x01\x1e\x61\x05\xc0\x00\x02\x01\x01", 5),
        (b"\x10\x01\x01\x1e\x61\x00", 0),
    ],
)
def test_a_probe_of_no_address_or_no_count_is_refused(body: bytes, got: int) -> None:
    with pytest.raises(WireError, match="value") as caught:
        control.decode(body)
    assert caught.value.got == got


def test_255_peers_travel_in_one_message_but_must_fit_the_frame() -> None:
    short = Peers(tuple(Peer("n", "r", "192.0.2.1", 4433, bytes(32)) for _ in range(255)))
    assert control.decode(control.encode(short)) == short
    assert len(control.frame(control.encode(short))) == 2 + 2 + 255 * 48
    many = Peers(tuple(Peer("n" * 255, "r", "h", 1, bytes(32)) for _ in range(255)))
    with pytest.raises(ValueError, match="a frame holds"):
        control.frame(control.encode(many))


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (RegisterAck(1, 2, "n" * 256, "r"), "node_id holds at most 255 UTF-8 bytes, got 256"),
        (RegisterAck(1, 2, "n", "é" * 128), "region holds at most 255 UTF-8 bytes, got 256"),
        (Ping(2**64), "Ping.* does not fit"),
        (Pong(-1, 0), "Pong.* does not fit"),
        (Register(256), "Register.* does not fit"),
        (ServerInfo(0, 0, 2**32), "ServerInfo.* does not fit"),
        (Disconnect(256), "Disconnect.* does not fit"),
        (Probe(0, 0, "192.0.2.1", 1), "asks 1 to 10 times, got 0"),
        (Probe(0, 11, "192.0.2.1", 1), "asks 1 to 10 times, got 11"),
        (Probe(0, 1, "node.example.com", 1), "does not appear to be an IPv4 or IPv6 address"),
        (Probe(0, 1, "192.0.2.1", 65536), "Probe.* does not fit"),
        (ProbeResult(0, 1, 0, 0, -1), "ProbeResult.* does not fit"),
        (Peers((Peer("n", "r", "h", 1, b"pin"),)), "pin holds 32 bytes, got 3"),
        (Peers((Peer("n", "r", "h" * 256, 1, bytes(32)),)), "host holds at most 255"),
        (Peers((Peer("n", "r", "h", 65536, bytes(32)),)), "does not fit its fields"),
        (Peers((Peer("", "", "", 0, bytes(32)),) * 256), "does not fit its fields"),
        (Rekey(256), "Rekey.* does not fit"),
        (Rekey(1, b"key"), "key holds 16 bytes, got 3"),
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


@given(st.lists(messages, min_size=1, max_size=3))
def test_a_stream_cut_at_any_byte_gives_what_was_whole_and_no_more(
    sent: list[ControlMessage],
) -> None:
    frames = [control.frame(control.encode(message)) for message in sent]
    stream = b"".join(frames)
    ends = [sum(map(len, frames[: n + 1])) for n in range(len(frames))]
    for at in range(len(stream) + 1):
        reader = FrameReader()
        whole = sum(end <= at for end in ends)
        assert reader.feed(stream[:at]) == sent[:whole]
        left = at - ([0, *ends][whole])
        assert (attempt(reader.finish) is None) == (left < 2)
        assert reader.feed(stream[at:]) == sent[whole:]


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
