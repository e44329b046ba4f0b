"""The dissector on tunnel packets: every header version, every kind of packet, every mistake."""

from __future__ import annotations

import json
import random
import re
import struct
import subprocess
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

import attrs
import pytest
from lightspeed_protocol.endpoint import Endpoint
from lightspeed_protocol.errors import WireError
from lightspeed_protocol.fec.window import Plan
from lightspeed_protocol.fec.window_plan import decode_repair
from lightspeed_protocol.header import FIN, HANDSHAKE, KEEPALIVE, pack_addresses
from lightspeed_protocol.seal import SealedEnd
from lightspeed_protocol.sealed_flow import SealedFlow

from tests.ops.captures import (
    DATA,
    DISSECTOR,
    EXPERT,
    INFO,
    IP_AND_UDP,
    PROTOCOL,
    Row,
    rows,
    text,
    udp,
    unreachable,
    write_pcap,
)
from tests.support.repair import fixed
from tests.support.skips import need_command
from tests.support.vectors import VECTORS

SEALED_VECTORS: Final[list[dict[str, Any]]] = json.loads(
    (Path(__file__).parents[1] / "wire" / "sealed_vectors.json").read_text()
)["vectors"]

GAME: Final = ("192.0.2.5", 50000)
SERVER: Final = ("198.51.100.7", 27960)
TAG: Final = bytes.fromhex("0102030405060708")
NOWHERE: Final = ("192.0.2.9", 6000), ("198.51.100.9", 7000)  # ports nobody is known on

GAME6: Final = ip_address("2001:db8::5").packed + ip_address("2001:db8:7::7").packed
ADDRESSES6: Final = GAME6 + struct.pack("!HH", 50000, 27960)


def addresses(source: tuple[str, int] = GAME, destination: tuple[str, int] = SERVER) -> bytes:
    return pack_addresses(source, destination)


def legacy(
    first: int, *, fec: bytes = b"", payload: bytes = b"", key: bytes | None = None, token: int = 42
) -> bytes:
    """A version 1 or 2 packet, sequence 17."""
    key = addresses() if key is None else key
    return struct.pack("!BBHI", first, token, 17, 0x01020304) + key + fec + payload


def sealed(
    first: int, fec: str = "00000009", payload: bytes = b"", key: bytes | None = None, path: int = 0
) -> bytes:
    """A version 8 or 9 packet, sequence 17, session 7."""
    key = addresses() if key is None else key
    head = struct.pack("!BBHI", first, path, 17, 0x01020304) + key
    return head + bytes.fromhex(fec) + struct.pack("!I", 7) + TAG + payload


@attrs.frozen
class Case:
    """One packet and what must be seen of it.

    `fields` are `name=value`, names without `lightspeed.`; no value means that it is not there.
    """

    name: str
    packet: bytes
    info: str
    fields: str

    def wanted(self) -> dict[str, str]:
        return dict(word.split("=") for word in self.fields.split())


WAY: Final = "192.0.2.5:50000 > 198.51.100.7:27960"
WAY6: Final = "[2001:db8::5]:50000 > [2001:db8:7::7]:27960"
ENDS: Final = "src=192.0.2.5 srcport=50000 dst=198.51.100.7 dstport=27960"
NO_ENDS: Final = "src=0.0.0.0 srcport=0 dst=0.0.0.0 dstport=0"
V1: Final = "version=1 token=42 seq=17 timestamp=16909060 path= fec= session= tag="
V2: Final = "version=2 token=42 seq=17 timestamp=16909060 path= session= tag="
V8: Final = "version=8 path=0 seq=17 timestamp=16909060 session=7 tag=0102030405060708 token="
V9: Final = V8.replace("version=8", "version=9")

CASES: Final = [
    Case(
        "v1-data",
        legacy(0x10, payload=b"\xff\xff\xff\xffgetstatus\n"),
        f"v1 data seq 17 {WAY} len 14",
        f"{V1} {ENDS} flags=0x00 kind=data length=14 text=....getstatus.",
    ),
    Case(
        "v1-keepalive",
        legacy(0x11, key=bytes(12)),
        "v1 keepalive seq 17 len 0",
        f"{V1} {NO_ENDS} flags=0x01 kind=keepalive length=0 flags.keepalive=1 flags.handshake=0"
        " flags.fin=0 flags.fragment=0 flags.repair=",
    ),
    Case(
        "v1-handshake",
        legacy(0x12, key=bytes(12)),
        "v1 handshake seq 17 len 0",
        f"{V1} {NO_ENDS} kind=handshake flags.handshake=1 flags.keepalive=0",
    ),
    Case(
        "v1-fin",
        legacy(0x14, key=bytes(12)),
        "v1 fin seq 17 len 0",
        f"{V1} {NO_ENDS} kind=fin flags.fin=1 flags.handshake=0",
    ),
    Case(
        "v1-fragment",
        legacy(0x18),
        f"v1 fragment seq 17 {WAY} len 0",
        f"{V1} {ENDS} kind=fragment flags.fragment=1",
    ),
    Case(
        "v2-source",
        legacy(0x20, fec=bytes.fromhex("00030104"), payload=b"hello"),
        f"v2 source seq 17 block 3 index 1 K 4 {WAY} len 5",
        f"{V2} {ENDS} kind=source fec=00030104 fec.block=3 fec.index=1 fec.k=4 text=hello length=5",
    ),
    Case(
        "v2-repair",
        legacy(0x20, fec=bytes.fromhex("00000404"), payload=bytes.fromhex("9698909390ff0005")),
        f"v2 repair seq 17 block 0 index 4 K 4 {WAY} len 8",
        f"{V2} {ENDS} kind=repair fec.block=0 fec.index=4 fec.k=4 fec.symbol=9698909390ff"
        " fec.lengths=5 text=",
    ),
    Case(
        "v2-keepalive-without-fec",
        legacy(0x21, key=bytes(12)),
        "v2 keepalive seq 17 len 0",
        f"{V2} {NO_ENDS} kind=keepalive fec=",
    ),
    Case(
        "v8-source",
        sealed(0x80, payload=bytes(63)),
        f"v8 source seq 17 ssn 9 {WAY} len 63",
        f"{V8} {ENDS} kind=source flags=0x00 flags.repair=0 flags.fragment= fec=00000009"
        " fec.kind=0 fec.ssn=9 length=63 text=",
    ),
    Case(
        "v8-other-path",
        sealed(0x80, payload=b"x", path=3),
        f"v8 source seq 17 ssn 9 {WAY} len 1",
        "path=3 kind=source",
    ),
    Case(
        "v8-repair-gf256",
        sealed(0x88, "50020001", bytes.fromhex("0502003477d90c21dd")),
        f"v8 repair seq 17 window 2 newest 1 {WAY} len 9",
        f"{V8} {ENDS} kind=repair flags=0x08 flags.repair=1 fec.kind=1 fec.field=1 fec.window=2"
        " fec.newest=1 fec.key=5 fec.stride=3 fec.symbol=003477d90c21dd fec.ssn=",
    ),
    Case(
        "v8-repair-xor",
        sealed(0x88, "40400109", bytes.fromhex("7f010000")),
        f"v8 repair seq 17 window 64 newest 265 {WAY} len 4",
        "fec.field=0 fec.window=64 fec.key=127 fec.stride=2 fec.symbol=0000",
    ),
    Case(
        "v8-report",
        sealed(0x80, "80000102", bytes.fromhex("006500050003000400010702")),
        f"v8 report seq 17 highest 258 {WAY} len 12",
        f"{V8} {ENDS} kind=report fec.kind=2 fec.highest=258 fec.ssn= report.received=101"
        " report.lost=5 report.runs=3 report.repaired=4 report.late=1 report.longest=7"
        " report.path=2",
    ),
    Case(
        "v8-ask",
        sealed(0x80, "c000fffe", bytes.fromhex("0504")),
        f"v8 ask seq 17 oldest 65534 {WAY} len 2",
        f"{V8} {ENDS} kind=ask fec.kind=3 fec.oldest=65534 fec.bitmap=0504 fec.ssn=",
    ),
    Case(
        "v8-keepalive",
        sealed(0x81, "00000000", b"\xea\x60", bytes(12)),
        "v8 keepalive seq 17 session 7 len 2",
        f"{V8} {NO_ENDS} kind=keepalive echo=ea60 fec=00000000 fec.kind=",
    ),
    Case(
        "v8-handshake",
        sealed(0x82, "00000000", b"\x01", bytes(12)),
        "v8 handshake seq 17 session 7 len 1",
        f"{V8} {NO_ENDS} kind=handshake echo=01",
    ),
    Case(
        "v8-fin-of-the-session",
        sealed(0x84, "00000000", key=bytes(12)),
        "v8 fin seq 17 session 7 len 0",
        f"{V8} {NO_ENDS} kind=fin",
    ),
    Case(
        "v8-fin-of-a-flow",
        sealed(0x84, "00000000"),
        f"v8 fin seq 17 {WAY} len 0",
        f"{V8} {ENDS} kind=fin",
    ),
    Case(
        "v9-source",
        sealed(0x90, payload=b"hello", key=ADDRESSES6),
        f"v9 source seq 17 ssn 9 {WAY6} len 5",
        f"{V9} src= src6=2001:db8::5 srcport=50000 dst= dst6=2001:db8:7::7 dstport=27960"
        " kind=source fec.ssn=9 text=hello",
    ),
    Case(
        "v9-repair",
        sealed(0x98, "50040003", bytes.fromhex("0100006a4e1d8a765b0b"), ADDRESSES6),
        f"v9 repair seq 17 window 4 newest 3 {WAY6} len 10",
        f"{V9} kind=repair fec.newest=3 fec.key=1 fec.stride=1 fec.symbol=006a4e1d8a765b0b",
    ),
    Case(
        "v9-fin-of-a-flow",
        sealed(0x94, "00000000", key=ADDRESSES6),
        f"v9 fin seq 17 {WAY6} len 0",
        f"{V9} kind=fin",
    ),
]
FIELDS: Final = sorted({name for case in CASES for name in case.wanted()})


def names(fields: list[str]) -> list[str]:
    return [f"lightspeed.{name}" for name in fields]


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Row]:
    """What tshark shows of all cases, by name."""
    path = tmp_path_factory.mktemp("tunnel") / "cases.pcap"
    write_pcap(path, [udp(case.packet) for case in CASES])
    return dict(zip([case.name for case in CASES], rows(path, *names(FIELDS)), strict=True))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_field_of_every_kind_of_packet_is_shown(seen: dict[str, Row], case: Case) -> None:
    row = seen[case.name]

    assert row.one(PROTOCOL) == "LightSpeed"
    assert row.one(INFO) == case.info
    shown = {name: "".join(row[f"lightspeed.{name}"]) for name in case.wanted()}
    assert shown == case.wanted()
    assert row[EXPERT] == []


@attrs.frozen
class Wrong:
    name: str
    packet: bytes
    expert: str  # the filter name
    says: str


ZERO: Final = "00000000"
WRONG: Final = [
    Wrong("empty-version", b"\x00" + bytes(40), "bad_version", "Version 0 is not one of"),
    Wrong("later-release", b"\x30" + bytes(40), "bad_version", "Version 3 is not one of"),
    Wrong("v2-flag-data", legacy(0x21, key=bytes(12), payload=b"ab"), "short", "needs 24"),
    Wrong("k-0", legacy(0x20, fec=bytes.fromhex("00000000")), "bad_fec", "K is 0"),
    Wrong("k-17", legacy(0x20, fec=bytes.fromhex("00000011")), "bad_fec", "K is 17"),
    Wrong("index", legacy(0x20, fec=bytes.fromhex("00000504")), "bad_fec", "Index 5 in a block"),
    Wrong("xor-1", legacy(0x20, fec=b"\0\0\4\4", payload=b"a"), "short", "of 1 bytes, need 2"),
    Wrong("window-0", sealed(0x88, "50000001", bytes(4)), "bad_fec", "The window is 0"),
    Wrong("window-65", sealed(0x88, "50410001", bytes(4)), "bad_fec", "The window is 65"),
    Wrong("arithmetic", sealed(0x88, "60010001", bytes(4)), "bad_fec", "neither XOR nor GF(256)"),
    Wrong("low-bits", sealed(0x88, "51010001", bytes(4)), "bad_fec", "low bits"),
    Wrong("not-repair", sealed(0x88, "00000001", bytes(4)), "bad_fec", "Kind 0 in a REPAIR"),
    Wrong("no-flag", sealed(0x80, "50020001", bytes(4)), "bad_fec", "without REPAIR"),
    Wrong("ask-bits", sealed(0x80, "c1000001", b"\x01"), "bad_fec", "must be zero"),
    Wrong("ask-none", sealed(0x80, "c0000001"), "short", "without a bitmap"),
    Wrong("ask-9", sealed(0x80, "c0000001", b"\x01" * 9), "bad_fec", "of 9 bytes; at most 8"),
    Wrong("ask-even", sealed(0x80, "c0000001", b"\x02"), "bad_fec", "oldest is not asked for"),
    Wrong("ask-tail", sealed(0x80, "c0000001", b"\x01\0"), "bad_fec", "with a zero byte"),
    Wrong("source-bits", sealed(0x80, "00010001", bytes(4)), "bad_fec", "must be zero"),
    Wrong("report-bits", sealed(0x80, "81000001", bytes(12)), "bad_fec", "must be zero"),
    Wrong("stride", sealed(0x88, "50020001", b"\0\x10\0\0"), "bad_fec", "stride is at most 16"),
    Wrong("repair-3", sealed(0x88, "50020001", bytes(3)), "short", "of 3 bytes, need 4"),
    Wrong("report-11", sealed(0x80, "80000001", bytes(11)), "short", "of 11 bytes, need 12"),
    Wrong("fec-in-fin", sealed(0x84, "00000001"), "bad_fec", "no game packet nor REPAIR"),
    Wrong("two-flags", sealed(0x83, ZERO, key=bytes(12)), "unexpected", "Two flags"),
    Wrong("whose", sealed(0x81, ZERO), "unexpected", "Addresses in a KEEPALIVE"),
    Wrong("v1-whose", legacy(0x14), "unexpected", "Addresses in a FIN"),
    Wrong("v1-fat", legacy(0x11, key=bytes(12), payload=b"x"), "unexpected", "A payload"),
]


def test_what_breaks_a_rule_is_expert_info_with_the_numbers(tmp_path: Path) -> None:
    path = write_pcap(tmp_path / "wrong.pcap", [udp(wrong.packet) for wrong in WRONG])
    experts = sorted({f"lightspeed.{wrong.expert}" for wrong in WRONG})

    for wrong, row in zip(WRONG, rows(path, *experts), strict=True):
        assert row[f"lightspeed.{wrong.expert}"], wrong.name
        assert wrong.says in " ".join(row[EXPERT]), wrong.name
        assert row.one(PROTOCOL) == "LightSpeed"


def test_a_packet_cut_at_any_length_is_named_short_and_never_a_lua_error(tmp_path: Path) -> None:
    cut = [(case, size) for case in CASES for size in range(1, len(case.packet))]
    headers = {1: 20, 2: 24, 8: 36, 9: 60}
    path = write_pcap(tmp_path / "cut.pcap", [udp(case.packet[:size]) for case, size in cut])

    for (case, size), row in zip(cut, rows(path, "lightspeed.short"), strict=True):
        need = headers[case.packet[0] >> 4]
        if case.packet[0] == 0x21:
            need = 20  # a flag and nothing behind it
        assert row.one(PROTOCOL) == "LightSpeed"
        assert bool(row["lightspeed.short"]) or size >= need, (case.name, size)
        assert row[EXPERT] or size >= need
    text(path)


def test_what_the_capture_cut_is_not_called_malformed(tmp_path: Path) -> None:
    cut = [(case, snap) for case in CASES for snap in (29, 47, 48, 60, 64, 66, 70, 88)]
    packets = [udp(case.packet) for case, _ in cut]
    path = write_pcap(tmp_path / "snap.pcap", packets, snaps=[snap for _, snap in cut])

    shown = rows(path, "lightspeed.short", "lightspeed.cut")
    for (case, snap), row in zip(cut, shown, strict=True):
        whole = len(case.packet) + IP_AND_UDP <= snap
        assert row["lightspeed.short"] == [], (case.name, snap)
        assert bool(row["lightspeed.cut"]) != whole, (case.name, snap)
    text(path)


def test_a_packet_quoted_by_icmp_is_shown_as_far_as_it_is_quoted(tmp_path: Path) -> None:
    packet = udp(sealed(0x80, payload=b"hello"))
    quoted = range(28, len(packet) + 1)
    path = write_pcap(
        tmp_path / "icmp.pcap", [unreachable(packet, source=DATA, quotes=size) for size in quoted]
    )

    shown = rows(path, "lightspeed.session", "lightspeed.short")
    for size, row in zip(quoted, shown, strict=True):
        assert row.one(PROTOCOL) == "ICMP"
        assert row["lightspeed.session"] == (["7"] if size >= 28 + 36 else [])
        assert row["lightspeed.short"] == []


def test_random_bytes_are_never_a_lua_error(tmp_path: Path) -> None:
    rng = random.Random(7)
    packets = [bytes((rng.choice(b"\x10\x20\x80\x88\x90\x98\x81\x21"),)) for _ in range(1500)]
    packets = [first + rng.randbytes(rng.randrange(120)) for first in packets]
    for _ in range(500):
        packet = bytearray(rng.choice(CASES).packet)
        packet[rng.randrange(len(packet))] = rng.randrange(256)
        packets.append(bytes(packet))
    path = write_pcap(tmp_path / "random.pcap", [udp(packet) for packet in packets])

    assert len(rows(path)) == len(packets)
    text(path)


def test_the_recorded_header_vectors_are_shown_as_recorded(tmp_path: Path) -> None:
    vectors = [
        vector
        for vector in VECTORS
        if vector["kind"].startswith(("header.", "packet."))
        and "fields" in vector
        and (vector["fields"]["version"] == 1 or len(vector["hex"]) >= 48)
    ]
    assert len(vectors) >= 7
    path = write_pcap(tmp_path / "v.pcap", [udp(bytes.fromhex(v["hex"])) for v in vectors])
    columns = {
        "version": "version",
        "session_token": "token",
        "sequence": "seq",
        "timestamp_us": "timestamp",
        "src_ip": "src",
        "src_port": "srcport",
        "dst_ip": "dst",
        "dst_port": "dstport",
    }

    shown = rows(path, "lightspeed.flags", *names(list(columns.values())))
    for vector, row in zip(vectors, shown, strict=True):
        for name, column in columns.items():
            assert row.one(f"lightspeed.{column}") == str(vector["fields"][name]), vector["id"]
        assert int(row.one("lightspeed.flags"), 16) == vector["fields"]["flags"]


def test_the_recorded_sealed_packets_are_shown_as_recorded(tmp_path: Path) -> None:
    vectors = [vector for vector in SEALED_VECTORS if vector["kind"] == "seal.packet"]
    assert len(vectors) >= 8
    path = write_pcap(tmp_path / "v.pcap", [udp(bytes.fromhex(v["hex"])) for v in vectors])
    asked = ["seq", "path", "timestamp", "src", "src6", "srcport", "dst", "dst6", "dstport"]

    shown = rows(path, *names([*asked, "fec", "session", "flags", "length"]))
    for vector, row in zip(vectors, shown, strict=True):
        fields = vector["fields"]
        want = {
            "seq": fields["number"] & 0xFFFF,
            "path": fields["path"],
            "timestamp": fields["timestamp_us"],
            "srcport": fields["src_port"],
            "dstport": fields["dst_port"],
            "fec": fields["fec_field"],
            "session": vector["session_id"],
            "length": len(fields["payload"]) // 2,
        }
        found = {name: row.one(f"lightspeed.{name}") for name in want}
        assert found == {name: str(value) for name, value in want.items()}, vector["id"]
        assert row["lightspeed.src"] + row["lightspeed.src6"] == [fields["src_ip"]]
        assert row["lightspeed.dst"] + row["lightspeed.dst6"] == [fields["dst_ip"]]
        assert int(row.one("lightspeed.flags"), 16) == fields["flags"]


def test_a_games_words_are_readable_in_what_our_own_client_seals(tmp_path: Path) -> None:
    end = SealedEnd.client(0x01020304, bytes(range(16)))
    words = b'\xff\xff\xff\xffconnect "/name/UnnamedPlayer"'
    datagram = end.sealer.seal(0x80, 5, addresses(), bytes(4), words)
    path = write_pcap(tmp_path / "words.pcap", [udp(datagram)])

    (row,) = rows(path, "lightspeed.text", "data.data", "lightspeed.session")
    assert row.one("lightspeed.text") == '....connect "/name/UnnamedPlayer"'
    assert row.one("data.data") == words.hex()
    assert row.one("lightspeed.session") == str(0x01020304)
    assert "UnnamedPlayer" in text(path)
    plain = subprocess.run(  # and without us
        [need_command("tshark", package="tshark"), "-n", "-x", "-r", str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    column = "".join(re.findall(r"^[0-9a-f]{4}  .{48} (.*)$", plain.stdout, re.MULTILINE))
    assert "UnnamedPlayer" in column


def test_what_our_own_ends_send_is_shown_without_a_complaint(tmp_path: Path) -> None:
    """With and without repair, in all versions, as one end of a flow makes the packets."""
    sent: list[tuple[bytes, str]] = []  # a datagram and what kind it must be
    for fec_k, kinds in ((None, ["data"] * 4), (2, ["source", "source", "repair"] * 2)):
        legacy_end = Endpoint.open(addresses(), fec_k=fec_k, first=65535)
        datagrams = [d for i in range(4) for d in legacy_end.wrap(b"hello" * i + b"x", i)]
        sent += zip(datagrams, kinds, strict=True)
    for key in (addresses(), ADDRESSES6):
        for plan in (Plan.xor(2), Plan(every=2, window=3, stride=2), Plan(every=2, window=64)):
            end = SealedEnd.client(7, bytes(16))
            flow = SealedFlow.open(end, key, fixed(plan))
            datagrams = [d for i in range(4) for d in flow.wrap(b"hello" * i + b"x", i, 0.0)]
            sent += zip(datagrams, ["source", "source", "repair"] * 2, strict=True)
            sent.append((end.control(FIN, 5, addresses=key), "fin"))
    end = SealedEnd.node(7, bytes(16))
    sent.append((end.control(KEEPALIVE, 5, b"\xea\x60"), "keepalive"))
    sent.append((end.control(HANDSHAKE, 5, b"\x01"), "handshake"))
    path = write_pcap(tmp_path / "ours.pcap", [udp(datagram) for datagram, _ in sent])

    shown = rows(path, "lightspeed.kind")
    assert [row.one("lightspeed.kind") for row in shown] == [kind for _, kind in sent]
    assert [row[EXPERT] for row in shown if row[EXPERT]] == []


def test_a_repair_is_complained_of_exactly_when_our_own_decoder_refuses_it(tmp_path: Path) -> None:
    rng = random.Random(3)
    tried = []
    for _ in range(600):
        field = struct.pack(
            "!BBH",
            rng.choice(b"\x40\x50\x40\x50\x40\x50\x60\x41\x00"),
            rng.choice((0, 1, 2, 4, 8, 9, 17, 64, 65)),
            rng.randrange(65536),
        )
        head = bytes((rng.choice((0, 5, 127, 128)), rng.choice((0, 0, 1, 7, 15, 16))))
        tried.append((field, head + bytes(rng.choice((1, 2, 3, 60, 1402, 1403)))))
    packets = [udp(sealed(0x88, field.hex(), body)) for field, body in tried]
    refused = []
    for field, body in tried:
        try:
            decode_repair(field, body)
        except WireError:
            refused.append(True)
        else:
            refused.append(False)
    assert 100 < refused.count(False) < 500

    shown = rows(write_pcap(tmp_path / "repairs.pcap", packets))
    assert [bool(row[EXPERT]) for row in shown] == refused


def test_a_tunnel_inside_a_tunnel_is_shown_one_level_deep(tmp_path: Path) -> None:
    third = sealed(0x80, "00000003", b"deepest", addresses(GAME, DATA))
    second = sealed(0x80, "00000002", third, addresses(GAME, DATA))
    first = sealed(0x80, "00000001", second, addresses(GAME, DATA))
    answer = sealed(0x80, "00000005", legacy(0x10, payload=b"x"), addresses(DATA, GAME))
    path = write_pcap(tmp_path / "nested.pcap", [udp(first), udp(answer)])

    there, back = rows(path, "lightspeed.fec.ssn", "lightspeed.version", "data.data")
    assert there["lightspeed.fec.ssn"] == ["1", "2"]
    assert there.one("data.data") == third.hex()
    assert there.one(INFO).split(" | ")[1].startswith("v8 source seq 17 ssn 2 ")
    assert back["lightspeed.version"] == ["8", "1"]


def test_an_ask_names_each_packet_asked_for(tmp_path: Path) -> None:
    ask = next(case for case in CASES if case.name == "v8-ask")
    (row,) = rows(write_pcap(tmp_path / "ask.pcap", [udp(ask.packet)]), "lightspeed.fec.asked")
    assert row["lightspeed.fec.asked"] == ["65534", "0", "8"]


def test_sealed_packets_are_known_on_any_port(tmp_path: Path) -> None:
    unsure = {"v8-other-path", "v8-report", "v8-ask", "v8-fin-of-a-flow", "v9-fin-of-a-flow"}
    sure = [case for case in CASES if case.name[1] in "89" and case.name not in unsure]
    assert len(sure) >= 8
    packets = [  # each of ends of its own: nothing but itself gives it away
        udp(case.packet, source=("192.0.2.9", 6000 + i), destination=("198.51.100.9", 7000 + i))
        for i, case in enumerate(sure)
    ]

    shown = rows(write_pcap(tmp_path / "any.pcap", packets))
    assert [row.one(INFO) for row in shown] == [case.info for case in sure]


def test_versions_1_and_2_on_any_port_are_known_from_the_first_keepalive_on(
    tmp_path: Path,
) -> None:
    source, node = NOWHERE
    other = (source[0], 6001)
    data = legacy(0x10, payload=b"hello")
    path = write_pcap(
        tmp_path / "any.pcap",
        [
            udp(data, source=other, destination=node),
            udp(legacy(0x11, key=bytes(12)), source=source, destination=node),
            udp(data, source=other, destination=node),
            udp(data, source=node, destination=other),
            udp(data, source=other, destination=(node[0], 7001)),
        ],
    )

    kinds = ["UDP", "LightSpeed", "LightSpeed", "LightSpeed", "UDP"]
    assert [row.one(PROTOCOL) for row in rows(path)] == kinds
    assert [row.one(PROTOCOL) for row in rows(path, options=["-2"])] == kinds


def test_other_peoples_packets_are_left_alone(tmp_path: Path) -> None:
    rng = random.Random(11)
    source, destination = NOWHERE
    strange = [rng.randbytes(rng.randrange(1, 200)) for _ in range(3000)]
    strange += [b"\x80\x00" + rng.randbytes(180) for _ in range(1000)]  # the like of RTP
    packets = [udp(packet, source=source, destination=destination) for packet in strange]
    path = write_pcap(tmp_path / "strange.pcap", packets)

    assert {row.one(PROTOCOL) for row in rows(path)} & {"LightSpeed", "LightSpeed/C"} == set()


def test_decode_as_and_the_preference_name_a_port(tmp_path: Path) -> None:
    source, destination = NOWHERE
    packet = legacy(0x10, payload=b"hello")
    path = write_pcap(
        tmp_path / "port.pcap", [udp(packet, source=source, destination=destination), udp(packet)]
    )

    def protocols(*options: str) -> list[str]:
        return [row.one(PROTOCOL) for row in rows(path, options=options)]

    assert protocols() == ["UDP", "LightSpeed"]
    assert protocols("-d", "udp.port==7000,lightspeed") == ["LightSpeed", "LightSpeed"]
    assert protocols("-o", "lightspeed.tunnel_ports:7000") == ["LightSpeed", "UDP"]
    assert protocols("-o", "lightspeed.tunnel_ports:4434,6990-7010") == ["LightSpeed"] * 2


def test_a_display_filter_picks_packets_by_our_fields(tmp_path: Path) -> None:
    path = write_pcap(tmp_path / "cases.pcap", [udp(case.packet) for case in CASES])

    picked = rows(path, options=["-Y", 'lightspeed.kind == "repair" && lightspeed.version >= 8'])
    assert [row.one(INFO) for row in picked] == [
        case.info
        for case in CASES
        if case.name in ("v8-repair-gf256", "v8-repair-xor", "v9-repair")
    ]


def test_the_guide_is_right_about_filters_and_settings(tmp_path: Path) -> None:
    guide = (DISSECTOR.parent / "README.md").read_text()
    path = write_pcap(tmp_path / "one.pcap", [udp(sealed(0x80, payload=b"x"))])

    filters = re.findall(r"^\| [^|`]+ \| `([^`]+)` \|$", guide, re.MULTILINE)
    assert len(filters) >= 8
    rows(path, options=["-Y", " or ".join(filters)])  # fails on a field that is not there
    settings = set(re.findall(r"`(?:-o )?lightspeed\.(\w+_ports)", guide))
    assert settings == {"tunnel_ports", "quic_ports", "plain_ports"}
    rows(path, options=[word for name in settings for word in ("-o", f"lightspeed.{name}:9")])


def test_the_guess_can_be_turned_off(tmp_path: Path) -> None:
    source, destination = NOWHERE
    packet = udp(sealed(0x80, payload=b"x"), source=source, destination=destination)
    path = write_pcap(tmp_path / "one.pcap", [packet])

    assert "lightspeed_udp" in (DISSECTOR.parent / "README.md").read_text()
    assert rows(path)[0].one(PROTOCOL) == "LightSpeed"
    off = rows(path, options=["--disable-heuristic", "lightspeed_udp"])
    assert off[0].one(PROTOCOL) == "UDP"
