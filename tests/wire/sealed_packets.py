"""Vectors of the sealed header, made with hashlib and struct alone. See `make_sealed_vectors`."""

from __future__ import annotations

import ipaddress
import struct
from hashlib import blake2s
from typing import Any, Final

Vector = dict[str, Any]

SESSION_KEY: Final = bytes.fromhex("000102030405060708090a0b0c0d0e0f")
OTHER_KEY: Final = bytes.fromhex("f0e0d0c0b0a090807060504030201000")
SESSION: Final = 0x01020304

GAME4: Final = ("192.0.2.10", 50000, "203.0.113.7", 27015)
GAME6: Final = ("2001:db8::10", 50000, "2001:db8:7::7", 7777)


def direction_key(way: str, key: bytes = SESSION_KEY, session: int = SESSION) -> bytes:
    person = {"up": b"LS up", "down": b"LS down"}[way]
    return blake2s(struct.pack(">I", session), digest_size=32, key=key, person=person).digest()


def addresses(source: str, source_port: int, destination: str, destination_port: int) -> bytes:
    return (
        ipaddress.ip_address(source).packed
        + ipaddress.ip_address(destination).packed
        + struct.pack(">HH", source_port, destination_port)
    )


def packet(
    number: int,
    payload: bytes,
    *,
    way: str = "up",
    game: tuple[str, int, str, int] = GAME4,
    flags: int = 0,
    path: int = 0,
    timestamp_us: int = 1_000_000,
    fec_field: bytes = bytes(4),
    key: bytes = SESSION_KEY,
    session: int = SESSION,
) -> bytes:
    version = 9 if ":" in game[0] else 8
    head = struct.pack(">BBHI", version << 4 | flags, path, number & 0xFFFF, timestamp_us)
    head += addresses(*game) + fec_field + struct.pack(">I", session)
    covered = struct.pack(">I", number >> 16) + head + payload
    return (
        head
        + blake2s(covered, digest_size=8, key=direction_key(way, key, session)).digest()
        + payload
    )


NOWHERE: Final = ("0.0.0.0", 0, "0.0.0.0", 0)
SEALED: Final[list[tuple[str, dict[str, Any]]]] = [
    ("first", {"number": 0, "payload": b"hello"}),
    ("empty-payload", {"number": 1, "payload": b""}),
    ("down", {"number": 0, "payload": b"hello", "way": "down"}),
    ("upper-number", {"number": 0x0123456789AB, "payload": b"deep in the session"}),
    ("largest-number", {"number": 2**48 - 1, "payload": b"last", "timestamp_us": 2**32 - 1}),
    ("wrapped", {"number": 0x10000, "payload": b"hello"}),
    ("path", {"number": 7, "payload": b"by the second way", "path": 1}),
    ("source-number", {"number": 9, "payload": b"\x00" * 20, "fec_field": b"\x00\x00\xab\xcd"}),
    (
        "repair",
        {"number": 10, "payload": b"\xff" * 9, "flags": 8, "fec_field": b"\x40\x00\x00\x07"},
    ),
    ("ask", {"number": 18, "payload": b"\x05", "fec_field": b"\xc0\x00\x00\x07"}),
    (
        "report",
        {"number": 19, "payload": bytes((0, 16)) + bytes(10), "fec_field": b"\x80\x00\x00\x07"},
    ),
    ("keepalive", {"number": 11, "payload": b"\xea\x60\x00\xfd", "flags": 1, "game": NOWHERE}),
    ("handshake", {"number": 12, "payload": b"\x00", "flags": 2, "game": NOWHERE}),
    ("fin-session", {"number": 13, "payload": b"", "flags": 4, "game": NOWHERE}),
    ("fin-flow", {"number": 14, "payload": b"", "flags": 4}),
    ("v9", {"number": 0, "payload": b"hello", "game": GAME6}),
    ("v9-down", {"number": 0x2FFFF, "payload": b"hello", "game": GAME6, "way": "down"}),
    ("v9-fin-flow", {"number": 15, "payload": b"", "flags": 4, "game": GAME6}),
    ("v9-mapped-4", {"number": 16, "payload": b"x", "game": ("2001:db8::1", 1, "2001:db8::2", 2)}),
    ("other-session", {"number": 0, "payload": b"hello", "session": 0xFFFFFFFF}),
    ("other-key", {"number": 0, "payload": b"hello", "key": OTHER_KEY}),
    ("largest-payload", {"number": 17, "payload": bytes(range(256)) * 5}),
]


def sealed_packets() -> list[Vector]:
    vectors = []
    for name, made in SEALED:
        game = made.get("game", GAME4)
        fields = {
            "flags": made.get("flags", 0),
            "number": made["number"],
            "path": made.get("path", 0),
            "timestamp_us": made.get("timestamp_us", 1_000_000),
            "src_ip": game[0],
            "src_port": game[1],
            "dst_ip": game[2],
            "dst_port": game[3],
            "fec_field": made.get("fec_field", bytes(4)).hex(),
            "payload": made["payload"].hex(),
        }
        vectors.append(
            {
                "id": f"seal/packet/{name}",
                "kind": "seal.packet",
                "session_key": made.get("key", SESSION_KEY).hex(),
                "session_id": made.get("session", SESSION),
                "direction": made.get("way", "up"),
                "fields": fields,
                "hex": packet(**made).hex(),
            }
        )
    return vectors


def seal_keys() -> list[Vector]:
    return [
        {
            "id": f"seal/keys/{name}",
            "kind": "seal.keys",
            "session_key": key.hex(),
            "session_id": session,
            "up": direction_key("up", key, session).hex(),
            "down": direction_key("down", key, session).hex(),
        }
        for name, key, session in (
            ("zero", bytes(16), 0),
            ("counting", SESSION_KEY, SESSION),
            ("ones", b"\xff" * 16, 2**32 - 1),
        )
    ]


def opened(name: str, steps: list[tuple[Any, Any]], way: str = "up") -> Vector:
    """Steps are (datagram, answer), ("key", session key) and ("wait", seconds)."""
    ops: list[Any] = []
    out: list[Any] = []
    for what, answer in steps:
        if what == "key":
            ops.append({"key": answer.hex()})
            out.append(None)
        elif what == "wait":
            ops.append({"wait": answer})
            out.append(None)
        else:
            ops.append(what.hex())
            out.append(answer)
    return {
        "id": f"seal/open/{name}",
        "kind": "seal.open",
        "session_key": SESSION_KEY.hex(),
        "session_id": SESSION,
        "direction": way,
        "ops": ops,
        "out": out,
    }


def at(*numbers: int, **made: Any) -> list[tuple[Any, Any]]:
    """Packets that are accepted, each answered by its whole number."""
    return [(packet(number, b"p%d" % number, **made), number) for number in numbers]


def no(reason: str, datagram: bytes) -> tuple[Any, Any]:
    return datagram, reason


def flip(datagram: bytes, byte: int) -> bytes:
    return datagram[:byte] + bytes((datagram[byte] ^ 1,)) + datagram[byte + 1 :]


def seal_openings() -> list[Vector]:
    good, good6 = packet(5, b"payload"), packet(5, b"payload", game=GAME6)
    return [
        opened("in-order", at(0, 1, 2, 3)),
        opened("out-of-order", at(3, 1, 0, 2)),
        opened("began-unheard", at(900, 899, 901)),
        opened("v9-and-down", [*at(4, way="down", game=GAME6), *at(5, way="down")], way="down"),
        opened("across-2^16", at(32000, 64000, 65535, 65536, 65534, 65537, 90000)),
        opened("late-across-2^16", [*at(32000, 64000, 65600), *at(65000), *at(65601)]),
        opened(
            "from-elsewhere-in-time",
            [
                *at(0, 30000, 40000),
                no("future", packet(72768, b"over half a round ahead")),
                no("future", packet(105536, b"a round ahead")),
                no("forged", packet(171072, b"two rounds ahead")),
                *at(72767),
            ],
        ),
        opened("half-a-round-from-zero", at(0, 32768)),
        opened("replayed", [*at(1, 2), no("replayed", at(1)[0][0]), no("replayed", at(2)[0][0])]),
        opened("edge-of-the-window", [*at(2000, 977), no("too-old", at(976)[0][0])]),
        opened("a-jump-empties-the-window", [*at(0, 5000, 3977), no("too-old", at(3976)[0][0])]),
        opened(
            "a-changed-byte",
            [
                *(no("forged", flip(good, byte)) for byte in (1, 2, 3, 4, 8, 18, 20, 28, 35, 36)),
                no("session", flip(good, 27)),
                no("version", b"\x70" + good[1:]),
                no("forged", b"\x84" + good[1:]),
                no("forged", good + b"\x00"),
                no("forged", good[:-1]),
                (good, 5),
            ],
        ),
        opened(
            "v9-changed",
            [*(no("forged", flip(good6, byte)) for byte in (8, 43, 44, 52, 60)), (good6, 5)],
        ),
        opened(
            "cut",
            [
                no("short", b""),
                no("short", good[:35]),
                no("forged", good[:36]),
                no("short", good6[:59]),
                no("version", b"\x10" + bytes(59)),
            ],
        ),
        opened("the-other-direction", [no("forged", packet(0, b"x", way="down"))]),
        opened("another-session", [no("session", packet(0, b"x", session=SESSION + 1))]),
        opened(
            "rekey",
            [
                *at(0, 1),
                no("forged", packet(2, b"too soon", key=OTHER_KEY)),
                ("key", OTHER_KEY),
                *at(2),
                *at(4, key=OTHER_KEY),
                *at(3),
                no("replayed", packet(4, b"p4", key=OTHER_KEY)),
                ("wait", 29),
                *at(5),
                ("wait", 1),
                no("forged", packet(6, b"the old key is over")),
                *at(6, key=OTHER_KEY),
            ],
        ),
    ]
