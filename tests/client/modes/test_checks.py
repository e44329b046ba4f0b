from __future__ import annotations

import json

import pytest
from lightspeed_client.modes.checks import all_well, failed, passed, show, skipped, to_json


def test_a_failure_or_nothing_checked_is_not_well() -> None:
    assert all_well([passed("a", ""), skipped("b", "")])
    assert not all_well([passed("a", ""), failed("b", "")])
    assert not all_well([skipped("b", "")])
    assert not all_well([])


def test_checks_print_as_lines_and_json(capsys: pytest.CaptureFixture[str]) -> None:
    show(failed("loopback", "lost"))
    assert capsys.readouterr().out == "fail  loopback: lost\n"
    record = json.loads(to_json([passed("a", "x")]))
    assert record == {"ok": True, "checks": [{"name": "a", "verdict": "pass", "detail": "x"}]}
