"""What an invite is good for, through the daemons as they are shipped, on loopback.

Nobody gets in without one, nobody can forge or replay what a player sends, and what a player has
outlives a change of keys, a reload and a killed client.
"""

from __future__ import annotations

import random
import secrets
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import pytest
import trio
from lightspeed_client.session import NodeRefused
from lightspeed_protocol.invite import Invite
from lightspeed_protocol.runtime.udp import open_socket
from lightspeed_protocol.seal import SEALED6_BYTES, SEALED_BYTES, TAG_BYTES

from tests.support.counted import CountingPlayer, CountingServer, drain
from tests.support.daemons import Child, free_ports, open_client
from tests.support.guests import open_guest
from tests.support.invites import InvitedNode, Place, Settings, open_invited_node
from tests.support.posix import posix_only
from tests.support.tap import Tap, open_tap

posix_only()
assert sys.platform != "win32"

BURST = 128  # packets, then a turn: the node's receive buffer is finite


@attrs.define(eq=False)
class World:
    """A game, a client, a node and a game server. The game has been heard already."""

    node: InvitedNode
    line: str
    client: Child
    player: CountingPlayer
    server: CountingServer
    nursery: trio.Nursery

    @property
    def session(self) -> str:
        """As the client and the node's operator see it."""
        found = self.client.latest()["session"]
        assert isinstance(found, str)
        return found


@asynccontextmanager
async def open_world(
    home: Path,
    *,
    settings: Settings | None = None,
    host: str = "127.0.0.1",
    control: int = 0,
    data: int = 0,
    advertised: str = "",
) -> AsyncIterator[World]:
    """All of it at `host`; the node's ports are free ones, but for those that are given."""
    *free, http, local = free_ports(4)
    place = Place(host=host, control=control or free[0], data=data or free[1], http=http)
    with open_socket((host, 0)) as server_sock, open_socket(("127.0.0.1", 0)) as player_sock:
        server = CountingServer(server_sock)
        player = CountingPlayer(player_sock, ("127.0.0.1", local))
        async with (
            trio.open_nursery() as nursery,
            open_invited_node(
                home / "node", place, settings=settings, advertised=advertised, homes=[home]
            ) as (node, line),
        ):
            nursery.start_soon(server.serve)
            async with open_client(
                home, server=server.where, local_port=local, ready=False
            ) as client:
                await player.until_carried()
                yield World(node, line, client, player, server, nursery)
            nursery.cancel_scope.cancel("test over")


# -- forged ------------------------------------------------------------------------------


def forgeries(session: str, server: tuple[str, int]) -> list[tuple[str, Callable[[], bytes]]]:
    """(the reason a node drops it for, how to make one)."""
    rng = random.Random(7)
    right = bytes.fromhex(session)

    def sealed(first: int, session_id: bytes, size: int) -> bytes:
        head = bytearray(rng.randbytes(size))
        head[0], head[1] = first, 0
        head[size - TAG_BYTES - 4 : size - TAG_BYTES] = session_id
        return bytes(head) + b"somebody else's input"

    def small_numbers() -> bytes:
        """As the player's next packet could look, but for the tag."""
        packet = bytearray(sealed(0x80, right, SEALED_BYTES))
        packet[2:4] = rng.randrange(2000).to_bytes(2, "big")
        return bytes(packet)

    return [
        ("session", lambda: sealed(0x80, rng.randbytes(4), SEALED_BYTES)),
        ("session", lambda: sealed(0x90, rng.randbytes(4), SEALED6_BYTES)),
        ("forged", lambda: sealed(0x80, right, SEALED_BYTES)),
        ("forged", small_numbers),
        ("forged", lambda: sealed(0x90, right, SEALED6_BYTES)),
        ("forged", lambda: sealed(rng.choice([0x81, 0x82, 0x84, 0x88]), right, SEALED_BYTES)),
        ("short", lambda: sealed(0x80, right, SEALED_BYTES)[: rng.randrange(1, SEALED_BYTES)]),
        ("version", lambda: sealed(rng.randrange(10, 16) << 4, right, SEALED_BYTES)),
        ("closed", lambda: bytes([rng.choice([0x10, 0x11, 0x20])]) + rng.randbytes(40)),
    ]


@pytest.mark.parametrize("packets", [50_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
async def test_no_forged_packet_is_forwarded_and_each_has_one_reason(
    tmp_path: Path, packets: int
) -> None:
    limits = {"limits": {"max_pps_per_client": 100_000}}
    async with open_world(tmp_path, settings=limits) as world, open_guest(world.line) as guest:
        await guest.turn()
        before = await world.node.health()
        heard = len(world.server.heard)
        kinds = forgeries(world.session, world.server.address)
        chosen = random.Random(11)
        sent: Counter[str] = Counter()
        with open_socket(("127.0.0.1", 0)) as stranger:
            for number in range(packets):
                reason, make = chosen.choice(kinds)
                stranger.sendto(make(), guest.node)
                sent[reason] += 1
                if number % BURST == 0:
                    await guest.turn()
            await guest.turn()
            assert drain(stranger) == []
        after = await world.node.health()
        counted = {
            reason: count - before["drops"][reason]
            for reason, count in after["drops"].items()
            if count != before["drops"][reason]
        }
        assert counted == sent
        assert after["packets_dropped"] - before["packets_dropped"] == packets
        assert after["packets_relayed"] == before["packets_relayed"]
        assert len(world.server.heard) == heard

        await world.player.play(50, 128)  # the player it was tried on plays on
        assert world.player.missing == []
        assert len(world.server.exits) == 1


async def test_without_a_good_invite_nobody_registers(tmp_path: Path) -> None:
    control, data, http = free_ports(3)
    place = Place(control=control, data=data, http=http)
    async with open_invited_node(tmp_path, place, options=["--max-sessions", "1"]) as (node, line):
        revoked = await node.invite("former")
        await node.command("revoke", "former")
        with trio.fail_after(5):  # a second was promised
            while (await node.health())["invites"] != 1:
                await trio.sleep(0.05)

        async def refused(line: str) -> str:
            with pytest.raises(NodeRefused) as caught:
                async with open_guest(line):
                    pass
            return str(caught.value)

        async with open_guest(line) as first:
            assert "has been revoked" in await refused(revoked)
            assert "too many devices use this invite" in await refused(line)
            known = Invite.parse(line)
            for _ in range(8):
                token = secrets.token_bytes(32)
                text = await refused(str(attrs.evolve(known, token=token)))
                assert "does not know your invite" in text
            await first.turn()  # who is in stays in
        health = await node.health()
        results = health["control"]["registrations"]
        assert {name: count for name, count in results.items() if count} == {
            "granted": 1,
            "revoked": 1,
            "too-many-sessions": 1,
            "unknown-token": 8,
        }
        assert health["packets_relayed"] == 0


# -- replayed ----------------------------------------------------------------------------


async def test_a_captured_packet_is_delivered_once_and_moves_no_address(tmp_path: Path) -> None:
    by, data = free_ports(2)
    settings: Settings = {
        "data": {"advertise": f"127.0.0.1:{by}"},
        "limits": {"max_pps_per_client": 100_000},
    }
    with (
        open_tap(by, ("127.0.0.1", data)) as tap,
        open_socket(("127.0.0.1", 0)) as elsewhere,
    ):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tap.run)
            async with (
                open_world(tmp_path, settings=settings, data=data) as world,
                open_guest(world.line) as guest,
            ):
                guest = attrs.evolve(guest, node=tap.node)
                player, server = world.player, world.server
                await player.play(20, 128)
                number = player.sent - 1
                (captured,) = [each for each in tap.up if each.endswith(player.payload(number))]

                async def replay(packet: bytes, times: int) -> None:
                    """From where it came, and from elsewhere."""
                    for send in (tap.outer.send, elsewhere.sendto):
                        for _ in range(times // 2):
                            send(packet, tap.node)
                        await guest.turn()

                async def drops() -> Counter[str]:
                    return Counter((await world.node.health())["drops"])

                before = await drops()
                await replay(captured, 250)
                assert await drops() - before == {"replayed": 250}
                for bit in range(8 * len(captured)):
                    altered = bytearray(captured)
                    altered[bit // 8] ^= 1 << bit % 8
                    await replay(bytes(altered), 2)
                everything = (await drops() - before).total()
                assert everything == 250 + 2 * 8 * len(captured)

                await player.play(1100, 1000)  # the window holds 1024
                before = await drops()
                await replay(captured, 750)
                assert await drops() - before == {"too-old": 750}

                await player.play(50, 128)  # and its answers still go where it is
                assert player.missing == []
                assert player.twice == server.twice == 0
                payloads = [payload for payload, _ in server.heard]
                assert payloads.count(player.payload(number)) == 1
                assert len(payloads) == player.sent
                assert len(server.exits) == 1
                assert drain(elsewhere) == []
                (here,) = [s for s in await world.node.sessions() if s["session"] == world.session]
                assert here["address"] == f"127.0.0.1:{tap.outer.address[1]}"
                assert "lightspeed_roams_total 0.0" in await world.node.scrape()
            nursery.cancel_scope.cancel("test over")


# -- keys changed ------------------------------------------------------------------------


@asynccontextmanager
async def open_slow_way(port: int, control: int) -> AsyncIterator[Tap]:
    with open_tap(port, ("127.0.0.1", control), delay_s=0.1) as tap:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tap.run)
            yield tap
            nursery.cancel_scope.cancel("test over")


@pytest.mark.parametrize("seconds", [10, pytest.param(60, marks=pytest.mark.slow)])
async def test_new_keys_each_second_cost_no_packet(tmp_path: Path, seconds: int) -> None:
    """With scrapes, reloads and 100 players who come and go meanwhile.

    The player's control connection is slow, so that both ends go on with the old key for a while
    after the node has made a new one.
    """
    by, control = free_ports(2)
    settings: Settings = {
        "security": {"rekey_s": 1.0},
        "limits": {"max_sessions_per_invite": 200},
    }
    async with (
        open_slow_way(by, control) as slow,
        open_world(
            tmp_path, settings=settings, control=control, advertised=f"127.0.0.1:{by}"
        ) as world,
    ):
        direct = str(attrs.evolve(Invite.parse(world.line), port=control))
        node, client = world.node, world.client
        reloads = registered = 0

        async def scrape_and_reload() -> None:
            nonlocal reloads
            while True:
                assert "lightspeed_packets_relayed_total" in await node.scrape()
                reloads += 1
                node.configure({"limits": {"max_flows_per_client": 16 + reloads}})
                node.reload()
                await trio.sleep(0.5)

        async def come_and_go() -> None:
            nonlocal registered
            for _ in range(100):
                async with open_guest(direct) as guest:
                    await guest.turn()
                    registered += 1

        rekeys = (await node.health())["control"]["rekeys"]
        session = world.session
        async with trio.open_nursery() as nursery:
            nursery.start_soon(scrape_and_reload)
            nursery.start_soon(come_and_go)
            await world.player.play(128 * seconds, 128)
            while registered < 100:
                await world.player.play(128, 128)
            nursery.cancel_scope.cancel("played")
        assert world.player.missing == []
        assert world.player.twice == world.server.twice == 0
        assert len(world.server.heard) == world.player.sent
        assert len(world.server.exits) == 1
        assert len(slow.down) > seconds  # keys came this way
        health = await node.health()
        assert health["control"]["rekeys"] - rekeys >= seconds // 3
        assert reloads >= seconds // 3
        await client.until(lambda: client.latest()["sent"] == world.player.sent, "its last figures")
        latest = client.latest()
        assert latest["session"] == session
        assert (latest["duplicates"], latest["dropped"], latest["strangers"]) == (0, 0, 0)
        assert health["drops"] == dict.fromkeys(health["drops"], 0)


# -- what outlives what ------------------------------------------------------------------


async def test_a_killed_client_finds_its_flow_and_port_again(tmp_path: Path) -> None:
    """Over IPv6, outside and inside. Then a reload, and at last the invite is revoked."""
    async with open_world(tmp_path, host="::1") as world:
        node, player, server, client = world.node, world.player, world.server, world.client
        await player.play(30, 128)
        session = world.session
        client.process.kill()
        await client.process.wait()
        for _ in range(5):
            player.send()  # into the void
        async with open_client(
            tmp_path, server=server.where, local_port=player.to[1], ready=False
        ) as restarted:
            lost = player.sent
            await player.play(30, 128)
            assert player.missing == list(range(lost - 5, lost))
            assert restarted.latest()["session"] == session
            assert [each["session"] for each in await node.sessions()] == [session]

            node.configure({"limits": {"max_pps_per_client": 900}})
            node.reload()
            assert node.child is not None
            await node.child.printed("limits.max_pps_per_client is now 900")
            await player.play(30, 128)
            assert len(server.exits) == 1
            assert player.missing == list(range(lost - 5, lost))
            assert restarted.latest()["session"] == session
            results = (await node.health())["control"]["registrations"]
            assert (results["granted"], results["resumed"]) == (1, 1)

            await node.command("revoke", "friend")
            with trio.fail_after(3):  # a second was promised
                while await node.sessions():
                    await trio.sleep(0.05)
            heard = len(server.heard)
            for _ in range(10):
                player.send()
            await restarted.until(
                lambda: "revoked" in (restarted.latest().get("notice") or ""), "the reason"
            )
            assert restarted.latest()["control"] == "refused"
            assert len(server.heard) == heard
            health = await node.health()
            assert health["control"]["ended"]["revoked"] == 1
            assert health["flows"] == 0
