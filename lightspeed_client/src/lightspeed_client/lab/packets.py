"""What the relay between client and node reads off a datagram, without any key.

Source: PROTOCOL.md, "Tunnel header" and "Sealed header": both are readable on the way.
"""

from __future__ import annotations

import enum
from typing import Final, NamedTuple

from lightspeed_protocol.header import ADDRESSES, HEADER_BYTES, VERSION_FEC
from lightspeed_protocol.seal import (
    ADDRESSES6,
    FEC_FIELD,
    FEC_FIELD6,
    REPAIR,
    SEALED6_BYTES,
    SEALED_BYTES,
    VERSION_SEALED,
    VERSION_SEALED6,
)

_FEC_END: Final = HEADER_BYTES + 4  # of version 2
_SOURCE: Final = 0  # kind of a sealed packet's FEC field, its top two bits
_FEEDBACK: Final = (2, 3)  # reports of what came, asks for what is missing


class Kind(enum.Enum):
    """What a datagram is, as far as its fate is concerned."""

    SOURCE = "source"
    REPAIR = "repair"
    FEEDBACK = "feedback"  # about the packets of the other direction: reports and asks
    CONTROL = "control"  # keepalives, HANDSHAKE, FIN, and whatever is no tunnel packet
    QUIC = "quic"  # of the control connection, on its own port


class Packet(NamedTuple):
    """`conversation` is what the sender's header names: addresses and ports, source first.

    It is empty where one outer address carries one conversation: versions 1 and 2, control
    packets, QUIC. `payload` is the game's, of a source packet.
    """

    kind: Kind
    conversation: bytes = b""
    payload: bytes = b""


_CONTROL: Final = Packet(Kind.CONTROL)
_REGISTRATION: Final = Packet(Kind.QUIC)


def read_packet(datagram: bytes) -> Packet:
    """Of the data port, any header version."""
    if len(datagram) < HEADER_BYTES:
        return _CONTROL
    version, flags = datagram[0] >> 4, datagram[0] & 15
    if version in (VERSION_SEALED, VERSION_SEALED6):
        return _read_sealed(datagram, version, flags)
    if flags:
        return _CONTROL
    if version != VERSION_FEC:
        return Packet(Kind.SOURCE, b"", datagram[HEADER_BYTES:])
    if len(datagram) < _FEC_END:
        return _CONTROL
    if datagram[22] >= datagram[23]:
        return Packet(Kind.REPAIR)
    return Packet(Kind.SOURCE, b"", datagram[_FEC_END:])


def read_quic(_datagram: bytes) -> Packet:
    """Of the control port, where everything is QUIC and encrypted."""
    return _REGISTRATION


def _read_sealed(datagram: bytes, version: int, flags: int) -> Packet:
    size, addresses, field = (
        (SEALED_BYTES, ADDRESSES, FEC_FIELD)
        if version == VERSION_SEALED
        else (SEALED6_BYTES, ADDRESSES6, FEC_FIELD6)
    )
    if len(datagram) < size or flags & ~REPAIR:
        return _CONTROL
    if flags:
        return Packet(Kind.REPAIR, datagram[addresses])
    kind = datagram[field][0] >> 6
    if kind == _SOURCE:
        return Packet(Kind.SOURCE, datagram[addresses], datagram[size:])
    if kind in _FEEDBACK:
        return Packet(Kind.FEEDBACK, datagram[addresses])
    return _CONTROL
