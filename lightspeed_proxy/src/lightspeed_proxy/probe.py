"""Measures this node's own way to a game server, for a client that chooses among nodes.

ICMP echo first, through Linux's unprivileged echo socket where the system allows it (sysctl
net.ipv4.ping_group_range). Where that is refused or nothing answers, the time to open a TCP
connection to the game's port: "accepted" and "refused" both took exactly one round trip. The
result names the method, and nothing but a round trip comes out: not whether a port is open.

Bounded in packets (at most `MOST_PROBES` of either kind, none larger than what asked for it), in
time and in number at once, so that nobody can use a node to disturb somebody else.
Source: RFC 792 and RFC 4443 (echo); PROTOCOL.md, "Control messages" (Probe).
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import sys
from collections.abc import Awaitable, Callable
from typing import Final

import attrs
import trio
from lightspeed_protocol.control_messages import MOST_PROBES, ProbeMethod, ProbeResult

AT_ONCE: Final = 4  # probes running on this node
WITHIN_S: Final = 2.0  # one of them, both methods together
ECHO_S: Final = 1.2  # of that; the rest is for TCP if nothing answered
GAP_S: Final = 0.05  # between two echoes

_ECHO: Final = struct.Struct("!BBHHH")  # type, code, checksum, identifier, sequence
_NONCE_BYTES: Final = 8


@attrs.define(eq=False)
class Tries:
    """What one method has done so far; a deadline may end it at any time."""

    sent: int = 0
    round_trips_s: list[float] = attrs.field(factory=list)

    def result(self, method: ProbeMethod) -> ProbeResult:
        times = self.round_trips_s
        if not times:
            return ProbeResult(ProbeMethod.NOTHING, self.sent, 0, 0, 0)
        least, median = _microseconds(min(times)), _microseconds(_median(times))
        return ProbeResult(method, self.sent, len(times), least, median)


Ask = Callable[[str, int, int, Tries], Awaitable[object]]  # address, port, count


@attrs.define(eq=False)
class Prober:
    """All probing of one node. `echo` and `knock` are replaced by tests only."""

    running: int = attrs.field(default=0, init=False)
    echo: Ask = attrs.field(factory=lambda: echo)
    knock: Ask = attrs.field(factory=lambda: knock)

    @property
    def busy(self) -> bool:
        return self.running >= AT_ONCE

    async def measure(self, address: str, port: int, count: int) -> ProbeResult:
        """Round trips to a numeric address; takes at most `WITHIN_S`."""
        count = max(1, min(count, MOST_PROBES))
        self.running += 1
        try:
            echoes = Tries()
            with trio.move_on_after(ECHO_S):
                await self.echo(address, port, count, echoes)
            if echoes.round_trips_s:
                return echoes.result(ProbeMethod.ICMP)
            knocks = Tries()
            with trio.move_on_after(WITHIN_S - ECHO_S):
                await self.knock(address, port, count, knocks)
            return knocks.result(ProbeMethod.TCP)
        finally:
            self.running -= 1


async def echo(address: str, _port: int, count: int, tries: Tries) -> None:
    """ICMP echoes until all are answered; returns at once where the system allows none."""
    sock = open_echo_socket(address)
    if sock is None:
        return
    nonce = os.urandom(_NONCE_BYTES)
    request = 128 if ":" in address else 8
    sent_at: dict[int, float] = {}

    async def hear() -> None:
        while len(tries.round_trips_s) < count:
            number = answered(await sock.recv(256), nonce, ipv6=":" in address)
            if number is not None and number in sent_at:
                tries.round_trips_s.append(trio.current_time() - sent_at.pop(number))

    with sock:
        try:
            async with trio.open_nursery() as nursery:
                await sock.connect((address, 0))
                nursery.start_soon(hear)
                for number in range(count):
                    sent_at[number] = trio.current_time()
                    # The kernel fills in identifier and checksum.
                    await sock.send(_ECHO.pack(request, 0, 0, 0, number) + nonce)
                    tries.sent += 1
                    await trio.sleep(GAP_S)
        except* OSError:
            pass  # no route, or a router that said so: as good as silence


def answered(packet: bytes, nonce: bytes, *, ipv6: bool) -> int | None:
    """The sequence number of an echo's answer, if it is one of ours."""
    if len(packet) < _ECHO.size or packet[_ECHO.size :] != nonce:
        return None
    kind, code, _, _, number = _ECHO.unpack_from(packet)
    return number if (kind, code) == (129 if ipv6 else 0, 0) else None


if sys.platform == "linux":

    def open_echo_socket(address: str) -> trio.socket.SocketType | None:
        """None where this process may not: TCP measures then."""
        family, protocol = socket.AF_INET, socket.IPPROTO_ICMP
        if ":" in address:
            family, protocol = socket.AF_INET6, socket.IPPROTO_ICMPV6
        try:
            return trio.socket.socket(family, socket.SOCK_DGRAM, protocol)
        except OSError:
            return None

else:

    def open_echo_socket(address: str) -> trio.socket.SocketType | None:
        """Other systems hand such a socket more than the echo: TCP measures there."""
        return None


async def knock(address: str, port: int, count: int, tries: Tries) -> None:
    """TCP connections, one after the other, each ended at once."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    for _ in range(count):
        try:
            with trio.socket.socket(family, socket.SOCK_STREAM) as sock:
                # No data was sent: a reset leaves nothing behind on either side.
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                began = trio.current_time()
                tries.sent += 1
                # Refused: somebody is there and said no, a round trip like any other.
                with contextlib.suppress(ConnectionRefusedError):
                    await sock.connect((address, port))
                tries.round_trips_s.append(trio.current_time() - began)
        except OSError:
            return  # no descriptor, no route


def _microseconds(seconds: float) -> int:
    return max(1, min(round(seconds * 1e6), 0xFFFF_FFFF))


def _median(values: list[float]) -> float:
    """Of at least one. The standard library's comes with 0.5 MB of exact arithmetic."""
    ordered, half = sorted(values), len(values) // 2
    return (ordered[half] + ordered[~half]) / 2
