"""The telemetry report: what is read, what is refused, what is dropped."""

from __future__ import annotations

import json
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lightspeed_protocol.errors import WireError
from lightspeed_protocol.telemetry import TelemetryEvent

from lightspeed_protocol import telemetry
from tests.support.attempts import attempt

GOOD = TelemetryEvent(
    game_id=1,
    client_country="TH",
    p50_ms=31.2,
    p95_ms=45.8,
    p99_ms=67.0,
    jitter_ms=2.1,
    sample_count=180,
    fec_recoveries=3,
    fec_losses=0,
    client_version="0.1.0",
)

milliseconds = st.floats(allow_nan=False, allow_infinity=False, width=32)
events = st.builds(
    TelemetryEvent,
    game_id=st.integers(0, 255),
    client_country=st.text(max_size=4),
    p50_ms=milliseconds,
    p95_ms=milliseconds,
    p99_ms=milliseconds,
    jitter_ms=milliseconds,
    sample_count=st.integers(0, 2**32 - 1),
    fec_recoveries=st.integers(0, 2**32 - 1),
    fec_losses=st.integers(0, 2**32 - 1),
    client_version=st.text(max_size=40),
)


def changed(**fields: object) -> str:
    return json.dumps(attrs.asdict(GOOD) | fields)


@given(events)
def test_what_was_written_is_read(event: TelemetryEvent) -> None:
    assert telemetry.parse(telemetry.to_json(event)) == event


@given(st.binary(max_size=200) | st.text(max_size=200))
def test_arbitrary_text_raises_only_the_wire_error(text: bytes | str) -> None:
    with pytest.raises(WireError, match=r"parse|long"):
        telemetry.parse(text)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)


@given(st.sampled_from([field.name for field in attrs.fields(TelemetryEvent)]), json_values)
def test_a_field_of_any_type_is_read_or_refused(field: str, value: Any) -> None:
    event = attempt(telemetry.parse, changed(**{field: value}))
    if isinstance(event, WireError):
        assert event.reason in ("parse", "long")
    else:
        assert getattr(event, field) == value
        assert type(value) is not bool
        telemetry.check(event)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("[" * 2000, id="deep"),
        pytest.param(changed(p50_ms=0).replace(": 0,", ": 1e999,", 1), id="infinite"),
        pytest.param(changed(p50_ms=0).replace(": 0,", ": " + "9" * 1000 + ",", 1), id="huge"),
        pytest.param(changed(game_id=256), id="over a byte"),
        pytest.param(changed(sample_count=2**32), id="over four bytes"),
        pytest.param(changed(sample_count=180.0), id="not whole"),
        pytest.param(changed(game_id=True), id="a truth"),
        pytest.param(changed(client_version=None), id="null"),
        pytest.param(changed(client_country="\ud800"), id="half a character"),
        pytest.param(changed()[:-1] + ', "game_id": 2}', id="doubled"),
        pytest.param(changed() + "x", id="more behind it"),
        pytest.param("\ud800", id="no UTF-8 in text"),
        pytest.param(b"\xff", id="no UTF-8 in bytes"),
    ],
)
def test_what_is_no_report_is_refused(text: bytes | str) -> None:
    with pytest.raises(WireError, match="parse"):
        telemetry.parse(text)


def test_a_body_over_the_limit_is_not_even_read() -> None:
    padded = changed() + " " * (telemetry.LARGEST_BYTES - len(changed()))
    assert telemetry.parse(padded) == GOOD
    with pytest.raises(WireError, match="long") as caught:
        telemetry.parse(padded + " ")
    assert (caught.value.got, caught.value.need) == (2049, 2048)


def test_what_is_not_in_the_schema_is_dropped() -> None:
    event = telemetry.parse(changed(address="192.0.2.7", user={"name": "x"}))
    assert event == GOOD
    assert "192.0.2.7" not in telemetry.to_json(event)


def test_loss_figures_and_country_may_be_absent() -> None:
    fields = attrs.asdict(GOOD)
    for name in ("client_country", "fec_recoveries", "fec_losses"):
        del fields[name]
    assert telemetry.parse(json.dumps(fields)) == attrs.evolve(
        GOOD, client_country="", fec_recoveries=0, fec_losses=0
    )


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"p50_ms": -0.1}, "p50_ms"),
        ({"p50_ms": 50.0}, "p50_ms <= p95_ms"),
        ({"p95_ms": 70.0}, "p95_ms <= p99_ms"),
        ({"p99_ms": 10000.1}, "10000"),
        ({"p99_ms": float("nan")}, "p99_ms"),
        ({"jitter_ms": -1.0}, "jitter_ms"),
        ({"jitter_ms": 10001.0}, "jitter_ms"),
        ({"sample_count": 100_001}, "sample_count"),
        ({"client_country": "T"}, "client_country"),
        ({"client_country": "THA"}, "client_country"),
        ({"client_country": "1\n"}, "client_country"),
        ({"client_country": "éà"}, "client_country"),
        ({"client_version": "v" * 33}, "client_version"),
        ({"client_version": "é" * 17}, "client_version"),
    ],
)
def test_a_refusal_names_the_field(fields: dict[str, Any], word: str) -> None:
    reason = telemetry.check(attrs.evolve(GOOD, **fields))
    assert reason is not None
    assert word in reason


def test_the_limits_themselves_are_accepted() -> None:
    assert telemetry.check(GOOD) is None
    assert telemetry.check(attrs.evolve(GOOD, client_country="")) is None
    edge = attrs.evolve(
        GOOD,
        p50_ms=10_000.0,
        p95_ms=10_000.0,
        p99_ms=10_000.0,
        jitter_ms=10_000.0,
        sample_count=100_000,
        client_version="v" * 32,
    )
    assert telemetry.check(edge) is None
    assert telemetry.check(attrs.evolve(GOOD, p50_ms=0.0, p95_ms=0.0, p99_ms=0.0)) is None
