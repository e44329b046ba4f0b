from __future__ import annotations

import json

import attrs
import pytest
from lightspeed_client.figures import Totals
from lightspeed_client.flows import FlowTable
from lightspeed_client.gauges import Gauges
from lightspeed_protocol.keepalive import Prober

STREAM_KEYS = {
    "state", "path", "rtt_ms", "jitter_ms", "loss", "repaired", "sent", "received", "overhead",
}  # fmt: skip


def gauges() -> Gauges:
    return Gauges(FlowTable(), Prober(0.25, 0.0), 0.0)


def test_the_json_stream_has_the_fields_that_tools_rely_on() -> None:
    record = gauges().figures(1.0, strangers=0, notice=None).to_json()
    assert record.keys() >= STREAM_KEYS
    assert json.loads(json.dumps(record)) == record


def test_totals_survive_the_report_file() -> None:
    totals = gauges().totals(61.0, strangers=2, server="a:1", node="b:2")
    record = json.loads(json.dumps({**totals.to_json(), "ended": "then"}))
    assert Totals.from_json(record) == totals


def test_a_report_from_before_a_field_was_added_is_still_read() -> None:
    record = gauges().totals(61.0, strangers=2, server="a:1", node="b:2").to_json()
    del record["not_found"]
    found = Totals.from_json(record)
    assert found is not None
    assert found.not_found == ""
    del record["sent"]
    assert Totals.from_json(record) is None


@pytest.mark.parametrize("change", [{"seconds": "long"}, {"drops": 5}])
def test_a_report_of_another_shape_is_none(change: dict[str, object]) -> None:
    record = gauges().totals(61.0, strangers=2, server="a:1", node="b:2").to_json()
    assert Totals.from_json({**record, **change}) is None
    assert Totals.from_json({}) is None


def test_records_are_frozen() -> None:
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        gauges().figures(1.0, strangers=0, notice=None).sent = 5  # type: ignore[misc]
