from __future__ import annotations

import pytest
from lightspeed_proxy.state import NodeState, Phase, TaskFigures, TaskState

from tests.support.nodes import node_state


def make(phase: Phase, task: TaskState) -> NodeState:
    state = node_state(clock=lambda: 12.0, started=10.5)
    state.phase = phase
    state.tasks = {"http": TaskFigures(), "telemetry": TaskFigures(task)}
    return state


@pytest.mark.parametrize(
    ("phase", "task", "status"),
    [
        ("starting", "running", "starting"),
        ("ready", "running", "healthy"),
        ("ready", "restarting", "degraded"),
        ("draining", "restarting", "draining"),  # the stop is what matters
    ],
)
def test_one_word_says_how_the_node_is(phase: Phase, task: TaskState, status: str) -> None:
    assert make(phase, task).status == status


def test_uptime_is_measured_on_the_clock_it_was_started_with() -> None:
    assert make("ready", "running").uptime_s == 1.5
