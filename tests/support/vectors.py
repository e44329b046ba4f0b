"""The recorded wire vectors, for tests that run each as its own case."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from lightspeed_protocol.conformance import load

FILE: Final = Path(__file__).parents[1] / "wire" / "wire_vectors.json"
VECTORS: Final[list[dict[str, Any]]] = load(str(FILE))


def vector(name: str) -> dict[str, Any]:
    """The one with this id."""
    return next(found for found in VECTORS if found["id"] == name)
