"""Relay throughput per core: the node with every check on, beside forwarders that check nothing."""

from __future__ import annotations

import socket
import statistics
from pathlib import Path
from typing import Any

from .load import Cost, drive, node, peer, players, udp_socket

IN_FLIGHT = 64
ROUNDS = 3  # each subject in turn, so that a slow spell of the machine falls on all alike


def _median(costs: list[Cost]) -> dict[str, Any]:
    return {
        "cpu_us_per_packet": round(statistics.median(cost.cpu_us for cost in costs), 2),
        "packets_per_s_per_core": round(statistics.median(cost.per_core for cost in costs)),
        "lost": sum(cost.lost for cost in costs),
        "packets": sum(cost.packets for cost in costs),
    }


def throughput(directory: Path, seconds: float) -> dict[str, Any]:
    """CPU per forwarded datagram, 120-byte payloads, 64 in flight, one client."""
    with udp_socket() as echo:
        server = echo.getsockname()[1]
        costs: dict[str, list[Cost]] = {"await": [], "drain": [], "node": []}
        with (
            peer("await", server) as (await_pid, await_port),
            peer("drain", server) as (drain_pid, drain_port),
            node(directory) as (node_pid, node_port),
        ):
            subjects = [
                ("await", await_pid, players(1, await_port, None)),
                ("drain", drain_pid, players(1, drain_port, None)),
                ("node", node_pid, players(1, node_port, server)),
            ]
            for _, pid, crowd in subjects:
                drive(pid, crowd, echo, seconds=seconds / 4, in_flight=IN_FLIGHT)  # warm up
            for _ in range(ROUNDS):
                for name, pid, crowd in subjects:
                    costs[name].append(
                        drive(pid, crowd, echo, seconds=seconds, in_flight=IN_FLIGHT)
                    )
    figures = {name: _median(rows) for name, rows in costs.items()}
    per_core = {name: row["packets_per_s_per_core"] for name, row in figures.items()}
    return figures | {
        "node_over_await": round(per_core["node"] / per_core["await"], 2),
        "node_over_drain": round(per_core["node"] / per_core["drain"], 2),
    }


def flatness(directory: Path, seconds: float) -> dict[str, Any]:
    """CPU per forwarded datagram with 1, 100 and 10 000 flows open and all of them in use."""
    figures: dict[str, Any] = {}
    with udp_socket() as echo, node(directory, clients=12000) as (pid, port):
        server = echo.getsockname()[1]
        for count in (1, 100, 10000):
            crowd = players(count, port, server)
            rounds = [
                drive(pid, crowd, echo, seconds=seconds * (3 if turn == 0 else 1), in_flight=64)
                for turn in range(ROUNDS + 1)
            ]
            figures[str(count)] = _median(rounds[1:])  # the first opened the flows
            for player in crowd:
                player.sock.close()
    cpu = [figures[str(count)]["cpu_us_per_packet"] for count in (1, 100, 10000)]
    return figures | {"most_over_least": round(max(cpu) / min(cpu), 2)}


def raise_descriptor_limit() -> None:
    """Ten thousand players need as many sockets here, and the node as many again."""
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def udp_memory_note() -> str:
    """Loopback sockets keep unread datagrams in kernel memory, which no figure here counts."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        return f"receive buffer {sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)} bytes"
