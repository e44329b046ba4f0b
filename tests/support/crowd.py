"""Thousands of clients at once, on sockets of this process, and what a process holds."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import trio
from lightspeed_protocol.header import FIN, Header, control_packet

assert sys.platform == "linux"
import resource  # noqa: E402

Address = tuple[str, int]

PACE = 50  # packets, then a breath: the node's receive buffer is finite


def resident_mb(pid: int) -> float:
    """Resident memory in megabytes (10^6 bytes)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise AssertionError(f"no VmRSS for {pid}")


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


async def churn(node: Address, count: int, pid: int) -> int:
    """`count` clients open a session and say FIN; how many sockets the node had open."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    soft_before = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    idle = descriptors(pid)
    crowd: list[socket.socket] = []
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
            server.bind(("127.0.0.1", 0))
            for number in range(count):
                sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                crowd.append(sock)
                sock.connect(node)
                destination: Address = server.getsockname()
                header = Header(source=("127.0.0.1", 1 + number), destination=destination)
                sock.send(header.encode() + b"hello")
                if number % PACE == 0:
                    await trio.sleep(0.01)
            await trio.sleep(0.3)
            opened = descriptors(pid) - idle
            for number, sock in enumerate(crowd):
                sock.send(control_packet(FIN))
                if number % PACE == 0:
                    await trio.sleep(0.01)
            await trio.sleep(0.3)
            return opened
    finally:
        for sock in crowd:
            sock.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft_before, hard))
