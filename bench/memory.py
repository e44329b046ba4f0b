"""Resident memory of an idle node, and what each session adds and gives back."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightspeed_protocol.header import FIN, control_packet
from lightspeed_protocol.seal import SealedEnd

from .clients import HOSTS
from .load import (
    Player,
    child,
    free_port,
    node,
    players,
    resident_bytes,
    said,
    sealed_player,
    tell,
    udp_socket,
)
from .registering import AT_ONCE, invited

COUNTS = (1000, 10000)


def _open_all(crowd: list[Player]) -> None:
    for number, player in enumerate(crowd):
        player.sock.sendto(player.datagram(), player.to)
        if number % 50 == 49:
            time.sleep(0.01)  # paced below what the node takes, so that none is lost
    time.sleep(0.5)


def _descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def _hang_up(crowd: list[Player]) -> None:
    for player in crowd:
        player.sock.close()


def _sealed(sessions: Sequence[tuple[int, str]], data: int, server: int) -> list[Player]:
    ends = (SealedEnd.client(number, bytes.fromhex(key)) for number, key in sessions)
    return [sealed_player(end, data, server) for end in ends]


def memory(directory: Path) -> dict[str, Any]:
    """Bytes resident: idle, with 1 000 and 10 000 sessions of either kind, and after them."""
    with udp_socket() as server:
        port = server.getsockname()[1]
        return _plain(directory, port) | _connected(directory, port) | _granted(port)


def _plain(directory: Path, server: int) -> dict[str, Any]:
    """Version 1 of an open node: the session is its first packet."""
    figures: dict[str, Any] = {}
    invited(directory)  # the node's key: making it at the first start costs 1.5 MB more
    with node(directory, clients=12000) as target:
        pid = target.pid
        time.sleep(1.0)
        idle, idle_descriptors = resident_bytes(pid), _descriptors(pid)
        figures["idle_mb"] = round(idle / 1e6, 1)
        for count in COUNTS:
            crowd = players(count, target.data, server)
            _open_all(crowd)
            opened = _descriptors(pid) - idle_descriptors
            grown = resident_bytes(pid) - idle
            figures[f"sessions_{count}"] = {
                "opened": opened,
                "kb_per_session": round(grown / 1024 / max(1, opened), 2),
            }
            for number, player in enumerate(crowd):
                player.sock.sendto(control_packet(FIN), player.to)
                if number % 50 == 49:
                    time.sleep(0.01)
            time.sleep(0.5)
            _hang_up(crowd)
        figures["after"] = {
            "descriptors_left": _descriptors(pid) - idle_descriptors,
            "mb_above_idle": round((resident_bytes(pid) - idle) / 1e6, 1),
        }
    return figures


def _connected(directory: Path, server: int) -> dict[str, Any]:
    """Sealed sessions as players have them, each with its QUIC connection."""
    count = COUNTS[0]
    with node(directory, clients=12000) as target:
        time.sleep(1.0)
        idle = resident_bytes(target.pid)
        wanted = (str(target.control), str(count), str(AT_ONCE))
        with child("-m", "bench.clients", "crowd", *wanted, talks=True) as clients:
            sessions = said(clients)["sessions"]
            registered = resident_bytes(target.pid) - idle
            files = _descriptors(target.pid)
            crowd = _sealed(sessions, target.data, server)
            _open_all(crowd)
            playing = resident_bytes(target.pid) - idle
            opened = _descriptors(target.pid) - files
            _hang_up(crowd)
    return {
        f"connected_{count}": {
            "opened": opened,
            "hosts": HOSTS,
            "kb_per_registration": round(registered / 1024 / len(sessions), 2),
            "kb_per_flow": round((playing - registered) / 1024 / max(1, opened), 2),
        }
    }


def _granted(server: int) -> dict[str, Any]:
    """Sealed sessions with one flow, whose clients have hung up."""
    figures: dict[str, Any] = {}
    data = free_port()
    with child("-m", "bench.members", str(data), talks=True) as target:
        assert said(target) == "ready"
        time.sleep(0.5)
        idle, idle_descriptors = resident_bytes(target.pid), _descriptors(target.pid)
        crowd: list[Player] = []
        for count in COUNTS:
            tell(target, str(count - len(crowd)))
            more = _sealed(said(target), data, server)
            crowd += more
            _open_all(more)
            opened = _descriptors(target.pid) - idle_descriptors
            grown = resident_bytes(target.pid) - idle
            figures[f"sealed_{count}"] = {
                "opened": opened,
                "kb_per_session": round(grown / 1024 / max(1, opened), 2),
            }
        _hang_up(crowd)
    return figures
