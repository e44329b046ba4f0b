"""The end of a session: what happened in plain words, and a JSON file to look at later.

Files are named by time and process, `keep` of them stay. A disk that is full costs the file,
never the session.
"""

from __future__ import annotations

import contextlib
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from .figures import Totals
from .paths import replace_file

KEEP: Final = 50


def plain_words(totals: Totals) -> list[str]:
    """The session in sentences; what was not measured is said, not guessed."""
    lines = [
        f"{_duration(totals.seconds)} to {totals.server} through {totals.node},"
        f" loss repair {totals.fec}"
    ]
    if not totals.keepalives_sent:
        lines.append("The node was never reached for: its name or the game server's was not found.")
    elif not totals.keepalives_answered:
        lines.append(
            "The node never answered: nothing is known about the path. Check the node's address,"
            " that it runs, and that its UDP port is open."
        )
    else:
        lines.append(
            f"Round trip to the node: median {_ms(totals.rtt_median_ms)}, best"
            f" {_ms(totals.rtt_min_ms)}, 95 % under {_ms(totals.rtt_p95_ms)}, jitter"
            f" {_ms(totals.jitter_ms)}; {percent(totals.loss)} of {totals.keepalives_sent}"
            " keepalives lost."
        )
    if not totals.sent:
        lines.append("No game sent a packet: point the game at the local address shown at start.")
        return lines
    lines.append(f"{totals.sent} packets from the game, {totals.received} to it.")
    if totals.received == 0:
        lines.append(
            "The game server never answered through the node. Check the server's address, and"
            " that the node may send there."
        )
    elif totals.fec == "off":
        lines.append(
            f"{percent(totals.loss_down)} of the packets to the game were lost; no repair was on."
        )
    else:
        lines.append(
            f"{percent(totals.loss_down)} of the packets to the game were lost on the way;"
            f" {totals.repaired} were rebuilt, {percent(totals.residual_down)} stayed lost."
        )
    lines.append(
        f"The tunnel added {percent(totals.overhead)} to the bytes the game sent"
        " (headers, repair and keepalives; IP and UDP headers not counted)."
    )
    if totals.outages:
        lines.append(f"The node was silent {totals.outages} times, {totals.outage_s:.0f} s in all.")
    if totals.strangers:
        lines.append(f"{totals.strangers} packets from strangers were dropped.")
    drops = ", ".join(
        f"{reason} {count}" for reason, count in sorted(totals.drops.items()) if count
    )
    if drops:
        lines.append(f"Dropped: {drops}.")
    return lines


def save(directory: Path, totals: Totals, ended: datetime, *, keep: int = KEEP) -> Path:
    """Write the report and remove the oldest beyond `keep`. Raises `OSError`."""
    name = f"session-{ended.astimezone(UTC):%Y%m%dT%H%M%SZ}-{os.getpid()}.json"
    path = directory / "reports" / name
    record = {"ended": ended.astimezone(UTC).isoformat(timespec="seconds"), **totals.to_json()}
    replace_file(path, json.dumps(record, indent=2) + "\n")
    for old in _files(directory)[: -max(1, keep)]:
        with contextlib.suppress(OSError):
            old.unlink()
    return path


def last(directory: Path, count: int) -> list[dict[str, Any]]:
    """The newest reports, newest first; unreadable files are left out."""
    found: list[dict[str, Any]] = []
    for path in reversed(_files(directory)):
        if len(found) == count:
            break
        with contextlib.suppress(OSError, ValueError):
            record = json.loads(path.read_text("utf-8"))
            if isinstance(record, dict):
                found.append(record)
    return found


def _files(directory: Path) -> list[Path]:
    return sorted((directory / "reports").glob("session-*.json"))


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _ms(value: float | None) -> str:
    return "not known" if value is None else f"{value:.1f} ms"


def percent(part: float | None) -> str:
    """A share as people read it."""
    if part is None:
        return "an unknown share"
    if 0 < part < 0.001:
        return "less than 0.1 %"
    return f"{part * 100:.1f} %"
