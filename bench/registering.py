"""What it costs to register: time, the node's CPU, and memory while connections stand."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from lightspeed_protocol.invite import Invite

from .load import Node, child, cpu_seconds, go_first, node, resident_bytes, said

CLIENTS = 1000
PROCESSES = 2  # that the parallel ones come from: one core's worth of clients each
AT_ONCE = 16  # in each process: the node takes 64 unfinished handshakes, 16 from one host
ENDS_S = 1.0  # for connections that were closed to be forgotten


def invite_line(directory: Path, host: str = "127.0.0.1") -> str:
    """A new invite, as a player gets it; `host` is where the node registers clients."""
    command = [
        sys.executable, "-m", "lightspeed_proxy", "invite", "bench",
        "--max-sessions", "10000", "--state", str(directory), "--host", host,
    ]  # fmt: skip
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def invited(directory: Path) -> str:
    """The token of a new invite, in hex."""
    token = Invite.parse(invite_line(directory)).token
    assert token is not None
    return token.hex()


def _register(
    target: Node, token: str, clients: int, processes: int, at_once: int
) -> dict[str, Any]:
    """Register `clients`; all their connections stand when memory is read."""
    memory, cpu = resident_bytes(target.pid), cpu_seconds(target.pid)
    before = target.health()["control"]["quic"]
    with ExitStack() as stack:
        each = clients // processes
        wanted = (str(target.control), str(each), str(at_once), token)
        crowds = [
            stack.enter_context(child("-m", "bench.clients", "crowd", *wanted, talks=True))
            for _ in range(processes)
        ]
        told = [said(crowd) for crowd in crowds]
        cpu = cpu_seconds(target.pid) - cpu
        standing = resident_bytes(target.pid) - memory
    time.sleep(ENDS_S)
    quic = target.health()["control"]["quic"]
    registered = sum(one["registered"] for one in told)
    slowest = max(one["seconds"] for one in told)
    return {
        "registered": registered,
        "failed": sum(one["failed"] for one in told),
        "seconds": slowest,
        "per_s": round(registered / slowest, 1),
        "median_ms": max(one["median_ms"] for one in told),
        "slowest_ms": max(one["slowest_ms"] for one in told),
        "node_cpu_ms_each": round(cpu * 1e3 / max(1, registered), 2),
        "clients_cpu_ms_each": max(one["clients_cpu_ms_each"] for one in told),
        "kb_each_connected": round(standing / 1024 / max(1, registered), 1),
        "node_dropped": {
            why: count - before["dropped"][why]
            for why, count in quic["dropped"].items()
            if count - before["dropped"][why]
        },
    }


def registering(directory: Path, seconds: float) -> dict[str, Any]:
    """1 000 clients with an invite: one after another, and from all sides at once."""
    clients = CLIENTS if seconds >= 2 else CLIENTS // 4
    token = invited(directory)
    with node(directory, clients=20_000, dev=False) as target:
        time.sleep(1.0)
        idle = resident_bytes(target.pid)
        figures: dict[str, Any] = {
            "node_first": go_first(target.pid),
            "clients": clients,
            "one_by_one": _register(target, token, clients, 1, 1),
            "parallel": _register(target, token, clients, PROCESSES, AT_ONCE),
        }
        grown = resident_bytes(target.pid) - idle
        figures["after"] = {
            "sessions_waiting": target.health()["registered"],
            "mb_above_idle": round(grown / 1e6, 1),
        }
    return figures
