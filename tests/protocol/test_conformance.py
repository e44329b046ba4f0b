"""The checker itself: what it prints, its exit status, and files that are no vectors."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from lightspeed_protocol.conformance import check, main, report

from tests.support.vectors import FILE, VECTORS, vector


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"id": "x"},
        {"id": "x", "kind": "header.juggle"},
        {"id": "x", "kind": ["header.decode"]},
        {"id": "x", "kind": "header.decode"},
        {"id": "x", "kind": "header.decode", "hex": "1000002a000f4240c0a80164681a013230391e61"},
        {"id": "x", "kind": "header.decode", "hex": "zz", "error": "short"},
        {"id": "x", "kind": "header.encode", "fields": {"version": 1}, "hex": ""},
        {"id": "x", "kind": "header.response", "request": "10", "sequence": 1, "timestamp_us": 1},
        {"id": "x", "kind": "fecheader.encode", "block": 65536, "index": 0, "k": 4, "hex": ""},
        {"id": "x", "kind": "fec.block", "k": 2, "payloads": 7, "parity": ""},
        {"id": "x", "kind": "fec.trace", "ops": [["dance"]], "out": [None]},
        {"id": "x", "kind": "fec.trace", "ops": [["rx"]], "out": [None], "quirk": True},
        {"id": "x", "kind": "control.encode", "message": {"type": "hello"}, "hex": "01"},
        {"id": "x", "kind": "control.encode", "message": {"type": "ping"}, "hex": "01"},
        {"id": "x", "kind": "telemetry.parse", "object": None, "error": "parse", "valid": None},
    ],
    ids=str,
)
def test_a_vector_that_makes_no_sense_is_a_mismatch(broken: dict[str, Any]) -> None:
    result = check(broken)
    assert result.outcome == "mismatch"
    assert "0 ok, 1 mismatches, 0 better" in list(report([result]))


def test_the_command_prints_the_totals_last(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(FILE)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "92 ok, 0 mismatches, 3 better"


def test_the_command_prints_each_mismatch(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = vector("fecheader/decode/k17") | {"error": "short"}
    unknown = {"id": "next/year", "kind": "header.v10"}
    file = tmp_path / "vectors.json"
    file.write_text(json.dumps({"format": 1, "vectors": [wrong, VECTORS[0], unknown]}))
    assert main([str(file)]) == 1
    assert capsys.readouterr().out.splitlines() == [
        'mismatch "fecheader/decode/k17"',
        '    expected {"error": "short"}',
        '    got      {"error": "malformed"}',
        'mismatch "next/year"',
        '    expected "a kind that is known here"',
        "    got      \"kind 'header.v10'\"",
        "1 ok, 2 mismatches, 0 better",
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "want a JSON object with format 1"),
        ('{"format": 2, "vectors": []}', "want a JSON object with format 1"),
        ('{"format": 1, "vectors": [1]}', "want a list of objects under 'vectors'"),
        ('{"format": 1, "vectors": []}', "holds no vectors"),
    ],
)
def test_a_file_of_another_format_is_one_clear_line(
    text: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "vectors.json"
    file.write_text(text)
    assert main([str(file)]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert words in output.err
    assert output.err.count("\n") == 1


def test_bytes_that_are_no_text_are_one_clear_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "vectors.json"
    file.write_bytes(b"\xff\xfe")
    assert main([str(file)]) == 2
    assert "not JSON" in capsys.readouterr().err


def test_a_missing_file_and_no_file_at_all(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path / "none.json")]) == 2
    assert main([]) == 2
    assert main(["a", "b"]) == 2
    assert "usage" in capsys.readouterr().err


def test_it_runs_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "lightspeed_protocol.conformance", str(FILE)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("92 ok, 0 mismatches, 3 better\n")
