"""One finding of `doctor`, `test` or `live-test`, and how a list of them is printed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Literal

import attrs

from ..echo import say

Verdict = Literal["pass", "fail", "skip"]


@attrs.frozen
class Check:
    """`detail` says what was seen; for a failure also what to do."""

    name: str
    verdict: Verdict
    detail: str


def passed(name: str, detail: str) -> Check:
    return Check(name, "pass", detail)


def failed(name: str, detail: str) -> Check:
    return Check(name, "fail", detail)


def skipped(name: str, detail: str) -> Check:
    return Check(name, "skip", detail)


def all_well(checks: Sequence[Check]) -> bool:
    """No failure, and something was really checked."""
    return any(c.verdict == "pass" for c in checks) and not any(c.verdict == "fail" for c in checks)


def show(check: Check) -> None:
    """One line."""
    say(f"{check.verdict:4}  {check.name}: {check.detail}")


def to_json(checks: Sequence[Check]) -> str:
    return json.dumps({"ok": all_well(checks), "checks": [attrs.asdict(check) for check in checks]})
