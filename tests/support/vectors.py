"""The wire vectors, for tests that run each as its own case, and a way to spoil them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from lightspeed_protocol.conformance import load

FILE: Final = Path(__file__).parents[1] / "wire" / "wire_vectors.json"
VECTORS: Final[list[dict[str, Any]]] = load(str(FILE))
SEALED_FILE: Final = FILE.with_name("sealed_vectors.json")
SEALED_VECTORS: Final[list[dict[str, Any]]] = load(str(SEALED_FILE))


def vector(name: str) -> dict[str, Any]:
    """The one with this id."""
    return next(found for found in VECTORS if found["id"] == name)


def spoiled(value: Any) -> Any:
    """Something else of the same kind."""
    match value:
        case None:
            return "00"
        case bool():
            return not value
        case int() | float():
            return value + 1
        case str():
            return value[:-1] + ("0" if value[-1] != "0" else "1") if value else "00"
        case list():
            return [*value[:-1], spoiled(value[-1])] if value else [None]
        case _:
            last = list(value)[-1]
            return value | {last: spoiled(value[last])}
