from __future__ import annotations

import attrs
import pytest
from lightspeed_client.lab.tally import Tally

from .test_way import way


def test_overhead_is_what_the_tunnel_adds_to_each_game_byte() -> None:
    up, down = way(game_bytes=100, tunnel_bytes=150), way(game_bytes=300, tunnel_bytes=350)
    tally = Tally(
        fec="off", seconds=1, up=up, down=down, round_trips_s=(0.02, 0.03), tunnel_rtt_ms=None
    )
    assert tally.overhead == pytest.approx(0.25)
    assert tally.to_json()["round_trip_p50_ms"] == 20.0
    empty = Tally(fec="off", seconds=1, up=way(), down=way(), round_trips_s=(), tunnel_rtt_ms=None)
    assert empty.overhead is None
    assert empty.to_json()["round_trip_p50_ms"] is None


def test_a_machine_that_cannot_keep_up_is_named_as_such() -> None:
    calm = Tally(
        fec="off",
        seconds=1,
        up=way(),
        down=way(),
        round_trips_s=(),
        tunnel_rtt_ms=None,
        ticks=1000,
        late_ticks=20,
        worst_tick_s=0.03,
    )
    assert calm.warning() is None
    slow = attrs.evolve(calm, late_ticks=21)
    assert "21 of the game's 1000 ticks came late, up to 30 ms" in str(slow.warning())
    assert slow.to_json()["warning"] == slow.warning()
