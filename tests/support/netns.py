"""Network namespaces for tests: made, joined by veth pairs, always removed.

Names carry this process's id and a counter, so two runs at once do not meet. Needs root; ask
`skips.need_netns()` first.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import attrs

_COUNT = itertools.count()
COMMAND_S = 10


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
        listing: dict[str, Any] = json.loads(
            self.do("nft", "-j", "list", "table", "inet", "weather")
        )
        return {
            rule["chain"]: part["counter"]["packets"]
            for entry in listing["nftables"]
            if (rule := entry.get("rule"))
            for part in rule["expr"]
            if "counter" in part
        }


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
