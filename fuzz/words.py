"""Cuts one fuzzing input into numbers and pieces, the same way every time."""

from __future__ import annotations

from collections.abc import Iterator

import attrs


@attrs.define(eq=False)
class Words:
    """What is asked for beyond the end reads as zeros, so every input means something."""

    data: bytes
    at: int = 0

    def __bool__(self) -> bool:
        return self.at < len(self.data)

    def number(self, size: int = 1) -> int:
        return int.from_bytes(self.take(size).ljust(size, b"\x00"), "big")

    def take(self, size: int) -> bytes:
        piece = self.data[self.at : self.at + size]
        self.at += size
        return piece

    def rest(self) -> bytes:
        return self.take(len(self.data))

    def pieces(self) -> Iterator[bytes]:
        """What is left, each piece behind its length in one byte."""
        while self:
            yield self.take(self.number())
