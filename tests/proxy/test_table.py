from __future__ import annotations

from lightspeed_proxy.table import DATA, LARGEST_ANSWER
from trio.testing import MockClock

from tests.support.relays import open_world


async def test_many_flows_ready_at_once_are_all_served(autojump_clock: MockClock) -> None:
    async with open_world(limits={"max_clients": 200}) as world:
        server = world.host()
        players = [world.player(server) for _ in range(200)]
        for player in players:
            world.play(player, b"hello")
        heard = await server.heard()
        assert len(heard) == 200
        for _ in range(3):
            for _, source in heard:
                server.send(b"state", source)
        for player in players:
            assert await player.payloads() == [b"state"] * 3
        assert world.drops == {}


async def test_an_unreachable_game_server_costs_nobody_else(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        gone, server = world.host(), world.host()
        lost, player = world.player(gone), world.player(server)
        gone.close()
        for _ in range(5):
            world.play(lost, b"anyone?")
            world.play(player, b"hello")
            assert [p for p, _ in await server.heard()] == [b"hello"]
        assert world.relay.flows == 2
        assert world.relay.counters.icmp_errors + world.drops.get("unsent", 0) > 0


async def test_empty_and_oversized_answers_are_dropped(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        server = world.host()
        player = world.player(server)
        world.play(player, b"hello")
        [(_, exit_address)] = await server.heard()
        for size in (0, LARGEST_ANSWER - 19, 3000, LARGEST_ANSWER - 20):
            server.send(bytes(size), exit_address)
        assert [len(data) for data, _ in await player.heard()] == [LARGEST_ANSWER]
        assert world.drops == {"empty": 1, "oversized": 2}


async def test_answers_follow_the_version_the_client_speaks(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        server = world.host()
        plain, protected = world.player(server), world.player(server, fec_k=4)
        for player in (plain, protected):
            world.play(player, b"hello")
        for _, source in await server.heard():
            for _ in range(4):
                server.send(b"state", source)
        assert [data[0] for data, _ in await plain.heard()] == [0x10] * 4
        heard = [data for data, _ in await protected.heard()]
        assert [(data[0], data[22], data[23]) for data in heard] == [
            (0x20, index, 4) for index in range(5)
        ]
        assert world.relay.counters.fec_repair_sent == 1


def test_the_reserved_flag_is_still_data() -> None:
    assert {0x10, 0x18, 0x20, 0x28} == DATA
