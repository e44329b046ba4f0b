"""Resident memory of an idle node, and what each session adds and gives back."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from lightspeed_protocol.header import FIN, control_packet

from .load import Player, node, players, resident_bytes, udp_socket


def _open_all(crowd: list[Player]) -> None:
    for number, player in enumerate(crowd):
        player.sock.sendto(player.datagram(), player.to)
        if number % 50 == 49:
            time.sleep(0.01)  # paced below what the node takes, so that none is lost
    time.sleep(0.5)


def _descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def memory(directory: Path) -> dict[str, Any]:
    """Bytes resident: idle, with 1 000 and 10 000 sessions, and after they have left."""
    figures: dict[str, Any] = {}
    with udp_socket() as server, node(directory, clients=12000) as (pid, port):
        time.sleep(1.0)
        idle, idle_descriptors = resident_bytes(pid), _descriptors(pid)
        figures["idle_mb"] = round(idle / 1e6, 1)
        for count in (1000, 10000):
            crowd = players(count, port, server.getsockname()[1])
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
            for player in crowd:
                player.sock.close()
        figures["after"] = {
            "descriptors_left": _descriptors(pid) - idle_descriptors,
            "mb_above_idle": round((resident_bytes(pid) - idle) / 1e6, 1),
        }
    return figures
