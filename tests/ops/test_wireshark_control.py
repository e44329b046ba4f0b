"""The dissector on control messages as they are: datagrams, a TCP stream, a bare file."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import attrs
import pytest

from tests.ops.captures import (
    EXPERT,
    INFO,
    PLAIN,
    PROTOCOL,
    USER0,
    Row,
    rows,
    tcp,
    text,
    udp,
    write_pcap,
)
from tests.support.vectors import SEALED_VECTORS, VECTORS

ALL_VECTORS: Final[list[dict[str, Any]]] = [
    *VECTORS,
    *json.loads((Path(__file__).parents[1] / "wire" / "sealed_vectors.json").read_text())[
        "vectors"
    ],
]

KEY: Final = bytes(range(16))
TOKEN: Final = bytes(range(32))
PIN: Final = bytes(range(32, 64))


def frame(message: bytes) -> bytes:
    return struct.pack("!H", len(message)) + message


def tlv(tag: int, value: bytes) -> bytes:
    return struct.pack("!BH", tag, len(value)) + value


def string(words: str) -> bytes:
    return bytes((len(words.encode()),)) + words.encode()


def plain(messages: Iterable[bytes]) -> list[bytes]:
    """Each in a datagram of its own."""
    return [udp(message, destination=PLAIN) for message in messages]


@attrs.frozen
class Case:
    """One message without its length, and what must be seen of it.

    `fields` are `name=value`, names without `lightspeed.control.`; values of a field that comes
    more than once are joined by commas; no value means that it is not there.
    """

    name: str
    message: bytes
    info: str
    fields: str

    def wanted(self) -> dict[str, str]:
        return dict(word.split("=") for word in self.fields.split())


PEER: Final = string("two") + string("eu") + string("two.example.com") + b"\x11\x51" + PIN
CASES: Final = [
    Case("ping", b"\x01" + bytes(7) + b"\x05", "Ping", "type=0x01 timestamp=5 length=9"),
    Case(
        "pong",
        b"\x02" + bytes(7) + b"\x05" + b"\xff" * 8,
        "Pong",
        "type=0x02 client_timestamp=5 server_timestamp=18446744073709551615",
    ),
    Case("register-bare", b"\x03\x01\x02", "Register game 2", "protocol_version=1 game=2 tlv="),
    Case(
        "register",
        b"\x03\x01\x40"
        + tlv(1, TOKEN)
        + tlv(2, b"\x08\x02\x01")
        + tlv(3, b"\x02\x03")
        + tlv(4, KEY)
        + tlv(5, b"0.2.0")
        + tlv(6, b"\x01")
        + tlv(99, b"\xab\xcd"),
        "Register game 64",
        f"type=0x03 game=64 credential={TOKEN.hex()} version=8,2,1 fec=2,3 resume={KEY.hex()}"
        " client=0.2.0 feature=1 tlv.tag=1,2,3,4,5,6,99 tlv.length=32,3,2,16,5,1,2 tlv.value=abcd",
    ),
    Case(
        "register-repair",
        b"\x03\x02\x02"
        + tlv(3, b"\x01\x02\x03\x04")
        + tlv(7, struct.pack("!6BIHHI", 1, 2, 4, 3, 1, 5, 1000, 50, 150, 128))
        + tlv(8, b"\x00\xfa"),
        "Register game 2",
        "fec=1,2,3,4 protection.mode=1 protection.every=2 protection.window=4 protection.stride=3"
        " protection.field=1 protection.delay=5 protection.target=1000 protection.budget_ms=50"
        " protection.cap=150 protection.cap_kbps=128 reports_ms=250 tlv.value=",
    ),
    Case(
        "ack-bare",
        b"\x04\x00\x00\x00\x2a\xab" + string("sea-1") + string("sea"),
        "RegisterAck session 42",
        "type=0x04 session=42 token=171 node_id=sea-1 region=sea tlv=",
    ),
    Case(
        "ack",
        b"\x04\x01\x02\x03\x04\x00"
        + string("näh")
        + string("")
        + tlv(1, b"\x08")
        + tlv(2, KEY)
        + tlv(3, b"\x11\x52data.example.com")
        + tlv(4, b"\x02")
        + tlv(5, struct.pack("!IIH", 1000, 1000000, 1452))
        + tlv(6, bytes((192, 0, 2, 44)))
        + tlv(7, b"\x01\x02\x03\x04\x05")
        + tlv(8, TOKEN[:16] + struct.pack("!I", 120))
        + tlv(9, b"\x01"),
        "RegisterAck session 16909060 version 8",
        f"session=16909060 token=0 node_id=näh version=8 key={KEY.hex()} data_port=4434"
        " data_host=data.example.com fec=2 packets_per_s=1000 bytes_per_s=1000000"
        " largest_datagram=1452 address=192.0.2.44 capability=1,2,3,4,5"
        f" resume={TOKEN[:16].hex()} resume_s=120 resumed=1 tlv.value=",
    ),
    Case(
        "ack-v6",
        b"\x04" + bytes(5) + b"\0\0" + tlv(6, PIN[:16]) + tlv(3, b"\x11\x52"),
        "RegisterAck session 0",
        "address6=2021:2223:2425:2627:2829:2a2b:2c2d:2e2f address= data_port=4434 data_host=",
    ),
    Case("disconnect", b"\x05\x00", "Disconnect normal", "type=0x05 reason=0 refusal="),
    Case(
        "disconnect-refused",
        b"\x05\x04" + tlv(1, b"\x03") + tlv(2, b"revoked_yesterday"),
        "Disconnect authentication failed (invite revoked)",
        "reason=4 refusal=3 text=revoked_yesterday",
    ),
    Case(
        "server-info",
        b"\x06\x4b" + struct.pack("!II", 42, 100),
        "ServerInfo",
        "type=0x06 load=75 clients=42 capacity=100",
    ),
    Case(
        "probe",
        b"\x10\x02\x05\x69\x87\x04" + bytes((198, 51, 100, 7)),
        "Probe 198.51.100.7:27015 5 times",
        "type=0x10 game=2 count=5 port=27015 address=198.51.100.7",
    ),
    Case(
        "probe-v6",
        b"\x10\x00\x0a\x69\x87\x10" + bytes.fromhex("20010db8000000000000000000000007"),
        "Probe [2001:db8::7]:27015 10 times",
        "count=10 address6=2001:db8::7 address=",
    ),
    Case(
        "probe-result",
        b"\x11\x01\x05\x04" + struct.pack("!II", 18250, 19000),
        "ProbeResult game query, median 19000 us",
        "type=0x11 method=1 sent=5 answered=4 min=18250 median=19000",
    ),
    Case("peers-request", b"\x12", "PeersRequest", "type=0x12 length=1 trailing="),
    Case("peers-none", b"\x13\x00", "Peers 0 known", "type=0x13 count=0 node_id="),
    Case(
        "peers",
        b"\x13\x02" + PEER + PEER.replace(b"two", b"one"),
        "Peers 2 known",
        "count=2 node_id=two,one region=eu,eu host=two.example.com,one.example.com"
        f" port=4433,4433 pin={PIN.hex()},{PIN.hex()}",
    ),
    Case("rekey-wanted", b"\x14" + bytes(17), "Rekey asked for", f"epoch=0 key={bytes(16).hex()}"),
    Case("rekey", b"\x14\x07" + KEY, "Rekey epoch 7", f"type=0x14 epoch=7 key={KEY.hex()}"),
    Case("trailing", b"\x14\x07" + KEY + b"xyz", "Rekey epoch 7", "trailing=78797a length=21"),
]
FIELDS: Final = sorted({name for case in CASES for name in case.wanted()})


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Row]:
    """What tshark shows of all cases, by name."""
    path = tmp_path_factory.mktemp("control") / "cases.pcap"
    write_pcap(path, plain(frame(case.message) for case in CASES))
    shown = rows(path, *(f"lightspeed.control.{name}" for name in FIELDS))
    return dict(zip([case.name for case in CASES], shown, strict=True))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_field_of_every_message_is_shown(seen: dict[str, Row], case: Case) -> None:
    row = seen[case.name]

    assert row.one(PROTOCOL) == "LightSpeed/C"
    assert row.one(INFO) == case.info
    shown = {name: ",".join(row[f"lightspeed.control.{name}"]) for name in case.wanted()}
    assert shown == case.wanted()
    assert row[EXPERT] == []


def test_what_register_says_of_repair_is_in_words(tmp_path: Path) -> None:
    wishes = [
        (struct.pack("!6BIHHI", 0, *bytes(5), 1000, 50, 0, 0), "no repair"),
        (
            struct.pack("!6BIHHI", 1, 2, 4, 3, 1, 5, 1000, 50, 150, 128),
            "1 repair per 2 packets over 4, 3 apart, GF(256), 5 later, cap 1.50x, cap 128 kbit/s",
        ),
        (
            struct.pack("!6BIHHI", 2, *bytes(5), 500, 80, 200, 0),
            "adapts to reports, at most 0.05 % missing after 80 ms, cap 2.00x",
        ),
    ]
    messages = [b"\x03\x02\x02" + tlv(7, wish) for wish, _ in wishes]
    messages += [b"\x03\x02\x02" + tlv(8, ms) for ms in (b"\x00\xfa", bytes(2))]
    path = write_pcap(tmp_path / "words.pcap", plain(frame(message) for message in messages))
    shown = text(path)
    for _, words in wishes:
        assert f"TLV protection, 18 bytes: {words}\n" in shown
    assert "TLV reports, 2 bytes: each 250 ms\n" in shown
    assert "TLV reports, 2 bytes: none\n" in shown


def test_each_recorded_register_is_faulted_exactly_when_it_is_recorded_as_bad(
    tmp_path: Path,
) -> None:
    vectors = [
        one
        for one in SEALED_VECTORS
        if one["kind"] == "extensions.decode" and one["of"] == "register"
    ]
    assert len(vectors) >= 40
    messages = [b"\x03\x02\x02" + bytes.fromhex(one["hex"]) for one in vectors]
    shown = rows(write_pcap(tmp_path / "v.pcap", plain(frame(each) for each in messages)))
    for one, row in zip(vectors, shown, strict=True):
        assert bool(row[EXPERT]) == ("error" in one), one["id"]


def test_each_recorded_message_is_faulted_exactly_when_it_is_recorded_as_bad(
    tmp_path: Path,
) -> None:
    vectors = [vector for vector in ALL_VECTORS if vector["kind"] == "control.decode"]
    vectors = [vector for vector in vectors if vector["hex"]]
    assert len(vectors) >= 40
    messages = [bytes.fromhex(vector["hex"]) for vector in vectors]
    experts = {
        "short": "lightspeed.control.short",
        "unknown": "lightspeed.control.unknown_type",
        "utf8": "lightspeed.control.bad_utf8",
        "value": "lightspeed.control.bad_value",
    }
    path = write_pcap(tmp_path / "v.pcap", plain(frame(message) for message in messages))

    for vector, row in zip(vectors, rows(path, *experts.values()), strict=True):
        found = [name for name in experts.values() if row[name]]
        if "error" in vector:  # where our decoder stops, the dissector reads on
            assert experts[vector["error"]] in found, vector["id"]
        else:
            assert found == [], vector["id"]


def test_each_recorded_list_of_tlvs_is_faulted_exactly_when_it_is_recorded_as_bad(
    tmp_path: Path,
) -> None:
    heads = {"register": b"\x03\x01\x02", "ack": b"\x04" + bytes(7), "refusal": b"\x05\x04"}
    vectors = [vector for vector in ALL_VECTORS if vector["kind"] == "extensions.decode"]
    assert len(vectors) >= 20
    experts = {
        "short": "lightspeed.control.short",
        "tlv": "lightspeed.control.bad_tlv",
        "utf8": "lightspeed.control.bad_utf8",
    }
    path = write_pcap(
        tmp_path / "v.pcap",
        plain(frame(heads[v["of"]] + bytes.fromhex(v["hex"])) for v in vectors),
    )

    for vector, row in zip(vectors, rows(path, *experts.values()), strict=True):
        wanted = [experts[vector["error"]]] if "error" in vector else []
        assert [name for name in experts.values() if row[name]] == wanted, vector["id"]


def test_the_recorded_streams_are_taken_apart_frame_by_frame(tmp_path: Path) -> None:
    vectors = [v for v in ALL_VECTORS if v["kind"] == "control.frames" and v["hex"]]
    assert len(vectors) >= 5
    types = {"register": 3, "register_ack": 4, "ping": 1, "pong": 2, "server_info": 6}
    types |= {"disconnect": 5, "probe": 16, "peers": 19, "rekey": 20}
    path = write_pcap(tmp_path / "v.pcap", plain(bytes.fromhex(v["hex"]) for v in vectors))

    for vector, row in zip(vectors, rows(path, "lightspeed.control.type"), strict=True):
        found = [int(kind, 16) for kind in row["lightspeed.control.type"]]
        wanted = [types[message["type"]] for message in vector["messages"]]
        assert found[: len(wanted)] == wanted, vector["id"]
        assert bool(row[EXPERT]) == (vector.get("end", "eof") != "eof"), vector["id"]


def test_a_message_cut_at_any_length_is_named_short_and_never_a_lua_error(tmp_path: Path) -> None:
    cut = [(case, size) for case in CASES for size in range(1, len(case.message) + 2)]
    path = write_pcap(
        tmp_path / "cut.pcap", plain(frame(case.message)[:size] for case, size in cut)
    )

    for (case, size), row in zip(cut, rows(path, "lightspeed.control.short"), strict=True):
        assert row["lightspeed.control.short"], (case.name, size)
        assert row.one(INFO).startswith("Ends inside a "), (case.name, size)
    text(path)


def test_a_frame_whose_content_is_cut_shows_what_there_is(tmp_path: Path) -> None:
    """The length is right and the fields are too few for it, at every byte."""
    cut = [(case, size) for case in CASES for size in range(1, len(case.message))]
    path = write_pcap(
        tmp_path / "cut.pcap", plain(frame(case.message[:size]) for case, size in cut)
    )

    shown = rows(path, "lightspeed.control.type", "lightspeed.control.short")
    may_end = {"register", "register-repair", "ack", "ack-v6", "disconnect-refused", "trailing"}
    for (case, size), row in zip(cut, shown, strict=True):
        assert int(row.one("lightspeed.control.type"), 16) == case.message[0]
        assert row["lightspeed.control.short"] or case.name in may_end, (case.name, size)
    text(path)


def test_what_the_capture_cut_is_not_called_malformed(tmp_path: Path) -> None:
    cut = [(case, 28 + size) for case in CASES for size in range(1, len(case.message) + 2)]
    packets = plain(frame(case.message) for case, _ in cut)
    path = write_pcap(tmp_path / "snap.pcap", packets, snaps=[snap for _, snap in cut])

    for row in rows(path, "lightspeed.control.short", "lightspeed.control.cut"):
        assert row["lightspeed.control.short"] == []
        assert row["lightspeed.control.cut"]


def test_random_messages_are_never_a_lua_error(tmp_path: Path) -> None:
    rng = random.Random(5)
    messages = []
    for _ in range(1500):
        kind = rng.choice(b"\x01\x02\x03\x04\x05\x06\x10\x11\x12\x13\x14\x07")
        messages.append(bytes((kind,)) + rng.randbytes(rng.randrange(80)))
    for _ in range(800):
        message = bytearray(rng.choice(CASES).message)
        message[rng.randrange(1, max(2, len(message))) % len(message)] = rng.randrange(256)
        messages.append(bytes(message))
    streams = [frame(message) for message in messages]
    streams += [rng.randbytes(rng.randrange(1, 60)) for _ in range(300)]
    path = write_pcap(tmp_path / "random.pcap", plain(streams))

    assert len(rows(path)) == len(streams)
    text(path)


def test_strings_of_strangers_are_shown_and_break_nothing(tmp_path: Path) -> None:
    strings = [b"%s%n%d", b"a\0b", b"\xff\xfe", b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80"]
    strings += ["\U0001f600 ok é 東".encode(), b"tab\there", bytes(255)]
    good = {0, 1, 6, 7, 8}
    path = write_pcap(
        tmp_path / "strings.pcap",
        plain(frame(b"\x04" + bytes(5) + bytes((len(s),)) + s + b"\0") for s in strings),
    )

    shown = rows(path, "lightspeed.control.bad_utf8", "lightspeed.control.node_id")
    for number, row in enumerate(shown):
        assert bool(row["lightspeed.control.bad_utf8"]) != (number in good), strings[number]
    assert shown[0].one("lightspeed.control.node_id") == "%s%n%d"
    assert shown[6].one("lightspeed.control.node_id") == "\U0001f600 ok é 東"
    text(path)


def test_a_tcp_stream_is_put_together_whatever_its_segments(tmp_path: Path) -> None:
    stream = b"".join(frame(case.message) for case in CASES)
    wanted = [case.message[0] for case in CASES]
    for size in (1, 7, 100):
        parts = [(at, stream[at : at + size]) for at in range(0, len(stream), size)]
        path = write_pcap(tmp_path / f"{size}.pcap", [tcp(part, at=at) for at, part in parts])

        options = ["-d", f"tcp.port=={PLAIN[1]},lightspeed.control"]
        shown = rows(path, "lightspeed.control.type", options=options)
        found = [int(kind, 16) for row in shown for kind in row["lightspeed.control.type"]]
        assert found == wanted
        assert [
            row[EXPERT] for row in shown if row["lightspeed.control.type"] and row[EXPERT]
        ] == []


def test_a_file_without_any_headers_is_read_as_dlt_user(tmp_path: Path) -> None:
    path = write_pcap(tmp_path / "user.pcap", [frame(c.message) for c in CASES], link=USER0)

    table = 'uat:user_dlts:"User 0 (DLT=147)","lightspeed.control","0","","0",""'
    shown = rows(path, options=["-o", table])
    assert [row.one(INFO) for row in shown] == [case.info for case in CASES]


def test_other_ports_are_left_alone(tmp_path: Path) -> None:
    path = write_pcap(
        tmp_path / "x.pcap", [udp(frame(CASES[0].message), destination=("192.0.2.9", 9))]
    )

    assert rows(path)[0].one(PROTOCOL) == "UDP"
