"""Checks this implementation against recorded wire vectors.

    python -m lightspeed_protocol.conformance FILE

FILE is JSON: `format` 1 and `vectors`, each with an `id`, a `kind`, the input, and the answer:
recorded from the original, or made from PROTOCOL.md where a thing is ours. Our answer must agree
in every field recorded. A vector marked `quirk` records a fault; there a different answer counts
as "better" if it does what is right, and `conformance_kinds` decides that, not the mark alone.
The last line is `N ok, N mismatches, N better`. Exit: 0, 1 on any mismatch, 2 when FILE cannot be
used.
"""

from __future__ import annotations

import json
import struct
import sys
from collections.abc import Iterator
from typing import Final, Literal

import attrs

from . import conformance_kinds, conformance_repair, conformance_sealed
from .conformance_kinds import Fields, Kind, Vector
from .errors import WireError

KINDS: Final[dict[str, Kind]] = (
    conformance_kinds.KINDS | conformance_sealed.KINDS | conformance_repair.KINDS
)

_ABOUT: Final = ("id", "kind", "quirk", "why", "note")
# What reading a vector that is not what its kind says can raise.
UNREADABLE: Final = (
    LookupError,
    TypeError,
    ValueError,
    AttributeError,
    OverflowError,
    OSError,
    struct.error,
    WireError,
)
_TRUNCATED: Final = 200  # characters of a value that are printed


@attrs.frozen
class Result:
    """How one vector came out; `want` and `got` hold the fields that differ."""

    id: str
    outcome: Literal["ok", "mismatch", "better"]
    want: object = None
    got: object = None


def check(vector: Vector) -> Result:
    """Answer one vector. A vector that cannot be read is a mismatch, never an exception."""
    name = str(vector.get("id", "(no id)"))
    kind = vector.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        return Result(name, "mismatch", "a kind that is known here", f"kind {kind!r}")
    inputs, answer, is_better = KINDS[kind]
    want = {k: v for k, v in vector.items() if k not in _ABOUT and k not in inputs}
    try:
        got = answer(vector)
        if not want:
            return Result(name, "mismatch", "an answer to compare with", "none recorded")
        wrong = [field for field, value in want.items() if not _same(got.get(field, ()), value)]
        # An error that was not recorded must not pass because the fields are missing too.
        if got.get("error") is not None and "error" not in want and "error" not in wrong:
            wrong.append("error")
        if not wrong and not got.get("_better"):
            return Result(name, "ok")
        if is_better(vector, got, wrong):
            return Result(name, "better", *_differences(want, got, wrong))
        if not wrong:
            return Result(name, "mismatch", "only what was sent, each once", got.get("out"))
    except UNREADABLE as error:
        why = f"{type(error).__name__}: {error}"
        return Result(name, "mismatch", f"a vector of kind {kind}", why)
    return Result(name, "mismatch", *_differences(want, got, wrong))


def _differences(want: Fields, got: Fields, wrong: list[str]) -> tuple[Fields, Fields]:
    return {f: want.get(f) for f in wrong}, {f: got.get(f, "(none)") for f in wrong}


def _same(got: object, want: object) -> bool:
    """Equal, numbers also as 32-bit floats: the original keeps milliseconds in those."""
    if isinstance(want, dict) and isinstance(got, dict):
        return want.keys() == got.keys() and all(_same(got[key], want[key]) for key in want)
    if type(want) is float and type(got) is float:
        return want == got or struct.pack("!f", want) == struct.pack("!f", got)
    if isinstance(want, bool) or isinstance(got, bool):
        return want is got
    return got == want


def load(path: str) -> list[Vector]:
    """The vectors of a file. Raises `ValueError` or `OSError` with one line that says why not."""
    with open(path, encoding="utf-8") as file:
        try:
            found = json.load(file)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path}: not JSON: {error}") from None
    if not isinstance(found, dict) or found.get("format") != 1:
        raise ValueError(f"{path}: want a JSON object with format 1")
    vectors = found.get("vectors")
    if not isinstance(vectors, list) or not all(isinstance(vector, dict) for vector in vectors):
        raise ValueError(f"{path}: want a list of objects under 'vectors'")
    if not vectors:
        raise ValueError(f"{path}: holds no vectors")
    return vectors


def report(results: list[Result]) -> Iterator[str]:
    """The lines to print, the totals last."""
    counts = {"ok": 0, "mismatch": 0, "better": 0}
    for result in results:
        counts[result.outcome] += 1
        if result.outcome == "mismatch":
            yield f"mismatch {_short(result.id)}"
            yield f"    expected {_short(result.want)}"
            yield f"    got      {_short(result.got)}"
        elif result.outcome == "better":
            yield f"better   {_short(result.id)}"
    yield f"{counts['ok']} ok, {counts['mismatch']} mismatches, {counts['better']} better"


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= _TRUNCATED else f"{text[:_TRUNCATED]}... ({len(text)} characters)"


def main(arguments: list[str]) -> int:
    """Check the one file named; the exit status."""
    if arguments in (["-h"], ["--help"]):
        print(__doc__)
        return 0
    if len(arguments) != 1:
        print("usage: python -m lightspeed_protocol.conformance FILE", file=sys.stderr)
        return 2
    try:
        vectors = load(arguments[0])
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    results = [check(vector) for vector in vectors]
    for line in report(results):
        print(line)
    return 1 if any(result.outcome == "mismatch" for result in results) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
