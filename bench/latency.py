"""What client and node add to a round trip at a game's packet rate, beside direct loopback."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightspeed_protocol.rtt import percentile

from .load import child, free_port, node

PACKETS_PER_S = 64
PAYLOAD = bytes(100)


@contextmanager
def redirect(node_port: int, server: int, fec: str) -> Iterator[int]:
    """The client as a player runs it; yields the local port the game would be pointed at."""
    local = free_port()
    arguments = (
        "-m", "lightspeed_client", "redirect", "--proxy", f"127.0.0.1:{node_port}",
        "--server", f"127.0.0.1:{server}", "--local-port", str(local), "--fec", fec, "--json",
    )  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        assert process.stdout is not None
        json.loads(process.stdout.readline())  # the first figures: it listens
        yield local
    finally:
        process.terminate()
        process.communicate(timeout=10)


def _round_trips(port: int, seconds: float) -> list[float]:
    """Seconds each, at `PACKETS_PER_S`; a packet that does not come back is left out."""
    times: list[float] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(("127.0.0.1", port))
        sock.settimeout(0.5)
        due = time.perf_counter()
        for _ in range(int(seconds * PACKETS_PER_S)):
            due += 1 / PACKETS_PER_S
            time.sleep(max(0.0, due - time.perf_counter()))
            began = time.perf_counter()
            sock.send(PAYLOAD)
            try:
                sock.recv(2048)
            except OSError:
                continue
            times.append(time.perf_counter() - began)
    return times[PACKETS_PER_S // 2 :]  # without the first packets, which open the flow


def _figures(times: list[float]) -> dict[str, float]:
    return {
        "p50_ms": round(percentile(times, 0.5) * 1e3, 3),
        "p99_ms": round(percentile(times, 0.99) * 1e3, 3),
        "samples": len(times),
    }


def latency(directory: Path, seconds: float) -> dict[str, Any]:
    """Round trips direct, through client and node, and the same with XOR over 4, in turn."""
    server = free_port()
    rows: dict[str, list[float]] = {"direct": [], "tunnel": [], "tunnel_xor4": []}
    with (
        child("-m", "bench.peers", "echo", str(server), "0"),
        node(directory) as relay,
        redirect(relay.data, server, "off") as plain,
        redirect(relay.data, server, "xor:4") as protected,
    ):
        ports = {"direct": server, "tunnel": plain, "tunnel_xor4": protected}
        for _ in range(3):
            for name, port in ports.items():
                rows[name] += _round_trips(port, seconds)
    figures: dict[str, Any] = {name: _figures(times) for name, times in rows.items()}
    for name in ("tunnel", "tunnel_xor4"):
        figures[f"{name}_adds_ms"] = {
            share: round(figures[name][share] - figures["direct"][share], 3)
            for share in ("p50_ms", "p99_ms")
        }
    return figures
