"""Repairs and reports that leave a node by time, through the whole data plane."""

from __future__ import annotations

import trio
from lightspeed_protocol.extensions import RegisterExtensions
from lightspeed_protocol.fec.protection import Protection
from lightspeed_protocol.fec.report import Report
from lightspeed_protocol.fec.window import Plan
from lightspeed_protocol.seal import REPAIR
from lightspeed_protocol.sealed_flow import NO_OUTCOME
from lightspeed_proxy.repair_terms import RepairTerms
from trio.testing import MockClock

from tests.support.relays import open_world

FIXED = RegisterExtensions(fec=(1, 2, 3), protection=Protection(plan=Plan(4, 4)), reports_ms=250)


async def test_the_last_packet_before_a_silence_gets_a_repair(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        server = world.host()
        player = world.join(server.address)
        player.session.agree(RepairTerms.agree(FIXED, 2))
        world.play_sealed(player, b"hello")
        [(_, exit_address)] = await server.heard()
        server.send(b"state", exit_address)
        await trio.sleep(0.1)
        heard = [data for data, _ in await player.host.heard()]
        repairs = [data for data in heard if data[0] & REPAIR]
        assert len(repairs) == 2
        assert [player.open(data) for data in repairs] == [[b"state"], []]
        counters = world.relay.counters
        assert counters.fec_repair_sent == 2
        assert counters.fec_bytes_sent >= sum(map(len, repairs))


async def test_a_client_is_told_what_came_from_it(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        server = world.host()
        player = world.join(server.address)
        player.session.agree(RepairTerms.agree(FIXED, 2))
        for number in range(20):
            datagrams = player.flow.wrap(b"input", 0, trio.current_time())
            if number % 5 != 3:
                for datagram in datagrams:
                    player.host.send(datagram, world.address)
            await trio.sleep(1 / 64)
        await trio.sleep(1.0)
        flow = player.flow
        for data, _ in await player.host.heard():
            assert player.open(data) == []
        assert (flow.heard.received, flow.heard.lost, flow.heard.repaired) == (16, 4, 0)
        assert world.relay.counters.fec_feedback_sent == 2
        assert world.relay.counters.fec_lost == 4
        await trio.sleep(60)
        assert await player.host.heard() == [], "nothing is reported while nothing comes"


async def test_reports_of_a_client_raise_what_it_is_sent(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        server = world.host()
        player = world.join(server.address)
        wish = RegisterExtensions(fec=(1, 2, 3), protection=Protection(adaptive=True))
        player.session.agree(RepairTerms.agree(wish, 2))
        world.play_sealed(player, b"hello")
        [(_, exit_address)] = await server.heard()
        [flow] = player.session.flows.values()
        last_up = flow.last_up
        for _ in range(8):
            for _ in range(64):
                server.send(b"state" * 20, exit_address)
                await trio.sleep(1 / 64)
            await player.host.heard()
            report = Report(highest=1, received=57, lost=7, runs=7, longest=1)
            datagram = player.end.sealer.seal(0x80, 0, player.flow.addresses, *report.encode())
            player.host.send(datagram, world.address)
        await trio.sleep(0.01)
        counters = world.relay.counters
        assert counters.fec_feedback == 8
        assert flow.last_up == last_up, "a report keeps no conversation alive"
        assert flow.sealed is not None
        assert flow.sealed.protector.explain().startswith("1 repair per packet over 4: 10.9 % lost")
        assert await server.heard() == []


async def test_no_game_packet_is_refused_because_of_repair(autojump_clock: MockClock) -> None:
    limits = {"max_pps_per_client": 100}
    security = {"max_amplification": 3.0, "amplification_grace_bytes": 4096}
    async with open_world(limits=limits, security=security) as world:
        server = world.host()
        player = world.join(server.address, plan=Plan(1, 1))
        wish = RegisterExtensions(fec=(1, 2, 3), protection=Protection(plan=Plan(1, 1)))
        player.session.agree(RepairTerms.agree(wish, 3))
        for _ in range(80):
            for _ in range(8):
                world.play_sealed(player, b"input")
            exit_address = (await server.heard())[0][1]
            for _ in range(8):
                server.send(b"state" * 25, exit_address)
            await trio.sleep(1 / 8)
        heard = [data for data, _ in await player.host.heard()]
        counters = world.relay.counters
        assert counters.packets_up == 640
        assert sum(1 for data in heard if not data[0] & REPAIR and not data[20]) == 640
        assert 64 < counters.fec_repair_sent < 640
        assert 64 < counters.fec_repair < 640
        assert world.drops == {"rate-packets": 640 - counters.fec_repair}


async def test_agreeing_anew_takes_back_nothing_that_was_counted(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        server = world.host()
        player = world.join(server.address)
        costly = Protection(plan=Plan(1, 1), cap=1.0)
        wish = RegisterExtensions(fec=(1, 2, 3, 4), protection=costly)
        player.session.agree(RepairTerms.agree(wish, 2))
        assert player.session.end is not None
        player.session.end.round_trip_s = 0.01
        for number in range(8):
            if number != 4:
                world.play_sealed(player, b"input")
            else:
                player.flow.wrap(b"lost", 0, trio.current_time())
            await trio.sleep(1 / 64)
        exit_address = (await server.heard())[0][1]
        for _ in range(400):
            server.send(bytes(200), exit_address)
        await trio.sleep(0.1)
        [flow] = player.session.flows.values()
        counters = world.relay.counters
        counters.settle(flow.settle())
        assert counters.fec_capped > 20
        assert counters.fec_asked == 2, "once more where no answer comes"
        adaptive = RegisterExtensions(fec=(1, 2, 3), protection=Protection(adaptive=True))
        player.session.agree(RepairTerms.agree(adaptive, 2))
        assert flow.settle() == NO_OUTCOME
