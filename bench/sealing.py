"""What it costs that nobody can forge a packet: each one by itself, and in the node's relay."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import trio
from lightspeed_protocol.header import HEADER_BYTES, pack_addresses
from lightspeed_protocol.seal import (
    NO_FEC,
    SEALED_BYTES,
    VERSION_SEALED,
    Opener,
    Sealer,
    direction_keys,
)

from .clients import register_once
from .load import PAYLOAD, Cost, drive, node, peer, players, sealed_player, udp_socket
from .relay import IN_FLIGHT, ROUNDS, median_of

PAYLOAD_BYTES = 100
AT_A_TIME = 2000  # packets in a round, a few tens of milliseconds
FIRST = VERSION_SEALED << 4


def _best_us(rounds: int, one: Callable[[], float]) -> float:
    """Microseconds a packet in the round that was disturbed least."""
    return round(min(one() for _ in range(rounds)) / AT_A_TIME * 1e6, 2)


def alone(seconds: float) -> dict[str, float]:
    """Sealing and opening packets of 100 bytes, nothing around it."""
    key, _ = direction_keys(bytes(16), 7)
    sealer, opener = Sealer(key, bytes(4)), Opener(key)
    addresses = pack_addresses(("127.0.0.1", 1), ("127.0.0.1", 2))
    payload = bytes(PAYLOAD_BYTES)
    made: list[bytes] = []

    def seal() -> float:
        began = time.perf_counter()
        made[:] = [sealer.seal(FIRST, 1, addresses, NO_FEC, payload) for _ in range(AT_A_TIME)]
        return time.perf_counter() - began

    def open_() -> float:
        seal()
        began = time.perf_counter()
        for datagram in made:
            opener.open(datagram, SEALED_BYTES, 0.0)
        return time.perf_counter() - began

    rounds = int(20 * seconds)
    open_us = _best_us(rounds, open_)  # first: what was sealed and not opened cannot be caught up
    return {"seal_us": _best_us(rounds, seal), "open_us": open_us}


def sealing(directory: Path, seconds: float) -> dict[str, Any]:
    """One packet alone; then CPU per forwarded datagram: sealed, version 1, bare forwarders."""
    figures: dict[str, Any] = {"alone": alone(seconds)}
    names = ("await", "drain", "v1", "sealed")
    costs: dict[str, list[Cost]] = {name: [] for name in names}
    with (
        udp_socket() as echo,
        peer("await", echo.getsockname()[1]) as (await_pid, await_port),
        peer("drain", echo.getsockname()[1]) as (drain_pid, drain_port),
        node(directory) as relay,
    ):
        server = echo.getsockname()[1]
        end = trio.run(register_once, relay.control)
        subjects = [
            ("await", await_pid, players(1, await_port, None)),
            ("drain", drain_pid, players(1, drain_port, None)),
            ("v1", relay.pid, players(1, relay.data, server)),
            ("sealed", relay.pid, [sealed_player(end, relay.data, server)]),
        ]
        for _, pid, crowd in subjects:
            drive(pid, crowd, echo, seconds=seconds / 4, in_flight=IN_FLIGHT)  # warm up
        for _ in range(ROUNDS):
            for name, pid, crowd in subjects:
                costs[name].append(drive(pid, crowd, echo, seconds=seconds, in_flight=IN_FLIGHT))
    rows = {name: median_of(row) for name, row in costs.items()}
    per_core = {name: row["packets_per_s_per_core"] for name, row in rows.items()}
    return (
        figures
        | rows
        | {
            "header_bytes": {"v1": HEADER_BYTES, "sealed": SEALED_BYTES, "payload": len(PAYLOAD)},
            "sealed_over_v1": round(per_core["sealed"] / per_core["v1"], 2),
            "sealing_share_of_cpu": round(1 - per_core["sealed"] / per_core["v1"], 2),
            "sealed_over_await": round(per_core["sealed"] / per_core["await"], 2),
            "sealed_over_drain": round(per_core["sealed"] / per_core["drain"], 2),
        }
    )
