"""Sealed sessions among machines that are network namespaces: NAT, roaming, spoofed addresses.

    player ──┐
             router (nftables masquerade) ── node, game server
    player ──┘

Nothing here between the daemons is ours: the kernel translates, forgets and counts.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import attrs
import pytest
import trio

from tests.support.counted import CountingPlayer, CountingServer
from tests.support.daemons import Child, open_client
from tests.support.invites import InvitedNode, Place, add, open_invited_node
from tests.support.netns import Namespace, join, open_namespaces
from tests.support.skips import need_netns

pytestmark = pytest.mark.net

ROUTER, MOVED_ROUTER, NODE = "198.51.100.1", "198.51.100.3", "198.51.100.2"
PLAYERS = ("192.0.2.11", "192.0.2.139")
GATEWAYS = ("192.0.2.1", "192.0.2.129")
LOCAL = ("127.0.0.1", 27960)
PER_SECOND = 128


@pytest.fixture(autouse=True)
def machine() -> None:
    need_netns()


@attrs.define(eq=False)
class Household:
    """Players' machines behind one router, which has one address for all of them."""

    players: list[Namespace]
    router: Namespace
    outside: str  # the router's cable to the node
    node: InvitedNode
    line: str
    server: CountingServer
    sockets: ExitStack

    def game(self, at: int, name: bytes = b"", port: int = LOCAL[1]) -> CountingPlayer:
        """A game on one of the players' machines."""
        sock = self.sockets.enter_context(self.players[at].udp(("127.0.0.1", 0)))
        return CountingPlayer(sock, ("127.0.0.1", port), name)

    @asynccontextmanager
    async def client(self, at: int, home: Path, port: int = LOCAL[1]) -> AsyncIterator[Child]:
        await add(home, self.line)
        async with open_client(
            home,
            server=self.server.where,
            local_port=port,
            inside=self.players[at].name,
            ready=False,
        ) as client:
            yield client

    async def address(self) -> tuple[str, int]:
        """Where the node sees its only session."""
        (session,) = await self.node.sessions()
        host, _, port = session["address"].rpartition(":")
        return host, int(port)


@asynccontextmanager
async def open_household(
    directory: Path, players: int, options: tuple[str, ...] = ()
) -> AsyncIterator[Household]:
    with open_namespaces(players + 2) as (node, router, *homes), ExitStack() as sockets:
        outside = join(router, f"{ROUTER}/24", node, f"{NODE}/24")
        for home, address, gateway in zip(homes, PLAYERS, GATEWAYS, strict=False):
            join(home, f"{address}/25", router, f"{gateway}/25")
            home.do("ip", "route", "add", "default", "via", gateway)
        router.masquerade(outside)
        place = Place(host="", inside=node)  # both families, as the defaults are
        server = CountingServer(sockets.enter_context(node.udp(("127.0.0.1", 0))))
        async with (
            trio.open_nursery() as nursery,
            open_invited_node(directory / "node", place, advertised=NODE, options=options) as (
                invited,
                line,
            ),
        ):
            nursery.start_soon(server.serve)
            yield Household(homes, router, outside, invited, line, server, sockets)
            nursery.cancel_scope.cancel("test over")


async def test_an_address_changed_in_mid_flow_costs_only_what_is_in_flight(tmp_path: Path) -> None:
    """The router forgets its connections; later its provider gives it another address."""
    async with open_household(tmp_path, 1) as house, house.client(0, tmp_path / "home"):
        game = house.game(0)
        await game.until_carried()
        places = [await house.address()]
        in_flight: set[int] = set()

        async def change(do: Callable[[], object]) -> None:
            """What was not back when it began and had been sent when it was done."""
            first = max(game.back) + 1
            await trio.to_thread.run_sync(do)
            last = game.sent
            in_flight.update(range(first, last))
            with trio.fail_after(20):
                while max(game.back) < last:
                    await trio.sleep(0.01)
            places.append(await house.address())

        def another_address() -> None:
            house.router.do("ip", "address", "add", f"{MOVED_ROUTER}/25", "dev", house.outside)
            house.router.do("ip", "address", "del", f"{ROUTER}/24", "dev", house.outside)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(game.play, 5 * PER_SECOND, PER_SECOND)
            for do in (house.router.forget_connections, another_address):
                await trio.sleep(1)
                await change(do)

        hosts, ports = zip(*places, strict=True)
        assert hosts == (ROUTER, ROUTER, MOVED_ROUTER)
        assert ports[0] != ports[1]
        assert set(game.missing) <= in_flight
        assert len(house.server.heard) == game.sent  # towards the server nothing was lost at all
        assert house.server.twice == game.twice == 0
        assert len(house.server.exits) == 1
        results = (await house.node.health())["control"]["registrations"]
        assert (results["granted"], results["resumed"]) == (1, 0)  # it had not to ask anew


async def test_two_players_of_one_household_share_an_invite_and_nothing_else(
    tmp_path: Path,
) -> None:
    options = ("--max-sessions", "2")
    async with (
        open_household(tmp_path, 2, options) as house,
        house.client(0, tmp_path / "one") as one,
        house.client(1, tmp_path / "two") as two,
    ):
        leaves, stays = house.game(0, b"leaves"), house.game(1, b"stays")
        for game in (leaves, stays):
            await game.until_carried()
        hosts = {s["address"].rpartition(":")[0] for s in await house.node.sessions()}
        assert hosts == {ROUTER}
        assert one.latest()["session"] != two.latest()["session"]

        async with trio.open_nursery() as nursery:
            nursery.start_soon(stays.play, 5 * PER_SECOND, PER_SECOND)
            async with house.client(0, tmp_path / "three", port=LOCAL[1] + 1) as three:
                await three.until(lambda: bool(three.latest().get("notice")), "a reason")
                notice = three.latest()["notice"]
                assert notice.startswith("too many devices use this invite to the node friend now")
            await leaves.play(PER_SECOND, PER_SECOND)
            assert await one.stop() == 0
            (left,) = await house.node.sessions()
            assert left["session"] == two.latest()["session"]
        assert leaves.missing == stays.missing == []
        assert leaves.twice == stays.twice == house.server.twice == 0
        exits = {
            name: {source for data, source in house.server.heard if data.startswith(name)}
            for name in (leaves.name, stays.name)
        }
        assert [len(ports) for ports in exits.values()] == [1, 1]
        assert exits[leaves.name] != exits[stays.name]
        assert len(house.server.heard) == leaves.sent + stays.sent
        control = (await house.node.health())["control"]
        assert control["registrations"]["granted"] == 2
        assert control["ended"]["left"] + control["ended"]["fin"] == 1
