"""Whether somebody at the node's data address reads what is sent there: a KEEPALIVE that came back.

Where a node says its data port is, somebody else may be. Until 8 random bytes have come back from
a new address, no game packet is sent there. Sans-IO.
Source: PROTOCOL.md, "Addresses of the two ends".
"""

from __future__ import annotations

import math
import os
from typing import Final

import attrs

PROOF_BYTES: Final = 8  # no probe has as many
PROOF_S: Final = 0.1  # before the second of them; each pause is twice the one before,
PROOF_MOST_S: Final = 1.0  # up to this


@attrs.define(eq=False)
class DataProof:
    """`begin` for each new address; send `question` when `next_deadline` is due, and at once."""

    given: bool = False
    _question: bytes = b""
    _at: float = math.inf  # when it is sent again
    _pause_s: float = PROOF_S

    def begin(self) -> None:
        """Another address has to prove itself."""
        self.given = False
        self._question, self._pause_s = os.urandom(PROOF_BYTES), PROOF_S

    def question(self, now: float) -> bytes:
        """The payload of a KEEPALIVE that leaves now."""
        self._at = now + self._pause_s
        self._pause_s = min(2 * self._pause_s, PROOF_MOST_S)
        return self._question

    def answered(self, payload: bytes) -> bool:
        """Whether this KEEPALIVE's payload is the first proof."""
        if self.given or not self._question or payload != self._question:
            return False
        self.given = True
        return True

    def next_deadline(self) -> float:
        """When to ask again; infinity once it is proven."""
        return math.inf if self.given else self._at
