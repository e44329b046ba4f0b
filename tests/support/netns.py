"""Network namespaces for tests: made, joined by veth pairs, always removed.

Names carry this process's id and a counter, so two runs at once do not meet. Needs root; ask
`skips.need_netns()` first.
"""

from __future__ import annotations

import ctypes
import itertools
import json
import os
import socket
import struct
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import attrs
from lightspeed_protocol.runtime.udp import open_socket

_COUNT = itertools.count()
COMMAND_S = 10

T = TypeVar("T")

CLONE_NEWNET: Final = 0x40000000
AF_NETLINK: Final = 16  # in `socket` only on Linux, where all of this runs
NETLINK_NETFILTER: Final = 12
CONNTRACK_DELETE: Final = 0x0102  # subsystem 1, message 2; without attributes it means all
REQUEST_ACK: Final = 5
NETLINK_ERROR: Final = 2
RAW: Final = 255  # IPPROTO_RAW: the header is ours too


def run(*words: str, stdin: str | None = None) -> str:
    """A command that must work; its output. Raises `AssertionError` with what it said."""
    done = subprocess.run(
        words, input=stdin, capture_output=True, text=True, timeout=COMMAND_S, check=False
    )
    assert done.returncode == 0, f"{' '.join(words)}: {done.stderr.strip()}"
    return done.stdout


@attrs.define(eq=False)
class Namespace:
    """One machine of a test's world."""

    name: str

    def do(self, *words: str, stdin: str | None = None) -> str:
        """Run a command in here."""
        return run("ip", "netns", "exec", self.name, *words, stdin=stdin)

    def link(self, name: str, state: str) -> None:
        """Turn an interface "up" or "down"."""
        self.do("ip", "link", "set", name, state)

    def inside(self, make: Callable[[], T]) -> T:
        """What `make` gives when it runs in here. A socket stays where it was made.

        On a thread of its own, which ends with it: there is no way back.
        """

        def enter() -> T:
            with open(f"/run/netns/{self.name}", "rb") as space:
                if ctypes.CDLL(None, use_errno=True).setns(space.fileno(), CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), "setns")
            return make()

        with ThreadPoolExecutor(1) as thread:
            return thread.submit(enter).result()

    def udp(self, address: tuple[str, int]) -> socket.socket:
        """A bound socket of this machine, held by the test itself."""
        return self.inside(partial(open_socket, address))

    def forger(self) -> socket.socket:
        """For whole IPv4 packets, as `forge` makes them."""
        return self.inside(partial(socket.socket, socket.AF_INET, socket.SOCK_RAW, RAW))

    def forget_connections(self) -> None:
        """Empty the kernel's connection table, as a router does that restarts or runs out of it."""
        with self.inside(
            partial(socket.socket, AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
        ) as kernel:
            kernel.settimeout(COMMAND_S)
            kernel.send(struct.pack("=IHHII4x", 20, CONNTRACK_DELETE, REQUEST_ACK, 1, 0))
            answer = kernel.recv(4096)
        kind, error = struct.unpack_from("=4xH10xi", answer)
        assert (kind, error) == (NETLINK_ERROR, 0), os.strerror(-error)

    def masquerade(self, cable: str) -> None:
        """Be the router of a household: all that leaves here comes from an address of `cable`.

        Ports are chosen at random, so that a forgotten connection never gets its old one again.
        """
        rule = f'oifname "{cable}" masquerade fully-random'
        self.do(
            "nft",
            "-f",
            "-",
            stdin=f"""
            table ip household {{
                chain leaving {{
                    type nat hook postrouting priority srcnat
                    {rule}
                }}
            }}
            """,
        )
        self.inside(partial(Path("/proc/sys/net/ipv4/ip_forward").write_text, "1"))

    def lose(self, port: int, percent: int) -> None:
        """Drop this share of the UDP packets to and from `port` here, at random, and count them.

        Both directions are dropped on arrival or before departure, so neither end is told.
        """
        match = f"numgen random mod 100 < {percent} counter drop"
        self.do(
            "nft",
            "-f",
            "-",
            stdin=f"""
            table inet weather {{
                chain arriving {{
                    type filter hook input priority 0
                    udp dport {port} {match}
                }}
                chain leaving {{
                    type filter hook postrouting priority 0
                    udp sport {port} {match}
                }}
            }}
            """,
        )

    def lost(self) -> dict[str, int]:
        """How many packets `lose` has dropped, by chain."""
        return {chain: each["packets"] for chain, each in self._counters("inet", "weather").items()}

    def meter(self, *hosts: str) -> None:
        """Count from now on what comes here from these IPv4 hosts, and what goes to them."""
        among = "{ " + ", ".join(hosts) + " }"
        self.do(
            "nft",
            "-f",
            "-",
            stdin=f"""
            table ip weighed {{
                chain arriving {{
                    type filter hook prerouting priority -300
                    ip saddr {among} counter
                }}
                chain leaving {{
                    type filter hook postrouting priority 300
                    ip daddr {among} counter
                }}
            }}
            """,
        )

    def metered(self) -> dict[str, int]:
        """Bytes of whole IP packets since then, by chain of `meter`."""
        return {chain: each["bytes"] for chain, each in self._counters("ip", "weighed").items()}

    def _counters(self, family: str, table: str) -> dict[str, dict[str, int]]:
        """Of each chain's one rule that counts."""
        listing: dict[str, Any] = json.loads(self.do("nft", "-j", "list", "table", family, table))
        return {
            rule["chain"]: part["counter"]
            for entry in listing["nftables"]
            if (rule := entry.get("rule"))
            for part in rule["expr"]
            if "counter" in part
        }


def forge(source: tuple[str, int], to: tuple[str, int], payload: bytes) -> bytes:
    """An IPv4 packet that says it comes from `source`; the kernel adds its length and checksum."""
    udp = struct.pack("!HHHH", source[1], to[1], 8 + len(payload), 0)  # 0: no checksum
    hosts = socket.inet_aton(source[0]) + socket.inet_aton(to[0])
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 0, 0, 0, 64, socket.IPPROTO_UDP, 0)
    return ip + hosts + udp + payload


@contextmanager
def open_namespaces(count: int) -> Iterator[list[Namespace]]:
    """So many machines with nothing but loopback, removed with all that is in them."""
    made: list[Namespace] = []
    try:
        for _ in range(count):
            name = f"ls-{os.getpid()}-{next(_COUNT)}"
            run("ip", "netns", "add", name)
            made.append(Namespace(name))
            made[-1].link("lo", "up")
        yield made
    finally:
        for space in made:
            run("ip", "netns", "del", space.name)


def join(one: Namespace, one_address: str, other: Namespace, other_address: str) -> str:
    """A cable between two machines, addresses as "192.0.2.1/24"; the name of both its ends."""
    cable = f"ls{os.getpid() % 100000}c{next(_COUNT)}"
    run(
        *("ip", "link", "add", cable, "netns", one.name, "type", "veth"),
        *("peer", "name", cable, "netns", other.name),
    )
    for space, address in ((one, one_address), (other, other_address)):
        space.do("ip", "address", "add", address, "dev", cable)
        space.link(cable, "up")
    return cable
