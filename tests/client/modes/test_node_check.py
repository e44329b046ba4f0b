from __future__ import annotations

import attrs
from lightspeed_client.modes.node_check import check_node, check_nodes
from lightspeed_protocol.extensions import RefusalCode
from trio.testing import MockClock

from ..sealed_node import HOME_NODE, SealedNode


async def test_a_usable_node_says_what_it_is_and_keeps_no_session(
    autojump_clock: MockClock,
) -> None:
    node = SealedNode()
    found = await check_node(HOME_NODE, connect=node.connect)
    assert found.usable
    assert found.line() == (
        "home: usable, round trip 0.0 ms, node-1, in lab, load 3 %, game servers see 198.51.100.9"
    )
    assert found.to_json()["ipv6_inside"] is True
    assert node.goodbyes == 1


async def test_each_trouble_has_its_words_and_the_rest_is_still_checked(
    autojump_clock: MockClock,
) -> None:
    good = SealedNode()
    stranger = attrs.evolve(HOME_NODE, name="stranger", pin=bytes(32))
    lost = attrs.evolve(HOME_NODE, name="lost", host="..")
    found = await check_nodes([stranger, HOME_NODE, lost], connect=good.connect)
    assert [each.usable for each in found] == [False, True, False]
    assert "not the node of your invite" in found[0].line()
    assert found[0].refused
    assert "check the spelling" in found[2].line()
    assert not found[2].refused
    for node, says in (
        (SealedNode(refuses=RefusalCode.EXPIRED), "has expired"),
        (SealedNode(reachable=False), "no answer from"),
    ):
        check = await check_node(HOME_NODE, connect=node.connect)
        assert says in check.line()
        assert not check.usable


async def test_what_a_node_says_cannot_move_the_cursor_and_its_data_address_counts(
    autojump_clock: MockClock,
) -> None:
    check = await check_node(
        HOME_NODE, connect=SealedNode(reachable=False, unreachable="no\x1b[2J\u202e").connect
    )
    assert check.line() == "home: not usable: no [2J"
    check = await check_node(HOME_NODE, connect=SealedNode(data=("0.0.0.0", 4434)).connect)
    assert not check.usable
    assert "no address at all" in check.line()
