"""Vectors of what Register says of repair, made with struct alone. See `make_sealed_vectors`."""

from __future__ import annotations

import struct
from typing import Any, Final

Vector = dict[str, Any]
Block = tuple[str, str, bytes, Vector]  # which message, name, TLVs, what they say

REGISTER: Final[Vector] = {
    "credential": None,
    "versions": [],
    "fec": [],
    "resume": None,
    "client": "",
    "features": [],
}


def tlv(tag: int, value: bytes) -> bytes:
    return struct.pack(">BH", tag, len(value)) + value


PROTECTION: Final[Vector] = {  # as if nothing but the mode were said
    "mode": "off",
    "plan": None,
    "target_1e6": 1000,
    "budget_ms": 50,
    "cap_hundredths": None,
    "cap_kbps": None,
}
MODES: Final = {"off": 0, "fixed": 1, "adaptive": 2}
NO_PLAN: Final = (0, 0, 0, 0, 0)


def protection(
    mode: int,
    plan: tuple[int, int, int, int, int] = NO_PLAN,
    target: int = 1000,
    budget: int = 50,
    cap: int = 0,
    rate: int = 0,
) -> bytes:
    """Tag 7; `plan` is every, window, stride, field, delay."""
    return tlv(7, struct.pack(">6BIHHI", mode, *plan, target, budget, cap, rate))


def protections() -> tuple[list[Block], list[Block], list[Block]]:
    """Registers with tags 7 and 8: what an encoder writes too, what is only read, what is not."""
    said: list[tuple[str, bytes, Vector]] = [
        ("off", protection(0), {}),
        ("adaptive", protection(2), {"mode": "adaptive"}),
        ("xor-4", protection(1, (4, 4, 1, 0, 0)), {"mode": "fixed", "plan": [4, 4, 1, 0, 0]}),
        ("window", protection(1, (2, 64, 2, 1, 1), 500_000, 1000, 150, 128),
         {"mode": "fixed", "plan": [2, 64, 2, 1, 1], "target_1e6": 500_000, "budget_ms": 1000,
          "cap_hundredths": 150, "cap_kbps": 128}),
        ("furthest", protection(1, (255, 1, 1, 0, 127), 1, 5, 100, 1),
         {"mode": "fixed", "plan": [255, 1, 1, 0, 127], "target_1e6": 1, "budget_ms": 5,
          "cap_hundredths": 100, "cap_kbps": 1}),
        ("largest", protection(2, target=999_999, cap=10_000, rate=2**32 - 1),
         {"mode": "adaptive", "target_1e6": 999_999, "cap_hundredths": 10_000,
          "cap_kbps": 2**32 - 1}),
    ]  # fmt: skip
    both: list[Block] = [
        ("register", f"protection-{name}", raw, REGISTER | {"protection": PROTECTION | fields})
        for name, raw, fields in said
    ]
    both += [
        ("register", f"reports-{ms}", tlv(8, struct.pack(">H", ms)), REGISTER | {"reports_ms": ms})
        for ms in (0, 250, 65535)
    ]
    both.append(
        ("register", "adaptive-both-ways",
         tlv(2, b"\x08") + tlv(3, b"\x01\x02\x03\x04") + protection(2) + tlv(8, b"\x00\xfa"),
         REGISTER | {"versions": [8], "fec": [1, 2, 3, 4], "reports_ms": 250,
                     "protection": PROTECTION | {"mode": "adaptive"}})
    )  # fmt: skip
    readings: list[Block] = [  # the plan of a mode that has none is not looked at
        ("register", f"protection-{mode}-and-a-plan", protection(MODES[mode], (0, 200, 0, 9, 255)),
         REGISTER | {"protection": PROTECTION | {"mode": mode}})
        for mode in ("off", "adaptive")
    ]  # fmt: skip
    refused = [
        ("mode-3", protection(3)),
        ("every-0", protection(1, (0, 4, 1, 1, 0))),
        ("window-0", protection(1, (4, 0, 1, 1, 0))),
        ("window-65", protection(1, (4, 65, 1, 1, 0))),
        ("stride-0", protection(1, (4, 4, 0, 1, 0))),
        ("stride-17", protection(1, (4, 4, 17, 1, 0))),
        ("field-2", protection(1, (4, 4, 1, 2, 0))),
        ("reach-129", protection(1, (4, 64, 2, 1, 2))),
        ("target-0", protection(2, target=0)),
        ("target-1", protection(2, target=1_000_000)),
        ("budget-4", protection(2, budget=4)),
        ("budget-1001", protection(2, budget=1001)),
        ("cap-99", protection(2, cap=99)),
        ("cap-10001", protection(2, cap=10_001)),
    ]
    wrong: list[Block] = [
        ("register", f"protection-{name}", raw, {"error": "tlv"}) for name, raw in refused
    ]
    whole = protection(2)[3:]
    wrong += [
        ("register", f"protection-of-{len(raw)}", tlv(7, raw),
         {"error": "tlv", "got": len(raw), "need": 18})
        for raw in (whole[:17], whole + b"\0", b"")
    ]  # fmt: skip
    wrong += [
        ("register", f"reports-of-{size}", tlv(8, bytes(size)),
         {"error": "tlv", "got": size, "need": 2})
        for size in (0, 1, 3)
    ]  # fmt: skip
    return both, readings, wrong
