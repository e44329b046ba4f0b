from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import pytest
import trio
from lightspeed_client.app import RedirectSettings, open_redirect
from lightspeed_client.data_proof import PROOF_MOST_S, PROOF_S
from lightspeed_client.redirect import Redirect
from lightspeed_client.sealed_tunnel import (
    HANDSHAKE_S,
    SealedTunnel,
)
from lightspeed_protocol.header import FIN, HANDSHAKE, KEEPALIVE, pack_addresses
from lightspeed_protocol.seal import SealedEnd
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.support.repair import xor

from .fakes import HOME, NODE, SERVER, FakeNet, FakePort
from .sealed_node import HOME_NODE, SealedNode, SealedSession

SETTINGS = RedirectSettings(server=SERVER, node=HOME_NODE)
SERVER6 = ("2001:db8::5", 27960)


@attrs.define(eq=False)
class World:
    net: FakeNet
    node: SealedNode
    node_port: FakePort
    redirect: Redirect

    @property
    def tunnel(self) -> SealedTunnel:
        assert isinstance(self.redirect.tunnel, SealedTunnel)
        return self.redirect.tunnel

    @property
    def outer(self) -> tuple[str, int]:
        """The tunnel's own address, as the node sees it."""
        assert self.tunnel.port is not None
        return self.tunnel.port.address

    @property
    def session(self) -> SealedSession:
        (session,) = self.node.sessions.values()
        return session

    def state(self) -> str:
        return self.redirect.figures(trio.current_time()).state

    async def say(
        self, game: FakePort, payload: bytes, to: tuple[str, int] | None = None
    ) -> list[bytes]:
        game.send(payload, self.redirect.local_addresses[0] if to is None else to)
        await wait_all_tasks_blocked()
        return game.take()


@asynccontextmanager
async def open_world(
    settings: RedirectSettings = SETTINGS,
    node: SealedNode | None = None,
    at: tuple[str, int] = NODE,
) -> AsyncIterator[World]:
    net, node = FakeNet(), SealedNode() if node is None else node
    node.data = at
    with net.bind(at) as node_port:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(node.serve, node_port)
            async with open_redirect(settings, bind=net.bind, connect=node.connect) as redirect:
                yield World(net, node, node_port, redirect)
            nursery.cancel_scope.cancel("test over")
    assert not net.ports, "every socket is closed"


@pytest.mark.parametrize("fec_k", [None, 2, 4])
async def test_all_flows_and_keepalives_share_one_socket(
    autojump_clock: MockClock, fec_k: int | None
) -> None:
    settings = attrs.evolve(SETTINGS, fec=xor(fec_k))
    async with open_world(settings, SealedNode(fec_k=fec_k)) as world:
        games = [world.net.bind(("127.0.0.1", 5000 + n)) for n in range(5)]
        for turn in range(20):
            for n, game in enumerate(games):
                payload = b"game %d turn %d" % (n, turn)
                assert await world.say(game, payload) == [payload]
            await trio.sleep(0.1)
        assert [address for address in world.net.ports if address[0] == HOME] == [world.outer]
        assert set(world.node.sources) == {world.outer}
        labels = {pack_addresses(("127.0.0.1", 5000 + n), SERVER) for n in range(5)}
        assert {label for label, _ in world.node.got} == labels
        assert world.node.keepalives > 5
        assert world.node.drops == []
        totals = world.redirect.totals()
        # one for each block; three more while a first packet still looks like a last one
        assert totals.repair_sent == (0 if fec_k is None else 5 * (20 // fec_k + 3))
        assert (totals.sent, totals.received, totals.duplicates) == (100, 100, 0)
        assert totals.loss_down == totals.residual_down == 0.0
        for game in games:
            game.close()


async def test_every_byte_of_the_tunnel_is_in_the_overhead(autojump_clock: MockClock) -> None:
    async with open_world(attrs.evolve(SETTINGS, fec=xor(4))) as world:
        game = world.net.bind(("127.0.0.1", 5000))
        for _ in range(40):
            await world.say(game, b"x" * 100)
            await trio.sleep(0.05)
        sent = [packet for packet, to in world.net.seen if to == NODE]
        sent = sent[1:]  # the one that tells the node where we are and asks it the same
        totals = world.redirect.totals()
        assert totals.overhead == pytest.approx((sum(map(len, sent)) - 4000) / 4000)
        game.close()


async def test_lost_packets_are_repaired_and_the_losses_told_apart(
    autojump_clock: MockClock,
) -> None:
    rng = random.Random(5)
    node = SealedNode(fec_k=4, loses=lambda _: rng.random() < 0.05)
    async with open_world(attrs.evolve(SETTINGS, fec=xor(4)), node) as world:
        game = world.net.bind(("127.0.0.1", 5000))
        got: list[bytes] = []
        for number in range(1000):
            got += await world.say(game, b"input %d" % number)
            await trio.sleep(0.01)
        totals = world.redirect.totals()
        assert len(got) == len(set(got)) == totals.received
        assert totals.repaired > 20
        assert totals.loss_down == pytest.approx(0.05, abs=0.02)
        assert totals.residual_down == pytest.approx((1000 - len(got)) / 1000, abs=0.003)
        assert totals.residual_down is not None
        assert totals.residual_down < 0.02
        game.close()


async def test_what_is_replayed_forged_or_of_another_session_reaches_no_game(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world:
        game = world.net.bind(("127.0.0.1", 5000))
        await world.say(game, b"hello")
        assert world.node.last is not None
        packet = world.node.last[0]
        stranger = world.net.bind(("192.0.2.66", 9))
        other = SealedEnd.node(1, bytes(16)).control(FIN, 0)
        changed = packet[:-1] + bytes((packet[-1] ^ 1,))
        for _ in range(100):
            world.node_port.send(packet, world.outer)
            stranger.send(packet, world.outer)
            stranger.send(changed, world.outer)
        world.node_port.send(changed, world.outer)
        world.node_port.send(other, world.outer)
        for junk in (b"", b"\x80", b"\x10" * 40, bytes(60), b"\x90" + bytes(58)):
            world.node_port.send(junk, world.outer)
        world.node_port.send(b"\x80" + bytes(2100), world.outer)
        await wait_all_tasks_blocked()
        assert game.take() == []
        drops = world.redirect.table.drops
        assert drops["replayed"] == 200
        assert (drops["forged"], drops["session"]) == (1, 1)
        assert (drops["short"], drops["version"], drops["oversize-from-node"]) == (3, 2, 1)
        assert world.redirect.strangers == 100
        assert await world.say(game, b"still") == [b"still"]
        totals = world.redirect.totals()
        assert totals.duplicates == 200
        stranger.close()
        game.close()


async def test_a_change_of_keys_loses_and_doubles_nothing(autojump_clock: MockClock) -> None:
    async with open_world(attrs.evolve(SETTINGS, fec=xor(4)), SealedNode(fec_k=4)) as world:
        game = world.net.bind(("127.0.0.1", 5000))
        got: list[bytes] = []
        for second in range(60):
            for turn in range(16):
                got += await world.say(game, b"%d/%d" % (second, turn))
                await trio.sleep(1 / 16)
            world.node.rekey()
        assert len(got) == len(set(got)) == 960
        assert world.node.epoch == 60
        assert world.node.drops == []
        assert world.redirect.table.drops.total() == 0
        assert len(world.node.registers) == 1
        game.close()


async def test_a_silent_path_goes_on_from_a_fresh_socket_in_the_same_session(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """As when a NAT forgets, or the machine takes another network."""
    async with open_world(attrs.evolve(SETTINGS, watched=True)) as world:
        game = world.net.bind(("127.0.0.1", 5000))
        await world.say(game, b"hello")
        await trio.sleep(1)
        before = world.outer
        world.net.dead.add(before)
        for _ in range(60):
            await world.say(game, b"into the void")
            await trio.sleep(0.1)
        assert world.outer != before
        assert world.session.client == world.outer
        assert await world.say(game, b"back") == [b"back"]
        assert len(world.node.registers) == 1, "the node just follows"
        assert world.redirect.totals().outages == 1
        assert world.state() == "carrying"
        assert caplog.text.count("no answer from the node home") == 1
        game.close()


async def test_a_socket_that_sends_nothing_is_replaced_before_the_silence_is_noticed(
    autojump_clock: MockClock,
) -> None:
    async with open_world(attrs.evolve(SETTINGS, watched=True)) as world:
        await trio.sleep(6)
        before = world.tunnel.port
        assert isinstance(before, FakePort)
        before.refuses = True
        await trio.sleep(1)
        assert world.tunnel.port is not before
        assert not world.redirect.prober.dead
        assert len(world.node.registers) == 1


async def test_data_goes_on_while_the_control_connection_is_gone(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world:
        game = world.net.bind(("127.0.0.1", 5000))
        await world.say(game, b"hello")
        world.node.reachable = False
        world.node.hang_up()
        await trio.sleep(20)
        assert await world.say(game, b"go on") == [b"go on"]
        figures = world.redirect.figures(trio.current_time())
        assert (figures.state, figures.control) == ("carrying", "connecting")
        assert figures.notice is not None
        assert "trying again" in figures.notice
        world.node.reachable = True
        await trio.sleep(11)
        figures = world.redirect.figures(trio.current_time())
        assert (figures.control, figures.notice) == ("registered", None)
        assert figures.session == f"{world.session.end.session_id:08x}"
        assert await world.say(game, b"and on") == [b"and on"]
        assert len(world.node.registers) == 2
        game.close()


async def test_packets_in_flight_while_the_keys_change_by_registering_are_not_lost(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world:
        game = world.net.bind(("127.0.0.1", 5000))
        await world.say(game, b"hello")
        session = world.session
        (flow,) = session.flows.values()
        late = flow.wrap(b"late", 7, 0.0)[0]
        world.node.hang_up()
        await trio.sleep(1)
        assert len(world.node.registers) == 2
        for _ in range(2):
            world.node_port.send(late, world.outer)
        await wait_all_tasks_blocked()
        assert game.take() == [b"late"]
        await trio.sleep(2)
        world.node_port.send(flow.wrap(b"too late", 7, 0.0)[0], world.outer)
        await wait_all_tasks_blocked()
        assert game.take() == []
        assert world.redirect.totals().received == 2
        game.close()


async def test_a_node_that_forgot_the_session_gets_a_new_one(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_world(attrs.evolve(SETTINGS, watched=True)) as world:
        game = world.net.bind(("127.0.0.1", 5000))
        await world.say(game, b"hello")
        world.node.sessions.clear()
        for _ in range(100):
            await world.say(game, b"into the void")
            await trio.sleep(0.1)
        assert await world.say(game, b"back") == [b"back"]
        assert "began a new session" in caplog.text
        assert world.redirect.totals().session == f"{world.session.end.session_id:08x}"
        game.close()


async def test_ipv6_game_servers_and_games_of_either_family(autojump_clock: MockClock) -> None:
    async with open_world(attrs.evolve(SETTINGS, server=SERVER6)) as world:
        four = world.net.bind(("127.0.0.1", 5000))
        six = world.net.bind(("::1", 5000))
        other = world.net.bind(("::1", 6000))
        local6 = world.redirect.local_addresses[1]
        assert await world.say(four, b"four") == [b"four"]
        assert await world.say(six, b"six", local6) == [b"six"]
        assert await world.say(other, b"other", local6) == [b"other"]
        assert {label for label, _ in world.node.got} == {
            pack_addresses(("::1", 5000), SERVER6),
            pack_addresses(("::1", 5001), SERVER6),  # two games, one name: the next free port
            pack_addresses(("::1", 6000), SERVER6),
        }
        for port in (four, six, other):
            port.close()


async def test_a_node_reached_over_ipv6(autojump_clock: MockClock) -> None:
    async with open_world(at=("2001:db8::77", 4434)) as world:
        game = world.net.bind(("::1", 5000))
        assert await world.say(game, b"x", world.redirect.local_addresses[1]) == [b"x"]
        assert world.outer[0] == "2001:db8::1"
        game.close()


async def test_a_node_without_ipv6_inside_says_so(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    settings = attrs.evolve(SETTINGS, server=SERVER6)
    async with open_world(settings, SealedNode(ipv6_inside=False)) as world:
        game = world.net.bind(("127.0.0.1", 5000))
        for _ in range(3):
            assert await world.say(game, b"x") == []
        assert caplog.text.count("carries no IPv6") == 1
        game.close()


async def test_a_node_that_takes_no_repair_gets_none(autojump_clock: MockClock) -> None:
    node = SealedNode(takes_repair=False)
    async with open_world(attrs.evolve(SETTINGS, fec=xor(2)), node) as world:
        game = world.net.bind(("127.0.0.1", 5000))
        for _ in range(10):
            await world.say(game, b"x")
        assert world.redirect.totals().repair_sent == 0
        game.close()


async def test_what_the_nodes_limit_cannot_hold_is_dropped_and_said(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_world(node=SealedNode(largest_datagram=1000)) as world:
        game = world.net.bind(("127.0.0.1", 5000))
        assert len(await world.say(game, bytes(964))) == 1
        assert await world.say(game, bytes(965)) == []
        assert await world.say(game, b"") == []
        await trio.sleep(2)
        assert "more than 964 bytes" in caplog.text
        drops = world.redirect.table.drops
        assert (drops["oversize-from-game"], drops["empty-from-game"]) == (1, 1)
        game.close()


async def test_a_handshake_is_answered_but_not_for_ever(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        await trio.sleep(1)
        session = world.session
        seen = len(world.net.seen)
        for _ in range(5):
            world.node_port.send(session.end.control(HANDSHAKE, 7, b"role"), world.outer)
            await wait_all_tasks_blocked()
        answers = [p for p, to in world.net.seen[seen:] if to == NODE and p[0] == 0x82]
        assert len(answers) == 1
        assert answers[0][36:] == b"role"
        await trio.sleep(HANDSHAKE_S)  # the answer was lost, so the node asks again
        seen = len(world.net.seen)
        world.node_port.send(session.end.control(HANDSHAKE, 7, b"again"), world.outer)
        await wait_all_tasks_blocked()
        assert [p[36:] for p, to in world.net.seen[seen:] if p[0] == 0x82 and to == NODE] == [
            b"again"
        ]


async def test_nothing_but_keepalives_goes_to_an_address_that_has_not_answered(
    autojump_clock: MockClock,
) -> None:
    """A node may name any address as its own: that of somebody who is to be flooded."""
    node = SealedNode(loses=lambda _: True)
    async with open_world(node=node) as world:
        game = world.net.bind(("127.0.0.1", 5000))
        stranger = world.net.bind(("192.0.2.66", 9))
        for number in range(20):
            await world.say(game, b"%d" % number)
            # the node has the keys, and may write any address on its packets
            for payload in (b"", b"8 bytes.", b"\xea\x60"):
                world.node_port.send(world.session.end.control(KEEPALIVE, 7, payload), world.outer)
            world.node_port.send(world.session.end.control(HANDSHAKE, 7, b"role"), world.outer)
            stranger.send(b"junk", world.outer)
            await trio.sleep(0.1)
        assert world.redirect.table.drops["unproven"] == 20
        assert "has not answered from 192.0.2.1:4434" in (
            world.redirect.figures(trio.current_time()).notice or ""
        )
        assert {packet[0] for packet, to in world.net.seen if to == NODE} == {0x81, 0x82}
        slow = [packet for packet, to in world.net.seen if to == NODE and packet[0] == 0x81]
        assert len(slow) <= 15
        node.loses = lambda _: False
        await trio.sleep(PROOF_MOST_S)
        assert await world.say(game, b"hello") == [b"hello"]
        assert world.redirect.figures(trio.current_time()).notice is None
        game.close()
        stranger.close()


async def test_not_even_a_fin_goes_to_an_address_that_never_answered(
    autojump_clock: MockClock,
) -> None:
    node = SealedNode(loses=lambda _: True)
    async with open_world(node=node) as world:
        assert world.tunnel.node == NODE
        assert world.redirect.table.drops.total() == 0
    assert {packet[0] for packet, to in world.net.seen if to == NODE} == {0x81}
    assert node.goodbyes == 1


async def test_a_lost_first_answer_costs_a_moment_and_no_game_packet(
    autojump_clock: MockClock,
) -> None:
    began = trio.current_time()
    node = SealedNode(loses=lambda number: number <= 2)
    async with open_world(node=node) as world:
        assert trio.current_time() - began == pytest.approx(PROOF_S)  # of the test's own clock
        game = world.net.bind(("127.0.0.1", 5000))
        assert await world.say(game, b"hello") == [b"hello"]
        game.close()


async def test_an_address_that_has_answered_need_not_again_when_the_session_goes_on(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world:
        game = world.net.bind(("127.0.0.1", 5000))
        await world.say(game, b"hello")
        world.node.loses = lambda _: True
        world.node.hang_up()
        await trio.sleep(1)
        assert len(world.node.registers) == 2
        world.node.got.clear()
        await world.say(game, b"on")
        assert [payload for _, payload in world.node.got] == [b"on"]
        game.close()


async def test_another_address_must_answer_before_games_go_there(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world:
        game = world.net.bind(("127.0.0.1", 5000))
        await world.say(game, b"hello")
        victim = world.net.bind(("192.0.2.99", 53))
        world.node.data = victim.address
        world.node.hang_up()
        await trio.sleep(1)
        assert world.tunnel.node == victim.address
        for _ in range(10):
            await world.say(game, b"x" * 1000)
        assert {packet[0] for packet in victim.take()} == {0x81}
        assert world.redirect.table.drops["not-sent"] == 10
        world.node.data = NODE
        world.node.hang_up()
        await trio.sleep(3)
        assert await world.say(game, b"back") == [b"back"]
        victim.close()
        game.close()


async def test_leaving_ends_the_session_once_and_says_goodbye(autojump_clock: MockClock) -> None:
    node = SealedNode()
    async with open_world(node=node) as world:
        game = world.net.bind(("127.0.0.1", 5000))
        await world.say(game, b"hello")
        game.close()
    assert node.fins == [bytes(12)]
    assert (node.goodbyes, len(node.registers)) == (1, 1)
    assert world.redirect.fins_answered == 1
    assert len(world.redirect.table.flows) == 0


async def test_a_cancelled_client_says_fin_too(autojump_clock: MockClock) -> None:
    node = SealedNode(answers_fin=False)
    with trio.CancelScope() as scope:
        async with open_world(node=node) as world:
            await trio.sleep(1.1)
            await wait_all_tasks_blocked()
            world.net.seen.clear()
            scope.cancel("second signal")
            await trio.sleep_forever()
    assert [(packet[0], to) for packet, to in world.net.seen] == [(0x84, NODE)]


async def test_an_idle_flow_ends_and_the_session_goes_on(autojump_clock: MockClock) -> None:
    async with open_world(attrs.evolve(SETTINGS, idle_s=10)) as world:
        game = world.net.bind(("127.0.0.1", 5000))
        await world.say(game, b"hello")
        await trio.sleep(12)
        assert len(world.redirect.table.flows) == 0
        assert world.node.fins == [pack_addresses(("127.0.0.1", 5000), SERVER)]
        assert world.state() == "idle", "a FIN for one conversation is no farewell"
        assert await world.say(game, b"again") == [b"again"]
        game.close()


async def test_a_node_that_leaves_by_fin_is_named(autojump_clock: MockClock) -> None:
    async with open_world(attrs.evolve(SETTINGS, watched=True)) as world:
        await trio.sleep(1)
        world.node_port.send(world.session.end.control(FIN, 7), world.outer)
        await wait_all_tasks_blocked()
        assert world.state() == "node-leaving"
