"""Player, node and game server on three machines that are network namespaces: kernel loss, cables.

Unlike the lab's impairment relay, nothing here is ours: nftables drops, `ip link` pulls the plug.
"""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from lightspeed_proxy.destinations import PRIVATE

from tests.support.daemons import Child, open_child, open_client, open_node
from tests.support.netns import Namespace, join, open_namespaces
from tests.support.skips import need_netns

pytestmark = pytest.mark.net

# The player's side may be any address; the game's must be one that `--dev` relays to.
PLAYER, NODE = "192.0.2.1", "192.0.2.2"
NODE_TO_GAME, GAME = str(PRIVATE[0][1]), str(PRIVATE[0][2])
DATA_PORT, HTTP_PORT, GAME_PORT, LOCAL_PORT = 4434, 8080, 27960, 27960
PER_SECOND = 250


@pytest.fixture(autouse=True)
def machine() -> None:
    need_netns()


@attrs.define(eq=False)
class World:
    """The three machines, and what runs on them."""

    player: Namespace
    node: Namespace
    cable: str  # between player and node
    client: Child
    server: Child

    async def play(self, packets: int) -> dict[str, Any]:
        """Send so many through the client at `PER_SECOND`; the player's own account."""
        where = f"127.0.0.1:{LOCAL_PORT}"
        command = [sys.executable, "-m", "tests.support.numbered", "play", where]
        command += [str(packets), str(PER_SECOND)]
        async with open_child("player", command, inside=self.player.name) as player:
            with trio.fail_after(packets / PER_SECOND + 20):
                await player.process.wait()
                while not player.records():
                    await trio.sleep(0.01)
            return player.records()[-1]

    async def server_saw(self) -> dict[str, Any]:
        """Stop the game server; its own account."""
        await self.server.stop()
        with trio.fail_after(5):
            while not self.server.records():
                await trio.sleep(0.01)
        return self.server.records()[-1]

    def node_says(self) -> dict[str, Any]:
        """The node's health, asked on its own machine."""
        command = [sys.executable, "-m", "lightspeed_proxy", "status", "--json"]
        answer: dict[str, Any] = json.loads(
            self.node.do(*command, "--http", f"127.0.0.1:{HTTP_PORT}")
        )
        return answer


@asynccontextmanager
async def open_world(home: Path, *, fec: str) -> AsyncIterator[World]:
    with open_namespaces(3) as (player, node, game):
        cable = join(player, f"{PLAYER}/24", node, f"{NODE}/24")
        join(node, f"{NODE_TO_GAME}/24", game, f"{GAME}/24")
        where = f"{GAME}:{GAME_PORT}"
        serve = [sys.executable, "-m", "tests.support.numbered", "serve", where]
        async with (
            open_child("game server", serve, inside=game.name) as server,
            open_node(f"{NODE}:{DATA_PORT}", f"127.0.0.1:{HTTP_PORT}", inside=node.name),
            open_client(
                home,
                server=where,
                proxy=f"{NODE}:{DATA_PORT}",
                local_port=LOCAL_PORT,
                fec=fec,
                inside=player.name,
            ) as client,
        ):
            await server.printed("serving")
            yield World(player, node, cable, client, server)


async def test_random_loss_is_repaired_both_ways_and_nothing_comes_twice(tmp_path: Path) -> None:
    """5 % each way leaves 90.3 % of round trips; XOR over 4 repairs all but 0.9 % each way."""
    packets = 6 * PER_SECOND
    async with open_world(tmp_path, fec="xor:4") as world:
        world.node.lose(DATA_PORT, 5)
        account = await world.play(packets)
        dropped = world.node.lost()
        health = world.node_says()
        figures = world.client.latest()
        seen = await world.server_saw()

    assert dropped["arriving"] > packets * 0.03
    assert dropped["leaving"] > packets * 0.03
    assert len(account["back"]) > packets * 0.95
    assert account["twice"] == 0
    assert seen["twice"] == 0
    assert seen["players"] == 1
    assert figures["repaired"] > packets * 0.02
    assert health["fec_recoveries"] > packets * 0.02


async def test_random_loss_without_repair_is_as_large_as_the_kernel_made_it(tmp_path: Path) -> None:
    """The other half of the comparison: the same loss, no repair, and figures that say so."""
    packets = 6 * PER_SECOND
    async with open_world(tmp_path, fec="off") as world:
        world.node.lose(DATA_PORT, 5)
        account = await world.play(packets)
        figures = world.client.latest()

    assert packets * 0.86 < len(account["back"]) < packets * 0.945
    assert account["twice"] == 0
    assert figures["repaired"] == 0
    assert 0.02 < figures["loss_down"] < 0.09


async def test_a_pulled_cable_heals_by_itself(tmp_path: Path) -> None:
    """Two seconds without the interface: the flow goes on after it, from the same exit port."""
    packets = 8 * PER_SECOND
    async with open_world(tmp_path, fec="off") as world:

        async def pull() -> None:
            await trio.sleep(2)
            world.player.link(world.cable, "down")
            await trio.sleep(2)
            world.player.link(world.cable, "up")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(pull)
            account = await world.play(packets)
        figures = world.client.latest()
        seen = await world.server_saw()

    last = set(range(packets - PER_SECOND, packets))
    assert len(last & set(account["back"])) > 0.98 * len(last)  # the last second is whole again
    assert 1.9 < account["gap_s"] < 2 + 3
    assert seen["players"] == 1
    assert account["twice"] == 0
    assert figures["state"] == "carrying"
