"""How the kinds of `sealed_vectors.json` about loss repair are answered here.

Window code, reports, asks, the probes that say the round trip, and what Register says of it all.
Source: PROTOCOL.md; the vectors' own field names.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

import attrs

from .conformance_kinds import Fields, Kind, Vector, error_fields, never, plain
from .errors import WireError
from .fec.asking import Ask
from .fec.header import FEC_BYTES
from .fec.protection import Protection
from .fec.report import Report
from .fec.window import Plan, WindowDecoder, WindowEncoder
from .keepalive import decode_probe, encode_probe

Feedback = TypeVar("Feedback", Report, Ask)

# --- fec.*


def _fec_window(vector: Vector) -> Fields:
    """What is sent of these payloads under this plan."""
    encoder = WindowEncoder(Plan(*vector["plan"]), first_ssn=vector["first_ssn"])
    sent: list[Fields] = []
    for text in vector["payloads"]:
        payload = bytes.fromhex(text)
        field, repairs = encoder.protect(payload)
        sent.append({"repair": False, "hex": (field + payload).hex()})
        sent += ({"repair": True, "hex": b"".join(each).hex()} for each in repairs)
    return {"packets": sent}


def _fec_rebuild(vector: Vector) -> Fields:
    """What is delivered of these packets, from the flow's first one on."""
    decoder = WindowDecoder(from_start=True)
    delivered: list[bytes] = []
    for packet in vector["packets"]:
        raw = bytes.fromhex(packet["hex"])
        field, body = raw[:FEC_BYTES], raw[FEC_BYTES:]
        if packet["repair"]:
            delivered += decoder.repair(field, body)
        else:
            delivered += decoder.source(int.from_bytes(field[2:], "big"), body)
    return {
        "delivered": sorted(payload.hex() for payload in delivered),
        "recovered": decoder.recovered,
    }


def _feedback(
    vector: Vector,
    decode: Callable[[bytes, bytes], Feedback],
    said: Callable[[Feedback], Fields],
) -> Fields:
    """The FEC field and the payload behind it, read and written again."""
    raw = bytes.fromhex(vector["hex"])
    try:
        found = decode(raw[:FEC_BYTES], raw[FEC_BYTES:])
    except WireError as error:
        return error_fields(error)
    again = b"".join(found.encode())
    return said(found) | {"error": None if again == raw else f"written as {again.hex()}"}


def _fec_report(vector: Vector) -> Fields:
    return _feedback(vector, Report.decode, lambda report: {"fields": plain(report)})


def _fec_ask(vector: Vector) -> Fields:
    return _feedback(vector, Ask.decode, lambda ask: {"ssns": list(ask.ssns)})


# --- keepalive.probe


def _keepalive_probe(vector: Vector) -> Fields:
    round_trip_us = vector["round_trip_us"]
    made = encode_probe(vector["number"], None if round_trip_us is None else round_trip_us / 1e6)
    number, said_s = decode_probe(bytes.fromhex(vector["hex"]))
    return {
        "hex": made.hex(),
        "said_us": None if said_s is None else round(said_s * 1e6),
        "error": None if number == vector["number"] else f"read as number {number}",
    }


# --- Register's tag 7


def protection(fields: Fields) -> Protection:
    """What a vector says of tag 7, as our code has it."""
    cap = fields["cap_hundredths"]
    return Protection(
        adaptive=fields["mode"] == "adaptive",
        plan=Plan(*fields["plan"]) if fields["mode"] == "fixed" else None,
        target=fields["target_1e6"] / 1e6,
        budget_s=fields["budget_ms"] / 1000,
        cap=None if cap is None else cap / 100,
        cap_kbps=fields["cap_kbps"],
    )


def protection_fields(found: Protection) -> Fields:
    """In whole numbers, as the bytes say them."""
    fixed = None if found.plan is None else list(attrs.astuple(found.plan))
    return {
        "mode": "adaptive" if found.adaptive else "off" if fixed is None else "fixed",
        "plan": fixed,
        "target_1e6": round(found.target * 1e6),
        "budget_ms": round(found.budget_s * 1000),
        "cap_hundredths": None if found.cap is None else round(found.cap * 100),
        "cap_kbps": found.cap_kbps,
    }


KINDS: Final[dict[str, Kind]] = {
    "fec.window": (("plan", "first_ssn", "payloads"), _fec_window, never),
    "fec.rebuild": (("packets",), _fec_rebuild, never),
    "fec.report": (("hex",), _fec_report, never),
    "fec.ask": (("hex",), _fec_ask, never),
    "keepalive.probe": (("number", "round_trip_us"), _keepalive_probe, never),
}
