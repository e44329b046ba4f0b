from __future__ import annotations

import struct

import attrs
import pytest
import trio
from lightspeed_client.app import RedirectSettings, open_redirect
from trio.testing import MockClock, wait_all_tasks_blocked

from .fakes import NODE, SERVER, FakeNet, FakeNode
from .open_world import SETTINGS, open_world


async def test_each_game_socket_has_its_own_tunnel_socket(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        games = [world.net.bind(("127.0.0.1", 5000 + n)) for n in range(5)]
        six = world.net.bind(("::1", 5000))
        for n, game in enumerate(games):
            assert await world.say(game, b"%d" % n) == [b"%d" % n]
        assert await world.say(six, b"six", world.redirect.local_addresses[1]) == [b"six"]
        assert len({source for _, source in world.node.got}) == 6
        # an IPv6 loopback game is written as 127.0.0.1 with its port
        assert bytes([127, 0, 0, 1, 203, 0, 113, 5]) + struct.pack("!HH", 5000, 27960) in (
            world.node.labels
        )
        for port in [*games, six]:
            port.close()


async def test_keepalives_handshakes_and_fins_never_reach_the_game(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world:
        game = world.net.bind(("127.0.0.1", 5000))
        await world.say(game, b"hello")
        tunnel = world.node.got[0][1]
        for flags in (1, 2, 4, 8):
            head = struct.pack("!BBHI12x", 0x10 | flags, 0, 60000, 0)
            for packet in (head, head + b"payload"):
                world.node_port.send(packet, tunnel)
        await trio.sleep(5)
        assert game.take() == []
        assert len(world.node.keepalives) > 5
        game.close()


async def test_only_the_node_is_heard(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        game = world.net.bind(("127.0.0.1", 5000))
        await world.say(game, b"hello")
        tunnel = world.node.got[0][1]
        good = struct.pack("!BBHI", 0x10, 0, 900, 0) + bytes(12) + b"evil"
        for source in ((NODE[0], NODE[1] + 1), ("192.0.2.66", NODE[1])):
            with world.net.bind(source) as stranger:
                for target in world.tunnels():
                    stranger.send(good, target)
        assert tunnel in world.tunnels()
        await wait_all_tasks_blocked()
        assert game.take() == []
        assert world.redirect.strangers == 2 * len(world.tunnels()) == 4
        game.close()


async def test_bytes_from_the_node_that_break_the_format_are_counted_once(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world:
        game = world.net.bind(("127.0.0.1", 5000))
        await world.say(game, b"hello")
        tunnel = world.node.got[0][1]
        bad = {
            "short": b"\x10" * 19,
            "version": b"\x30" + bytes(30),
            "oversize-from-node": b"\x10" + bytes(2048),
            "empty": b"\x10" + bytes(19),
            "flags": b"\x18" + bytes(30),
            "malformed": b"\x20" + bytes(19) + b"\0\0\0\0xx",
            "fec-index": b"\x20" + bytes(19) + b"\0\0\x05\x04xx",
            "duplicate": struct.pack("!BBHI", 0x10, 0, 0, 0) + bytes(12) + b"again",
        }
        for packet in bad.values():
            world.node_port.send(packet, tunnel)
        world.node_port.send(b"", tunnel)
        await wait_all_tasks_blocked()
        assert game.take() == []
        assert dict(world.redirect.table.drops) == dict.fromkeys(bad, 1) | {"short": 2}
        game.close()


@pytest.mark.parametrize(("answers_fin", "at_most_s"), [(True, 0.01), (False, 0.31)])
async def test_leaving_says_fin_for_every_flow_and_waits_a_moment_at_most(
    autojump_clock: MockClock, answers_fin: bool, at_most_s: float
) -> None:
    node = FakeNode(answers_fin=answers_fin)
    async with open_world(node=node) as world:
        games = [world.net.bind(("127.0.0.1", 5000 + n)) for n in range(3)]
        for game in games:
            await world.say(game, b"hello")
            game.close()
        left_at = trio.current_time()
    assert trio.current_time() - left_at <= at_most_s
    assert set(node.fins) == {source for _, source in node.got}
    assert len(node.fins) == (3 if answers_fin else 6), "twice where nobody confirms"
    assert world.redirect.fins_answered == (3 if answers_fin else 0)


async def test_a_cancelled_session_says_fin_too(autojump_clock: MockClock) -> None:
    node = FakeNode(answers_fin=False)
    with trio.CancelScope() as scope:
        async with open_world(node=node) as world:
            game = world.net.bind(("127.0.0.1", 5000))
            await world.say(game, b"hello")
            game.close()
            world.net.seen.clear()
            scope.cancel("second signal")
            await trio.sleep_forever()
    assert [(packet[0], to) for packet, to in world.net.seen] == [(0x14, NODE)]


async def test_a_node_that_leaves_is_named_and_carries_again_after_its_restart(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world:
        game = world.net.bind(("127.0.0.1", 5000))
        await world.say(game, b"hello")
        await trio.sleep(1)
        for fin, source in world.node.farewell():
            world.node_port.send(fin, source)
        await world.say(game, b"more")
        assert world.state() == "node-leaving"
        await trio.sleep(1)  # drains: still answers keepalives
        assert world.state() == "node-leaving"
        world.net.broken.add(NODE[0])
        await trio.sleep(1)
        world.net.broken.clear()
        for _ in range(12):
            await world.say(game, b"more")
            await trio.sleep(0.25)
        assert world.state() == "carrying"
        assert game.take() == []
        game.close()


async def test_probes_are_frequent_only_while_someone_plays_or_looks(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world:
        await trio.sleep(20)
        assert 18 <= len(world.node.keepalives) <= 22
        game = world.net.bind(("127.0.0.1", 5000))
        world.node.keepalives.clear()
        for _ in range(20):
            await world.say(game, b"x")
            await trio.sleep(1)
        assert 70 <= len(world.node.keepalives) <= 82
        game.close()
    async with open_world(attrs.evolve(SETTINGS, watched=True)) as world:
        await trio.sleep(10)
        assert 38 <= len(world.node.keepalives) <= 42
        assert set(world.node.keepalives) <= set(range(60000, 65536))


async def test_a_silent_node_with_a_name_is_looked_up_again(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = ("192.0.2.2", NODE[1])
    current = NODE

    async def getaddrinfo(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        return [(2, 2, 17, "", (current[0] if host == "node.example.com" else SERVER[0], port))]

    monkeypatch.setattr(trio.socket, "getaddrinfo", getaddrinfo)
    net, node = FakeNet(), FakeNode()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(node.serve, net.bind(NODE))
        nursery.start_soon(node.serve, net.bind(new))
        settings = RedirectSettings(server=SERVER, node="node.example.com", watched=True)
        async with open_redirect(settings, bind=net.bind) as redirect:
            await trio.sleep(2)
            net.broken.add(NODE[0])
            current = new
            await trio.sleep(6)
            assert redirect.node == new
            assert redirect.figures(trio.current_time()).state == "idle"
        nursery.cancel_scope.cancel("test over")


async def test_a_machine_without_a_network_is_told_so_and_not_that_the_node_is_gone(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_world(attrs.evolve(SETTINGS, watched=True)) as world:
        await trio.sleep(6)
        (probes,) = world.tunnels()
        world.net.ports[probes].refuses = True
        await trio.sleep(6)
        notice = world.redirect.figures(trio.current_time()).notice
        assert notice is not None
        assert "no way to the node 192.0.2.1:4434: check its network" in notice
        assert caplog.text.count("no way to the node") == 1
        assert "no answer" not in caplog.text
        world.net.ports[probes].refuses = False
        await trio.sleep(3)
        assert world.redirect.figures(trio.current_time()).notice is None
