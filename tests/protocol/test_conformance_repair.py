"""The vectors of loss repair accuse what is wrong; `test_conformance_sealed` runs each of them."""

from __future__ import annotations

from typing import Any

import pytest
from lightspeed_protocol.conformance import check
from lightspeed_protocol.conformance_repair import KINDS, protection, protection_fields
from lightspeed_protocol.fec import report, window_plan
from lightspeed_protocol.fec.protection import Protection
from lightspeed_protocol.fec.window import Plan

from tests.support.vectors import SEALED_VECTORS


def outcomes(kind: str) -> set[str]:
    return {check(one).outcome for one in SEALED_VECTORS if one["kind"] == kind}


def test_every_kind_has_vectors() -> None:
    assert set(KINDS) <= {one["kind"] for one in SEALED_VECTORS}


def test_reports_and_asks_have_good_and_bad_vectors() -> None:
    for kind in ("fec.report", "fec.ask"):
        found = [one for one in SEALED_VECTORS if one["kind"] == kind]
        assert 5 <= sum("error" in one for one in found) < len(found) - 5


@pytest.mark.parametrize(
    "said",
    [
        Protection(),
        Protection(adaptive=True, target=0.0005, budget_s=0.08, cap=1.5, cap_kbps=128),
        Protection(plan=Plan(2, 4, stride=3, field=0, delay=1)),
    ],
    ids=["off", "adaptive", "fixed"],
)
def test_protection_is_told_in_whole_numbers_and_read_again(said: Protection) -> None:
    assert protection(protection_fields(said)) == said


def test_another_kind_of_report_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "_KIND", 0xC0)
    assert outcomes("fec.report") == {"mismatch", "ok"}  # what is refused anyway stays refused


def test_another_first_byte_of_repairs_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window_plan, "_REPAIR", 0x41)
    assert "mismatch" in outcomes("fec.window")


@pytest.mark.parametrize(
    "broken",
    [
        {"kind": "fec.window", "plan": [0, 1], "first_ssn": 0, "payloads": [], "packets": []},
        {"kind": "fec.rebuild", "packets": ["00"], "delivered": [], "recovered": 0},
        {"kind": "fec.report", "hex": "zz", "error": "fec-field"},
        {"kind": "fec.ask", "hex": 7, "error": "fec-field"},
        {"kind": "keepalive.probe", "number": 70000, "round_trip_us": None, "hex": "00000000"},
    ],
    ids=lambda one: str(one["kind"]),
)
def test_a_vector_that_makes_no_sense_is_a_mismatch(broken: dict[str, Any]) -> None:
    assert check({"id": "x"} | broken).outcome == "mismatch"
