"""Reads the loss-repair choice that players write: `off` or `xor:K`."""

from __future__ import annotations

from typing import Final

K_LEAST: Final = 2
K_MOST: Final = 16


def write_fec(k: int | None) -> str:
    """The choice as `parse_fec` reads it."""
    return "off" if k is None else f"xor:{k}"


def parse_fec(text: str) -> int | None:
    """None for off, else K. Raises `ValueError` with the remedy."""
    if text == "off":
        return None
    scheme, _, count = text.partition(":")
    if scheme == "xor" and count.isascii() and count.isdecimal():
        k = int(count)
        if K_LEAST <= k <= K_MOST:
            return k
    raise ValueError(f"want off or xor:K with K from {K_LEAST} to {K_MOST}, got {text!r}")
