"""The vectors one by one; and whatever is changed in one must be noticed."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from lightspeed_protocol.conformance import check
from lightspeed_protocol.conformance_kinds import KINDS
from lightspeed_protocol.fec import header as fec_header
from lightspeed_protocol.fec import xor

from lightspeed_protocol import header
from tests.support.vectors import FILE, VECTORS, spoiled, vector

BETTER = {
    "fec/trace/late-data-after-recovery",
    "fec/trace/flush-ghost-packet",
    "telemetry/country-one-char",
}


@pytest.mark.parametrize("one", VECTORS, ids=lambda one: str(one["id"]))
def test_a_recorded_vector_is_answered(one: dict[str, Any]) -> None:
    result = check(one)
    assert result.outcome == ("better" if one["id"] in BETTER else "ok"), result


def spoilings() -> list[Any]:
    return [
        pytest.param(one, field, id=f"{one['id']}:{field}")
        for one in VECTORS
        for field in one
        if field not in ("id", "kind", "quirk", "why", *KINDS[one["kind"]][0])
    ]


@pytest.mark.parametrize(("one", "field"), spoilings())
def test_any_recorded_field_that_is_changed_is_noticed(one: dict[str, Any], field: str) -> None:
    wrong = copy.deepcopy(one)
    wrong[field] = spoiled(one[field])
    if one["id"] == "telemetry/country-one-char" and field == "valid":
        assert check(wrong).outcome == "ok"  # refusing it is our own answer
    else:
        assert check(wrong).outcome == "mismatch"


@pytest.mark.parametrize("one", [v for v in VECTORS if v["id"] in BETTER], ids=lambda v: v["id"])
def test_without_the_mark_a_different_answer_is_a_mismatch(one: dict[str, Any]) -> None:
    unmarked = {key: value for key, value in one.items() if key != "quirk"}
    assert check(unmarked).outcome == "mismatch"


def test_a_string_the_original_cuts_is_refused_here() -> None:
    message = {"type": "register_ack", "session_id": 1, "session_token": 2, "node_id": "n" * 256}
    message["region"] = ""
    cut = "040000000102ff" + "6e" * 255 + "00"
    one = {"id": "x", "kind": "control.encode", "message": message, "hex": cut}
    assert check(one | {"quirk": True}).outcome == "better"
    assert check(one).outcome == "mismatch"


def test_milliseconds_may_be_rounded_to_32_bits() -> None:
    one = copy.deepcopy(vector("telemetry/limits"))
    one["json"] = one["json"].replace('"p50_ms": 10000.0', '"p50_ms": 31.2')
    one["object"]["p50_ms"] = 31.200000762939453
    assert check(one).outcome == "ok"
    one["object"]["p50_ms"] = 31.2001
    assert check(one).outcome == "mismatch"


def test_the_constants_are_those_of_the_vectors() -> None:

    found = json.loads(FILE.read_text())["constants"]
    assert found == {
        "HEADER_SIZE": header.HEADER_BYTES,
        "FEC_HEADER_SIZE": fec_header.FEC_BYTES,
        "VERSION_PLAIN": header.VERSION_PLAIN,
        "VERSION_FEC": header.VERSION_FEC,
        "FLAG_KEEPALIVE": header.KEEPALIVE,
        "FLAG_HANDSHAKE": header.HANDSHAKE,
        "FLAG_FIN": header.FIN,
        "FLAG_FRAGMENT": header.FRAGMENT,
        "FEC_DEFAULT_K": xor.DEFAULT_K,
        "FEC_MIN_K": xor.SMALLEST_K,
        "FEC_MAX_K": fec_header.LARGEST_K,
        "FEC_MAX_PAYLOAD": xor.MAX_PAYLOAD,
        "FEC_RING": xor.WINDOW,
        "MAX_PAYLOAD": 1352,  # named by the original, used by nobody
    }
    assert len(VECTORS) == 95
