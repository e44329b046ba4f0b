"""Sealed packets: whoever has the key is carried, wherever its packets come from; nobody else."""

from __future__ import annotations

import random
from ipaddress import ip_network

import trio
from lightspeed_protocol.fec.asking import Ask
from lightspeed_protocol.fec.report import Report
from lightspeed_protocol.fec.window import Plan
from lightspeed_protocol.header import FIN, HANDSHAKE, KEEPALIVE, pack_addresses
from lightspeed_protocol.runtime.udp import open_socket
from lightspeed_protocol.seal import SealedEnd, header_bytes
from lightspeed_protocol.sealed_flow import SealedFlow
from lightspeed_proxy.rate_limit import Rates
from trio.testing import MockClock

from tests.support.relays import Host, open_world


async def test_a_registered_client_is_carried_there_and_back(autojump_clock: MockClock) -> None:
    async with open_world(dev=False, security={"allow_destinations": ("127.0.0.0/8",)}) as world:
        server = world.host()
        player = world.join(server.address)
        sent = world.play_sealed(player, b"a readable hello")
        assert b"a readable hello" in sent[0]
        [(payload, exit_address)] = await server.heard()
        assert payload == b"a readable hello"
        server.send(b"welcome", exit_address)
        [(answer, _)] = await player.host.heard()
        assert answer[0] == 0x80
        assert answer[header_bytes(answer) :] == b"welcome"
        assert player.open(answer) == [b"welcome"]
        assert world.drops == {}
        assert (player.session.packets_up, player.session.packets_down) == (1, 1)


async def test_without_the_key_nothing_is_forwarded(autojump_clock: MockClock) -> None:
    rng = random.Random(3)
    async with open_world() as world:
        server, thief = world.host(), world.host()
        player = world.join(server.address)
        [genuine] = player.flow.wrap(b"mine", 0, 0.0)
        player.host.send(genuine, world.address)
        assert len(await server.heard()) == 1
        for _ in range(2000):
            forged = bytearray(genuine)
            forged[2:8] = rng.randbytes(6)
            forged[28:36] = rng.randbytes(8)
            thief.send(bytes(forged), world.address)
            if rng.random() < 0.05:
                await trio.lowlevel.checkpoint()
        other = SealedEnd.client(7, rng.randbytes(16))
        thief.send(other.control(FIN, 0), world.address)
        stranger = SealedEnd.client(8, rng.randbytes(16))
        thief.send(stranger.control(KEEPALIVE, 0), world.address)
        assert await thief.heard() == []
        assert await server.heard() == []
        assert world.drops == {"forged": 2001, "session": 1}
        world.play_sealed(player, b"still there")
        assert [p for p, _ in await server.heard()] == [b"still there"]


async def test_a_replay_from_elsewhere_is_dropped_and_moves_no_return_address(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world:
        server, thief = world.host(), world.host()
        player = world.join(server.address)
        [captured] = world.play_sealed(player, b"one")
        world.play_sealed(player, b"two")
        [(_, exit_address), _] = await server.heard()
        for _ in range(1000):
            thief.send(captured, world.address)
            if _ % 50 == 0:
                await trio.sleep(0.01)
        assert await server.heard() == []
        server.send(b"state", exit_address)
        assert await player.payloads() == [b"state"]
        assert await thief.heard() == []
        assert world.drops == {"replayed": 1000}


async def test_a_late_packet_is_delivered_but_does_not_say_where_the_client_is(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world:
        server, elsewhere = world.host(), world.host()
        player = world.join(server.address)
        world.play_sealed(player, b"first")
        [held] = player.flow.wrap(b"held back", 0, 0.0)
        world.play_sealed(player, b"newer")
        assert len(await server.heard()) == 2
        elsewhere.send(held, world.address)
        [(payload, exit_address)] = await server.heard()
        assert payload == b"held back"
        server.send(b"state", exit_address)
        assert await player.payloads() == [b"state"]


async def test_a_client_whose_address_changes_goes_on_with_the_same_port(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world:
        server = world.host()
        player = world.join(server.address)
        exits = set()
        for turn in range(5):
            world.play_sealed(player, b"turn %d" % turn)
            heard = await server.heard()
            assert [p for p, _ in heard] == [b"turn %d" % turn]
            exits.add(heard[0][1])
            server.send(b"re %d" % turn, heard[0][1])
            assert await player.payloads() == [b"re %d" % turn]
            player.host = world.host()
        assert len(exits) == 1
        assert world.relay.counters.roams == 4
        assert world.relay.sessions == 1


async def test_answers_go_nowhere_before_the_client_has_spoken(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        player = world.join(world.host().address)
        world.relay.say_goodbye()
        world.relay.end(player.session)
        assert await player.host.heard() == []
        assert world.drops == {}


async def test_keepalive_and_handshake_come_back_with_their_payload(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world:
        player = world.join(world.host().address)
        for flag in (KEEPALIVE, HANDSHAKE):
            packet = player.end.control(flag, 5, b"\xea\x60")
            player.host.send(packet, world.address)
            [(answer, _)] = await player.host.heard()
            opened = player.end.open(answer, 0.0)
            assert (opened.flags, opened.payload) == (flag, b"\xea\x60")
            assert len(answer) == len(packet)
        player.host.send(player.end.control(KEEPALIVE, 5, bytes(65)), world.address)
        assert await player.host.heard() == []
        assert world.drops == {"oversized": 1}


async def test_fin_ends_one_flow_or_the_session(autojump_clock: MockClock) -> None:
    ended: list[str] = []
    async with open_world() as world:
        server = world.host()
        player = world.join(server.address)
        player.session.on_end = lambda _session, why: ended.append(why)
        world.play_sealed(player, b"hello")
        fin = player.end.control(FIN, 0, addresses=player.flow.addresses)
        player.host.send(fin, world.address)
        [(answer, _)] = await player.host.heard()
        opened = player.end.open(answer, 0.0)
        assert opened.flags == FIN
        assert opened.addresses == pack_addresses(server.address, ("127.0.0.1", 50007))
        assert (world.relay.sessions, world.relay.flows, ended) == (1, 0, [])
        player.host.send(player.end.control(FIN, 0), world.address)
        assert len(await player.host.heard()) == 1
        assert (world.relay.sessions, ended) == (0, ["fin"])


async def test_two_players_behind_one_address_do_not_meet(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        server = world.host()
        one = world.join(server.address, session_id=7)
        two = world.join(server.address, session_id=9)
        two.host = one.host  # one NAT, one port even
        for player, word in ((one, b"one"), (two, b"two")):
            world.play_sealed(player, word)
        exits = dict(await server.heard())
        assert len(set(exits.values())) == 2
        world.relay.end(one.session)
        await one.host.heard()
        world.play_sealed(two, b"unmoved")
        [(payload, source)] = await server.heard()
        assert (payload, source) == (b"unmoved", exits[b"two"])


async def test_an_invites_own_destinations_are_all_it_reaches(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        server = world.host()
        player = world.join(server.address, destinations=(ip_network("192.0.2.0/24"),))
        world.play_sealed(player, b"hello")
        assert await server.heard() == []
        assert world.drops == {"destination": 1}


async def test_an_invites_own_limit_is_a_sessions_own(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        server = world.host()
        slow = world.join(server.address, session_id=7, rates=Rates(10, 10**6))
        free = world.join(server.address, session_id=9)
        for _ in range(20):
            world.play_sealed(slow, b"slow")
            world.play_sealed(free, b"free")
        heard = [p for p, _ in await server.heard()]
        assert (heard.count(b"slow"), heard.count(b"free")) == (10, 20)
        assert world.drops == {"rate-packets": 10}


async def test_lost_packets_are_repaired_both_ways(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        server = world.host()
        player = world.join(server.address, plan=Plan.xor(2))
        world.play_sealed(player, b"one")
        world.play_sealed(player, b"two")  # its repair packet wakes the node's decoder
        lost, kept = player.flow.wrap(b"lost", 0, 0.0), player.flow.wrap(b"kept", 0, 0.0)
        assert (len(lost), len(kept)) == (1, 2)
        for datagram in kept:
            player.host.send(datagram, world.address)
        heard = await server.heard()
        assert [p for p, _ in heard] == [b"one", b"two", b"kept", b"lost"]
        assert world.relay.counters.fec_recovered == 1
        for word in (b"1", b"2", b"3", b"4"):
            server.send(word, heard[0][1])
        answers = [data for data, _ in await player.host.heard()]
        assert [data[0] for data in answers] == [0x80, 0x80, 0x88, 0x80, 0x80, 0x88]
        got = [p for data in answers[:3] for p in player.open(data)]
        got += [p for data in answers[4:] for p in player.open(data)]
        assert sorted(got) == [b"1", b"2", b"3", b"4"]


async def test_resume_keeps_flows_and_ports_and_refuses_the_old_key(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world:
        server = world.host()
        player = world.join(server.address)
        world.play_sealed(player, b"before")
        [(_, exit_address)] = await server.heard()
        [late] = player.flow.wrap(b"old key", 0, 0.0)
        world.relay.renew(player.session, b"N" * 16, "127.0.0.1")
        player.host.send(late, world.address)
        player.end = SealedEnd.client(7, b"N" * 16)
        player.flow = SealedFlow.open(player.end, player.flow.addresses)  # a client started anew
        world.play_sealed(player, b"after")
        assert await server.heard() == [(b"after", exit_address)]
        server.send(b"state", exit_address)
        assert await player.payloads() == [b"state"]
        assert world.drops == {"forged": 1}


async def test_a_new_key_every_second_loses_nothing(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        server = world.host()
        player = world.join(server.address)
        up = down = 0
        for second in range(60):
            key = bytes([second]) * 16
            assert world.relay.rekey(player.session, key)
            for tick in range(128):
                if tick == 5:
                    player.end.rekey(key, trio.current_time())
                world.play_sealed(player, b"%d" % up)
                up += 1
                await trio.sleep(1 / 128)
            heard = await server.heard()
            assert len(heard) == 128
            for _ in range(10):
                server.send(b"state", heard[0][1])
                down += 1
            assert len(await player.payloads()) == 10
        assert world.drops == {}


async def test_ipv6_inside_is_carried(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        server = Host(open_socket(("::1", 0)), world.relay)
        world.hosts.append(server)
        player = world.join(server.address)
        [sent] = world.play_sealed(player, b"hello")
        assert sent[0] == 0x90
        [(payload, exit_address)] = [(p, s[:2]) for p, s in await server.heard()]
        assert payload == b"hello"
        server.send(b"welcome", exit_address)
        assert await player.payloads() == [b"welcome"]


async def test_garbage_after_the_tag_check_is_counted_and_makes_nothing(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world:
        server = world.host()
        player = world.join(server.address)
        seal, key = player.end.sealer.seal, player.flow.addresses
        for first, field, payload in (
            (0x80, b"\0\0\0\0", b""),  # empty
            (0xA0, b"\0\0\0\0", b"x"),  # no such version
        ):
            player.host.send(seal(first, 0, key, field, payload), world.address)
        assert await server.heard() == []
        assert world.drops == {"empty": 1, "version": 1}
        player.end.sealer.path = 3
        world.play_sealed(player, b"x")
        await server.heard()
        player.end.sealer.path = 0
        world.play_sealed(player, b"hello")
        player.host.send(seal(0x80, 0, key, b"\xc0\0\0\0", b"x"), world.address)
        player.host.send(seal(0x88, 0, key, b"\xff\xff\xff\xff", b"x"), world.address)
        player.host.send(b"\x80" + bytes(10), world.address)
        assert [p for p, _ in await server.heard()] == [b"hello"]
        assert world.drops == {"empty": 1, "version": 1, "path": 1, "fec-field": 2, "short": 1}


async def test_a_report_or_an_ask_opens_no_flow(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        server = world.host()
        player = world.join(server.address)
        for field, payload in (Report(highest=5, received=1).encode(), Ask(5).encode()):
            seal, key = player.end.sealer.seal, player.flow.addresses
            player.host.send(seal(0x80, 0, key, field, payload), world.address)
        assert await server.heard() == []
        assert (world.relay.flows, world.drops) == (0, {"fec-field": 2})
