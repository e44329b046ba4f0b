"""Drives a relay in a child process and reads what it cost: packets, CPU seconds, memory.

Load is closed-loop: so many packets are in flight and an answer sends the next, so nothing is
lost and the relay is never asked for more than it can do. CPU time and memory are the child's
own, from /proc, so the load generator's share of the machine does not count.
"""

from __future__ import annotations

import json
import math
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.request import urlopen

import attrs
from lightspeed_protocol.endpoint import Endpoint
from lightspeed_protocol.header import pack_addresses
from lightspeed_protocol.seal import SealedEnd
from lightspeed_protocol.sealed_flow import SealedFlow

Address = tuple[str, int]
PAYLOAD: Final = bytes(120)
BATCH: Final = 64
_TICK_S: Final = 1 / os.sysconf("SC_CLK_TCK")


@attrs.frozen
class Cost:
    """What `packets` datagrams forwarded by a child cost; a round trip forwards two."""

    packets: int
    lost: int
    wall_s: float
    cpu_s: float

    @property
    def cpu_us(self) -> float:
        """Microseconds of CPU per forwarded datagram."""
        return self.cpu_s / self.packets * 1e6

    @property
    def per_core(self) -> float:
        """Forwarded datagrams a second that one fully busy core would carry."""
        return self.packets / self.cpu_s


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * _TICK_S


def go_first(*pids: int) -> bool:
    """Let these run before everything else here, as if load and bystanders were other machines.

    Needs root; False without.
    """
    try:
        for pid in pids:
            os.sched_setscheduler(pid, os.SCHED_FIFO, os.sched_param(1))
    except PermissionError:
        return False
    return True


def resident_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"no VmRSS for {pid}")


def free_port(kind: int = socket.SOCK_DGRAM) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def child(*arguments: str, talks: bool = False) -> Iterator[subprocess.Popen[bytes]]:
    """A Python child that is ended by its pid, whatever happens; `talks` gives it pipes."""
    pipe = subprocess.PIPE if talks else None
    process = subprocess.Popen(
        [sys.executable, *arguments], stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(8)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for end in (process.stdin, process.stdout):
            if end is not None:
                end.close()


def said(process: subprocess.Popen[bytes]) -> Any:
    """The next line of a child that talks, which is JSON."""
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"{process.args!r} ended with {process.wait()}")
    return json.loads(line)


def tell(process: subprocess.Popen[bytes], line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(f"{line}\n".encode())
    process.stdin.flush()


def last_words(process: subprocess.Popen[bytes]) -> Any:
    """What a child that talks says when its input ends."""
    assert process.stdin is not None
    process.stdin.close()
    return said(process)


@attrs.frozen(kw_only=True)
class Node:
    """A running node: its process, and its ports on 127.0.0.1."""

    pid: int
    data: int
    control: int
    http: int

    def health(self) -> dict[str, Any]:
        with urlopen(f"http://127.0.0.1:{self.http}/health", timeout=5) as answer:
            fields = json.load(answer)
        assert isinstance(fields, dict)
        return fields


@contextmanager
def node(
    directory: Path, *, clients: int = 100, dev: bool = True, more: str = ""
) -> Iterator[Node]:
    """A node with every check on and limits high enough for the load.

    With `dev` anybody may register and loopback is a destination. Without, it needs an invite from
    `directory`, where its key is. `more` settings go into its file.
    """
    made = Node(pid=0, data=free_port(), control=free_port(), http=free_port(socket.SOCK_STREAM))
    config = directory / "proxy.toml"
    config.write_text(
        "[limits]\n"
        f"max_clients = {clients}\nmax_flows_per_client = 16\n"
        "max_pps_per_client = 10000000\nmax_bps_per_client = 10000000000\n" + more
    )
    run = [
        "-m", "lightspeed_proxy", "run", "--config", str(config), "--state", str(directory),
        "--data", f"127.0.0.1:{made.data}", "--control", f"127.0.0.1:{made.control}",
        "--http", f"127.0.0.1:{made.http}",
    ]  # fmt: skip
    with child(*run, *(["--dev"] if dev else [])) as process:
        _wait_for_tcp(made.http, process)
        yield attrs.evolve(made, pid=process.pid)


@contextmanager
def peer(kind: str, server: int) -> Iterator[tuple[int, int]]:
    """A bare forwarder: (pid, port)."""
    port = free_port()
    with child("-m", "bench.peers", kind, str(port), str(server)) as process:
        time.sleep(1.0)  # it says nothing when it is ready
        yield process.pid, port


def _wait_for_tcp(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(200):
        if process.poll() is not None:
            raise RuntimeError(f"the node ended with {process.returncode}")
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError("the node did not start")


def udp_socket(port: int = 0) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 21)
    sock.bind(("127.0.0.1", port))
    sock.setblocking(False)
    return sock


def arrived(sock: socket.socket) -> list[tuple[bytes, Address]]:
    """What has arrived, up to `BATCH`, and from whom."""
    found: list[tuple[bytes, Address]] = []
    while len(found) < BATCH:
        try:
            found.append(sock.recvfrom(4096))
        except BlockingIOError:
            break
        except ConnectionError:
            continue  # ICMP's answer to an earlier packet: nobody is there any more
    return found


@attrs.define(eq=False)
class Player:
    """One game conversation: raw towards a bare peer, in the tunnel towards a node."""

    sock: socket.socket
    to: Address
    endpoint: Endpoint | SealedFlow | None = None

    def datagram(self) -> bytes:
        if self.endpoint is None:
            return PAYLOAD
        if isinstance(self.endpoint, SealedFlow):
            return self.endpoint.wrap(PAYLOAD, 0, 0.0)[0]
        return self.endpoint.wrap(PAYLOAD, 0)[0]


def sealed_player(end: SealedEnd, port: int, server: int) -> Player:
    """One game of a client that has registered."""
    sock = udp_socket()
    key = pack_addresses(sock.getsockname(), ("127.0.0.1", server))
    return Player(sock, ("127.0.0.1", port), SealedFlow.open(end, key))


def players(count: int, port: int, server: int | None) -> list[Player]:
    """`server` names the game server inside the tunnel; None speaks plainly."""
    made = []
    for _ in range(count):
        sock = udp_socket()
        key = pack_addresses(sock.getsockname(), ("127.0.0.1", server or 0))
        endpoint = None if server is None else Endpoint.open(key)
        made.append(Player(sock, ("127.0.0.1", port), endpoint))
    return made


def drive(
    pid: int,
    crowd: list[Player],
    echo: socket.socket,
    *,
    seconds: float,
    in_flight: int,
    per_s: float = math.inf,
) -> Cost:
    """Keep up to `in_flight` packets going round, spread over all of `crowd`.

    `per_s` also holds them to a rate: then a slow and a fast relay are asked the same.
    """
    poll = select.epoll()
    by_fd = {player.sock.fileno(): player for player in crowd}
    for fd in (*by_fd, echo.fileno()):
        poll.register(fd, select.EPOLLIN)
    echo_fd = echo.fileno()
    waiting = list(reversed(crowd))
    flying = sent = back = 0
    cpu, began = cpu_seconds(pid), time.monotonic()
    now = last = began
    while now - began < seconds or (flying and now - last < 1.0):
        while flying < in_flight and now - began < seconds and sent < (now - began) * per_s:
            player = waiting.pop() if waiting else crowd[sent % len(crowd)]
            player.sock.sendto(player.datagram(), player.to)
            sent += 1
            flying += 1
        for fd, _ in poll.poll(0.2 if per_s == math.inf else 0.0005, 256):
            if fd == echo_fd:
                for payload, source in arrived(echo):
                    echo.sendto(payload, source)
                continue
            player = by_fd[fd]
            try:
                player.sock.recv(4096)
            except OSError:
                continue
            waiting.insert(0, player) if len(crowd) > in_flight else waiting.append(player)
            back += 1
            flying -= 1
            last = now
        now = time.monotonic()
        if flying and now - last > 0.5 and now - began < seconds:
            flying = 0  # lost: counted at the end, and the load goes on
            last = now
    poll.close()
    return Cost(2 * back, sent - back, now - began, cpu_seconds(pid) - cpu)
