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
from .words import count, why_no_answer

KEEP: Final = 50


def plain_words(totals: Totals) -> list[str]:
    """The session in sentences; what was not measured is said, not guessed."""
    lines = [
        f"{_duration(totals.seconds)} to {totals.server} through {totals.node},"
        f" loss repair {totals.fec}"
    ]
    lost_names = totals.drops.get("names-not-found", 0)
    if totals.not_found == "game server":
        lines.append(
            f"The game server's name ({totals.server}) was not found, so nothing was carried."
            " Check --server."
        )
    elif totals.not_found == "node":
        lines.append(
            f"The node's name ({totals.node}) was not found, so nothing was carried. Check --proxy."
        )
    elif totals.control is not None and totals.session is None:
        lines.append(f"The node {totals.node} granted no session, so nothing was carried.")
    elif not totals.keepalives_sent:
        lines.append("The session was too short to ask the node anything.")
    elif not totals.keepalives_answered:
        lines.append(
            "The node never answered: nothing is known about the path. This machine has no network,"
            f" or its address is wrong, or {why_no_answer(invited=totals.control is not None)}."
        )
    else:
        lines.append(
            f"Round trip to the node: median {_ms(totals.rtt_median_ms)}, best"
            f" {_ms(totals.rtt_min_ms)}, 95 % under {_ms(totals.rtt_p95_ms)}, jitter"
            f" {_ms(totals.jitter_ms)}. {totals.keepalives_answered} of"
            f" {count(totals.keepalives_sent, 'keepalive')} came back;"
            f" {percent(totals.loss)} were lost."
        )
    if lost_names:
        lines.append(f"{count(lost_names, 'packet')} from the game could not be sent on.")
    if not totals.sent:
        if not lost_names:
            lines.append(
                "No game sent a packet: point the game at the local address shown at start."
            )
        return lines
    lines.append(f"{count(totals.sent, 'packet')} from the game sent, {totals.received} came back.")
    if not totals.keepalives_answered and not totals.received:
        pass  # nothing is known about the game server either
    elif totals.received == 0:
        lines.append(
            "The game server never answered through the node. Check the server's address, and"
            " that the node may send there (its operator sees the reason in"
            " `lightspeed-proxy status`)."
        )
    else:
        lines += [*_losses(totals), *_cost(totals)]
    lines.append(
        f"The tunnel added {percent(totals.overhead)} to the bytes the game sent"
        " (headers, repair and keepalives; IP and UDP headers not counted)."
    )
    if totals.outages:
        lines.append(
            f"The node was silent {count(totals.outages, 'time')}, {totals.outage_s:.0f} s in all;"
            " what was lost then is not all in these shares."
        )
    if totals.strangers:
        lines.append(f"Dropped from strangers: {count(totals.strangers, 'packet')}.")
    drops = ", ".join(
        f"{reason} {number}" for reason, number in sorted(totals.drops.items()) if number
    )
    if drops:
        lines.append(f"Dropped: {drops}.")
    return lines


def _losses(totals: Totals) -> list[str]:
    """Each way: what was lost, what of it stayed so."""
    down = f"{percent(totals.loss_down)} of the packets to the game were lost"
    if totals.fec == "off":
        down += "; no repair was on."
    else:
        late = f" ({totals.repaired_late} of them too late)" if totals.repaired_late else ""
        down += (
            f" on the way; {count(totals.repaired, 'packet')} rebuilt{late},"
            f" {percent(totals.residual_down)} stayed lost."
        )
    if totals.loss_up is None:
        return [
            down,
            "What was lost of the packets from the game is not known: this node does not say.",
        ]
    up = f"{percent(totals.loss_up)} of the packets from the game were lost, as the node says"
    if totals.fec != "off":
        up += f"; {percent(totals.residual_up)} stayed lost or came too late"
    return [down, f"{up}."]


def _cost(totals: Totals) -> list[str]:
    """What repair took; nothing when it was never needed."""
    ways = [
        f"{count(packets, 'packet')} {which}, {packets / game:.2f} for each of the game's"
        for packets, which, game in (
            (totals.repair_sent, "sent", totals.sent),
            (totals.repair_received, "received", totals.received),
        )
        if packets and game
    ]
    lines = [f"Repair took {'; '.join(ways)}."] if ways else []
    if totals.repair_asked:
        lines.append(f"Lost packets were asked for again {count(totals.repair_asked, 'time')}.")
    if totals.repair_capped:
        lines.append(
            f"{count(totals.repair_capped, 'repair packet')} could not be sent: --fec-cap allows no"
            " more."
        )
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


def last(directory: Path, most: int) -> list[dict[str, Any]]:
    """The newest reports, newest first; unreadable files are left out."""
    found: list[dict[str, Any]] = []
    for path in reversed(_files(directory)):
        if len(found) == most:
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
