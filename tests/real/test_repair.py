"""Loss repair through the real daemons, judged by what is lost for ever and by what it costs.

At 5 % seeded loss each way, dealt by number, so that every scheme meets the same losses. How soon
a packet is rebuilt is for `python -m bench repair-daemons`: a busy machine would fail it here.
"""

from __future__ import annotations

import math

import attrs
import trio
from lightspeed_client.fec_choice import parse_fec
from lightspeed_client.lab.sites import Site
from lightspeed_client.lab.tally import Tally, take_tally
from lightspeed_client.lab.way import Way
from lightspeed_client.lab.weather import Weather
from lightspeed_client.lab.world import WorldSettings, open_sites, open_world

SECONDS = 4.0
LINK = Weather(loss=0.05, delay_s=0.01)
LOST = 0.05
STRAY = 0.3  # repairs for each packet that a busy machine's pauses may cost: they are silences


async def a_match(settings: WorldSettings, sites: list[Site]) -> Tally:
    async with open_world(settings, sites) as world:
        await world.play(SECONDS)
        return take_tally(world)


def most(packets: int, share: float) -> float:
    """Of so many packets, each lost with this chance: four standard errors above the mean."""
    return packets * share + 4 * math.sqrt(packets * share) + 1


def common(one: Way, other: Way) -> set[tuple[int, int]]:
    """The packets that were sent in both matches: (player, number)."""
    return {
        (who, number)
        for who, sent in one.sent_by.items()
        for number in range(1, min(sent, other.sent_by[who]) + 1)
    }


async def test_repair_brings_back_what_it_promises_and_costs_no_more() -> None:
    settings = WorldSettings(up=LINK, down=LINK, players=6, seed=5)
    # what it has to reach at 5 %, late packets aside; `auto` has to hear of the loss first
    promises = {"window:2:4": (0.0014, 1 / 2), "window:1:4": (0.0002, 1.0), "auto": (0.004, 1.0)}
    with trio.fail_after(90):
        async with open_sites(settings) as sites:
            plain = await a_match(settings, sites)
            repaired = {
                fec: await a_match(attrs.evolve(settings, fec=parse_fec(fec)), sites)
                for fec in promises
            }
    for fec, (left, repairs) in promises.items():
        for without, with_fec in (
            (plain.up, repaired[fec].up),
            (plain.down, repaired[fec].down),
        ):
            both = common(without, with_fec)
            lost = without.dropped & both
            assert lost == with_fec.dropped & both, fec
            assert abs(len(lost) - LOST * len(both)) < 4 * math.sqrt(LOST * len(both)), fec

            assert without.delivered & both < with_fec.delivered & both, fec
            assert len(both - with_fec.delivered) <= most(len(both), left) < len(lost) / 4, fec
            assert with_fec.lost_elsewhere == without.lost_elsewhere == 0, fec
            assert with_fec.duplicates == with_fec.corrupt == 0, fec
            assert with_fec.repair_packets <= (repairs + STRAY) * with_fec.sent, fec
