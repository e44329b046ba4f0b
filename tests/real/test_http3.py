"""QUIC with peers that are not ours: HTTP/3 clients, and control peers that name no protocol.

ngtcp2's `gtlsclient` and Chromium read /health of a real node over HTTP/3. The original's peers
offer no ALPN; aioquic without one stands for them.
"""

from __future__ import annotations

import html
import json
import re
from base64 import b64encode
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from lightspeed_protocol.control import Disconnect, DisconnectReason, Register, RegisterAck
from lightspeed_protocol.extensions import (
    RegisterExtensions,
    decode_ack,
    decode_register,
    encode_register,
)
from lightspeed_protocol.invite import Invite
from lightspeed_protocol.runtime.udp import UdpPort

from tests.support.certs import throw_away_identity
from tests.support.daemons import free_ports, player_env, run_command
from tests.support.invites import CLIENT, Place, add, open_invited_node, parse
from tests.support.plain_peers import PlainNode, ask_plainly
from tests.support.posix import posix_only
from tests.support.skips import need_command

posix_only()

QUIETLY = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
]


@pytest.fixture
def gtlsclient() -> str:
    return need_command("gtlsclient", package="ngtcp2-client")


@pytest.fixture
def chromium() -> str:
    return need_command("chromium", package="chromium")


def a_place() -> Place:
    control, data, http = free_ports(3)
    return Place(control=control, data=data, http=http)


async def test_ngtcp2_reads_health_once_http3_is_switched_on(
    tmp_path: Path, gtlsclient: str
) -> None:
    place = a_place()
    async with open_invited_node(tmp_path / "node", place) as (node, _):
        answers = tmp_path / "answers"
        answers.mkdir()

        async def get(*names: str) -> str:
            command = [gtlsclient, "-q", "--exit-on-all-streams-close", f"--download={answers}"]
            command += ["--timeout=5s", place.host, str(place.control)]
            return await run_command([*command, *(f"https://{place.host}/{n}" for n in names)])

        await get("health")
        assert list(answers.iterdir()) == []
        assert (await node.health())["control"]["quic"]["refused_alpn"] == 1

        node.configure({"control": {"h3": True}})
        node.reload()
        assert node.child is not None
        await node.child.printed("control.h3 is now")
        said = await get("health", "metrics", "nodes", "sessions")
        health: dict[str, Any] = json.loads((answers / "health").read_text())
        assert health["status"] == "healthy", said
        assert health["control"]["h3_requests"] >= 1
        assert "lightspeed_uptime_seconds" in (answers / "metrics").read_text()
        assert json.loads((answers / "nodes").read_text())["nodes"][0]["node_id"] == "node-1"
        assert "error" in json.loads((answers / "sessions").read_text())


async def test_a_browser_reads_health_over_http3(tmp_path: Path, chromium: str) -> None:
    """The port speaks nothing but QUIC, so there is no other way to the page."""
    place = a_place()
    settings = {"control": {"h3": True}}
    async with open_invited_node(tmp_path / "node", place, settings=settings) as (_, line):
        where = place.at(place.control)
        pin = b64encode(Invite.parse(line).pin).decode()
        command = [chromium, *QUIETLY, f"--user-data-dir={tmp_path / 'browser'}"]
        command += [f"--origin-to-force-quic-on={where}"]
        command += [f"--ignore-certificate-errors-spki-list={pin}"]
        command += ["--dump-dom", f"https://{where}/health"]
        page = await run_command(command, within_s=60, env=player_env(tmp_path))
        found = re.search(r"<pre>(\{.*\})</pre>", page)
        assert found is not None, page[-2000:]
        health = json.loads(html.unescape(found[1]))
        assert health["status"] == "healthy"
        assert health["control"]["h3_requests"] >= 1


async def test_a_peer_that_names_no_protocol_registers_with_ours(tmp_path: Path) -> None:
    place = a_place()
    at = place.host, place.control
    async with open_invited_node(tmp_path, place) as (node, line):
        _, token = parse(line)
        alpn, refused = await ask_plainly(at, Register(1, 0))  # all that the original says
        assert alpn is None
        assert isinstance(refused, Disconnect)
        assert refused.reason == DisconnectReason.AUTH_FAILURE

        ask = RegisterExtensions(credential=token, versions=(8,))
        alpn, granted = await ask_plainly(at, Register(1, 0, encode_register(ask)))
        assert alpn is None
        assert isinstance(granted, RegisterAck)
        assert decode_ack(granted.extensions).version == 8
        (session,) = await node.sessions()
        assert session["session"] == f"{granted.session_id:08x}"


async def test_our_client_registers_with_a_peer_that_names_no_protocol(tmp_path: Path) -> None:
    with UdpPort.bind(("127.0.0.1", 0)) as port:
        peer = PlainNode(throw_away_identity(), port)
        host, number = port.address
        token = bytes(range(32))
        line = str(Invite(host, number, peer.identity.spki_pin, token, "elder"))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(peer.serve)
            await add(tmp_path, line)
            command = [*CLIENT, "nodes", "--check"]
            said = await run_command(command, env=player_env(tmp_path))
            nursery.cancel_scope.cancel("asked")
        assert said.startswith("elder: usable"), said
        assert peer.alpns == [None] * len(peer.alpns)
        (asked,) = peer.registered
        assert decode_register(asked.extensions).credential == token

        wrong = attrs.evolve(peer, identity=throw_away_identity(), registered=[])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wrong.serve)
            said = await run_command(command, env=player_env(tmp_path))
            nursery.cancel_scope.cancel("asked")
        assert "is not the node this invite is for" in said
        assert wrong.registered == []
