"""One real world: the node is a child process, the client and the game are in this one."""

from __future__ import annotations

import pytest
import trio
from lightspeed_client.lab.sites import Tunnel
from lightspeed_client.lab.tally import look, take_tally
from lightspeed_client.lab.weather import Blackhole, Weather
from lightspeed_client.lab.world import WorldSettings, open_sites, open_world

from tests.support.repair import xor


@pytest.mark.parametrize("tunnel", ["sealed", "open"])
async def test_a_match_of_two_players_over_two_nodes_is_counted_packet_by_packet(
    tunnel: Tunnel,
) -> None:
    weather = Weather(loss=0.1, delay_s=0.01, jitter_s=0.005, duplicate=0.05)
    settings = WorldSettings(
        up=weather, down=weather, fec=xor(4), players=2, nodes=2, seed=5, tunnel=tunnel
    )
    with trio.fail_after(40):
        async with open_world(settings) as world:
            await world.play(3)
            tally, live = take_tally(world), look(world)
            children = [site.node.process for site in world.sites]
    assert all(process.returncode is not None for process in children)
    for way in (tally.up, tally.down):
        assert way.sent > 2 * 64  # in 3 s; how many more is the machine's affair
        assert 0 < way.repaired <= len(way.dropped)
        assert way.lost == len(way.dropped) - way.repaired + way.lost_elsewhere
        assert way.lost_elsewhere == 0
        assert way.arrived == len(way.delivered) <= way.sent
        assert (way.duplicates, way.corrupt) == (0, 0)
        # sealed, a node protects a conversation once its first repair packet has come
        fewest = way.sent / 4 - (2 + 2 * 5 if tunnel == "sealed" else 2)
        # and protects the last packets before every pause, such as this machine's
        most = way.sent if tunnel == "sealed" else way.sent / 4
        assert fewest <= way.repair_packets <= most
        assert len(way.repair_delays_s) == way.repaired
    assert min(tally.round_trips_s) > 0.020
    assert tally.tunnel_rtt_ms is not None
    assert tally.tunnel_rtt_ms > 20
    assert tally.overhead is not None
    assert tally.overhead > 0.25
    for way in (tally.up, tally.down):
        assert way.lost_by == {"loss": len(way.dropped)}
        assert 0 <= way.bound <= way.unknown
        assert way.repaired_late <= min(way.late, way.repaired)
    assert live.inputs_sent == tally.up.sent
    assert live.states_dropped == len(tally.down.dropped)
    record = tally.to_json()
    assert (record["fec"], record["tunnel"]) == ("xor:4", tunnel)
    assert (record["control_bytes"] > 2 * 2400) == (tunnel == "sealed")  # two Initials each way
    assert record["up"]["lost_before_repair"] == len(tally.up.dropped)


async def test_a_blackhole_is_a_freeze_and_play_goes_on_after_it() -> None:
    hole = Weather(loss=0.1, blackholes=(Blackhole(at_s=0.7, for_s=0.6),))
    with trio.fail_after(30):
        async with open_world(WorldSettings(up=Weather(), down=hole)) as world:
            await world.play(2)
            tally = take_tally(world)
    assert tally.down.freeze_s > 0.55
    by_cause = tally.down.lost_by
    swallowed = {f.label for f in world.relays[0].log if f.label and f.cause == "blackhole"}
    assert by_cause["blackhole"] == len(swallowed) > 10
    assert by_cause["loss"] >= 1
    assert max(tally.down.delivered) > max(swallowed)
    assert tally.down.lost == len(tally.down.dropped) == sum(by_cause.values())
    assert tally.down.bound == tally.down.unknown - tally.down.late  # nothing to repair with
    assert tally.up.lost == 0


async def test_two_worlds_may_play_at_one_node_with_one_invite() -> None:
    settings = WorldSettings(up=Weather(loss=0.1))
    sessions = set()
    with trio.fail_after(40):
        async with open_sites(settings) as sites:
            for _ in range(2):
                async with open_world(settings, sites) as world:
                    await world.play(1)
                    tally = take_tally(world)
                    sessions.add(world.redirects[0].totals().session)
                    assert world.sites is sites
                assert tally.up.lost == len(tally.up.dropped) < tally.up.sent
                assert sites[0].node.process.returncode is None
    assert len(sessions) == 2
    assert sites[0].node.process.returncode is not None


async def test_players_of_one_node_share_a_sealed_session_and_its_limits() -> None:
    settings = WorldSettings(players=24)
    with trio.fail_after(40):
        async with open_world(settings) as world:
            await world.play(1)
            players = [world.player(bot.who) for bot in world.bots]
            drops = world.redirects[0].table.drops
    assert not drops
    assert all(player is not None for player in players)


async def test_stop_ends_a_match_early() -> None:
    with trio.fail_after(20):
        async with open_world(WorldSettings()) as world:
            stop = trio.Event()
            stop.set()
            await world.play(600, stop=stop)
    assert world.seconds() < 600


def test_impossible_worlds_are_refused() -> None:
    for wrong in (
        {"players": 0},
        {"players": 65},
        {"nodes": 0},
        {"pps": 0.0},
        {"pps": 5000.0},
        {"tunnel": "closed"},
    ):
        with pytest.raises(ValueError, match="must be"):
            WorldSettings(**wrong)


def test_the_node_is_allowed_what_the_lab_sends() -> None:
    assert WorldSettings().limits().max_pps_per_client == 1000
    busy = WorldSettings(pps=1000.0, players=64, tunnel="open").limits()
    assert busy.max_pps_per_client == 1.5 * 2 * 1000
    assert "max_pps_per_client = 3000" in busy.to_toml()
    shared = WorldSettings(pps=1000.0, players=64, nodes=3).limits()
    assert shared.max_pps_per_client == 22 * 3000
    assert shared.max_flows_per_client >= 22
