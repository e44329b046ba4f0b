"""One real world: the node is a child process, the client and the game are in this one."""

from __future__ import annotations

import pytest
import trio
from lightspeed_client.lab.tally import look, take_tally
from lightspeed_client.lab.weather import Blackhole, Weather
from lightspeed_client.lab.world import WorldSettings, open_world


async def test_a_match_of_two_players_over_two_nodes_is_counted_packet_by_packet() -> None:
    weather = Weather(loss=0.1, delay_s=0.01, jitter_s=0.005, duplicate=0.05)
    settings = WorldSettings(up=weather, down=weather, fec_k=4, players=2, nodes=2, seed=5)
    with trio.fail_after(30):
        async with open_world(settings) as world:
            await world.play(3)
            tally, live = take_tally(world), look(world)
            children = [node.process for node in world.nodes]
    assert all(process.returncode is not None for process in children)
    for way in (tally.up, tally.down):
        assert way.sent == pytest.approx(2 * 3 * 64, abs=40)
        assert 0 < way.repaired <= len(way.dropped)
        assert way.lost == len(way.dropped) - way.repaired + way.lost_elsewhere
        assert way.lost_elsewhere == 0
        assert way.arrived == len(way.delivered) <= way.sent
        assert (way.duplicates, way.corrupt) == (0, 0)
        assert way.repair_packets == pytest.approx(way.sent / 4, abs=2)
        assert len(way.repair_delays_s) == way.repaired
    assert min(tally.round_trips_s) > 0.020
    assert tally.tunnel_rtt_ms is not None
    assert tally.tunnel_rtt_ms > 20
    assert tally.overhead is not None
    assert tally.overhead > 0.25
    for way in (tally.up, tally.down):
        assert way.lost_by == {"loss": len(way.dropped)}
        assert 0 <= way.unclosed <= 2 * 3  # of each player at most a block less one
        assert way.repaired_late <= min(way.late, way.repaired)
    assert live.inputs_sent == tally.up.sent
    assert live.states_dropped == len(tally.down.dropped)
    record = tally.to_json()
    assert record["fec"] == "xor:4"
    assert record["up"]["lost_before_repair"] == len(tally.up.dropped)


async def test_a_blackhole_is_a_freeze_and_play_goes_on_after_it() -> None:
    hole = Weather(loss=0.1, blackholes=(Blackhole(at_s=0.7, for_s=0.6),))
    with trio.fail_after(30):
        async with open_world(WorldSettings(up=Weather(), down=hole)) as world:
            await world.play(2)
            tally = take_tally(world)
    assert tally.down.freeze_s > 0.55
    assert max(number for _, number in tally.down.delivered) > 1.8 * 64
    by_cause = tally.down.lost_by
    assert by_cause["blackhole"] == pytest.approx(0.6 * 64, abs=12)
    assert 1 <= by_cause["loss"] <= 25
    assert tally.down.lost == len(tally.down.dropped) == sum(by_cause.values())
    assert tally.down.unclosed == 0  # without repair there are no blocks
    assert tally.up.lost == 0


async def test_stop_ends_a_match_early() -> None:
    with trio.fail_after(20):
        async with open_world(WorldSettings()) as world:
            stop = trio.Event()
            stop.set()
            await world.play(600, stop=stop)
    assert world.seconds() < 600


def test_impossible_worlds_are_refused() -> None:
    for wrong in ({"players": 0}, {"players": 65}, {"nodes": 0}, {"pps": 0.0}, {"pps": 5000.0}):
        with pytest.raises(ValueError, match="must be"):
            WorldSettings(**wrong)


def test_the_node_is_allowed_what_the_lab_sends() -> None:
    assert WorldSettings().limits().max_pps_per_client == 1000
    busy = WorldSettings(pps=1000.0, players=64).limits()
    assert busy.max_pps_per_client >= 2250
    assert "max_pps_per_client = 2500" in busy.to_toml()
