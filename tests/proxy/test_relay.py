from __future__ import annotations

import random
import socket
import sys

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from lightspeed_protocol.endpoint import Endpoint
from lightspeed_protocol.errors import WireError
from lightspeed_protocol.header import (
    FIN,
    HANDSHAKE,
    HEADER_BYTES,
    KEEPALIVE,
    Header,
    control_packet,
    decode,
    pack_addresses,
)
from lightspeed_protocol.sequence import RESTART
from lightspeed_proxy.counters import DROP_REASONS
from trio.testing import MockClock

from tests.support.relays import Host, open_world, settle


async def test_a_game_packet_goes_there_and_its_answer_comes_back(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world:
        server = world.host()
        player = world.player(server, token=7)
        world.play(player, b"hello")
        [(payload, exit_address)] = await server.heard()
        assert payload == b"hello"
        server.send(b"welcome", exit_address)
        [(answer, _)] = await player.heard()
        assert answer[HEADER_BYTES:] == b"welcome"
        header = decode(answer)
        assert (header.version, header.flags, header.token) == (1, 0, 7)
        assert (header.source, header.destination) == (server.address, player.address)
        assert world.drops == {}


async def test_packets_are_carried_in_the_midst_of_somebody_elses_turn(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world:
        server = world.host()
        player = world.player(server)
        world.play(player, b"hello")
        world.relay.breathe()  # and nobody else has run
        payload, exit_address = server.sock.recvfrom(100)
        assert payload == b"hello"
        server.send(b"welcome", exit_address)
        world.relay.breathe()
        assert player.sock.recv(100)[HEADER_BYTES:] == b"welcome"
        world.relay.breathe()  # nothing more: no wait
        await settle()


async def test_players_servers_and_games_do_not_mix(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        servers = [world.host(), world.host()]
        players = [world.player(server) for server in servers for _ in range(2)]
        # and one client that plays on both servers through one tunnel socket
        both = world.host()
        for number, server in enumerate(servers):
            key = pack_addresses(("127.0.0.1", 700 + number), server.address)
            header = Header(sequence=number, source=("127.0.0.1", 700 + number),
                            destination=server.address)  # fmt: skip
            assert header.encode()[8:20] == key
            both.send(header.encode() + b"both", world.address)
        for number, player in enumerate(players):
            world.play(player, b"player %d" % number)
        exits = set()
        for number, server in enumerate(servers):
            heard = await server.heard()
            assert sorted(payload for payload, _ in heard) == sorted(
                [b"both", b"player %d" % (2 * number), b"player %d" % (2 * number + 1)]
            )
            for payload, source in heard:
                exits.add(source)
                server.send(b"re %d: " % number + payload, source)
        assert len(exits) == 6
        for number, player in enumerate(players):
            assert await player.payloads() == [b"re %d: player %d" % (number // 2, number)]
        answers = await both.heard()
        assert {(data[20:], decode(data).source, decode(data).destination[1])
                for data, _ in answers} == {
            (b"re 0: both", servers[0].address, 700),
            (b"re 1: both", servers[1].address, 701),
        }  # fmt: skip


async def test_nobody_but_the_game_server_answers(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        server, stranger = world.host(), world.host()
        player = world.player(server)
        world.play(player, b"hello")
        [(_, exit_address)] = await server.heard()
        stranger.send(b"forged", exit_address)
        assert await player.heard() == []


async def test_a_flow_in_use_keeps_its_port_and_an_idle_one_ends(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world:
        server = world.host()
        player = world.player(server)
        ports = set()
        for _ in range(15 * 60 // 5):
            world.play(player, b"move")
            ports |= {source for _, source in await server.heard()}
            await trio.sleep(5)
        assert len(ports) == 1
        await trio.sleep(301)
        assert (world.relay.sessions, world.relay.flows) == (0, 0)
        assert world.relay.counters.sessions_expired == 1
        world.play(player, b"back")
        assert len(await server.heard()) == 1


@pytest.mark.parametrize(
    ("datagram", "reason"),
    [
        (b"", "short"),
        (bytes(19), "short"),
        (bytes.fromhex("00") + bytes(30), "version"),
        (bytes.fromhex("30") + bytes(30), "version"),
        (bytes.fromhex("f0") + bytes(30), "version"),
        (b"\x10" + bytes(19), "empty"),
        (b"\x20" + bytes(22), "malformed"),
        (b"\x20" + bytes(19) + bytes.fromhex("00000000") + b"x", "malformed"),
        (b"\x20" + bytes(19) + bytes.fromhex("00000011") + b"x", "malformed"),
        (b"\x20" + bytes(19) + bytes.fromhex("00000504") + b"x", "fec-index"),
        (b"\x10" + bytes(2048), "oversized"),
        (b"\x10" + bytes(30), "destination"),  # 0.0.0.0:0
        (Header(destination=("224.0.0.1", 5000)).encode() + b"x", "destination"),
        (Header(destination=("127.0.0.1", 53)).encode() + b"x", "destination"),
    ],
)
@pytest.mark.parametrize("known", [False, True])
async def test_a_bad_datagram_is_dropped_under_one_reason_and_makes_nothing(
    autojump_clock: MockClock, datagram: bytes, reason: str, known: bool
) -> None:
    async with open_world() as world:
        server = world.host()
        player = world.player(server)
        if known:
            world.play(player, b"hello")
            await server.heard()
        flows = world.relay.flows
        player.send(datagram, world.address)
        assert await player.heard() == []
        assert world.drops == {reason: 1}
        assert world.relay.flows == flows


async def test_bad_bodies_on_a_known_flow_are_dropped_too(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        server = world.host()
        player = world.player(server)
        world.play(player, b"hello")
        key = player.endpoint.key if player.endpoint else b""
        start = bytes.fromhex("2000000900000000") + key
        for body in ("0000", "00000011ff", "00000504ff", "00000004"):
            player.send(start + bytes.fromhex(body), world.address)
        player.send(bytes.fromhex("1000000a00000000") + key, world.address)
        player.send(bytes.fromhex("1000000b00000000") + key + bytes(2040), world.address)
        assert [payload for payload, _ in await server.heard()] == [b"hello"]
        assert world.drops == {"malformed": 2, "fec-index": 1, "empty": 2, "oversized": 1}


@pytest.mark.parametrize("dev", [False])
async def test_a_closed_node_relays_and_answers_nothing(
    autojump_clock: MockClock, dev: bool
) -> None:
    async with open_world(dev=dev) as world:
        server = world.host()
        player = world.player(server)
        world.play(player, b"hello")
        for flag in (KEEPALIVE, HANDSHAKE, FIN):
            player.send(control_packet(flag), world.address)
        assert await server.heard() == []
        assert await player.heard() == []
        assert world.drops == {"closed": 4}


@pytest.mark.parametrize("flag", [KEEPALIVE, HANDSHAKE, FIN])
@pytest.mark.parametrize("version", [1, 2])
async def test_flags_are_answered_in_kind_and_never_reach_the_game(
    autojump_clock: MockClock, flag: int, version: int
) -> None:
    async with open_world() as world:
        server = world.host()
        player = world.player(server)
        asked = Header(version=version, flags=flag, token=9, sequence=60000, timestamp_us=5)
        player.send(asked.encode(), world.address)
        [answer] = await player.headers()
        assert (answer.version, answer.flags, answer.token, answer.sequence) == (
            version, flag, 9, 60000,
        )  # fmt: skip
        assert answer.source == answer.destination == ("0.0.0.0", 0)
        assert await server.heard() == []
        assert world.relay.sessions == 0  # no memory for strangers


async def test_fin_gives_the_place_back(autojump_clock: MockClock) -> None:
    async with open_world(limits={"max_clients": 2}) as world:
        server = world.host()
        players = [world.player(server) for _ in range(3)]
        for player in players:
            world.play(player, b"hello")
        assert len(await server.heard()) == 2
        assert world.drops == {"max-clients": 1}
        players[0].send(control_packet(FIN), world.address)
        assert [h.flags for h in await players[0].headers()] == [FIN]
        world.play(players[2], b"now")
        assert [payload for payload, _ in await server.heard()] == [b"now"]
        assert world.relay.sessions == 2


async def test_a_client_has_so_many_flows(autojump_clock: MockClock) -> None:
    async with open_world(limits={"max_flows_per_client": 3}) as world:
        server, player = world.host(), world.host()
        for port in range(5):
            header = Header(source=("127.0.0.1", port + 1), destination=server.address)
            player.send(header.encode() + b"x", world.address)
        assert len(await server.heard()) == 3
        assert world.drops == {"max-flows": 2}


async def test_rate_limits_are_per_client(autojump_clock: MockClock) -> None:
    async with open_world(limits={"max_pps_per_client": 20}) as world:
        server = world.host()
        greedy, modest = world.player(server), world.player(server)
        for _ in range(50):
            world.play(greedy, b"x")
        world.play(modest, b"y")
        heard = [payload for payload, _ in await server.heard()]
        assert heard.count(b"x") == 19  # the first packet of a flow counts twice
        assert heard.count(b"y") == 1
        assert world.drops == {"rate-packets": 31}


async def test_answers_are_limited_by_what_was_sent(autojump_clock: MockClock) -> None:
    async with open_world(
        security={"amplification_grace_bytes": 5000, "max_amplification": 2.0}
    ) as world:
        server = world.host()
        player = world.player(server)
        world.play(player, b"give")
        [(_, exit_address)] = await server.heard()
        for _ in range(40):
            server.send(bytes(1000), exit_address)
            await trio.sleep(0.001)
        heard = await player.heard()
        assert len(heard) == 4
        assert world.drops == {"amplification": 36}


async def test_a_scan_is_refused_but_standing_flows_live(autojump_clock: MockClock) -> None:
    async with open_world(security={"max_destinations_per_window": 2}) as world:
        server = world.host()
        player = world.player(server)
        world.play(player, b"one")
        others = [world.host() for _ in range(4)]
        for other in others:
            header = Header(source=player.address, destination=other.address)
            player.send(header.encode() + b"scan", world.address)
        await world.hosts[0].heard()
        assert sum([len(await other.heard()) for other in others]) == 1
        assert world.drops == {"many-destinations": 3}
        world.play(player, b"two")
        assert [payload for payload, _ in await server.heard()] == [b"two"]
        # nobody is banned: the source may be forged, and it has not answered the question
        assert world.relay.counters.bans == 0


async def test_a_scanner_that_proves_its_address_is_banned_for_a_time(
    autojump_clock: MockClock,
) -> None:
    async with open_world(security={"max_destinations_per_window": 1, "ban_s": 60.0}) as world:
        server = world.host()
        player, neighbour = world.player(server), world.player(server)
        world.play(player, b"one")
        header = Header(source=player.address, destination=neighbour.address)
        player.send(header.encode() + b"scan", world.address)
        [question] = await player.headers()
        assert question.flags == HANDSHAKE
        player.send(question.encode(), world.address)
        assert await player.heard() == []
        world.play(player, b"two")
        world.play(neighbour, b"three")
        assert [p for p, _ in await server.heard()] == [b"one", b"three"]
        assert world.drops == {"many-destinations": 1, "banned": 1}
        await trio.sleep(60)
        world.play(player, b"four")
        assert [p for p, _ in await server.heard()] == [b"four"]


async def test_duplicates_reach_the_game_once(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        server = world.host()
        player = world.player(server)
        assert player.endpoint is not None
        for number in range(5):
            [datagram] = player.endpoint.wrap(b"%d" % number, 0)
            for _ in range(3):
                player.send(datagram, world.address)
        assert [p for p, _ in await server.heard()] == [b"0", b"1", b"2", b"3", b"4"]
        assert world.drops == {"duplicate": 10}


@pytest.mark.parametrize("k", [2, 4, 16])
async def test_fec_repairs_both_ways(autojump_clock: MockClock, k: int) -> None:
    async with open_world() as world:
        server = world.host()
        player = world.player(server, fec_k=k)
        assert player.endpoint is not None
        exit_address = ("", 0)
        rng = random.Random(k)
        for block in range(20):
            lost = rng.randrange(k)
            sent = [b"up %d %d" % (block, number) * (number + 1) for number in range(k)]
            for number, payload in enumerate(sent):
                for place, datagram in enumerate(player.endpoint.wrap(payload, 0)):
                    if block == 0 or number != lost or place == 1:
                        player.send(datagram, world.address)
            heard = await server.heard()
            assert sorted(p for p, _ in heard) == sorted(sent)
            exit_address = heard[0][1]
        assert world.relay.counters.fec_recovered == 19
        for block in range(1, 20):
            answers = [b"down %d %d" % (block, number) * (number + 1) for number in range(k)]
            for payload in answers:
                server.send(payload, exit_address)
            heard = await player.heard()
            assert len(heard) == k + 1
            del heard[rng.randrange(k)]
            delivered = [p for data, _ in heard for p in player.endpoint.unwrap(data)]
            assert sorted(delivered) == sorted(answers)
        assert world.relay.counters.fec_repair_sent == 19
        assert world.drops == {}


async def test_a_payload_too_large_for_fec_still_goes_through(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        server = world.host()
        player = world.player(server, fec_k=4)
        world.play(player, b"small")
        world.play(player, bytes(1500))
        assert [len(p) for p, _ in await server.heard()] == [5, 1500]
        assert world.drops == {}


async def test_a_draining_node_says_goodbye_and_takes_nobody_new(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world:
        server = world.host()
        old, new = world.player(server), world.player(server)
        world.play(old, b"hello")
        await server.heard()
        world.relay.refuse_new()
        world.relay.say_goodbye()
        assert [h.flags for h in await old.headers()] == [FIN]
        world.play(old, b"still")
        world.play(new, b"late")
        new.send(control_packet(KEEPALIVE), world.address)
        assert [p for p, _ in await server.heard()] == [b"still"]
        assert await new.heard() == []
        assert world.drops == {"draining": 2}


@settings(max_examples=150)
@given(
    datagrams=st.lists(
        st.one_of(
            st.binary(max_size=64),
            st.binary(max_size=64).map(lambda tail: b"\x10" + bytes(7) + tail),
            st.binary(max_size=64).map(lambda tail: b"\x20" + bytes(7) + tail),
        ),
        max_size=20,
    ),
    known=st.booleans(),
)
def test_any_bytes_are_forwarded_answered_or_counted_once(
    datagrams: list[bytes], known: bool
) -> None:
    async def scenario() -> None:
        async with open_world() as world:
            server = world.host()
            player = world.player(server)
            if known:
                world.play(player, b"hello")
            for datagram in datagrams:
                player.send(datagram, world.address)
                if known and player.endpoint is not None:
                    player.send(datagram[:8] + player.endpoint.key + datagram[8:], world.address)
            await player.heard()
            counters = world.relay.counters
            sent = len(datagrams) * (2 if known else 1) + known
            consumed = counters.fec_repair + counters.fec_source
            ended = (
                counters.packets_dropped + counters.keepalives + counters.handshakes
                + counters.fins + counters.packets_up
            )  # fmt: skip
            assert ended <= sent + counters.fec_recovered
            assert ended + consumed >= sent
            assert set(counters.drops) == set(DROP_REASONS)

    trio.run(scenario, clock=MockClock(autojump_threshold=0))


async def test_churn_leaves_nothing_behind(autojump_clock: MockClock) -> None:
    async with open_world(limits={"max_clients": 100}) as world:
        server = world.host()
        for _ in range(20):
            players = [world.player(server) for _ in range(50)]
            for player in players:
                world.play(player, b"hello")
            await server.heard()
            assert world.relay.flows == 50
            for player in players:
                player.send(control_packet(FIN), world.address)
                await player.heard()
                player.close()
            assert (world.relay.sessions, world.relay.flows) == (0, 0)
        assert world.relay.counters.flows_closed == world.relay.counters.flows_created == 1000
        assert world.drops == {}


async def test_a_node_started_again_is_heard_at_once(autojump_clock: MockClock) -> None:
    received = []
    player_end: Endpoint | None = None
    for run in range(2):
        async with open_world(seed=run) as world:
            server = world.host()
            player = world.player(server)
            player.endpoint = player_end = player_end or player.endpoint
            assert player.endpoint is not None
            player.endpoint.key = pack_addresses(player.address, server.address)
            world.play(player, b"hello")
            [(_, exit_address)] = await server.heard()
            for number in range(20):
                server.send(b"%d %d" % (run, number), exit_address)
            received += [p for data, _ in await player.heard() for p in unwrap_some(player, data)]
    assert len(received) >= 40 - RESTART


def unwrap_some(player: Host, datagram: bytes) -> list[bytes]:
    assert player.endpoint is not None
    try:
        return player.endpoint.unwrap(datagram)
    except WireError:
        return []


async def test_a_node_does_not_answer_a_node(autojump_clock: MockClock) -> None:
    """Else a KEEPALIVE with a node's forged source would go back and forth for ever."""
    async with open_world() as one, open_world() as other:
        one.relay.data[0].sendto(control_packet(KEEPALIVE), other.address)
        other.relay._flows.node_ports = frozenset({one.address[1]})
        await settle()
        assert other.drops == {"loop": 1}
        assert one.relay.counters.keepalives == 0


async def test_without_open_files_left_the_node_refuses_and_lives(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world:
        server = world.host()
        first, second = world.player(server), world.player(server)
        world.play(first, b"hello")
        assert len(await server.heard()) == 1
        world.relay._flows.room = 1
        world.play(second, b"hello")
        world.play(first, b"again")
        assert [p for p, _ in await server.heard()] == [b"again"]
        assert world.drops == {"no-socket": 1}


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts them")
async def test_what_the_kernel_drops_is_counted_too(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        assert world.relay.kernel_drops == 0
        world.relay.data[0].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2000)
        flooder = world.host()
        for _ in range(100):
            flooder.send(bytes(500), world.address)
        await settle()
        assert world.relay.kernel_drops + sum(world.drops.values()) == 100
        assert world.relay.kernel_drops > 0
