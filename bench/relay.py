"""Relay throughput per core: the node with every check on, beside forwarders that check nothing."""

from __future__ import annotations

import math
import socket
import statistics
from pathlib import Path
from typing import Any

from .load import Cost, drive, node, peer, players, udp_socket

IN_FLIGHT = 64
PACED_PER_S = 4000  # round trips: 8 000 packets forwarded, a node with 60 players
ROUNDS = 3  # each subject in turn, so that a slow spell of the machine falls on all alike


def median_of(costs: list[Cost]) -> dict[str, Any]:
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
            node(directory) as relay,
        ):
            subjects = [
                ("await", await_pid, players(1, await_port, None)),
                ("drain", drain_pid, players(1, drain_port, None)),
                ("node", relay.pid, players(1, relay.data, server)),
            ]
            for _, pid, crowd in subjects:
                drive(pid, crowd, echo, seconds=seconds / 4, in_flight=IN_FLIGHT)  # warm up
            for _ in range(ROUNDS):
                for name, pid, crowd in subjects:
                    costs[name].append(
                        drive(pid, crowd, echo, seconds=seconds, in_flight=IN_FLIGHT)
                    )
    figures = {name: median_of(rows) for name, rows in costs.items()}
    per_core = {name: row["packets_per_s_per_core"] for name, row in figures.items()}
    return figures | {
        "node_over_await": round(per_core["node"] / per_core["await"], 2),
        "node_over_drain": round(per_core["node"] / per_core["drain"], 2),
        "drain_over_await": round(per_core["drain"] / per_core["await"], 2),  # what can be had here
    }


def flatness(directory: Path, seconds: float) -> dict[str, Any]:
    """CPU per forwarded datagram with 1, 100 and 10 000 flows open and all of them in use.

    Once at one and the same packet rate, and once with 64 in flight, as fast as it goes. There
    10 000 flows come in the worst order for a processor's caches, each only after all others.
    """
    counts = (1, 100, 10000)
    figures: dict[str, Any] = {}
    with udp_socket() as echo, node(directory, clients=12000) as relay:
        crowds = {n: players(n, relay.data, echo.getsockname()[1]) for n in counts}
        for crowd in crowds.values():  # opens the flows
            opening_s = max(1.0, len(crowd) / 3000)
            drive(relay.pid, crowd, echo, seconds=opening_s, in_flight=IN_FLIGHT)
        for name, per_s in (("paced", PACED_PER_S), ("saturated", math.inf)):
            costs: dict[int, list[Cost]] = {n: [] for n in counts}
            for _ in range(ROUNDS):
                for n, crowd in crowds.items():
                    costs[n].append(
                        drive(
                            relay.pid,
                            crowd,
                            echo,
                            seconds=seconds,
                            in_flight=IN_FLIGHT,
                            per_s=per_s,
                        )
                    )
            rows = {str(n): median_of(costs[n]) for n in counts}
            cpu = [row["cpu_us_per_packet"] for row in rows.values()]
            figures[name] = rows | {"most_over_least": round(max(cpu) / min(cpu), 2)}
        for crowd in crowds.values():
            for player in crowd:
                player.sock.close()
    return figures


def raise_descriptor_limit() -> None:
    """Ten thousand players need as many sockets here, and the node as many again."""
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def udp_memory_note() -> str:
    """Loopback sockets keep unread datagrams in kernel memory, which no figure here counts."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        return f"receive buffer {sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)} bytes"
