from __future__ import annotations

import logging
import struct

import attrs
import pytest
import trio
from lightspeed_client.app import RedirectSettings, open_redirect
from trio.testing import MockClock

from tests.support.repair import xor

from .fakes import NODE, SERVER, FakeNet, FakeNode
from .open_world import SETTINGS, open_world


@pytest.mark.parametrize("fec_k", [None, 2, 4, 16])
async def test_packets_go_there_and_back_unchanged(
    autojump_clock: MockClock, fec_k: int | None
) -> None:
    async with open_world(attrs.evolve(SETTINGS, fec=xor(fec_k))) as world:
        game = world.net.bind(("127.0.0.1", 5000))
        for number in range(40):
            payload = b"input %d" % number
            assert await world.say(game, payload) == [payload]
        assert [payload for payload, _ in world.node.got] == [b"input %d" % n for n in range(40)]
        label = bytes([127, 0, 0, 1, 203, 0, 113, 5]) + struct.pack("!HH", 5000, 27960)
        assert world.node.labels == {label}
        game.close()


async def test_what_a_tunnel_cannot_hold_is_dropped_and_said_once(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_world(attrs.evolve(SETTINGS, fec=xor(4))) as world:
        game = world.net.bind(("127.0.0.1", 5000))
        assert await world.say(game, b"") == []
        for size in (2029, 5000, 2029):
            assert await world.say(game, bytes(size)) == []
        assert [len(p) for p in await world.say(game, b"x" * 2028)] == [2028]  # as version 1
        await trio.sleep(3)
        drops = world.redirect.table.drops
        assert (drops["empty-from-game"], drops["oversize-from-game"]) == (1, 3)
        assert caplog.text.count("more than 2028 bytes") == 1
        game.close()


async def test_a_new_socket_is_refused_when_full_and_those_that_play_go_on(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_world(attrs.evolve(SETTINGS, max_flows=2)) as world:
        one, two, three = (world.net.bind(("127.0.0.1", 5000 + n)) for n in range(3))
        assert await world.say(one, b"1") == [b"1"]
        assert await world.say(two, b"2") == [b"2"]
        assert await world.say(three, b"3") == []
        assert await world.say(three, b"3") == []
        assert await world.say(one, b"4") == [b"4"]
        assert world.redirect.table.drops["too-many-games"] == 2
        assert caplog.text.count("more are refused") == 1
        await trio.sleep(299)
        await world.say(one, b"5")
        await trio.sleep(2)
        assert await world.say(three, b"3") == [b"3"], "room again: the second fell silent"
        for port in (one, two, three):
            port.close()


async def test_a_silent_game_ends_its_flow_with_fin_whatever_the_server_says(
    autojump_clock: MockClock,
) -> None:
    async with open_world(attrs.evolve(SETTINGS, idle_s=60)) as world:
        game = world.net.bind(("127.0.0.1", 5000))
        await world.say(game, b"hello")
        tunnel = world.node.got[0][1]
        for second in range(58):
            await trio.sleep(1)
            head = struct.pack("!BBHI", 0x10, 0, second + 1, 0)
            world.node_port.send(head + bytes(12) + b"state", tunnel)
        assert len(world.redirect.table.flows) == 1
        await trio.sleep(3)
        assert len(world.redirect.table.flows) == 0
        assert set(world.node.fins) == {tunnel}
        assert tunnel not in world.tunnels()
        assert game.take() == [b"state"] * 58
        before = world.redirect.totals()
        assert await world.say(game, b"again") == [b"again"], "the next packet begins a new flow"
        assert world.node.got[-1][1] != tunnel
        assert world.redirect.totals().sent == before.sent + 1, "closed flows stay counted"
        game.close()


async def test_the_state_follows_node_and_game(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with open_world() as world:
        assert world.state() == "starting"
        await trio.sleep(2)
        assert world.state() == "idle"
        game = world.net.bind(("127.0.0.1", 5000))
        await world.say(game, b"hello")
        assert world.state() == "carrying"
        await trio.sleep(4)
        assert world.state() == "idle"

        world.net.broken.add(NODE[0])  # the node dies
        died = trio.current_time()
        while world.state() != "no-answer":
            await world.say(game, b"still here")
            await trio.sleep(0.1)
        assert trio.current_time() - died < 5
        figures = world.redirect.figures(trio.current_time())
        assert (figures.rtt_ms, figures.loss) == (None, None)
        assert figures.rtt_min_ms is not None
        assert figures.notice is not None
        assert "UDP port 4434" in figures.notice
        assert "without --dev" in figures.notice
        await trio.sleep(60)

        world.net.broken.clear()  # and comes back
        world.node.sessions.clear()
        back = trio.current_time()
        while world.state() != "carrying":
            await world.say(game, b"still here")
            await trio.sleep(0.05)
        assert trio.current_time() - back <= 3
        assert await world.say(game, b"x") == [b"x"]
        totals = world.redirect.totals()
        assert totals.outages == 1
        assert totals.outage_s == pytest.approx(64, abs=3)
        assert caplog.text.count("no answer from the node") == 1
        assert "answers again" in caplog.text
        game.close()


async def test_a_mute_game_server_behind_a_node_that_answers_is_named(
    autojump_clock: MockClock,
) -> None:
    def notice() -> str | None:
        return world.redirect.figures(trio.current_time()).notice

    async with open_world(node=FakeNode(server=lambda _: [])) as world:
        game = world.net.bind(("127.0.0.1", 5000))
        await trio.sleep(9)
        assert notice() is None, "nobody plays"
        for tick in range(70):
            await world.say(game, b"hello")
            await trio.sleep(0.1)
            assert tick > 40 or notice() is None
        text = notice()
        assert text is not None
        assert "the game server does not: check --server" in text
        world.node.server = lambda payload: [payload]
        await world.say(game, b"hello")
        await trio.sleep(1.1)
        assert notice() is None
        game.close()


async def test_a_node_that_was_silent_is_no_proof_against_the_game_server(
    autojump_clock: MockClock,
) -> None:
    async with open_world(node=FakeNode(server=lambda _: [])) as world:
        game = world.net.bind(("127.0.0.1", 5000))
        world.net.broken.add(NODE[0])
        for tick in range(300):
            if tick == 250:
                world.net.broken.clear()
            await world.say(game, b"hello")
            await trio.sleep(0.1)
            notice = world.redirect.figures(trio.current_time()).notice
            assert notice is None or "the game server does not" not in notice
        game.close()


async def test_lost_answers_are_repaired_and_the_losses_told_apart(
    autojump_clock: MockClock,
) -> None:
    node = FakeNode(loses=lambda n: n % 20 in (3, 11, 12))  # of 5 per block: singles and a pair
    async with open_world(attrs.evolve(SETTINGS, fec=xor(4)), node) as world:
        game = world.net.bind(("127.0.0.1", 5000))
        got = []
        for number in range(400):
            got += await world.say(game, b"input %d" % number)
            await trio.sleep(0.02)
        figures = world.redirect.figures(trio.current_time())
        totals = world.redirect.totals()
        # Of 4 blocks of 5 packets: one lost a source (repaired), one lost two sources.
        assert len(got) == len(set(got)) == totals.received == 350
        assert totals.repaired == figures.repaired == 25
        assert totals.loss_down == pytest.approx(3 / 20, abs=0.01)
        assert totals.residual_down == pytest.approx(50 / 400, abs=0.01)
        assert figures.duplicates == 0
        game.close()


async def test_without_addresses_the_client_waits_and_says_why(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    there = False

    async def getaddrinfo(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        if host == SERVER[0]:
            return [(2, 2, 17, "", (SERVER[0], port))]
        if not there:
            raise OSError(-2, "Name or service not known")
        return [(2, 2, 17, "", (NODE[0], port))]

    monkeypatch.setattr(trio.socket, "getaddrinfo", getaddrinfo)
    net, node = FakeNet(), FakeNode()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(node.serve, net.bind(NODE))
        settings = RedirectSettings(server=SERVER, node="node.example.com")
        async with open_redirect(settings, bind=net.bind) as redirect:
            game = net.bind(("127.0.0.1", 5000))
            game.send(b"early", redirect.local_addresses[0])
            await trio.sleep(100)
            figures = redirect.figures(trio.current_time())
            assert figures.state == "starting"
            assert figures.notice is not None
            assert "check the spelling" in figures.notice
            assert redirect.table.drops["names-not-found"] == 1
            assert redirect.totals().not_found == "node"
            assert caplog.text.count("cannot find the") == 1

            there = True
            await trio.sleep(31)
            game.send(b"hello", redirect.local_addresses[0])
            await trio.sleep(1)
            assert game.take() == [b"hello"]
            assert redirect.figures(trio.current_time()).state == "carrying"
            assert redirect.totals().not_found == ""
        nursery.cancel_scope.cancel("test over")
