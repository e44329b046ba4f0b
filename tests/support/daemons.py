"""Real processes for the tests in `real` and `net`: started, watched line by line, always ended.

A child may run inside a network namespace (`inside`). What it printed is kept and shown when a
wait fails, so that a failure in CI can be read without running it again.
"""

from __future__ import annotations

import json
import os
import random
import socket
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from subprocess import PIPE, STDOUT
from typing import Any

import attrs
import trio

READY_S = 20.0  # a start on a busy 2-core machine; usually under one
STOP_S = 8.0  # the daemons promise 6
POLL_S = 0.05
PORTS = (20000, 30000)  # Linux hands out from 32768 on, macOS and Windows from 49152
TRIES = 1000


@attrs.define(eq=False)
class Child:
    """A running program; `lines` is everything it has printed, oldest first."""

    name: str
    process: trio.Process
    lines: list[str] = attrs.field(factory=list)

    async def read(self) -> None:
        """Keep the output until its end."""
        assert self.process.stdout is not None
        rest = b""
        async for chunk in self.process.stdout:
            *whole, rest = (rest + chunk).split(b"\n")
            self.lines += [line.decode(errors="replace") for line in whole]
        if rest:
            self.lines.append(rest.decode(errors="replace"))

    async def until(self, done: Callable[[], bool], what: str, within_s: float = READY_S) -> None:
        """Wait for `done`; raises `AssertionError` with the output if it ends or takes too long."""
        with trio.move_on_after(within_s):
            while not done():
                if self.process.poll() is not None:
                    raise AssertionError(f"{self.name} ended before {what}:\n{self.tail()}")
                await trio.sleep(POLL_S)
            return
        raise AssertionError(f"{self.name}: no {what} within {within_s:.0f} s:\n{self.tail()}")

    async def printed(self, text: str, within_s: float = READY_S) -> None:
        """Wait until a line holds `text`."""
        await self.until(lambda: any(text in line for line in self.lines), repr(text), within_s)

    def records(self) -> list[dict[str, Any]]:
        """The JSON objects among the lines."""
        return [json.loads(line) for line in list(self.lines) if line.startswith("{")]

    def latest(self) -> dict[str, Any]:
        """The newest of them; empty before the first."""
        return next((json.loads(line) for line in self.lines[::-1] if line.startswith("{")), {})

    def tail(self) -> str:
        """The end of the output, for a failure's message."""
        return "\n".join(self.lines[-12:])

    async def stop(self) -> int:
        """SIGTERM, then SIGKILL; the exit status."""
        if self.process.poll() is None:
            self.process.terminate()
            with trio.move_on_after(STOP_S):
                return await self.process.wait()
            self.process.kill()
        return await self.process.wait()


@asynccontextmanager
async def open_child(
    name: str,
    command: Sequence[str | Path],
    *,
    inside: str | None = None,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> AsyncIterator[Child]:
    """Run a command for the length of the block."""
    where = ["ip", "netns", "exec", inside] if inside else []
    process = await trio.lowlevel.open_process(
        [*where, *map(str, command)],
        stdin=None,
        stdout=PIPE,
        stderr=STDOUT,
        cwd=cwd,
        env={**os.environ, "PYTHONUNBUFFERED": "1", **(env or {})},
    )
    child = Child(name, process)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(child.read)
        try:
            yield child
        finally:
            with trio.CancelScope(shield=True):
                await child.stop()


@asynccontextmanager
async def open_node(
    data: str, http: str, *, inside: str | None = None, options: Sequence[str] = ()
) -> AsyncIterator[Child]:
    """A `lightspeed-proxy run --dev` that is ready to carry."""
    command = [sys.executable, "-m", "lightspeed_proxy", "run", "--dev"]
    command += ["--data", data, "--http", http, *options]
    async with open_child("node", command, inside=inside) as child:
        await child.printed("is ready")
        yield child


def player_env(home: Path) -> dict[str, str]:
    """A player's own directories: what a client keeps stays under `home`."""
    homes = {"HOME": home, "XDG_CONFIG_HOME": home / "config", "XDG_STATE_HOME": home / "state"}
    return {name: str(path) for name, path in homes.items()}


@asynccontextmanager
async def open_client(
    home: Path,
    *,
    server: str,
    proxy: str | None = None,
    local_port: int,
    fec: str = "off",
    inside: str | None = None,
    ready: bool = True,
) -> AsyncIterator[Child]:
    """A `lightspeed redirect --json` that has heard its node. Its files stay under `home`.

    Without `proxy` it uses the node that was added under `home`. With `ready=False` it has only
    begun: games can be pointed at it, but it may be one that never hears its node.
    """
    command = [sys.executable, "-m", "lightspeed_client", "redirect", "--json"]
    command += ["--server", server, "--fec", fec, "--local-port", str(local_port)]
    command += [] if proxy is None else ["--proxy", proxy]
    async with open_child("client", command, inside=inside, env=player_env(home)) as client:
        await client.until(lambda: bool(client.latest()), "first figures")
        if ready:
            await client.until(
                lambda: client.latest().get("rtt_ms") is not None, "answer from the node"
            )
        yield client


def free_ports(count: int) -> list[int]:
    """Ports free for UDP and TCP on loopback a moment ago.

    Below the range the kernel hands out by itself, or any program's next socket might take one
    before the child we picked it for; at random, so that two runs at once seldom meet.
    """
    ports: set[int] = set()
    pick = random.SystemRandom()
    for _ in range(TRIES):
        port = pick.randrange(*PORTS)
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
            socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tcp,
        ):
            try:
                udp.bind(("0.0.0.0", port))
                tcp.bind(("0.0.0.0", port))
            except OSError:
                continue
        ports.add(port)
        if len(ports) == count:
            return list(ports)
    raise AssertionError(f"no {count} free ports among {PORTS}")


async def run_command(
    command: Sequence[str | Path], *, within_s: float = 20.0, env: Mapping[str, str] | None = None
) -> str:
    """What a short command prints on stdout. Fails the test if it runs too long."""
    with trio.fail_after(within_s):
        done = await trio.run_process(
            [str(word) for word in command],
            capture_stdout=True,
            stderr=STDOUT,
            check=False,
            env={**os.environ, **(env or {})},
        )
    return done.stdout.decode(errors="replace")
