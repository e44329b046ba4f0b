from __future__ import annotations

from lightspeed_client.node_state import NodeState


def test_nothing_heard_is_starting_whatever_the_game_does() -> None:
    assert NodeState().state(None) == NodeState().state(0.0) == "starting"


def test_heard_is_idle_or_carrying_by_the_game() -> None:
    node = NodeState()
    node.heard(1.0)
    assert node.state(None) == "idle"
    assert node.state(1.0) == "carrying"
    assert node.state(10.0) == "idle"


def test_a_draining_node_stays_leaving_though_it_answers() -> None:
    node = NodeState()
    node.heard(1.0)
    assert node.left(1.1)
    assert not node.left(1.2), "said once"
    for tick in range(12):
        node.heard(1.2 + tick * 0.25)
        assert node.state(0.0) == "node-leaving"


def test_an_answer_after_a_pause_is_the_nodes_return() -> None:
    node = NodeState()
    node.heard(1.0)
    node.left(1.1)
    node.heard(1.8)
    assert node.state(0.0) == "carrying"


def test_a_node_that_ended_only_the_session_is_believed_after_the_drain_time() -> None:
    node = NodeState()
    node.left(1.0)
    for tick in range(17):
        node.heard(1.0 + tick * 0.25)
    assert node.state(0.0) == "carrying"


def test_outages_are_counted_from_the_last_word() -> None:
    node = NodeState()
    node.heard(10.0)
    node.died(13.0, 3.0)
    node.died(14.0, 4.0)
    assert node.state(0.0) == "no-answer"
    assert node.outage_s(20.0) == 10.0
    assert node.heard(25.0) == 15.0
    assert node.heard(26.0) is None
    assert (node.outages, node.outage_s(99.0)) == (1, 15.0)
