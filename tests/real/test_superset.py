"""Loss repair through the real daemons only ever adds, sealed as players have it and open.

At 5 % seeded loss each way and `xor:4`, with the losses dealt by number: what arrives with
repair is a strict superset of what arrives without, nothing arrives twice, and no packet that
came by itself waits for repair.
"""

from __future__ import annotations

import statistics
from typing import Literal

import attrs
import pytest
import trio
from lightspeed_client.lab.impair import Direction, Label
from lightspeed_client.lab.sites import Site, Tunnel
from lightspeed_client.lab.tally import Tally, take_tally
from lightspeed_client.lab.weather import Weather
from lightspeed_client.lab.world import World, WorldSettings, open_sites, open_world

from tests.support.repair import xor

SECONDS = 6.0
PPS = 128.0  # twice a game's rate, for as many losses in half the time
LINK = Weather(loss=0.05, delay_s=0.02, jitter_s=0.01)


async def a_match(settings: WorldSettings, sites: list[Site]) -> tuple[Tally, World]:
    async with open_world(settings, sites) as world:
        await world.play(SECONDS)
        return take_tally(world), world


def after_release_s(world: World, direction: Direction) -> dict[Label, float]:
    """From the relay letting go of an original to its delivery: the far end's own share."""
    released: dict[Label, float] = {}
    for relay in world.relays:
        for fate in relay.log:
            if fate.direction == direction and fate.label and fate.released_at is not None:
                released[fate.label] = fate.released_at
    arrived: dict[Label, float] = {}
    for bot in world.bots:
        player = world.player(bot.who)
        assert player is not None
        receipts = player.inputs if direction == "up" else bot.states
        arrived |= {(bot.who, n): at for n, at in receipts.arrived_at.items()}
    assert released.keys() <= arrived.keys()  # an original that left the link was delivered
    return {label: arrived[label] - at for label, at in released.items()}


@pytest.mark.parametrize("tunnel", ["sealed", "open"])
async def test_repair_delivers_a_strict_superset_without_duplicates_or_delay(
    tunnel: Tunnel,
) -> None:
    settings = WorldSettings(up=LINK, down=LINK, pps=PPS, seed=11, tunnel=tunnel)
    with trio.fail_after(60):
        async with open_sites(settings) as sites:
            plain, _ = await a_match(settings, sites)
            protected, protected_world = await a_match(attrs.evolve(settings, fec=xor(4)), sites)
    way: Literal["up", "down"]
    for way in ("up", "down"):
        without, with_fec = getattr(plain, way), getattr(protected, way)
        last = min(without.sent_by[0], with_fec.sent_by[0])
        common = {(0, number) for number in range(1, last + 1)}
        assert without.dropped & common == with_fec.dropped & common
        assert len(without.dropped) > 20
        assert without.delivered & common == common - without.dropped
        assert without.delivered & common < with_fec.delivered & common
        gained = (with_fec.delivered - without.delivered) & common
        assert len(gained) > 0.5 * len(without.dropped & common)
        assert with_fec.duplicates == without.duplicates == 0
        assert with_fec.corrupt == without.corrupt == 0

        # Only an original whose neighbour is missing could be held back for a repair packet, by
        # a packet's spacing (8 ms) and more; the others show what this machine takes anyway, so
        # the two are compared with each other and never with a clock: a busy machine slows both.
        behind_a_gap: list[float] = []
        undisturbed: list[float] = []
        for (who, number), own_s in after_release_s(protected_world, way).items():
            before = {(who, number - back) for back in range(1, 4)}
            (behind_a_gap if before & with_fec.dropped else undisturbed).append(own_s)
        assert len(behind_a_gap) > 50
        assert statistics.median(behind_a_gap) < statistics.median(undisturbed) + 1 / PPS
