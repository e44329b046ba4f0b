"""What a crowd at the control port does to the game packets of somebody who plays.

One player plays all the time; a quiet stretch and a stormy one take turns, in the order
quiet-storm-storm-quiet, so that a slow spell of the machine falls on both. Each pair of neighbours
gives one difference; what counts is their median, and how far apart they lie says how much it is
worth.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightspeed_protocol.rtt import percentile

from .load import Node, child, cpu_seconds, go_first, last_words, node, said, tell
from .standstills import Standstills, standstills

PER_S = 500
PAIRS = 5
STRETCH = 5 / 3  # times a part's usual length: 5 s, in which half-open connections are given up
SETTLE_S = 0.4  # of each stretch, not counted: the change itself
AT_ONCE = 16  # registrations under way in the process that makes full handshakes
LOST_S = 1.0  # a packet that has not come home by then
LEGS = ("up", "down", "round")
PLAYER = ("-m", "bench.player")

Rows = list[tuple[float, float | None, float | None]]
Stretch = tuple[float, float]  # from, to


def _fair(rows: Rows, still: Standstills | None) -> Rows:
    """Without the packets that were under way while the machine itself stood still."""
    if still is None:
        return rows
    return [row for row in rows if not still.touch(row[0], row[0] + (row[2] or LOST_S))]


def _legs(rows: Rows, stretch: Stretch) -> dict[str, list[float]]:
    """Milliseconds: to the game server, back from it, and there and back."""
    began, ended = stretch
    legs: dict[str, list[float]] = {leg: [] for leg in LEGS}
    for left, there, whole in rows:
        if began + SETTLE_S <= left < ended and there is not None and whole is not None:
            legs["up"].append(there * 1e3)
            legs["down"].append((whole - there) * 1e3)
            legs["round"].append(whole * 1e3)
    return legs


def _compare(rows: Rows, quiet: list[Stretch], stormy: list[Stretch]) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    pairs = [
        (_legs(rows, one), _legs(rows, other)) for one, other in zip(quiet, stormy, strict=True)
    ]
    for leg in LEGS:
        for share, name in ((0.5, "p50"), (0.99, "p99")):
            calm = [percentile(pair[0][leg], share) for pair in pairs]
            wild = [percentile(pair[1][leg], share) for pair in pairs]
            moves = sorted(after - before for before, after in zip(calm, wild, strict=True))
            figures[f"{leg}_{name}"] = {
                "quiet_ms": round(statistics.median(calm), 3),
                "storm_ms": round(statistics.median(wild), 3),
                "moves_ms": round(statistics.median(moves), 3),
                "pairs_ms": [round(move, 2) for move in moves],
            }
    return figures


def _run(
    directory: Path, seconds: float, maker: Callable[[Node], list[str]], start: str, stop: str
) -> dict[str, Any]:
    """`maker` gives the load's module and arguments; it begins and ends when told so."""
    stretch_s = SETTLE_S + STRETCH * seconds
    quiet: list[Stretch] = []
    stormy: list[Stretch] = []
    cpu = {"quiet": 0.0, "storm": 0.0}
    with (
        standstills() as still,
        node(directory, clients=100_000) as target,
        child(*PLAYER, str(target.control), str(target.data), talks=True) as player,
        child("-m", *maker(target), talks=True) as load,
    ):
        assert said(player) == "playing"
        first = go_first(target.pid, player.pid)
        time.sleep(2.0)  # the load makes its packets
        before = _seen(target)
        for number in range(PAIRS):
            for name in ("quiet", "storm") if number % 2 == 0 else ("storm", "quiet"):
                tell(load, start if name == "storm" else stop)
                began, used = time.monotonic(), cpu_seconds(target.pid)
                time.sleep(stretch_s)
                (quiet if name == "quiet" else stormy).append((began, time.monotonic()))
                cpu[name] += cpu_seconds(target.pid) - used
        tell(load, stop)
        after = _seen(target)
        rows = last_words(player)
        made = last_words(load)
    spent = PAIRS * stretch_s
    ended = rows[-1][0] - LOST_S  # what left later may be under way still
    packets: Rows = [(left, there, whole) for left, there, whole in rows if left < ended]
    fair = _fair(packets, still)
    return {
        **_compare(fair, quiet, stormy),
        "packets": len(packets),
        "lost": sum(whole is None for _, _, whole in packets),
        "left_out": len(packets) - len(fair),
        "machine_stood_still_s": None if still is None else round(still.seconds(), 2),
        "node_and_player_first": first,
        "storm_s": round(spent, 1),
        "load": made,
        "node_saw_per_s": {
            key: round((after[key] - before[key]) / spent, 1)
            for key in after
            if after[key] != before[key]
        },
        "node_cpu_share": {name: round(used / spent, 3) for name, used in cpu.items()},
    }


def _seen(target: Node) -> dict[str, int]:
    """The node's own counts of what came to the control port."""
    control = target.health()["control"]
    counts = {f"dropped_{why}": n for why, n in control["quic"]["dropped"].items()}
    for name in ("retries_sent", "admitted", "handshakes", "half_open_expired"):
        counts[name] = control["quic"][name]
    return counts | {"registered": control["registrations"]["granted"]}


def _attempts(target: Node) -> list[str]:
    return ["bench.initials", str(target.control)]


def _registrations(target: Node) -> list[str]:
    return ["bench.clients", "storm", str(target.control), str(AT_ONCE)]


def attempts(directory: Path, seconds: float) -> dict[str, Any]:
    """500 attempts a second that begin and finish nothing."""
    return _run(directory, seconds, _attempts, str(PER_S), "0")


def registrations(directory: Path, seconds: float) -> dict[str, Any]:
    """Full registrations, as many as one process can make."""
    return _run(directory, seconds, _registrations, "1", "0")
