"""Versions 1 and 2 on a node with `legacy = "registered"`: host, token, and a proof of the port."""

from __future__ import annotations

import trio
from lightspeed_protocol.header import FIN, HANDSHAKE, KEEPALIVE, control_packet, decode
from lightspeed_proxy.legacy_path import MOST_PORTS
from lightspeed_proxy.sessions import Lease, Session, plain_host
from trio.testing import MockClock

from tests.support.relays import Host, World, open_world

TOKEN = 77
OPEN = {"allow_destinations": ("127.0.0.0/8",)}


def register(world: World, token: int = TOKEN, session_id: int = 1) -> Session:
    lease = Lease(invite="friend", session_id=session_id, key=None, token=token, host="127.0.0.1")
    return world.relay.grant(lease, trio.current_time())


async def prove(world: World, player: Host) -> None:
    """Answer the question that the first packet is answered with."""
    world.play(player, b"first")
    [(question, _)] = await player.heard()
    assert decode(question).flags == HANDSHAKE
    assert len(question) <= 20 + len(b"first")
    player.send(question, world.address)
    assert await player.heard() == []


async def test_a_closed_node_takes_no_version_1_or_2_at_all(autojump_clock: MockClock) -> None:
    async with open_world(dev=False, security=OPEN) as world:
        server = world.host()
        player = world.player(server, token=TOKEN)
        world.play(player, b"hello")
        player.send(control_packet(KEEPALIVE, token=TOKEN), world.address)
        player.send(b"", world.address)
        assert await player.heard() == []
        assert world.drops == {"closed": 3}


async def test_a_registered_client_is_carried_once_its_port_has_answered(
    autojump_clock: MockClock,
) -> None:
    async with open_world(dev=False, security=OPEN) as world:
        register(world)
        server = world.host()
        player = world.player(server, fec_k=4, token=TOKEN)
        await prove(world, player)
        assert await server.heard() == []
        assert world.drops == {"unproven": 1}
        world.play(player, b"second")
        [(payload, exit_address)] = await server.heard()
        assert payload == b"second"
        server.send(b"state", exit_address)
        assert await player.payloads() == [b"state"]


async def test_a_guessed_token_from_a_registered_host_reaches_nothing(
    autojump_clock: MockClock,
) -> None:
    async with open_world(dev=False, security=OPEN) as world:
        register(world)
        server = world.host()
        for token in range(256):
            spoofer = world.player(server, token=token)
            world.play(spoofer, b"let me in")
            world.play(spoofer, b"again")
            await trio.lowlevel.checkpoint()
        assert await server.heard() == []
        assert world.drops == {"unregistered": 510, "unproven": 2}


async def test_a_wrong_token_on_a_proven_port_is_dropped(autojump_clock: MockClock) -> None:
    async with open_world(dev=False, security=OPEN) as world:
        register(world)
        server = world.host()
        player = world.player(server, token=TOKEN)
        await prove(world, player)
        world.play(player, b"mine")
        assert [p for p, _ in await server.heard()] == [b"mine"]
        assert player.endpoint is not None
        player.endpoint.token = TOKEN + 1
        world.play(player, b"spoofed")
        assert await server.heard() == []
        assert world.drops == {"unproven": 1, "unregistered": 1}


async def test_datagrams_too_short_for_a_token_are_dropped_also_from_a_proven_port(
    autojump_clock: MockClock,
) -> None:
    async with open_world(dev=False, security=OPEN) as world:
        register(world)
        server = world.host()
        player = world.player(server, token=TOKEN)
        await prove(world, player)
        for size in range(20):
            player.send(bytes([0x10, TOKEN, *bytes(18)])[:size], world.address)
        world.play(player, b"still carried")
        assert [p for p, _ in await server.heard()] == [b"still carried"]
        assert world.drops == {"unproven": 1, "short": 20}


async def test_two_registrations_from_one_host_are_told_apart_by_their_tokens(
    autojump_clock: MockClock,
) -> None:
    async with open_world(dev=False, security=OPEN) as world:
        one = register(world)
        register(world, token=78, session_id=2)
        server = world.host()
        players = [world.player(server, token=token) for token in (TOKEN, 78)]
        for player in players:
            await prove(world, player)
            world.play(player, b"hello")
        assert len(await server.heard()) == 2
        world.relay.end(one)
        [(fin, _)] = await players[0].heard()
        assert decode(fin).flags == FIN
        world.play(players[0], b"gone")
        world.play(players[1], b"here")
        assert [p for p, _ in await server.heard()] == [b"here"]


async def test_a_fin_that_anybody_could_write_is_answered_but_ends_nothing(
    autojump_clock: MockClock,
) -> None:
    async with open_world(dev=False, security=OPEN) as world:
        root = register(world)
        server = world.host()
        player = world.player(server, token=TOKEN)
        await prove(world, player)
        world.play(player, b"hello")
        for token in range(256):
            player.send(control_packet(FIN, token=token), world.address)
            await trio.sleep(0.01)
        assert {decode(data).flags for data, _ in await player.heard()} == {FIN}
        assert (len(root.ports), world.relay.flows) == (1, 1)


async def test_whoever_tries_tokens_from_a_proven_port_makes_it_prove_itself_again(
    autojump_clock: MockClock,
) -> None:
    async with open_world(dev=False, security=OPEN) as world:
        register(world)
        server = world.host()
        player = world.player(server, token=TOKEN)
        await prove(world, player)
        world.play(player, b"mine")
        [(_, exit_address)] = await server.heard()
        assert player.endpoint is not None
        for token in range(256):
            player.endpoint.token = token
            world.play(player, b"spoofed")  # as somebody who forges address and port would
            await trio.sleep(0.01)
        assert [p for p, _ in await server.heard()] == []
        player.endpoint.token = TOKEN
        question = (await player.heard())[-1][0]
        assert decode(question).flags == HANDSHAKE
        player.send(question, world.address)
        world.play(player, b"mine again")
        assert await server.heard() == [(b"mine again", exit_address)]


async def test_ports_of_one_client_are_bounded(autojump_clock: MockClock) -> None:
    async with open_world(dev=False, security=OPEN) as world:
        root = register(world)
        server = world.host()
        players = [world.player(server, token=TOKEN) for _ in range(MOST_PORTS + 1)]
        for player in players:
            await prove(world, player)
            await trio.sleep(0.1)
        assert len(root.ports) == MOST_PORTS
        assert world.relay.sessions == 1
        world.play(players[-1], b"newest")
        world.play(players[0], b"oldest")
        assert [p for p, _ in await server.heard()] == [b"newest"]


def test_a_socket_for_both_families_shows_ipv4_peers_in_disguise() -> None:
    assert plain_host("::ffff:192.0.2.1") == plain_host("192.0.2.1") == "192.0.2.1"
    assert plain_host("2001:db8::1") == "2001:db8::1"
