"""Calling a decoder that may refuse its input."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from lightspeed_protocol.errors import WireError

P = ParamSpec("P")
T = TypeVar("T")


def attempt(decode: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | WireError:
    """What it returned, or the wire error it raised; anything else it raises fails the test."""
    try:
        return decode(*args, **kwargs)
    except WireError as error:
        return error
