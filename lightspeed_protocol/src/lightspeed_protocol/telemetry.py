"""The telemetry report: which fields it has, and what a node accepts in them.

A client sends it only where its user opted in. It names no address, user or host, and a field
that is not in the schema is dropped while parsing, so it cannot be kept by accident.
Source: PROTOCOL.md, "Telemetry".
"""

from __future__ import annotations

import json
import math
from typing import Final, NoReturn

import attrs

from .errors import WireError

LARGEST_BYTES: Final = 2048
LARGEST_MS: Final = 10_000
LARGEST_SAMPLE_COUNT: Final = 100_000
LARGEST_VERSION_BYTES: Final = 32

_U8: Final = 0xFF
_U32: Final = 0xFFFF_FFFF


@attrs.frozen(kw_only=True)
class TelemetryEvent:
    """One client's figures for one stretch of play. Latencies are round trips in milliseconds."""

    game_id: int
    client_country: str = ""  # "" or two letters
    p50_ms: float
    p95_ms: float
    p99_ms: float
    jitter_ms: float
    sample_count: int
    fec_recoveries: int = 0
    fec_losses: int = 0
    client_version: str


def parse(text: bytes | str) -> TelemetryEvent:
    """Read one report; whether its values make sense is `check`'s question.

    Raises `WireError` "long" over `LARGEST_BYTES`, or "parse": not JSON (NaN is none), not an
    object, a field missing, doubled, of the wrong type or beyond its width.
    """
    try:
        raw = text.encode() if isinstance(text, str) else text
        if len(raw) > LARGEST_BYTES:
            raise WireError("long", got=len(raw), need=LARGEST_BYTES)
        found = json.loads(raw.decode(), parse_constant=_no_number, object_pairs_hook=_no_doubles)
    except (ValueError, RecursionError):
        raise WireError("parse") from None
    if not isinstance(found, dict):
        raise WireError("parse")
    return TelemetryEvent(
        game_id=_whole(found.get("game_id"), _U8),
        client_country=_text(found.get("client_country", "")),
        p50_ms=_number(found.get("p50_ms")),
        p95_ms=_number(found.get("p95_ms")),
        p99_ms=_number(found.get("p99_ms")),
        jitter_ms=_number(found.get("jitter_ms")),
        sample_count=_whole(found.get("sample_count"), _U32),
        fec_recoveries=_whole(found.get("fec_recoveries", 0), _U32),
        fec_losses=_whole(found.get("fec_losses", 0), _U32),
        client_version=_text(found.get("client_version")),
    )


def check(event: TelemetryEvent) -> str | None:
    """Why a node refuses this report, in words for its sender; None when it is accepted."""
    if not 0 <= event.p50_ms <= event.p95_ms <= event.p99_ms <= LARGEST_MS:
        return f"want 0 <= p50_ms <= p95_ms <= p99_ms <= {LARGEST_MS}"
    if not 0 <= event.jitter_ms <= LARGEST_MS:
        return f"want 0 <= jitter_ms <= {LARGEST_MS}"
    if event.sample_count > LARGEST_SAMPLE_COUNT:
        return f"want sample_count <= {LARGEST_SAMPLE_COUNT}"
    country = event.client_country
    if country and not (len(country) == 2 and country.isascii() and country.isalpha()):
        return "want client_country empty or two letters A-Z"
    if len(event.client_version.encode()) > LARGEST_VERSION_BYTES:
        return f"want client_version of at most {LARGEST_VERSION_BYTES} bytes"
    return None


def to_json(event: TelemetryEvent) -> str:
    """The report as it is sent."""
    return json.dumps(attrs.asdict(event), allow_nan=False, separators=(",", ":"))


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _no_doubles(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a field comes twice")
    return found


def _whole(value: object, largest: int) -> int:
    if type(value) is not int or not 0 <= value <= largest:
        raise WireError("parse")
    return value


def _number(value: object) -> float:
    if type(value) is not int and type(value) is not float:
        raise WireError("parse")
    try:
        number = float(value)
    except OverflowError:
        raise WireError("parse") from None
    if not math.isfinite(number):
        raise WireError("parse")
    return number


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise WireError("parse")
    try:
        value.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, written as an escape
        raise WireError("parse") from None
    return value
