"""The 4-byte FEC field that follows the tunnel header in version 2.

     20-21    22      23
    ┌────────┬───────┬────┐
    │ block  │ index │ K  │    index 0..K-1 source packet, K repair packet
    └────────┴───────┴────┘

Source: PROTOCOL.md, "XOR repair".
"""

from __future__ import annotations

import struct
from typing import Final

import attrs

from ..errors import WireError

FEC_BYTES: Final = 4
LARGEST_K: Final = 16

# What the packet loops use directly: block, index, K.
FIELD: Final = struct.Struct("!HBB")


@attrs.frozen
class FecHeader:
    """One decoded field. `block` wraps at 2^16."""

    block: int
    index: int
    k: int

    @property
    def is_repair(self) -> bool:
        """An index above K is neither; it reads as a repair here and `xor` refuses it."""
        return self.index >= self.k

    def encode(self) -> bytes:
        """The 4 bytes."""
        return FIELD.pack(self.block, self.index, self.k)


def decode(data: bytes) -> FecHeader:
    """Read the first 4 bytes. Raises `WireError` "malformed": too short, or K not in 1..16."""
    if len(data) < FEC_BYTES:
        raise WireError("malformed")
    block, index, k = FIELD.unpack_from(data)
    if not 1 <= k <= LARGEST_K:
        raise WireError("malformed")
    return FecHeader(block, index, k)
