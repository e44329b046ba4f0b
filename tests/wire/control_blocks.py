"""Vectors of TLVs, extensions and messages, made with struct alone. See `make_sealed_vectors`."""

from __future__ import annotations

import ipaddress
import struct
from typing import Any, Final

from tests.wire.protection_blocks import REGISTER, Block, protections, tlv

Vector = dict[str, Any]

KEY: Final = bytes.fromhex("000102030405060708090a0b0c0d0e0f")
OTHER_KEY: Final = bytes.fromhex("f0e0d0c0b0a090807060504030201000")
TOKEN: Final = bytes(range(0x80, 0xA0))
PIN: Final = bytes(range(0x20, 0x40))
STREAMED: Final = ("rekey", "peers-two", "probe-v4")


def text(words: str) -> bytes:
    return bytes((len(words.encode()),)) + words.encode()


def tlv_lists() -> list[Vector]:
    good: list[tuple[str, list[tuple[int, bytes]]]] = [
        ("none", []),
        ("one", [(1, b"\x08")]),
        ("empty-value", [(3, b"")]),
        ("three", [(1, b"a"), (255, b"bc"), (2, bytes(300))]),
    ]
    bad: list[tuple[str, bytes, Vector]] = [
        ("cut-head", b"\x01\x00", {"error": "short", "got": 2, "need": 3}),
        ("cut-value", b"\x01\x00\x04abc", {"error": "short", "got": 3, "need": 4}),
        ("second-cut", tlv(1, b"a") + b"\x02", {"error": "short", "got": 1, "need": 3}),
        ("twice", tlv(9, b"a") + tlv(1, b"") + tlv(9, b"a"), {"error": "tlv", "got": 9}),
    ]
    return [
        {
            "id": f"tlv/{name}",
            "kind": "tlv",
            "hex": b"".join(tlv(tag, value) for tag, value in fields).hex(),
            "fields": [[tag, value.hex()] for tag, value in fields],
        }
        for name, fields in good
    ] + [
        {"id": f"tlv/{name}", "kind": "tlv", "hex": raw.hex(), **error} for name, raw, error in bad
    ]


ACK: Final[Vector] = {
    "version": None,
    "key": None,
    "data_port": None,
    "data_host": "",
    "fec": [],
    "limits": None,
    "visible": None,
    "capabilities": [],
    "resume": None,
    "resume_s": None,
    "resumed": False,
}


def extension_blocks() -> list[Vector]:
    resume = bytes(range(0x60, 0x70))
    both: list[Block] = [  # these are what an encoder writes, too
        ("register", "none", b"", REGISTER),
        (
            "register",
            "all",
            tlv(1, TOKEN) + tlv(2, b"\x08\x02\x01") + tlv(3, b"\x02\x01\x03\x04")
            + tlv(4, resume) + tlv(5, b"0.2.0") + tlv(6, b"\x01"),
            {
                "credential": TOKEN.hex(),
                "versions": [8, 2, 1],
                "fec": [2, 1, 3, 4],
                "resume": resume.hex(),
                "client": "0.2.0",
                "features": [1],
            },
        ),
        ("register", "unknown-numbers", tlv(2, b"\x0a\x08") + tlv(6, b"\xff"),
         REGISTER | {"versions": [10, 8], "features": [255]}),
        ("ack", "none", b"", ACK),
        (
            "ack",
            "all",
            tlv(1, b"\x08") + tlv(2, KEY)
            + tlv(3, struct.pack(">H", 4434) + b"node.example.com") + tlv(4, b"\x02\x03")
            + tlv(5, struct.pack(">IIH", 1000, 1_000_000, 1452))
            + tlv(6, ipaddress.ip_address("192.0.2.44").packed) + tlv(7, b"\x01\x02\x03\x04\x05")
            + tlv(8, resume + struct.pack(">I", 120)) + tlv(9, b"\x01"),
            {
                "version": 8,
                "key": KEY.hex(),
                "data_port": 4434,
                "data_host": "node.example.com",
                "fec": [2, 3],
                "limits": {
                    "packets_per_s": 1000,
                    "bytes_per_s": 1_000_000,
                    "largest_datagram": 1452,
                },
                "visible": "192.0.2.44",
                "capabilities": [1, 2, 3, 4, 5],
                "resume": resume.hex(),
                "resume_s": 120,
                "resumed": True,
            },
        ),
        ("ack", "port-only", tlv(1, b"\x02") + tlv(3, b"\x11\x5c"),
         ACK | {"version": 2, "data_port": 4444}),
        ("ack", "visible-v6", tlv(6, ipaddress.ip_address("2001:db8::44").packed),
         ACK | {"visible": "2001:db8::44"}),
        ("refusal", "none", b"", {"code": None, "text": ""}),
        ("refusal", "expired",
         tlv(1, b"\x02") + tlv(2, "this invite ended yesterday, é".encode()),
         {"code": 2, "text": "this invite ended yesterday, é"}),
        ("refusal", "unknown-code", tlv(1, b"\xc8"), {"code": 200, "text": ""}),
    ]  # fmt: skip
    readings: list[Block] = [
        ("register", "other-order-and-a-stranger",
         tlv(6, b"\x01") + tlv(0xEE, b"later") + tlv(2, b"\x08"),
         REGISTER | {"versions": [8], "features": [1]}),
        ("register", "empty-fec", tlv(3, b""), REGISTER),
        ("ack", "resumed-not", tlv(9, b"\x00"), ACK),
    ]  # fmt: skip
    wrong: list[Block] = [
        ("register", "credential-cut", tlv(1, TOKEN[:31]), {"error": "tlv", "got": 31, "need": 32}),
        ("register", "no-versions", tlv(2, b""), {"error": "tlv", "got": 0, "need": 1}),
        ("register", "nine-versions", tlv(2, bytes(9)), {"error": "tlv", "got": 9, "need": 8}),
        ("register", "client-not-utf8", tlv(5, b"\xff"), {"error": "utf8"}),
        ("register", "twice", tlv(6, b"\x01") * 2, {"error": "tlv", "got": 6}),
        ("ack", "key-long", tlv(2, bytes(17)), {"error": "tlv", "got": 17, "need": 16}),
        ("ack", "no-port", tlv(3, b"\x11"), {"error": "tlv", "got": 1, "need": 2}),
        ("ack", "visible-of-5", tlv(6, bytes(5)), {"error": "tlv", "got": 5}),
        ("ack", "limits-cut", tlv(5, bytes(9)), {"error": "tlv", "got": 9, "need": 10}),
        ("refusal", "long-text", tlv(2, b"a" * 201), {"error": "tlv", "got": 201, "need": 200}),
        ("refusal", "cut", tlv(1, b"\x02")[:-1], {"error": "short", "got": 0, "need": 1}),
    ]
    for blocks, more in zip((both, readings, wrong), protections(), strict=True):
        blocks += more
    vectors: list[Vector] = []
    for of, name, raw, fields in both:
        made = {"of": of, "fields": fields, "hex": raw.hex()}
        vectors.append(
            {"id": f"extensions/encode/{of}-{name}", "kind": "extensions.encode", **made}
        )
    answers = [(of, name, raw, {"fields": fields}) for of, name, raw, fields in both + readings]
    for of, name, raw, answer in answers + wrong:
        read = {"of": of, "hex": raw.hex(), **answer}
        vectors.append(
            {"id": f"extensions/decode/{of}-{name}", "kind": "extensions.decode", **read}
        )
    return vectors


def messages() -> list[Vector]:
    peer = {
        "node_id": "exit-2",
        "region": "eu",
        "host": "two.example.com",
        "port": 4433,
        "pin": PIN.hex(),
    }
    peer6 = peer | {"node_id": "", "region": "", "host": "2001:db8::2"}
    packed = (
        text("exit-2") + text("eu") + text("two.example.com") + struct.pack(">H", 4433) + PIN
        + text("") + text("") + text("2001:db8::2") + struct.pack(">H", 4433) + PIN
    )  # fmt: skip
    disconnect = tlv(1, b"\x03") + tlv(2, b"this invite was withdrawn")
    good: list[tuple[str, bytes, Vector]] = [
        ("probe-v4", struct.pack(">BBBHB", 0x10, 2, 5, 27015, 4) + bytes((203, 0, 113, 7)),
         {"type": "probe", "game": 2, "count": 5, "address": "203.0.113.7", "port": 27015}),
        ("probe-v6", struct.pack(">BBBHB", 0x10, 0, 10, 7777, 16)
         + ipaddress.ip_address("2001:db8:7::7").packed,
         {"type": "probe", "game": 0, "count": 10, "address": "2001:db8:7::7", "port": 7777}),
        ("probe-result", struct.pack(">BBBBII", 0x11, 1, 5, 4, 18_250, 19_000),
         {"type": "probe_result", "method": 1, "sent": 5, "answered": 4, "min_us": 18250,
          "median_us": 19000}),
        ("probe-silence", struct.pack(">BBBBII", 0x11, 0, 10, 0, 0, 0),
         {"type": "probe_result", "method": 0, "sent": 10, "answered": 0, "min_us": 0,
          "median_us": 0}),
        ("peers-request", b"\x12", {"type": "peers_request"}),
        ("peers-none", b"\x13\x00", {"type": "peers", "peers": []}),
        ("peers-two", b"\x13\x02" + packed, {"type": "peers", "peers": [peer, peer6]}),
        ("rekey-wanted", b"\x14\x00" + bytes(16), {"type": "rekey", "epoch": 0, "key": "00" * 16}),
        ("rekey", b"\x14\xff" + OTHER_KEY, {"type": "rekey", "epoch": 255, "key": OTHER_KEY.hex()}),
        ("disconnect-refusal", b"\x05\x04" + disconnect,
         {"type": "disconnect", "reason": 4, "extensions": disconnect.hex()}),
        ("register-tlvs", b"\x03\x02\x07" + tlv(2, b"\x08"),
         {"type": "register", "protocol_version": 2, "game": 7,
          "extensions": tlv(2, b"\x08").hex()}),
        ("register-ack-tlvs", b"\x04\x01\x02\x03\x04\x00" + text("exit-1") + text("eu")
         + tlv(1, b"\x08"),
         {"type": "register_ack", "session_id": 0x01020304, "session_token": 0, "node_id": "exit-1",
          "region": "eu", "extensions": tlv(1, b"\x08").hex()}),
    ]  # fmt: skip
    bad: list[tuple[str, bytes, Vector]] = [
        ("probe-cut", b"\x10\x00\x01\x1e\x61", {"error": "short", "got": 4, "need": 5}),
        (
            "probe-address-cut",
            b"\x10\x00\x01\x1e\x61\x04abc",
            {"error": "short", "got": 3, "need": 4},
        ),
        ("probe-no-count", b"\x10\x00\x00\x1e\x61\x04abcd", {"error": "value", "got": 0}),
        ("probe-eleven", b"\x10\x00\x0b\x1e\x61\x04abcd", {"error": "value", "got": 11}),
        ("probe-address-5", b"\x10\x00\x01\x1e\x61\x05abcde", {"error": "value", "got": 5}),
        ("probe-result-cut", b"\x11" + bytes(10), {"error": "short", "got": 10, "need": 11}),
        ("peers-no-count", b"\x13", {"error": "short", "got": 0, "need": 1}),
        ("peers-cut", b"\x13\x02" + packed[:-1], {"error": "short", "got": 31, "need": 32}),
        ("peers-not-utf8", b"\x13\x01\x01\xff", {"error": "utf8"}),
        ("rekey-cut", b"\x14\x01" + OTHER_KEY[:15], {"error": "short", "got": 15, "need": 16}),
        ("later-release", b"\x07\x00", {"error": "unknown", "type": 7}),
        ("nobody-s", b"\x15", {"error": "unknown", "type": 0x15}),
    ]
    vectors: list[Vector] = []
    for name, raw, fields in good:
        framed = struct.pack(">H", len(raw)) + raw
        encoded = {"message": fields, "hex": raw.hex(), "framed": framed.hex()}
        decoded = {"hex": raw.hex(), "message": fields}
        vectors.append({"id": f"control/encode/{name}", "kind": "control.encode", **encoded})
        vectors.append({"id": f"control/decode/{name}", "kind": "control.decode", **decoded})
    for name, raw, error in bad:
        refused = {"hex": raw.hex(), **error}
        vectors.append({"id": f"control/decode/{name}", "kind": "control.decode", **refused})
    streamed = [(raw, fields) for name, raw, fields in good if name in STREAMED]
    return [
        *vectors,
        {
            "id": "control/decode/rekey-and-more",
            "kind": "control.decode",
            "hex": (b"\x14\x01" + OTHER_KEY + b"later").hex(),
            "message": {"type": "rekey", "epoch": 1, "key": OTHER_KEY.hex()},
        },
        {
            "id": "control/frames/node-stream",
            "kind": "control.frames",
            "hex": b"".join(struct.pack(">H", len(raw)) + raw for raw, _ in streamed).hex(),
            "messages": [fields for _, fields in streamed],
            "end": "eof",
        },
    ]
