"""Vectors of asking again for lost packets, made with struct alone. See `make_sealed_vectors`."""

from __future__ import annotations

import struct
from typing import Any, Final

Vector = dict[str, Any]

ASKS: Final[list[tuple[str, int, list[int]]]] = [
    ("one", 0x0102, [0]),
    ("next-two", 7, [0, 1]),
    ("one-byte", 7, [0, 7]),
    ("two-bytes", 7, [0, 8]),
    ("across-2^16", 0xFFFE, [0, 1, 2, 9]),
    ("furthest", 0, [0, 63]),
    ("all", 0x8000, list(range(64))),
]
NO_ASKS: Final[list[tuple[str, bytes, bytes]]] = [
    ("no-bitmap", b"\xc0\x00\x00\x07", b""),
    ("bitmap-of-nine", b"\xc0\x00\x00\x07", b"\x01" + bytes(7) + b"\x01"),
    ("oldest-not-asked-for", b"\xc0\x00\x00\x07", b"\x02"),
    ("zero-byte-last", b"\xc0\x00\x00\x07", b"\x01\x00"),
    ("nothing-asked-for", b"\xc0\x00\x00\x07", b"\x00"),
    ("low-bits", b"\xc1\x00\x00\x07", b"\x01"),
    ("second-byte", b"\xc0\x01\x00\x07", b"\x01"),
    ("a-report", b"\x80\x00\x00\x07", b"\x01"),
    ("cut", b"\xc0\x00\x00", b""),
]


def bitmap(places: list[int]) -> bytes:
    raw = bytearray(places[-1] // 8 + 1)
    for place in places:
        raw[place // 8] |= 1 << place % 8
    return bytes(raw)


def refused(kind: str, packets: list[tuple[str, bytes, bytes]]) -> list[Vector]:
    """Vectors of packets by name, FEC field and payload, that are none of this kind."""
    return [
        {
            "id": f"{kind.replace('.', '/')}/{name}",
            "kind": kind,
            "hex": (field + payload).hex(),
            "error": "fec-field",
        }
        for name, field, payload in packets
    ]


def asks() -> list[Vector]:
    return [
        {
            "id": f"fec/ask/{name}",
            "kind": "fec.ask",
            "hex": (struct.pack(">BBH", 0xC0, 0, oldest) + bitmap(places)).hex(),
            "ssns": [(oldest + place) % 0x10000 for place in places],
        }
        for name, oldest, places in ASKS
    ] + refused("fec.ask", NO_ASKS)
