from __future__ import annotations

import sys

import pytest
import trio
from lightspeed_client.lab import node as lab_node
from lightspeed_client.lab.node import NodeLimits, NodeProcess, WorldBroken, open_node
from lightspeed_protocol.header import KEEPALIVE, control_packet
from lightspeed_protocol.runtime.udp import UdpPort


async def test_a_node_stands_answers_and_is_gone_afterwards() -> None:
    async with open_node(NodeLimits()) as node:
        with UdpPort.bind(("127.0.0.1", 0)) as port, trio.fail_after(5):
            port.send(control_packet(KEEPALIVE, sequence=60000), node.data)
            ((answer, source),) = await port.receive()
        assert source == node.data
        assert answer[0] & 15 == KEEPALIVE
        assert node.process.poll() is None
    assert node.process.returncode is not None


async def test_the_node_is_gone_when_the_body_fails_or_is_cancelled() -> None:
    nodes: list[NodeProcess] = []
    with trio.CancelScope() as scope:
        async with open_node(NodeLimits()) as node:
            nodes.append(node)
            scope.cancel("Ctrl-C")
            await trio.lowlevel.checkpoint()
    assert nodes[0].process.returncode is not None


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
async def test_a_node_that_dies_ends_the_lab_with_its_last_words() -> None:
    with pytest.RaisesGroup(
        pytest.RaisesExc(WorldBroken, match=r"the node died .*-9.*\n.*127\.0\.0\.1"),
        flatten_subgroups=True,
    ):
        async with open_node(NodeLimits()) as node:
            node.process.kill()
            with trio.fail_after(5):
                await trio.sleep_forever()


async def test_a_node_that_refuses_to_start_is_shown_with_what_it_said() -> None:
    with pytest.RaisesGroup(
        pytest.RaisesExc(WorldBroken, match=r"did not start .*78[\s\S]*max_clients"),
        flatten_subgroups=True,
    ):
        async with open_node(NodeLimits(max_clients=0)):
            pytest.fail("it started with a limit of no clients")


def test_a_missing_distribution_is_one_line_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lab_node, "MODULE", "lightspeed_nowhere")
    with pytest.raises(WorldBroken, match=r"not installed.*pip install") as caught:
        lab_node.require_distribution()
    assert "\n" not in str(caught.value)
