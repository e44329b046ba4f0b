from __future__ import annotations

import struct

import attrs
import pytest
import trio
from lightspeed_client.modes.proxy_probe import probe, probe_all, summary
from lightspeed_protocol.extensions import RefusalCode
from lightspeed_protocol.keepalive import Prober, SendProbe
from lightspeed_protocol.runtime.udp import UdpPort
from trio.testing import MockClock

from ..fakes import FakeNode
from ..sealed_node import HOME_NODE, SealedNode

LOCAL_NODE = attrs.evolve(HOME_NODE, host="127.0.0.1")


async def test_a_node_that_answers_is_measured(autojump_clock: MockClock) -> None:
    node = FakeNode()
    with UdpPort.bind(("127.0.0.1", 0)) as port:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(node.serve, port)
            found = await probe(port.address, count=5)
            nursery.cancel_scope.cancel("test over")
    assert (found.sent, found.answers, found.loss, found.problem) == (5, 5, 0.0, None)
    assert found.min_ms is not None
    assert node.keepalives == [60000, 60001, 60002, 60003, 60004]
    assert "5 of 5 answered" in found.line()


async def test_silence_dns_and_mixed_results_come_in_order(autojump_clock: MockClock) -> None:
    node = FakeNode()
    with UdpPort.bind(("127.0.0.1", 0)) as port, UdpPort.bind(("127.0.0.1", 0)) as mute:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(node.serve, port)
            found = await probe_all([mute.address, ("..", 1), port.address], count=2)
            nursery.cancel_scope.cancel("test over")
    assert [result.answers for result in found] == [0, 0, 2]
    assert "a firewall closes UDP port" in found[0].line()
    assert "without --dev" in found[0].line(), "a closed node drops keepalives too"
    assert found[0].loss == 1.0
    assert "check the spelling" in found[1].line()
    assert found[1].loss is None


async def test_only_true_answers_of_the_node_count(autojump_clock: MockClock) -> None:
    """A data packet, a wrong number, a short one and a stranger are no answers."""
    with UdpPort.bind(("127.0.0.1", 0)) as port, UdpPort.bind(("127.0.0.1", 0)) as stranger:

        async def lie() -> None:
            while True:
                for datagram, source in await port.receive():
                    number = struct.unpack_from("!H", datagram, 2)[0]
                    for first, told in ((0x10, number), (0x11, number - 9), (0x14, number)):
                        port.send(struct.pack("!BBHI12x", first, 0, told, 0), source)
                    port.send(b"\x11", source)
                    stranger.send(struct.pack("!BBHI12x", 0x11, 0, number, 0), source)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(lie)
            found = await probe(port.address, count=2)
            nursery.cancel_scope.cancel("test over")
    assert found.answers == 0


def test_the_numbers_are_nearest_rank() -> None:
    prober = Prober(0.1, 0.0)
    for index in range(20):
        event = prober.poll(float(index))[-1]
        assert isinstance(event, SendProbe)
        prober.answered(event.sequence, index + (index + 1) / 1000)
    found = summary("n", prober, 4434)
    assert found.min_ms == pytest.approx(1)
    assert found.median_ms == pytest.approx(10)
    assert found.p95_ms == pytest.approx(19)
    assert found.to_json()["median_ms"] == 10.0


def test_a_machine_without_a_way_out_is_told_from_a_silent_node() -> None:
    assert "check its network" in summary("n", Prober(0.1, 0.0), 4434, refused=True).line()


async def test_an_invited_node_is_asked_on_both_its_ports(autojump_clock: MockClock) -> None:
    node = SealedNode()
    with UdpPort.bind(("127.0.0.1", 0)) as port:
        node.data = port.address
        async with trio.open_nursery() as nursery:
            nursery.start_soon(node.serve, port)
            found = await probe(LOCAL_NODE, count=5, connect=node.connect)
            nursery.cancel_scope.cancel("test over")
    assert (found.node, found.sent, found.answers, found.problem) == ("home", 5, 5, None)
    assert found.control_ms == 0.0
    assert "(control 0.00 ms)" in found.line()
    assert node.keepalives == 5
    assert node.goodbyes == 1, "no session stays behind"


async def test_an_invited_node_with_a_closed_data_port_or_a_refusal_says_so(
    autojump_clock: MockClock,
) -> None:
    node = SealedNode()
    with UdpPort.bind(("127.0.0.1", 0)) as mute:
        node.data = mute.address
        found = await probe(LOCAL_NODE, count=2, connect=node.connect)
    assert f"a firewall on the way closes UDP port {node.data[1]}" in (found.problem or "")
    assert "--dev" not in (found.problem or "")
    assert found.control_ms is not None
    node.refuses = RefusalCode.EXPIRED
    found = await probe(LOCAL_NODE, count=2, connect=node.connect)
    assert "has expired" in found.line()
    node.reachable = False
    found = await probe(LOCAL_NODE, count=2, connect=node.connect)
    assert "no answer from" in found.line()
    assert found.control_ms is None


async def test_a_node_that_names_this_machine_as_its_own_is_sent_nothing(
    autojump_clock: MockClock,
) -> None:
    node = SealedNode()
    with UdpPort.bind(("127.0.0.1", 0)) as port:
        node.data = port.address
        found = await probe(HOME_NODE, count=2, connect=node.connect)
    assert (found.sent, found.answers) == (0, 0)
    assert "this machine itself" in (found.problem or "")
