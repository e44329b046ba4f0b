"""Where flows may go, how many there may be, and that a closed one leaves nothing behind."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
import trio
from lightspeed_protocol.header import pack_addresses
from lightspeed_proxy.flows import is_own, leased, room_for_flows
from lightspeed_proxy.sessions import Lease
from trio.testing import MockClock

from tests.support.relays import open_world


def lease(*networks: str) -> Lease:
    return Lease(
        invite="friend",
        session_id=1,
        key=bytes(16),
        destinations=tuple(map(ip_network, networks)),
    )


@pytest.mark.parametrize(
    ("granted", "host", "allowed"),
    [
        (None, "192.0.2.1", True),
        (lease(), "192.0.2.1", True),
        (lease("192.0.2.0/24"), "192.0.2.1", True),
        (lease("192.0.2.0/24"), "198.51.100.1", False),
        (lease("192.0.2.0/24"), "2001:db8::1", False),
        (lease("192.0.2.0/24", "2001:db8::/32"), "2001:db8::1", True),
    ],
)
def test_an_invite_with_destinations_reaches_only_those(
    granted: Lease | None, host: str, allowed: bool
) -> None:
    assert leased(granted, host) is allowed


def test_only_this_machines_addresses_are_its_own() -> None:
    assert is_own("127.0.0.1")
    assert not is_own("192.0.2.1")


def test_there_is_room_for_flows_and_some_is_kept_back() -> None:
    assert room_for_flows() > 0


async def test_a_full_session_refuses_one_more_flow_and_carries_on(
    autojump_clock: MockClock,
) -> None:
    async with open_world(limits={"max_flows_per_client": 2}) as world:
        servers = [world.host() for _ in range(3)]
        player = world.join(servers[0].address)
        for server in servers:
            player.flow.addresses = player.flow.addresses[:4] + (
                player.flow.addresses[4:10] + server.address[1].to_bytes(2, "big")
            )
            world.play_sealed(player, b"hello")
        assert [len(await server.heard()) for server in servers] == [1, 1, 0]
        assert world.drops == {"max-flows": 1}


async def test_idle_flows_end_and_a_registered_session_stays(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        player = world.join(world.host().address)
        world.play_sealed(player, b"hello")
        await trio.sleep(301)
        assert (world.relay.flows, world.relay.sessions) == (0, 1)
        assert world.relay.counters.sessions_expired == 0


async def test_more_sockets_to_one_game_server_are_no_more_destinations(
    autojump_clock: MockClock,
) -> None:
    async with open_world(security={"max_destinations_per_window": 2}) as world:
        servers = [world.host() for _ in range(3)]
        player = world.join(servers[0].address)
        for port in range(5):
            game = ("127.0.0.1", 40_000 + port)
            player.flow.addresses = pack_addresses(game, servers[0].address)
            world.play_sealed(player, b"hello")
        assert len(await servers[0].heard()) == 5
        for server in servers[1:]:
            player.flow.addresses = pack_addresses(("127.0.0.1", 41_000), server.address)
            world.play_sealed(player, b"hello")
        assert [len(await server.heard()) for server in servers[1:]] == [1, 0]
        assert world.drops == {"many-destinations": 1}
