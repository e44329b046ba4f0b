from __future__ import annotations

import pytest
from lightspeed_client.node_state import NodeState
from lightspeed_client.pulse import IDLE_PROBE_S, Pulse
from lightspeed_protocol.keepalive import PathDead, Prober, SendProbe


def fresh(*, watched: bool = False) -> Pulse:
    return Pulse(Prober(0.25, 0.0), NodeState(), 0.25, watched)


def probes(pulse: Pulse, until: float, game_silent_s: float | None) -> int:
    now, sent = 0.0, 0
    while now < until:
        sent += sum(isinstance(event, SendProbe) for event in pulse.poll(now, game_silent_s))
        now = pulse.prober.next_deadline()
    return sent


def test_probes_are_frequent_only_while_someone_plays_or_looks() -> None:
    assert probes(fresh(), 10.0, None) == 10 / IDLE_PROBE_S
    assert probes(fresh(), 10.0, 100.0) == 10 / IDLE_PROBE_S
    assert probes(fresh(), 10.0, 0.5) == 40
    assert probes(fresh(watched=True), 10.0, None) == 40


def test_a_silence_and_its_end_are_each_said_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    pulse = fresh(watched=True)
    (first,) = pulse.poll(0.0, None)
    assert isinstance(first, SendProbe)
    pulse.answered(first.sequence, 0.05)
    assert pulse.first_answer.is_set()
    dead, now = 0, 0.0
    while now < 10.0:
        now = pulse.prober.next_deadline()
        dead += sum(isinstance(event, PathDead) for event in pulse.poll(now, None))
    assert dead == 1
    assert pulse.prober.dead
    assert pulse.node.outages == 1
    pulse.heard(now)
    pulse.heard(now + 0.1)
    assert (pulse.dead, pulse.node.last_heard) == (False, now + 0.1)
    assert caplog.text.count("answers again after 10 s") == 1


def test_an_answer_to_no_probe_is_no_sign_of_life() -> None:
    pulse = fresh()
    pulse.answered(60000, 1.0)
    assert not pulse.first_answer.is_set()
    assert pulse.node.last_heard is None


def test_a_farewell_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    pulse = fresh()
    pulse.left(1.0)
    pulse.left(1.1)
    assert caplog.text.count("ends the session") == 1


def test_a_second_of_silence_and_several_probes_without_answer_are_a_doubt() -> None:
    watched, idle = fresh(watched=True), fresh()
    for pulse in (watched, idle):
        pulse.begin(10.0)
        pulse.poll(10.0, None)
    assert not watched.doubtful(10.9)
    assert watched.doubtful(11.0)
    assert not idle.doubtful(13.9)
    assert idle.doubtful(14.0)
