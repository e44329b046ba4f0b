"""Vectors of the window code, made from PROTOCOL.md with arithmetic of its own.

See `make_sealed_vectors`.
"""

from __future__ import annotations

import struct
from typing import Any, Final

Vector = dict[str, Any]

FEC_MD: Final = [b"\x01\x02\x03", b"hello", b"", b"\xff" * 6]  # the design's own example
WORDS: Final = [b"word %d" % i + b"!" * (i % 5) for i in range(9)]

# Name, plan (every, window, stride, field, delay), SSN of the first, payloads, which are lost and
# come back. A repair is sent after each `every` packets, over what there is of the window.
Window = tuple[str, tuple[int, int, int, int, int], int, list[bytes], list[int]]
WINDOWS: Final[list[Window]] = [
    ("the-design-s", (2, 4, 1, 1, 0), 0, FEC_MD, [1]),
    ("xor-block", (4, 4, 1, 0, 0), 0, FEC_MD, [3]),
    ("copies", (1, 1, 1, 0, 0), 7, WORDS[:3], [0, 1, 2]),
    ("across-2^16", (1, 4, 1, 1, 0), 0xFFFD, WORDS, [1, 2, 5]),
    ("strided", (2, 2, 3, 1, 0), 100, WORDS, [0, 7]),
    ("delayed-copies", (1, 1, 1, 1, 3), 0xFF7E, WORDS, [0, 1, 5]),
]


def times(a: int, b: int) -> int:
    """In GF(2^8) modulo 0x11D, bit by bit."""
    total = 0
    for bit in range(8):
        if b >> bit & 1:
            total ^= a << bit
    for bit in range(15, 7, -1):
        if total >> bit & 1:
            total ^= 0x11D << bit - 8
    return total


def coefficient(key: int, ssn: int) -> int:
    below = (key & 127) ^ (128 | ssn & 127)
    return next(c for c in range(1, 256) if times(c, below) == 1)


def symbol(payload: bytes, size: int) -> bytes:
    return (struct.pack(">H", len(payload)) + payload).ljust(size, b"\0")


def repair(covered: list[tuple[int, bytes]], key: int, stride: int, field: int) -> bytes:
    """Over these SSNs and payloads, the newest first."""
    size = 2 + max(len(payload) for _, payload in covered)
    total = bytearray(size)
    for ssn, payload in covered:
        c = coefficient(key, ssn) if field else 1
        for at, byte in enumerate(symbol(payload, size)):
            total[at] ^= times(c, byte)
    head = struct.pack(">BBHBB", 0x40 | field << 4, len(covered), covered[0][0], key, stride - 1)
    return head + bytes(total)


def packets(
    plan: tuple[int, int, int, int, int], first: int, payloads: list[bytes]
) -> list[tuple[int | None, bytes]]:
    """Place (None: a repair), and FEC field and payload, as they are sent."""
    every, window, stride, field, delay = plan
    sent: list[tuple[int | None, bytes]] = []
    key = 0
    for newest, payload in enumerate(payloads):
        sent.append((newest, struct.pack(">HH", 0, (first + newest) % 0x10000) + payload))
        places = [newest - delay - i * stride for i in range(window)]
        covered = [((first + at) % 0x10000, payloads[at]) for at in places if at >= 0]
        if (newest + 1) % every == 0 and covered:
            sent.append((None, repair(covered, key, stride, field)))
            key += 1
    return sent


def windows() -> list[Vector]:
    vectors: list[Vector] = []
    for name, plan, first, payloads, lost in WINDOWS:
        sent = packets(plan, first, payloads)
        vectors.append(
            {
                "id": f"fec/window/{name}",
                "kind": "fec.window",
                "plan": list(plan),
                "first_ssn": first,
                "payloads": [payload.hex() for payload in payloads],
                "packets": [{"repair": at is None, "hex": raw.hex()} for at, raw in sent],
            }
        )
        vectors.append(
            {
                "id": f"fec/rebuild/{name}",
                "kind": "fec.rebuild",
                "packets": [
                    {"repair": at is None, "hex": raw.hex()} for at, raw in sent if at not in lost
                ],
                "delivered": sorted(payload.hex() for payload in payloads),
                "recovered": len(lost),
            }
        )
    return vectors
