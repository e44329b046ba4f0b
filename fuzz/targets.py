"""What is fuzzed: each takes any bytes and raises only when our code has broken a promise.

A target lets through what its decoder may raise (`WireError`, a pasted line's `ValueError`) and
nothing else, and checks what must hold of what came out. `SEEDS` are inputs to begin with, most of
them out of the wire vectors. Needs no fuzzing engine: `__main__` and the tests bring their own
bytes. `quic` is apart, in `quic_target`, because it runs inside trio.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from lightspeed_protocol.control import FrameReader, decode, encode
from lightspeed_protocol.cookie import RetryCookies
from lightspeed_protocol.endpoint import Endpoint
from lightspeed_protocol.errors import WireError
from lightspeed_protocol.extensions import (
    decode_ack,
    decode_refusal,
    decode_register,
    encode_refusal,
    encode_register,
)
from lightspeed_protocol.fec.asking import Ask
from lightspeed_protocol.fec.protection import Protection
from lightspeed_protocol.fec.report import ReceptionLog, Report
from lightspeed_protocol.fec.window import Plan, WindowDecoder, WindowEncoder
from lightspeed_protocol.fec.xor import XorDecoder
from lightspeed_protocol.header import HEADER_BYTES
from lightspeed_protocol.invite import Invite
from lightspeed_protocol.keepalive import PROBE_BYTES, decode_probe, encode_probe
from lightspeed_protocol.seal import REPAIR, SealedEnd
from lightspeed_protocol.sealed_flow import SealedFlow

from lightspeed_protocol import header, telemetry, tlv

from .words import Words

Target = Callable[[bytes], object]

WIRE: Final = Path(__file__).parents[1] / "tests" / "wire"
KEY: Final = bytes(range(16))
SESSION: Final = 0x01020304
NEAR: Final = bytes((192, 0, 2, 10, 203, 0, 113, 7, 0xC3, 0x50, 0x69, 0x87))


def control(data: bytes) -> None:
    """A control stream, in chunks whose size the first byte says."""
    words = Words(data)
    step = words.number() + 1
    reader = FrameReader(1024)
    found = []
    while words:
        found += reader.feed(words.take(step))
    for item in found[:-1]:
        assert not isinstance(item, WireError), "more after an error"
    for item in found:
        if not isinstance(item, WireError):
            assert decode(encode(item)) == item
    try:
        reader.finish()
    except WireError as error:
        if error.reason != "cut":
            raise


def extensions(data: bytes) -> None:
    """The TLVs of each message that has some."""
    for read in (tlv.decode, decode_register, decode_ack, decode_refusal):
        try:
            found: Any = read(data)
        except WireError:
            continue
        again: Any = None
        if read is tlv.decode:
            assert tlv.encode(found) == data
        elif read is decode_register:
            again = decode_register(encode_register(found))
        elif read is decode_refusal:
            again = decode_refusal(encode_refusal(found))
        assert again is None or again == found


def repair_words(data: bytes) -> None:
    """What is said of repair: reports, asks, probes, tag 7; each is written as it was read."""
    field, body = data[:4], data[4:]
    for read in (Report.decode, Ask.decode):
        with suppress(WireError):
            found = read(field, body)
            assert b"".join(found.encode()) == data
            assert not isinstance(found, Ask) or 1 <= len(found.ssns) <= 64
    if len(data) >= PROBE_BYTES:
        number, round_trip_s = decode_probe(data[:PROBE_BYTES])
        assert encode_probe(number, round_trip_s) == data[:PROBE_BYTES]
    with suppress(WireError):
        wish = Protection.decode(data)
        assert Protection.decode(wish.encode()) == wish
        flow = SealedFlow.open(SealedEnd.node(SESSION, KEY), NEAR, wish, asking=True)
        for number in range(300):
            flow.wrap(bytes(number), 0, number / 64)
            flow.poll(number / 64)


def invite(data: bytes) -> None:
    """What somebody pastes."""
    try:
        found = Invite.parse(data.decode(errors="replace"))
    except ValueError as error:
        if "copy the whole line again" not in str(error):
            raise
        return
    assert Invite.parse(str(found)) == found


def sealed(data: bytes) -> None:
    """A client's packets, some kept back, changed, sent twice, under changing keys."""
    client, node = SealedEnd.client(SESSION, KEY), SealedEnd.node(SESSION, KEY)
    words, now, kept, opened, keys = Words(data), 0.0, list[bytes](), set[int](), 0
    while words:
        action, amount = words.number(), words.number()
        datagram = b""
        match action & 7:
            case 0 | 1:
                payload = words.take(amount & 15)
                kept.append(client.sealer.seal(0x80, 0, NEAR, bytes(4), payload))
                if action & 1:
                    datagram = kept[-1]
            case 2 if kept:
                datagram = kept[amount % len(kept)]
            case 3 if kept:
                good = kept[amount % len(kept)]
                at = words.number() % len(good)
                bad = good[:at] + bytes((good[at] ^ (1 << (action >> 5)),)) + good[at + 1 :]
                assert refused(node, bad, now), "a changed packet was taken"
            case 4:
                raw = words.take(amount)
                assert refused(node, raw, now), "a packet that nobody sealed was taken"
            case 5:
                client.sealer.number += amount << (action >> 4)
            case 6:
                keys += 1
                key = keys.to_bytes(16, "big")
                if node.rekey(key, now):
                    client.rekey(key, now)
            case 7:
                now += amount
            case _:
                pass  # nothing is kept yet
        if datagram:
            try:
                number = node.open(datagram, now).number
            except WireError:
                continue
            assert number not in opened, "a packet was taken twice"
            opened.add(number)


def refused(end: SealedEnd, datagram: bytes, now: float) -> bool:
    before = end.opener.highest, end.opener.received
    try:
        end.open(datagram, now)
    except WireError:
        return (end.opener.highest, end.opener.received) == before
    return False


def all_due(flow: SealedFlow, now: float) -> list[bytes]:
    """What is due now: it comes to an end, or a task would turn for ever."""
    sent: list[bytes] = []
    for _ in range(8):
        if flow.next_deadline() > now:
            return sent
        sent += flow.poll(now)
    raise AssertionError("more and more is due")


def window(data: bytes) -> None:
    """A registered client may write any repair, report and ask: it can only hurt itself.

    The first byte says how it is protected, and how long a round trip is said to be.
    """
    words, now = Words(data), 0.0
    end, how = SealedEnd.node(SESSION, KEY), words.number()
    end.round_trip_s = (how >> 2) / 1000
    protection = (
        Protection(adaptive=True),
        Protection(plan=Plan(1, 1)),
        Protection(),
        Protection(adaptive=True, cap=1.0, cap_kbps=64),
    )[how & 3]
    flow = SealedFlow.open(end, NEAR, protection, log=ReceptionLog(), asking=True)
    while words:
        flags = words.number() & REPAIR
        field, body = words.take(4).ljust(4, b"\x00"), words.take(words.number())
        try:
            delivered = flow.take(flags, field, body, now)
        except WireError:
            continue
        finally:
            now += words.number() / 1000
        assert flags or field[0] < 0x80 or not delivered, "feedback was handed on"
        assert flags or field[0] >> 6 or delivered[0] == body, "a source packet was held back"
        for datagram in (*flow.wrap(b"answer", 0, now), *all_due(flow, now)):
            assert len(datagram) < 2048
        assert flow.outcome().delayed == 0


def honest_window(data: bytes) -> None:
    """Honest packets that are lost, doubled and late: nothing comes that was not sent, or twice."""
    words = Words(data)
    every, width = words.number() % 4 + 1, words.number() % 8 + 1
    plan = Plan(every, width, stride=words.number() % 3 + 1, field=words.number() & 1)
    encoder, decoder = WindowEncoder(plan), WindowDecoder(from_start=True)
    sent, come, late = set[bytes](), list[bytes](), list[tuple[int, bytes, bytes]]()

    def hear(flags: int, field: bytes, body: bytes) -> None:
        if flags:
            come.extend(decoder.repair(field, body))
        else:
            come.extend(decoder.source(field[2] << 8 | field[3], body))

    for count in range(min(len(data), 120)):
        fate = words.number()
        payload = count.to_bytes(2, "big") + bytes((fate,)) * (fate % 7)
        sent.add(payload)
        field, repairs = encoder.protect(payload)
        packets = [(0, field, payload), *((1, *repair) for repair in repairs)]
        for packet in packets:
            if fate & 3 != 1:
                hear(*packet)
            if fate & 3 == 2:
                hear(*packet)
            if fate & 3 == 1 and fate & 4:
                late.append(packet)
        if fate & 8 and late:
            hear(*late.pop(fate % len(late)))
    assert len(come) == len(set(come)), "delivered twice"
    assert set(come) <= sent, "delivered what was not sent"


def unwrap(data: bytes) -> None:
    """Packets of versions 1 and 2, as the tunnel port hands them to a flow."""
    flow = Endpoint.open(NEAR, fec_k=4)
    for packet in Words(data).pieces():
        try:
            found = header.decode(packet)
            if found.flags == 0:
                delivered = flow.unwrap(packet)
                assert all(delivered), "an empty payload was handed on"
        except WireError:
            continue
        assert header.decode(found.encode()) == found
        assert len(packet) >= HEADER_BYTES


def xor(data: bytes) -> None:
    """FEC fields and payloads, each behind its sequence number."""
    decoder, words = XorDecoder(), Words(data)
    while words:
        sequence = words.number(2)
        body = words.take(words.number())
        try:
            decoder.receive(body, sequence)
        except WireError as error:
            if error.reason not in ("malformed", "fec-index"):
                raise


def report(data: bytes) -> None:
    """A telemetry report: whatever it says, it is kept only if it is in range."""
    try:
        event = telemetry.parse(data)
    except WireError:
        return
    if telemetry.check(event) is None:
        assert 0 <= event.p50_ms <= event.p95_ms <= event.p99_ms <= 10_000


def cookie(data: bytes) -> None:
    """Retry tokens: those of another address, changed ones, made-up ones."""
    cookies = RetryCookies(random=bytes)
    words = Words(data)
    address, other = ("192.0.2.10", 50000), ("192.0.2.10", words.number(2))
    ids = words.take(words.number() % 21), words.take(words.number() % 21)
    token = cookies.make(address, *ids, now=1000.0)
    assert cookies.check(token, address, now=1001.0) == ids
    assert other == address or cookies.check(token, other, now=1001.0) is None
    # The engine sees every secret in time, being inside. So what it finds may be accepted only if
    # it is byte for byte what the node would have written.
    made_up = words.rest()
    found = cookies.check(made_up, address, now=1001.0)
    if found is not None:
        written = float(int.from_bytes(made_up[1:5], "big"))
        assert made_up == cookies.make(address, *found, now=written)


TARGETS: Final[dict[str, Target]] = {
    "control": control,
    "extensions": extensions,
    "repair-words": repair_words,
    "invite": invite,
    "sealed": sealed,
    "window": window,
    "honest-window": honest_window,
    "unwrap": unwrap,
    "xor": xor,
    "telemetry": report,
    "cookie": cookie,
}


def seeds(name: str) -> list[bytes]:
    """Inputs that get a target past its first check."""
    vectors = [
        vector
        for file in ("wire_vectors.json", "sealed_vectors.json")
        for vector in json.loads((WIRE / file).read_text(encoding="utf-8"))["vectors"]
    ]

    def of(kinds: str, field: str) -> list[bytes]:
        found = [v[field] for v in vectors if v["kind"].startswith(kinds) and field in v]
        return [
            bytes.fromhex(text) if field in ("hex", "framed") else text.encode() for text in found
        ]

    match name:
        case "control":
            return [bytes((step,)) + raw for raw in of("control", "framed") for step in (0, 255)]
        case "extensions":
            return of("extensions", "hex") + of("tlv", "hex")
        case "repair-words":
            said = of("extensions", "hex")
            wishes = [tlvs[3:] for tlvs in said if len(tlvs) == 21 and tlvs[0] == 7]
            return of("fec.report", "hex") + of("fec.ask", "hex") + wishes
        case "invite":
            return of("invite", "line")
        case "sealed":
            return [bytes.fromhex("0103616263 0103646566 0200 030007 0600 0100 071e 0100 05ff")]
        case "window":
            told = of("fec.report", "hex") + of("fec.ask", "hex")
            packets = [
                bytes((0,)) + raw[:4] + bytes((len(raw) - 4,)) + raw[4:] for raw in told if raw[4:]
            ]
            return [
                bytes.fromhex("10 00 00000001 02 6162 08 08 50020002 06 0000 0002ffff 00"),
                bytes((0x10,)) + bytes(1).join(packets),
                *(bytes((0x14,)) + packet for packet in packets),
            ]
        case "honest-window":
            return [bytes(range(40)), bytes((1, 3, 0, 1)) + bytes((0, 0, 5, 0)) * 20]
        case "unwrap":
            raw = [packet for packet in of("packet", "hex") if len(packet) < 256]
            return [bytes((len(packet),)) + packet for packet in raw]
        case "xor":
            raw = [packet[20:] for packet in of("packet", "hex") if len(packet) < 256]
            return [bytes((0, 1, len(body))) + body for body in raw]
        case "telemetry":
            return of("telemetry", "json")
        case "cookie":
            return of("retry", "hex")
        case _:
            return []
