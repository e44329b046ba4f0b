"""Our own vectors one by one; and whatever is changed in one must be noticed."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from lightspeed_protocol.conformance import check, main
from lightspeed_protocol.conformance_sealed import KINDS

from lightspeed_protocol import conformance, seal
from tests.support.vectors import SEALED_FILE, SEALED_VECTORS, spoiled
from tests.wire import make_sealed_vectors


@pytest.mark.parametrize("one", SEALED_VECTORS, ids=lambda one: str(one["id"]))
def test_a_vector_is_answered(one: dict[str, Any]) -> None:
    result = check(one)
    assert result.outcome == "ok", result


def spoilings() -> list[Any]:
    return [
        pytest.param(one, field, id=f"{one['id']}:{field}")
        for one in SEALED_VECTORS
        for field in one
        if field not in ("id", "kind", *conformance.KINDS[one["kind"]][0])
    ]


@pytest.mark.parametrize(("one", "field"), spoilings())
def test_any_field_that_is_changed_is_noticed(one: dict[str, Any], field: str) -> None:
    wrong = copy.deepcopy(one)
    wrong[field] = spoiled(one[field])
    assert check(wrong).outcome == "mismatch"


def test_the_file_is_what_the_independent_program_makes() -> None:
    assert SEALED_FILE.read_text(encoding="utf-8") == make_sealed_vectors.written()


def test_every_kind_has_vectors_and_no_two_share_a_name() -> None:
    assert set(KINDS) <= {one["kind"] for one in SEALED_VECTORS}
    assert len({one["id"] for one in SEALED_VECTORS}) == len(SEALED_VECTORS)


def test_the_command_prints_the_totals_last(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(SEALED_FILE)]) == 0
    output = capsys.readouterr().out
    assert output == f"{len(SEALED_VECTORS)} ok, 0 mismatches, 0 better\n"


def test_the_constants_are_those_of_the_vectors() -> None:
    for name, value in make_sealed_vectors.build()["constants"].items():
        assert getattr(seal, name) == value


@pytest.mark.parametrize(
    "broken",
    [
        {"kind": "seal.keys", "session_key": "00", "session_id": 0, "up": "", "down": ""},
        {"kind": "seal.keys", "session_key": "00" * 16, "session_id": -1, "up": "", "down": ""},
        {"kind": "seal.packet", "hex": ""},
        {"kind": "seal.open", "session_key": "00" * 16, "session_id": 0, "direction": "sideways"},
        {
            "kind": "seal.open",
            "session_key": "00" * 16,
            "session_id": 0,
            "direction": "up",
            "ops": [["rx"]],
            "out": [None],
        },
        {"kind": "tlv", "hex": "zz", "fields": []},
        {"kind": "extensions.encode", "of": "ping", "fields": {}, "hex": ""},
        {"kind": "extensions.encode", "of": "register", "fields": {"colour": 1}, "hex": ""},
        {"kind": "extensions.decode", "of": "ping", "hex": "", "fields": {}},
        {"kind": "invite.encode", "fields": {}, "line": ""},
        {"kind": "invite.decode", "line": 7, "error": "refused"},
        {"kind": "retry.token", "secret": "", "hex": ""},
    ],
    ids=str,
)
def test_a_vector_that_makes_no_sense_is_a_mismatch(broken: dict[str, Any]) -> None:
    assert check({"id": "x"} | broken).outcome == "mismatch"
