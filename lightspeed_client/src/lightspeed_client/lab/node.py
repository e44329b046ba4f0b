"""A node as a child process: started on free ports, awaited, watched, and always ended.

The client never imports the node's distribution; it runs it as a player's machine would.
"""

from __future__ import annotations

import importlib.util
import socket
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import attrs
import trio
from lightspeed_protocol.errors import LightSpeedError
from lightspeed_protocol.runtime.udp import Address

MODULE: Final = "lightspeed_proxy"
START_S: Final = 10.0  # a start takes about a second; a busy machine several
STOP_S: Final = 3.0  # then SIGKILL; the node is told to drain for less
TRIES: Final = 5  # for ports that another program took in between
KEPT_LINES: Final = 40  # of what the node said, to show when it dies


class WorldBroken(LightSpeedError):
    """A part of the lab's world is missing or died; the text says which and what to do."""


@attrs.frozen(kw_only=True)
class NodeLimits:
    """What the lab's node allows; the lab asks for enough that its own load passes."""

    max_clients: int = 100
    max_pps_per_client: int = 1000
    max_bps_per_client: int = 1_000_000

    def to_toml(self) -> str:
        """A whole configuration file, so that this machine's own is not read."""
        limits = "\n".join(f"{name} = {value}" for name, value in attrs.asdict(self).items())
        return f"[limits]\n{limits}\n\n[shutdown]\ndrain_s = 0.2\n"


@attrs.define(eq=False)
class NodeProcess:
    """A running node. `data` is where its tunnels come in."""

    data: Address
    http: Address
    process: trio.Process
    said: deque[str] = attrs.field(factory=lambda: deque(maxlen=KEPT_LINES))

    @property
    def pid(self) -> int:
        return self.process.pid

    def last_words(self) -> str:
        """What it said last, indented for a message."""
        return "\n".join(f"  {line}" for line in self.said) or "  (it said nothing)"


@asynccontextmanager
async def open_node(limits: NodeLimits) -> AsyncIterator[NodeProcess]:
    """A node that is ready. Raises `WorldBroken` when it cannot be had or dies meanwhile."""
    require_distribution()
    with tempfile.TemporaryDirectory(prefix="lightspeed-lab-") as folder:
        node = await _start(_write(limits, Path(folder, "proxy.toml")))
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_listen, node)
                nursery.start_soon(_watch, node)
                yield node
                nursery.cancel_scope.cancel("lab over")
        finally:
            with trio.CancelScope(shield=True):
                await _end(node)


async def _start(config: Path) -> NodeProcess:
    """A node that answers; another program may take a free port first, then it is tried again."""
    for _ in range(TRIES):
        node = await _spawn(config)
        ready = False
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_listen, node)
                ready = await _wait_ready(node)
                nursery.cancel_scope.cancel("ready, or to be tried again")
        finally:
            if not ready:
                with trio.CancelScope(shield=True):
                    await _end(node)
        if ready:
            return node
    raise WorldBroken(f"found no free port for a node in {TRIES} tries: try again")


def require_distribution() -> None:
    """Raises `WorldBroken` with the remedy; a bare folder of that name does not count."""
    spec = importlib.util.find_spec(MODULE)
    if spec is None or spec.origin is None:
        raise WorldBroken(
            "the lab runs a node of its own, and lightspeed-proxy is not installed for"
            f" {sys.executable}: install it next to the client (`pip install lightspeed-proxy`,"
            " in a checkout `make dev`)"
        )


def _write(limits: NodeLimits, path: Path) -> Path:
    path.write_text(limits.to_toml(), "utf-8")
    return path


def _free_port(kind: socket.SocketKind) -> int:
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        assert isinstance(port, int)
        return port


async def _spawn(config: Path) -> NodeProcess:
    data = ("127.0.0.1", _free_port(socket.SOCK_DGRAM))
    http = ("127.0.0.1", _free_port(socket.SOCK_STREAM))
    command = [sys.executable, "-m", MODULE, "run", "--dev", "--config", str(config)]
    command += ["--data", f"{data[0]}:{data[1]}", "--http", f"{http[0]}:{http[1]}"]
    # Out of reach of the terminal's Ctrl-C: that is for the lab, which then ends the node itself.
    if sys.platform == "win32":
        process = await trio.lowlevel.open_process(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            creationflags=subprocess.CREATE_NEW_PROCESS_GROUP,
        )
    else:
        process = await trio.lowlevel.open_process(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    return NodeProcess(data, http, process)


async def _listen(node: NodeProcess) -> None:
    stream = node.process.stderr
    assert stream is not None
    rest = b""
    async for chunk in stream:
        *lines, rest = (rest + bytes(chunk)).split(b"\n")
        node.said.extend(line.decode("utf-8", "replace") for line in lines)
        rest = rest[-1000:]


async def _wait_ready(node: NodeProcess) -> bool:
    """False when its port was taken meanwhile. Raises `WorldBroken` when it does not start."""
    with trio.move_on_after(START_S):
        while True:
            if node.process.poll() is not None:
                await trio.sleep(0.1)  # its last words are on the way
                if any("in use" in line for line in node.said):
                    return False
                raise _died(node, "did not start")
            if await _answers_ready(node.http):
                return True
            await trio.sleep(0.03)
    raise _died(node, f"was not ready within {START_S:.0f} s")


async def _answers_ready(address: Address) -> bool:
    try:
        stream = await trio.open_tcp_stream(*address)
    except OSError:
        return False
    async with stream:
        try:
            await stream.send_all(b"GET /readyz HTTP/1.0\r\nHost: localhost\r\n\r\n")
            answer = bytes(await stream.receive_some(256))
        except (OSError, trio.BrokenResourceError):
            return False
    return answer.split(b" ")[1:2] == [b"200"]


async def _watch(node: NodeProcess) -> None:
    await node.process.wait()
    await trio.sleep(0.1)  # its last words are on the way
    raise _died(node, "died")


def _died(node: NodeProcess, how: str) -> WorldBroken:
    status = node.process.returncode
    ended = "" if status is None else f" (exit status {status})"
    return WorldBroken(f"the node {how}{ended}; it said:\n{node.last_words()}")


async def _end(node: NodeProcess) -> None:
    """SIGTERM, then SIGKILL; also when cancelled, because a node must not outlive its lab."""
    process = node.process
    with trio.CancelScope(shield=True):
        if process.poll() is None:
            process.terminate()
            with trio.move_on_after(STOP_S):
                await process.wait()
        if process.poll() is None:
            process.kill()
        await process.wait()
        if process.stderr is not None:
            await process.stderr.aclose()
