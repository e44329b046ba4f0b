"""What a window repair covers, and how a packet says so.

The FEC field of the sealed header, and what a repair packet has in front of its symbol:

     0       1       2    3          source: 00 00 and its SSN, which counts the source packets
    ┌───────┬───────┬─────────┐      of one flow and direction and wraps
    │ kind  │ width │   SSN   │      repair: 0x40 | field << 4, packets covered, newest covered
    └───────┴───────┴─────────┘
    ┌───────┬────────┬────────┐      repair body: number of the repair modulo 128; distance
    │  key  │ stride │ symbol │      between the packets covered, less 1
    └───────┴─-1─────┴────────┘

The symbol is the sum of cᵢ·Sᵢ over the packets newest, newest - stride, ...; Sᵢ is the length as
u16 then the payload, padded with zeros to the longest. cᵢ is 1 in field 0 (XOR) and
`gf256.coefficient(key, SSN)` in field 1. A copy, a delayed copy, a block and a sliding or a
strided window are all this one format, so the sender changes its plan with any packet and tells
nobody.

Source: PROTOCOL.md, "Window repair".
"""

from __future__ import annotations

import struct
from typing import Final

import attrs

from ..errors import WireError
from .header import FEC_BYTES

XOR: Final = 0
GF256: Final = 1
MAX_WINDOW: Final = 64
MAX_STRIDE: Final = 16
MAX_REACH: Final = 128  # packets from the oldest needed to the newest: coefficients repeat there
MAX_PAYLOAD: Final = 1400  # larger ones are numbered and delivered, and in no repair
LENGTH_BYTES: Final = 2
KEYS: Final = 128

BODY_HEAD_BYTES: Final = 2  # key and stride, in front of the symbol
# A repair packet is longer than the longest source packet it covers by this.
REPAIR_EXTRA_BYTES: Final = BODY_HEAD_BYTES + LENGTH_BYTES

_REPAIR: Final = 0x40  # kind 1 in the top two bits
_FIELDS: Final = {_REPAIR | XOR << 4: XOR, _REPAIR | GF256 << 4: GF256}
_FIELD: Final = struct.Struct("!BBH")


@attrs.frozen
class Plan:
    """One repair after each `every` source packets, over `window` of them `stride` apart.

    With a `delay` the newest packet covered lies that many before the newest one sent: a copy
    (`window` 1) that a burst of losses does not take along. Packets, not seconds, throughout.
    """

    every: int = attrs.field(validator=attrs.validators.ge(1))
    window: int = attrs.field(validator=[attrs.validators.ge(1), attrs.validators.le(MAX_WINDOW)])
    stride: int = attrs.field(
        default=1, validator=[attrs.validators.ge(1), attrs.validators.le(MAX_STRIDE)]
    )
    field: int = attrs.field(default=GF256, validator=attrs.validators.in_((XOR, GF256)))
    delay: int = attrs.field(default=0, validator=attrs.validators.ge(0))

    def __attrs_post_init__(self) -> None:
        if self.reach > MAX_REACH:
            raise ValueError(
                f"the plan needs the last {self.reach} packets, more than {MAX_REACH}: "
                f"(window {self.window} - 1) * stride {self.stride} + delay {self.delay} + 1"
            )

    @classmethod
    def xor(cls, k: int) -> Plan:
        """The documented scheme inside the sealed header: one XOR over each block of `k`."""
        return cls(every=k, window=k, field=XOR)

    @property
    def reach(self) -> int:
        """How many of the newest packets a repair may be made from: 1..128."""
        return (self.window - 1) * self.stride + self.delay + 1


@attrs.frozen
class RepairHead:
    """What a repair packet says about itself: `newest` as u16, `stride` 1..16, `key` 0..127."""

    field: int
    window: int
    newest: int
    key: int = 0
    stride: int = 1

    def encode(self) -> tuple[bytes, bytes]:
        """The FEC field, and the two bytes in front of the symbol."""
        return (
            _FIELD.pack(_REPAIR | self.field << 4, self.window, self.newest),
            bytes((self.key, self.stride - 1)),
        )


def source_field(ssn: int) -> bytes:
    """The FEC field of source packet `ssn` (u16)."""
    return ssn.to_bytes(FEC_BYTES, "big")


def decode_repair(field: bytes, body: bytes) -> RepairHead:
    """Read a repair packet's FEC field and the head of its body.

    Raises `WireError` "fec-field": not a repair's field, a field nobody knows, a number out of
    range, a window wider than `MAX_REACH` packets, or a symbol of impossible length.
    """
    if len(field) != FEC_BYTES:
        raise WireError("fec-field", got=len(field), need=FEC_BYTES)
    if not REPAIR_EXTRA_BYTES <= len(body) <= REPAIR_EXTRA_BYTES + MAX_PAYLOAD:
        raise WireError("fec-field", got=len(body), need=REPAIR_EXTRA_BYTES)
    kind, window, newest = _FIELD.unpack(field)
    key, stride = body[0], body[1] + 1
    if (
        kind not in _FIELDS
        or not 1 <= window <= MAX_WINDOW
        or key >= KEYS
        or stride > MAX_STRIDE
        or (window - 1) * stride >= MAX_REACH
    ):
        raise WireError("fec-field")
    return RepairHead(_FIELDS[kind], window, newest, key, stride)
