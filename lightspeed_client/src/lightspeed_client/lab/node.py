"""A node as a child process: started on free ports, awaited, watched, and always ended.

The client never imports the node's distribution; it runs its commands, as who runs a node does:
`run`, and for a node that is closed to strangers `invite`. Both get a scratch directory.
"""

from __future__ import annotations

import importlib.util
import json
import socket
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import attrs
import trio
from lightspeed_protocol.errors import LightSpeedError
from lightspeed_protocol.invite import Invite
from lightspeed_protocol.runtime.udp import Address

from ..address import write_address
from .home import Doors, Home, NodeLimits

MODULE: Final = "lightspeed_proxy"
START_S: Final = 10.0  # a start takes about a second; a busy machine several
STOP_S: Final = 3.0  # then SIGKILL; the node is told to drain for less
TRIES: Final = 5  # for ports that another program took in between
KEPT_LINES: Final = 40  # of what the node said, to show when it dies
NAME: Final = "lab"  # on the invite
OK: Final = 200

# Out of reach of the terminal's Ctrl-C: that is for the lab, which then ends its children itself.
if sys.platform == "win32":
    _APART: Final[dict[str, Any]] = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
else:
    _APART: Final[dict[str, Any]] = {"start_new_session": True}


class WorldBroken(LightSpeedError):
    """A part of the lab's world is missing or died; the text says which and what to do."""


@attrs.define(eq=False)
class NodeProcess:
    """A running node. `data` is where its tunnels come in, `invite` what a player would paste."""

    data: Address
    control: Address
    http: Address
    process: trio.Process
    invite: Invite | None = None
    said: deque[str] = attrs.field(factory=lambda: deque(maxlen=KEPT_LINES))

    @property
    def pid(self) -> int:
        return self.process.pid

    def last_words(self) -> str:
        """What it said last, indented for a message."""
        return "\n".join(f"  {line}" for line in self.said) or "  (it said nothing)"


@asynccontextmanager
async def open_node(limits: NodeLimits, doors: Doors | None = None) -> AsyncIterator[NodeProcess]:
    """A node that is ready. Raises `WorldBroken` when it cannot be had or dies meanwhile.

    With `doors` it is closed but for the one invite it comes with, and reaches game servers on
    loopback only; without, it is open to anyone (`--dev`), for header versions 1 and 2.
    """
    require_distribution()
    send, receive = trio.open_memory_channel[Invite](1)
    with send, receive, tempfile.TemporaryDirectory(prefix="lightspeed-lab-") as folder:
        home = Home.make(Path(folder), limits, doors)
        async with trio.open_nursery() as beside:
            if doors is not None:  # while the node starts: both take a second
                beside.start_soon(_bring_invite, home, send)
            node = await _start(home)
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_listen, node)
                    nursery.start_soon(_watch, node)
                    if doors is not None:
                        node.invite = await receive.receive()
                        await _until_known(node)
                    yield node
                    nursery.cancel_scope.cancel("lab over")
            finally:
                with trio.CancelScope(shield=True):
                    await _end(node)


async def _bring_invite(home: Home, to: trio.MemorySendChannel[Invite]) -> None:
    to.send_nowait(await make_invite(home))


async def make_invite(home: Home) -> Invite:
    """As `lightspeed-proxy invite` prints it and `lightspeed add` reads it."""
    command = _command(home, "invite", NAME, "--json")
    with trio.move_on_after(START_S):
        done = await trio.run_process(
            command, capture_stdout=True, capture_stderr=True, check=False, **_APART
        )
        if done.returncode == 0:
            return Invite.parse(json.loads(done.stdout)["invite"])
        said = done.stderr.decode("utf-8", "replace").strip().replace("\n", "\n  ")
        raise WorldBroken(
            f"`lightspeed-proxy invite` failed (exit status {done.returncode}); it said:\n  {said}"
        )
    raise WorldBroken(f"`lightspeed-proxy invite` took more than {START_S:.0f} s: try again")


async def _start(home: Home) -> NodeProcess:
    """A node that answers; another program may take a free port first, then it is tried again."""
    for _ in range(TRIES):
        node = await _spawn(home)
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


def _command(home: Home, *words: str) -> list[str]:
    return [sys.executable, "-m", MODULE, *words, *home.options()]


def _free_port(kind: socket.SocketKind) -> int:
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        assert isinstance(port, int)
        return port


async def _spawn(home: Home) -> NodeProcess:
    data = ("127.0.0.1", _free_port(socket.SOCK_DGRAM))
    control = ("127.0.0.1", _free_port(socket.SOCK_DGRAM))
    http = ("127.0.0.1", _free_port(socket.SOCK_STREAM))
    command = _command(home, "run", *(["--dev"] if home.doors is None else []))
    for name, address in (("--data", data), ("--control", control), ("--http", http)):
        command += [name, write_address(address)]
    process = await trio.lowlevel.open_process(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        **_APART,
    )
    return NodeProcess(data, control, http, process)


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
            if (await _ask(node.http, "/readyz"))[0] == OK:
                return True
            await trio.sleep(0.03)
    raise _died(node, f"was not ready within {START_S:.0f} s")


async def _until_known(node: NodeProcess) -> None:
    """Wait for the node to have read its invites: a client that comes before is refused."""
    with trio.move_on_after(START_S):
        while True:
            _, body = await _ask(node.http, "/health")
            if body and json.loads(body)["invites"]:
                return
            await trio.sleep(0.03)
    raise WorldBroken(f"the node did not see its invite; it said:\n{node.last_words()}")


async def _ask(address: Address, path: str) -> tuple[int, bytes]:
    """Status and body of what the node answers over HTTP; (0, b"") while it does not."""
    try:
        stream = await trio.open_tcp_stream(*address)
    except OSError:
        return 0, b""
    answer = b""
    async with stream:
        try:
            await stream.send_all(f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
            async for chunk in stream:
                answer += chunk
        except (OSError, trio.BrokenResourceError):
            return 0, b""
    head, _, body = answer.partition(b"\r\n\r\n")
    status = head.split(b" ")[1:2]
    return (int(status[0]) if status else 0), body


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
