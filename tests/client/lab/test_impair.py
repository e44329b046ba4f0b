from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from lightspeed_client.lab.impair import Fate, ImpairedRelay, Label, open_relay
from lightspeed_client.lab.weather import Blackhole, Kind, Weather
from lightspeed_protocol.endpoint import Endpoint
from lightspeed_protocol.header import KEEPALIVE, NO_ADDRESSES, control_packet
from lightspeed_protocol.runtime.udp import Address, UdpPort
from trio.testing import MockClock

LOOPBACK = ("127.0.0.1", 0)


async def echo(port: UdpPort, seen: set[Address]) -> None:
    while True:
        for payload, source in await port.receive():
            seen.add(source)
            port.send(payload, source)


async def collect(port: UdpPort, into: list[bytes]) -> None:
    with contextlib.suppress(trio.ClosedResourceError):
        while True:
            into.extend(payload for payload, _ in await port.receive())


def tag(payload: bytes) -> Label | None:
    return (0, int(payload)) if payload.isdigit() else None


@asynccontextmanager
async def echoing_node(
    up: Weather, down: Weather, seed: int = 1
) -> AsyncIterator[tuple[ImpairedRelay, set[Address], trio.Nursery]]:
    seen: set[Address] = set()
    with UdpPort.bind(LOOPBACK) as node:
        async with (
            trio.open_nursery() as nursery,
            open_relay(
                node.address,
                up=up,
                down=down,
                seed=seed,
                label_of=tag,
                clock=trio.current_time,
            ) as relay,
        ):
            nursery.start_soon(echo, node, seen)
            yield relay, seen, nursery
            nursery.cancel_scope.cancel("test over")


def source_packet(endpoint: Endpoint, number: int) -> tuple[bytes, ...]:
    return endpoint.wrap(str(number).encode(), 0)


async def test_the_log_tells_the_fate_of_every_packet(autojump_clock: MockClock) -> None:
    weather = Weather(loss=0.2, delay_s=0.02, jitter_s=0.01)
    async with echoing_node(weather, weather) as (relay, seen, nursery):
        with UdpPort.bind(LOOPBACK) as client:
            back: list[bytes] = []
            nursery.start_soon(collect, client, back)
            endpoint = Endpoint.open(NO_ADDRESSES, fec_k=4)
            for number in range(400):
                for datagram in source_packet(endpoint, number):
                    client.send(datagram, relay.address)
                await trio.sleep(1 / 64)
            await trio.sleep(1)
    up = [f for f in relay.log if f.direction == "up" and f.kind is Kind.SOURCE]
    assert [f.label for f in up] == [(0, n) for n in range(400)]
    assert [f.index for f in up] == list(range(400))
    assert sum(f.lost for f in up) == relay.counts["up"].lost[Kind.SOURCE] > 40
    assert relay.counts["up"].received == {Kind.SOURCE: 400, Kind.REPAIR: 100, Kind.CONTROL: 0}
    assert all((f.released_at is None) == f.lost for f in relay.log)
    came_back = {f.label for f in relay.log if f.direction == "down" and not f.lost}
    assert came_back <= {f.label for f in up if not f.lost} | {None}
    assert len(back) == relay.counts["down"].released
    assert (len(seen), relay.waiting) == (1, 0)


async def test_fates_do_not_depend_on_repair_packets_nor_keepalives(
    autojump_clock: MockClock,
) -> None:
    async def fates(fec_k: int | None) -> list[tuple[int, Label | None, bool]]:
        weather = Weather(loss=0.1)
        async with echoing_node(weather, weather, seed=9) as (relay, _, _):
            with UdpPort.bind(LOOPBACK) as one, UdpPort.bind(LOOPBACK) as two:
                ends = [(one, Endpoint.open(NO_ADDRESSES, fec_k=fec_k)) for _ in range(1)]
                ends.append((two, Endpoint.open(NO_ADDRESSES, fec_k=fec_k)))
                if fec_k:
                    two.send(control_packet(KEEPALIVE), relay.address)
                for number in range(300):
                    for port, endpoint in ends:
                        for datagram in source_packet(endpoint, number):
                            port.send(datagram, relay.address)
                    await trio.sleep(1 / 64)
        log: list[Fate] = relay.log
        return sorted(
            (f.lane, f.label, f.lost)
            for f in log
            if f.direction == "up" and f.kind is Kind.SOURCE and f.label is not None
        )

    without = await fates(None)
    assert await fates(4) == without
    assert 20 < sum(lost for _, _, lost in without) < 110


async def test_every_client_has_its_own_address_at_the_node(autojump_clock: MockClock) -> None:
    async with echoing_node(Weather(), Weather()) as (relay, seen, _):
        with UdpPort.bind(LOOPBACK) as one, UdpPort.bind(LOOPBACK) as two:
            for port, text in ((one, b"1"), (two, b"2")):
                port.send(bytes([16]) + bytes(19) + text, relay.address)
                ((answer, source),) = await port.receive()
                assert answer[20:] == text
                assert source == relay.address
        assert len(seen) == 2


async def test_strangers_cannot_speak_for_the_node(autojump_clock: MockClock) -> None:
    async with echoing_node(Weather(), Weather()) as (relay, seen, _):
        with UdpPort.bind(LOOPBACK) as client, UdpPort.bind(LOOPBACK) as stranger:
            client.send(b"hello", relay.address)
            await client.receive()
            (upstream,) = seen
            stranger.send(b"trust me", upstream)
            with trio.move_on_after(1) as nothing:
                await client.receive()
            assert nothing.cancelled_caught
        assert relay.strangers == 1


async def test_delay_and_blackhole_follow_the_clock(autojump_clock: MockClock) -> None:
    hole = Weather(delay_s=0.1, blackholes=(Blackhole(1.0, 1.0),))
    async with echoing_node(hole, Weather()) as (relay, _, _):
        relay.begin(trio.current_time())
        with UdpPort.bind(LOOPBACK) as client:
            began = trio.current_time()
            client.send(b"x", relay.address)
            await client.receive()
            assert trio.current_time() - began == pytest.approx(0.1, abs=0.001)
            await trio.sleep(1)
            client.send(b"y", relay.address)
            await trio.sleep(1)
            client.send(b"z", relay.address)
            assert (await client.receive())[0][0] == b"z"
