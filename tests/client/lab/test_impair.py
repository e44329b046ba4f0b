from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager

import pytest
import trio
from lightspeed_client.lab.impair import Fate, ImpairedRelay, Label, Links, open_relay
from lightspeed_client.lab.packets import Kind, read_quic
from lightspeed_client.lab.weather import Blackhole, Weather
from lightspeed_protocol.endpoint import Endpoint
from lightspeed_protocol.fec.window import Plan
from lightspeed_protocol.header import (
    KEEPALIVE,
    NO_ADDRESSES,
    control_packet,
    pack_addresses,
    swap_addresses,
)
from lightspeed_protocol.runtime.udp import Address, UdpPort
from lightspeed_protocol.seal import SealedEnd
from lightspeed_protocol.sealed_flow import SealedFlow
from trio.testing import MockClock

from tests.support.repair import fixed

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
    with UdpPort.bind(LOOPBACK) as node, UdpPort.bind(LOOPBACK) as front:
        async with (
            trio.open_nursery() as nursery,
            open_relay(
                front,
                node.address,
                Links.make(up, down, seed),
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
                    client.send(datagram, relay.front.address)
                await trio.sleep(1 / 64)
            await trio.sleep(1)
    up = [f for f in relay.log if f.direction == "up" and f.kind is Kind.SOURCE]
    assert [f.label for f in up] == [(0, n) for n in range(400)]
    assert [f.index for f in up] == list(range(400))
    assert sum(f.lost for f in up) == relay.counts["up"].lost[Kind.SOURCE] > 40
    assert relay.counts["up"].received == {
        Kind.SOURCE: 400,
        Kind.REPAIR: 100,
        Kind.FEEDBACK: 0,
        Kind.CONTROL: 0,
        Kind.QUIC: 0,
    }
    assert all((f.released_at is None) == f.lost for f in relay.log)
    assert all(f.released_at >= f.came_at + 0.02 for f in relay.log if f.released_at is not None)
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
                    two.send(control_packet(KEEPALIVE), relay.front.address)
                for number in range(300):
                    for port, endpoint in ends:
                        for datagram in source_packet(endpoint, number):
                            port.send(datagram, relay.front.address)
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
                port.send(bytes([16]) + bytes(19) + text, relay.front.address)
                ((answer, source),) = await port.receive()
                assert answer[20:] == text
                assert source == relay.front.address
        assert len(seen) == 2


async def test_strangers_cannot_speak_for_the_node(autojump_clock: MockClock) -> None:
    async with echoing_node(Weather(), Weather()) as (relay, seen, _):
        with UdpPort.bind(LOOPBACK) as client, UdpPort.bind(LOOPBACK) as stranger:
            client.send(b"hello", relay.front.address)
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
        relay.links.begin(trio.current_time())
        with UdpPort.bind(LOOPBACK) as client:
            began = trio.current_time()
            client.send(b"x", relay.front.address)
            await client.receive()
            assert trio.current_time() - began == pytest.approx(0.1, abs=0.001)
            await trio.sleep(1)
            client.send(b"y", relay.front.address)
            await trio.sleep(1)
            client.send(b"z", relay.front.address)
            assert (await client.receive())[0][0] == b"z"


SERVER = ("192.0.2.5", 27960)


async def sealed_fates(fec_k: int | None, *, move_at: int | None) -> list[Fate]:
    """Two players in one sealed tunnel, 200 packets each, through a node that turns them round.

    The tunnel goes on from another socket at `move_at`.
    """
    labels = [pack_addresses(("127.0.0.1", 5000 + who), SERVER) for who in (0, 1)]
    client, node = SealedEnd.client(9, bytes(16)), SealedEnd.node(9, bytes(16))

    def flows(end: SealedEnd, addresses: list[bytes]) -> list[SealedFlow]:
        plan = None if fec_k is None else Plan.xor(fec_k)
        return [SealedFlow.open(end, each, fixed(plan)) for each in addresses]

    ups, downs = flows(client, labels), flows(node, [swap_addresses(each) for each in labels])
    weather = Weather(loss=0.1)
    with ExitStack() as stack:
        front, far, one, two = (stack.enter_context(UdpPort.bind(LOOPBACK)) for _ in range(4))
        links = Links.make(weather, weather, 4)
        clock = trio.current_time
        async with open_relay(front, far.address, links, label_of=sealed_tag, clock=clock) as relay:
            for number in range(200):
                port = two if move_at is not None and number >= move_at else one
                port.send(client.control(KEEPALIVE, 1), front.address)
                for who in (0, 1):
                    for datagram in ups[who].wrap(b"%d %d" % (who, number), 1, 0.0):
                        port.send(datagram, front.address)
                await trio.sleep(1 / 64)
                batch = await far.receive()
                for who in (0, 1):
                    for datagram in downs[who].wrap(b"%d %d" % (who, number), 1, 0.0):
                        far.send(datagram, batch[0][1])
            await trio.sleep(1)
        return [fate for fate in relay.log if fate.kind is Kind.SOURCE]


def sealed_tag(payload: bytes) -> Label:
    who, _, number = payload.partition(b" ")
    return int(who), int(number)


async def test_in_a_sealed_tunnel_each_conversation_has_its_lane(
    autojump_clock: MockClock,
) -> None:
    def told(log: list[Fate]) -> list[tuple[object, ...]]:
        return sorted((f.direction, f.lane, f.index, f.label, f.lost) for f in log)

    log = await sealed_fates(None, move_at=None)
    assert len(log) == 800
    assert all(fate.label == (fate.lane, fate.index) for fate in log)
    for way in ("up", "down"):
        first, second = (
            [f.lost for f in log if f.direction == way and f.lane == lane] for lane in (0, 1)
        )
        assert 5 < sum(first) < 45
        assert first != second
    assert told(await sealed_fates(4, move_at=None)) == told(log)
    assert told(await sealed_fates(4, move_at=100)) == told(log)


async def test_an_outage_closes_the_data_port_and_the_control_port_together(
    autojump_clock: MockClock,
) -> None:
    hole = Weather(blackholes=(Blackhole(1.0, 1.0),))
    links = Links.make(hole, hole, 1)
    clock = trio.current_time
    with ExitStack() as stack:
        data, control, node, client = (
            stack.enter_context(UdpPort.bind(LOOPBACK)) for _ in range(4)
        )
        async with (
            trio.open_nursery() as nursery,
            open_relay(data, node.address, links, clock=clock) as tunnel,
            open_relay(control, node.address, links, read=read_quic, clock=clock) as quic,
        ):
            got: list[bytes] = []
            nursery.start_soon(collect, node, got)
            await trio.sleep(5)  # it does not begin by itself
            links.begin(clock())
            for number in range(12):
                client.send(b"data %d" % number, data.address)
                client.send(b"quic %d" % number, control.address)
                await trio.sleep(0.25)
            nursery.cancel_scope.cancel("test over")
    through = [0, 1, 2, 3, 8, 9, 10, 11]
    for text in (b"data %d", b"quic %d"):
        assert [each for each in got if each[:4] == text[:4]] == [text % n for n in through]
    assert [fate.kind for fate in quic.log] == [Kind.QUIC] * 12
    assert {fate.cause for fate in [*quic.log, *tunnel.log] if fate.lost} == {"blackhole"}
