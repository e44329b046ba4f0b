"""An invited node as its operator and its players have it: real processes, commands and files.

The node is closed: who wants something of it needs a line from `lightspeed-proxy invite`. It and
its game server may stand in a network namespace, and are asked there.
"""

from __future__ import annotations

import json
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import attrs
import trio
from lightspeed_protocol.invite import Invite

from .daemons import POLL_S, Child, open_child, player_env, run_command
from .netns import Namespace
from .web import read_answer, request

PROXY = [sys.executable, "-m", "lightspeed_proxy"]
CLIENT = [sys.executable, "-m", "lightspeed_client"]

Settings = Mapping[str, Mapping[str, object]]
Address = tuple[str, int]


@attrs.frozen(kw_only=True)
class Place:
    """Where a node listens: `host` for all its ports, or empty for every address."""

    host: str = "127.0.0.1"
    control: int = 4433
    data: int = 4434
    http: int = 8080
    inside: Namespace | None = None

    def at(self, port: int) -> str:
        return f"[{self.host}]:{port}" if ":" in self.host else f"{self.host}:{port}"


@attrs.define(eq=False)
class InvitedNode:
    """A node that may run; its directory outlives it."""

    place: Place
    directory: Path
    advertised: str  # HOST or HOST:PORT in its invites
    child: Child | None = None
    settings: dict[str, dict[str, object]] = attrs.field(factory=dict)

    @property
    def config(self) -> Path:
        return self.directory / "proxy.toml"

    def configure(self, changes: Settings) -> None:
        """Write the file anew, with these keys changed."""
        for section, keys in changes.items():
            self.settings.setdefault(section, {}).update(keys)
        lines: list[str] = []
        for section, keys in self.settings.items():
            lines += [f"[{section}]", *(f"{k} = {json.dumps(v)}" for k, v in keys.items())]
        self.config.write_text("\n".join(lines) + "\n")

    def reload(self) -> None:
        assert self.child is not None
        if sys.platform != "win32":
            self.child.process.send_signal(signal.SIGHUP)

    async def invite(self, name: str, *options: str) -> str:
        """The line, as the operator gets it."""
        command = ["invite", name, "--host", self.advertised, *options]
        said = await self.command(*command)
        (line,) = [line for line in said.splitlines() if line.startswith("lightspeed://")]
        return line

    async def command(self, *words: str) -> str:
        """One of the operator's commands about this node, and what it printed."""
        return await run_command([*PROXY, *words, "--config", self.config])

    async def ask(self, path: str) -> Any:
        """A GET on the node's own machine; its JSON."""
        answer = await self._get(path)
        return json.loads(answer)

    async def scrape(self) -> str:
        return (await self._get("/metrics")).decode()

    async def health(self) -> dict[str, Any]:
        found: dict[str, Any] = await self.ask("/health")
        return found

    async def sessions(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = await self.ask("/sessions")
        return found

    async def _get(self, path: str) -> bytes:
        inside = self.place.inside
        make = partial(socket.socket, socket.AF_INET, socket.SOCK_STREAM)
        bare = make() if inside is None else inside.inside(make)
        sock = trio.socket.from_stdlib_socket(bare)
        with trio.fail_after(20):
            await sock.connect(("127.0.0.1", self.place.http))
            async with trio.SocketStream(sock) as stream:
                await stream.send_all(request("GET", path))
                answer = await read_answer(stream)
        assert answer is not None, "the node closed the connection without an answer"
        return answer.body


def set_up_node(
    directory: Path, place: Place, settings: Settings | None = None, *, advertised: str = ""
) -> InvitedNode:
    """A node's directory with its settings, which keep everything under `directory`.

    Game servers are on loopback, unless the settings say otherwise.
    """
    directory.mkdir(parents=True, exist_ok=True)
    node = InvitedNode(place, directory, advertised or place.at(place.control))
    basics: dict[str, dict[str, object]] = {
        "node": {"state_dir": str(directory / "state")},
        "control": {"bind": place.at(place.control)},
        "data": {"bind": place.at(place.data)},
        "http": {"bind": f"127.0.0.1:{place.http}"},
        "limits": {},
        "security": {"allow_destinations": ["127.0.0.0/8", "::1/128"]},
        "shutdown": {"drain_s": 0.2},
    }
    node.settings = basics
    node.configure(settings or {})
    return node


@asynccontextmanager
async def running(node: InvitedNode) -> AsyncIterator[InvitedNode]:
    """`lightspeed-proxy run`, ready."""
    inside = node.place.inside
    async with open_child(
        "node",
        [*PROXY, "run", "--config", node.config],
        inside=None if inside is None else inside.name,
    ) as child:
        await child.printed("is ready")
        node.child = child
        yield node
    node.child = None


async def add(home: Path, line: str) -> None:
    """The player pastes the line."""
    said = await run_command([*CLIENT, "add", line], env=player_env(home))
    assert "is added" in said, said


@asynccontextmanager
async def open_invited_node(
    directory: Path,
    place: Place,
    *,
    settings: Settings | None = None,
    advertised: str = "",
    options: Sequence[str] = (),
    homes: Sequence[Path] = (),
) -> AsyncIterator[tuple[InvitedNode, str]]:
    """A running node, one invite, and that invite added under each of `homes`.

    The invite is there before the node runs, so that both make their key only once.
    """
    node = set_up_node(directory, place, settings, advertised=advertised)
    line = await node.invite("friend", *options)
    async with trio.open_nursery() as players:
        for home in homes:
            players.start_soon(add, home, line)  # while the node starts
        async with running(node):
            while players.child_tasks:
                await trio.sleep(POLL_S)
            yield node, line


def parse(line: str) -> tuple[Invite, bytes]:
    """An invite and its token."""
    invite = Invite.parse(line)
    assert invite.token is not None
    ip_address(invite.host)
    return invite, invite.token
