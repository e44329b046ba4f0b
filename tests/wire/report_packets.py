"""Vectors of receiver reports and of the probes that say the round trip, made with struct alone.

See `make_sealed_vectors`.
"""

from __future__ import annotations

import struct
from typing import Any, Final

from tests.wire.ask_packets import refused

Vector = dict[str, Any]

# Highest SSN; received, lost, runs, repaired, late; longest, path.
REPORTS: Final[list[tuple[str, int, tuple[int, int, int, int, int], int, int]]] = [
    ("all-came", 0x0102, (16, 0, 0, 0, 0), 0, 0),
    ("nothing-came", 7, (0, 0, 0, 0, 0), 0, 0),
    ("all-fields", 0xFFFE, (101, 5, 3, 4, 1), 7, 2),
    ("largest", 0xFFFF, (0xFFFF,) * 5, 0xFF, 0xFF),
    ("run-begun-before", 7, (3, 2, 0, 0, 0), 9, 0),  # its beginning was told of
    ("repaired-of-before", 7, (3, 0, 0, 2, 2), 0, 0),  # when they had been counted as lost
    ("only-lost", 7, (0, 9, 1, 9, 9), 9, 0),
]
GOOD: Final = (101, 5, 3, 4, 1)
FIELD: Final = b"\x80\x00\x00\x07"


def body(counts: tuple[int, int, int, int, int], longest: int, path: int = 0) -> bytes:
    return struct.pack(">HHHHHBB", *counts, longest, path)


NO_REPORTS: Final[list[tuple[str, bytes, bytes]]] = [
    ("cut", FIELD, body(GOOD, 7)[:-1]),
    ("long", FIELD, body(GOOD, 7) + b"\x00"),
    ("empty", FIELD, b""),
    ("field-cut", FIELD[:3], b""),
    ("low-bits", b"\x81\x00\x00\x07", body(GOOD, 7)),
    ("second-byte", b"\x80\x01\x00\x07", body(GOOD, 7)),
    ("a-source-packet", b"\x00\x00\x00\x07", body(GOOD, 7)),
    ("a-repair", b"\x40\x00\x00\x07", body(GOOD, 7)),
    ("an-ask", b"\xc0\x00\x00\x07", body(GOOD, 7)),
    ("more-runs-than-lost", FIELD, body((101, 5, 6, 4, 1), 7)),
    ("more-late-than-repaired", FIELD, body((101, 5, 3, 4, 5), 7)),
    ("lost-without-a-run", FIELD, body(GOOD, 0)),
    ("a-run-without-loss", FIELD, body((101, 0, 0, 0, 0), 1)),
]
NAMES: Final = ("received", "lost", "runs", "repaired", "late")


def reports() -> list[Vector]:
    return [
        {
            "id": f"fec/report/{name}",
            "kind": "fec.report",
            "hex": (struct.pack(">BBH", 0x80, 0, highest) + body(counts, longest, path)).hex(),
            "fields": {
                "highest": highest,
                **dict(zip(NAMES, counts, strict=True)),
                "longest": longest,
                "path": path,
            },
        }
        for name, highest, counts, longest, path in REPORTS
    ] + refused("fec.report", NO_REPORTS)


# Number, round trip in microseconds, and what the payload says in 100 of them.
PROBES: Final[list[tuple[str, int, int | None, int]]] = [
    ("first", 60000, None, 0),
    ("measured", 60001, 25_310, 253),
    ("rounded-up", 60002, 25_360, 254),
    ("shorter-than-a-unit", 60003, 9, 1),
    ("longer-than-can-be-said", 60004, 7_000_000, 65535),
    ("last-number", 65535, 1_000_000, 10_000),
]


def probes() -> list[Vector]:
    return [
        {
            "id": f"keepalive/probe/{name}",
            "kind": "keepalive.probe",
            "number": number,
            "round_trip_us": round_trip_us,
            "hex": struct.pack(">HH", number, said).hex(),
            "said_us": 100 * said if said else None,
        }
        for name, number, round_trip_us, said in PROBES
    ]
