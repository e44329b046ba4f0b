"""Lists of `[u8 tag][u16 length][value]`: how Register, RegisterAck and Disconnect grow.

A tag may come once. What a tag means, and which sizes its value may have, is decided in
`extensions`; this file only finds the edges. Source: PROTOCOL.md, "Extensions".
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Final

from .errors import WireError

_HEAD: Final = struct.Struct("!BH")


def encode(fields: Mapping[int, bytes]) -> bytes:
    """The list, in the mapping's order.

    Raises `ValueError` where a tag is no byte or a value is over 65535 bytes.
    """
    parts: list[bytes] = []
    for tag, value in fields.items():
        try:
            parts.append(_HEAD.pack(tag, len(value)))
        except struct.error:
            raise ValueError(
                f"want a tag in 0..255 and up to 65535 bytes, got tag {tag}, {len(value)} bytes"
            ) from None
        parts.append(value)
    return b"".join(parts)


def decode(data: bytes) -> dict[int, bytes]:
    """All values by their tag, known or not.

    Raises `WireError` "short" where the list is cut (`got` and `need`: bytes of the part that was
    cut) and "tlv" where a tag comes twice (`got`: the tag).
    """
    fields: dict[int, bytes] = {}
    at = 0
    while at < len(data):
        if len(data) - at < _HEAD.size:
            raise WireError("short", got=len(data) - at, need=_HEAD.size)
        tag, length = _HEAD.unpack_from(data, at)
        at += _HEAD.size
        if len(data) - at < length:
            raise WireError("short", got=len(data) - at, need=length)
        if tag in fields:
            raise WireError("tlv", got=tag)
        fields[tag] = data[at : at + length]
        at += length
    return fields
