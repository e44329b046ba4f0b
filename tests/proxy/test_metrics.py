from __future__ import annotations

import re
from collections.abc import Iterator

import attrs
import pytest
import trio
from lightspeed_protocol.control_messages import Register
from lightspeed_protocol.extensions import RegisterExtensions, encode_register
from lightspeed_protocol.runtime.quic_server import QuicCounters
from lightspeed_proxy.counters import DROP_REASONS, Counters
from lightspeed_proxy.metrics import PIECE, NodeCollector, flat, in_pieces, make_registry
from lightspeed_proxy.state import ControlCounters, NodeState, TaskFigures
from lightspeed_proxy.telemetry import MOST_CELLS, SHOWN_FROM
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import choose_encoder
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from tests.support.nodes import TOKEN, FakeRelay, node_state

from .test_admission import FakeConnection
from .test_telemetry import EVENT


@pytest.fixture
def state() -> NodeState:
    relay = FakeRelay(sessions=3, flows=5, dev=True)
    state = node_state(relay=relay, clock=lambda: 107.5, started=100.0, dev=True)
    state.tasks = {"http": TaskFigures(), "telemetry": TaskFigures("restarting", 2)}
    state.quic = QuicCounters()
    return state


def samples(state: NodeState) -> Iterator[tuple[str, float]]:
    """(name with labels, value), read back from the text the way Prometheus does."""
    text = openmetrics.generate_latest(make_registry(state)).decode()  # type: ignore[no-untyped-call]
    for family in text_string_to_metric_families(text):  # type: ignore[no-untyped-call]
        for sample in family.samples:
            labels = ",".join(f"{k}={v}" for k, v in sorted(sample.labels.items()))
            yield (f"{sample.name}{{{labels}}}" if labels else sample.name), sample.value


def test_every_counter_reaches_prometheus_with_its_own_value(state: NodeState) -> None:
    number = 1000
    for field in attrs.fields(Counters):
        if field.name != "drops":
            number += 1
            setattr(state.counters, field.name, number)
    for reason in DROP_REASONS:
        number += 1
        state.counters.drops[reason] = number
    for field in attrs.fields(ControlCounters):
        number += 1
        setattr(state.control, field.name, number)
    for field in attrs.fields(QuicCounters):
        if field.name != "dropped":
            number += 1
            setattr(state.quic, field.name, number)
    registrations = state.admission.counters
    number += 1
    registrations.rekeys = number
    for counts in (registrations.results, registrations.ended, state.quic.dropped):
        for reason in counts:
            number += 1
            counts[reason] = number
    found = [value for _, value in samples(state) if value > 1000]
    assert set(range(1001, number + 1)) <= {int(value) for value in found}


def test_figures_are_read_when_they_are_asked_for(state: NodeState) -> None:
    state.counters.packets_up = 7
    state.counters.drops["short"] = 2
    state.reloads_failed = 1
    first = dict(samples(state))
    assert first["lightspeed_packets_relayed_total{direction=up}"] == 7
    assert first["lightspeed_packets_dropped_total{reason=short}"] == 2
    assert first["lightspeed_active_connections"] == 3
    assert first["lightspeed_flows"] == 5
    assert first["lightspeed_uptime_seconds"] == 7.5
    assert first["lightspeed_ready"] == 1
    assert first["lightspeed_task_running{task=telemetry}"] == 0
    assert first["lightspeed_task_restarts_total{task=telemetry}"] == 2
    assert first["lightspeed_config_reloads_total{result=refused}"] == 1
    assert first["lightspeed_node_info{node_id=node-1,region=unknown}"] == 1
    state.counters.packets_up = 8
    state.phase = "draining"
    second = dict(samples(state))
    assert second["lightspeed_packets_relayed_total{direction=up}"] == 8
    assert second["lightspeed_ready"] == 0


def test_sessions_show_how_they_came_to_be(state: NodeState) -> None:
    for number, (version, ports) in enumerate([(8, 0), (8, 0), (1, 2)]):
        ext = encode_register(RegisterExtensions(credential=TOKEN, versions=(version,)))
        connection = FakeConnection()
        state.admission.register(Register(8, 0, ext), f"192.0.2.{number}", connection, 1.0, 1.0)
        assert connection.member is not None
        connection.member.session.ports += [connection.member.session] * ports
    assert isinstance(state.relay, FakeRelay)
    state.relay.sessions = 9  # the two sealed ones, the two ports, and five nobody registered
    found = dict(samples(state))
    kinds = {kind: found[f"lightspeed_sessions{{kind={kind}}}"] for kind in ("sealed", "legacy")}
    assert kinds == {"sealed": 2, "legacy": 1}
    assert found["lightspeed_sessions{kind=open}"] == 5
    assert found["lightspeed_registrations_total{result=granted}"] == 3
    assert found["lightspeed_invites"] == 1


def test_a_node_without_quic_yet_shows_the_rest(state: NodeState) -> None:
    state.quic = None
    assert not [name for name, _ in samples(state) if name.startswith("lightspeed_quic")]


def test_counters_within_counters_become_one_level() -> None:
    assert flat({"a": 1, "b": {"c": 2, "d": {"e": 3}}}) == {"a": 1, "b-c": 2, "b-d-e": 3}


def test_names_say_their_unit_and_counters_end_in_total(state: NodeState) -> None:
    text = generate_latest(make_registry(state)).decode()
    for name, kind in re.findall(r"# TYPE (lightspeed_\S+) (\S+)", text):
        assert (kind == "counter") == name.endswith("_total"), name
        assert not re.search(r"_(us|ms|secs|kb)(_|$)", name), name


def test_reports_show_by_game_and_country_once_there_are_enough(state: NodeState) -> None:
    for _ in range(SHOWN_FROM):
        state.cells.add(EVENT)
    found = dict(samples(state))
    cell = "country=DE,game_id=1"
    assert found[f"lightspeed_telemetry_cell_reports_total{{{cell}}}"] == SHOWN_FROM
    latency = found[f"lightspeed_telemetry_latency_seconds_total{{{cell},percentile=95}}"]
    assert latency == pytest.approx(SHOWN_FROM * 0.030)


def test_the_number_of_series_is_bounded(state: NodeState) -> None:
    for game in range(256):
        for country in ("aa", "bb"):
            for _ in range(SHOWN_FROM):
                state.cells.add(attrs.evolve(EVENT, game_id=game, client_country=country))
    assert sum(1 for _ in samples(state)) < 180 + 5 * MOST_CELLS


@pytest.mark.parametrize("accept", ["", "application/openmetrics-text"])
async def test_formatting_in_pieces_changes_nothing_and_lets_others_run(
    accept: str, state: NodeState
) -> None:
    for game in range(MOST_CELLS):
        for _ in range(SHOWN_FROM):
            state.cells.add(attrs.evolve(EVENT, game_id=game))
    registry = CollectorRegistry()
    registry.register(NodeCollector(state))
    encode, _ = choose_encoder(accept)
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(count)
        assert await in_pieces(registry, encode) == encode(registry)
        nursery.cancel_scope.cancel("done")
    assert turns > 300 / PIECE
