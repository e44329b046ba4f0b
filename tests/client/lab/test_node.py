from __future__ import annotations

import sys
from pathlib import Path

import pytest
import trio
from lightspeed_client.lab import node as lab_node
from lightspeed_client.lab.home import Doors, Home, NodeLimits
from lightspeed_client.lab.node import NodeProcess, WorldBroken, make_invite, open_node
from lightspeed_protocol.header import KEEPALIVE, control_packet
from lightspeed_protocol.runtime.udp import UdpPort

DOORS = Doors(data=("127.0.0.1", 4444), control=("127.0.0.1", 4443))


async def test_an_open_node_stands_answers_and_is_gone_afterwards() -> None:
    async with open_node(NodeLimits()) as node:
        assert node.invite is None
        with UdpPort.bind(("127.0.0.1", 0)) as port, trio.fail_after(5):
            port.send(control_packet(KEEPALIVE, sequence=60000), node.data)
            ((answer, source),) = await port.receive()
        assert source == node.data
        assert answer[0] & 15 == KEEPALIVE
        assert node.process.poll() is None
    assert node.process.returncode is not None


async def test_a_closed_node_comes_with_an_invite_and_answers_nobody_else() -> None:
    async with open_node(NodeLimits(), DOORS) as node:
        assert node.invite is not None
        assert (node.invite.host, node.invite.port) == DOORS.control
        assert node.invite.token is not None
        with UdpPort.bind(("127.0.0.1", 0)) as port:
            port.send(control_packet(KEEPALIVE, sequence=60000), node.data)
            with trio.move_on_after(0.3) as silence:
                await port.receive()
        assert silence.cancelled_caught
    assert node.process.returncode is not None


async def test_an_invite_that_cannot_be_made_is_shown_with_what_was_said(tmp_path: Path) -> None:
    home = Home.make(tmp_path, NodeLimits(max_clients=0), DOORS)
    with pytest.raises(WorldBroken, match=r"invite` failed .*78[\s\S]*max_clients"):
        await make_invite(home)


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
