"""A packet may say where its client is; only an answer from there makes the node believe it."""

from __future__ import annotations

import trio
from lightspeed_protocol.header import HANDSHAKE, KEEPALIVE
from lightspeed_protocol.runtime.udp import open_socket
from lightspeed_protocol.seal import SealedEnd
from lightspeed_proxy.abuse import DATAGRAM_OVERHEAD
from lightspeed_proxy.whereabouts import ASK_S, MOST_HELD
from trio.testing import MockClock

from tests.support.relays import Host, World, open_world


def elsewhere(world: World) -> Host:
    """A host with another address than the one that registered."""
    world.hosts.append(Host(open_socket(("127.0.0.2", 0)), world.relay))
    return world.hosts[-1]


def wire(packets: list[bytes]) -> int:
    return sum(len(packet) + DATAGRAM_OVERHEAD for packet in packets)


async def test_a_victim_gets_no_more_bytes_than_came_in_its_name(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world:
        server, victim = world.host(), elsewhere(world)
        player = world.join(server.address)
        for _ in range(300):  # a long and honest history
            world.play_sealed(player, bytes(100))
        [*_, (_, exit_address)] = await server.heard()
        [aimed] = player.flow.wrap(b"aimed at somebody", 0, 0.0)
        victim.send(aimed, world.address)
        got: list[bytes] = []
        for _ in range(50):
            for _ in range(20):
                server.send(bytes(500), exit_address)
            got += [data for data, _ in await victim.heard()]
            await trio.sleep(ASK_S)
        assert len(got) == 1
        assert player.end.open(got[0], 0.0).flags == HANDSHAKE
        assert wire(got) <= wire([aimed])
        assert world.drops == {"unproven": 1000 - MOST_HELD}


async def test_a_client_that_moves_and_answers_loses_nothing(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        server = world.host()
        player = world.join(server.address)
        world.play_sealed(player, b"here")
        [(_, exit_address)] = await server.heard()
        player.host = elsewhere(world)
        world.play_sealed(player, b"over there")
        for number in range(MOST_HELD):
            server.send(b"state %02d " % number + bytes(200), exit_address)
        [(question, _)] = await player.host.heard()
        opened = player.end.open(question, 0.0)
        answer = player.end.control(HANDSHAKE, 0, opened.payload)
        player.host.send(answer, world.address)
        got = [payload[:8] for payload in await player.payloads()]
        assert got == [b"state %02d" % number for number in range(MOST_HELD)]
        server.send(b"and on", exit_address)
        assert await player.payloads() == [b"and on"]
        assert await server.heard() == [(b"over there", exit_address)]
        assert world.drops == {}


async def test_a_wrong_answer_proves_nothing_and_keepalives_earn_the_next_question(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world:
        server = world.host()
        player = world.join(server.address)
        world.play_sealed(player, b"here")
        [(_, exit_address)] = await server.heard()
        player.host = elsewhere(world)
        sent: list[bytes] = []
        got: list[bytes] = []
        asked: list[bytes] = []
        for number in range(20):
            packet = (
                player.end.control(HANDSHAKE, 0, bytes(8))
                if number % 2
                else player.end.control(KEEPALIVE, 0, b"\0\1")
            )
            sent.append(packet)
            player.host.send(packet, world.address)
            server.send(bytes(50), exit_address)
            for data, _ in await player.host.heard():
                got.append(data)
                opened = player.end.open(data, 0.0)
                asked += [opened.payload] * (opened.flags == HANDSHAKE)
            assert wire(got) <= wire(sent)
            await trio.sleep(ASK_S)
        assert player.session.proof is not None
        assert player.session.proof in asked


async def test_the_host_that_registered_needs_no_proof_whatever_its_port(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world:
        server = world.host()
        player = world.join(server.address)
        for _ in range(3):
            player.host = world.host()
            world.play_sealed(player, b"x")
            [(_, exit_address)] = await server.heard()
            server.send(bytes(1000), exit_address)
            assert len(await player.payloads()) == 1
        assert world.drops == {}


async def test_after_a_resume_from_elsewhere_nothing_is_sent_until_the_client_speaks(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world:
        server = world.host()
        player = world.join(server.address)
        world.play_sealed(player, b"here")
        [(_, exit_address)] = await server.heard()
        world.relay.renew(player.session, b"N" * 16, "127.0.0.2")
        server.send(b"to nobody", exit_address)
        assert await player.host.heard() == []
        assert world.drops == {"unproven": 1}
        player.host = elsewhere(world)
        player.end = player.flow.end = SealedEnd.client(7, b"N" * 16)
        world.play_sealed(player, b"over there")
        server.send(bytes(1000), exit_address)
        assert len(await player.payloads()) == 1


async def test_limits_are_inherited_by_the_session_that_takes_over(
    autojump_clock: MockClock,
) -> None:
    async with open_world(limits={"max_pps_per_client": 50}) as world:
        server = world.host()
        delivered = 0
        player = world.join(server.address)
        for session_id in range(8, 40):
            for _ in range(60):
                world.play_sealed(player, b"x")
            delivered += len(await server.heard())
            old, lease = player.session, player.session.lease
            assert lease is not None
            player = world.join(server.address, session_id=session_id, heir_to=old)
            world.relay.end(old)
        assert delivered < 60
