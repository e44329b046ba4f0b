"""The tunnel header of versions 1 and 2, byte for byte.

     0      1       2-3       4-7           8-11        12-15       16-17    18-19
    ┌──────┬───────┬─────────┬─────────────┬───────────┬───────────┬────────┬────────┐
    │ver|fl│ token │ sequence│ timestamp_us│ source IP │ dest. IP  │ source │ dest.  │
    │ 4|4  │       │         │             │           │           │ port   │ port   │
    └──────┴───────┴─────────┴─────────────┴───────────┴───────────┴────────┴────────┘

Version 2 continues with the 4-byte FEC header (`fec.header`), except on packets that carry
a flag and no payload. Bytes 8-19 name the game conversation; both ends use them unparsed as
a flow's key. Source: PROTOCOL.md, "Tunnel header".
"""

from __future__ import annotations

import struct
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from typing import Final

import attrs

from .errors import WireError

VERSION_PLAIN: Final = 1
VERSION_FEC: Final = 2

KEEPALIVE: Final = 1
HANDSHAKE: Final = 2
FIN: Final = 4
FRAGMENT: Final = 8  # reserved; nobody sends it

HEADER_BYTES: Final = 20

# What the packet loops use directly: the first 8 bytes, and bytes 8-19 as one key.
PREFIX: Final = struct.Struct("!BBHI")
ADDRESSES: Final = slice(8, HEADER_BYTES)
NO_ADDRESSES: Final = bytes(12)

_PORTS: Final = struct.Struct("!HH")
_WHOLE: Final = struct.Struct("!BBHI4s4sHH")

Address = tuple[str, int]


def microseconds(seconds: float) -> int:
    """The wire's clock: microseconds modulo 2^32, so it wraps every 71.6 minutes."""
    return int(seconds * 1e6) & 0xFFFFFFFF


def pack_addresses(source: Address, destination: Address) -> bytes:
    """The bytes that name a conversation: 12, or 36 between IPv6 addresses.

    Raises `OSError` for anything else, two families in one conversation included.
    """
    family = AF_INET6 if ":" in source[0] else AF_INET
    return (
        inet_pton(family, source[0])
        + inet_pton(family, destination[0])
        + _PORTS.pack(source[1], destination[1])
    )


def swap_addresses(key: bytes) -> bytes:
    """The same conversation seen from the other end."""
    if len(key) == len(NO_ADDRESSES):
        return key[4:8] + key[0:4] + key[10:12] + key[8:10]
    return key[16:32] + key[0:16] + key[34:36] + key[32:34]


def unpack_addresses(key: bytes) -> tuple[Address, Address]:
    """Source and destination out of the 12 or 36 bytes."""
    source_port, destination_port = _PORTS.unpack_from(key, len(key) - 4)
    family, half = (AF_INET, 4) if len(key) == len(NO_ADDRESSES) else (AF_INET6, 16)
    return (
        (inet_ntop(family, key[:half]), source_port),
        (inet_ntop(family, key[half : 2 * half]), destination_port),
    )


@attrs.frozen
class Header:
    """One decoded header. `timestamp_us` is microseconds modulo 2^32, `sequence` wraps at 2^16."""

    version: int = VERSION_PLAIN
    flags: int = 0
    token: int = 0
    sequence: int = 0
    timestamp_us: int = 0
    source: Address = ("0.0.0.0", 0)
    destination: Address = ("0.0.0.0", 0)

    def encode(self) -> bytes:
        """The 20 bytes."""
        return _WHOLE.pack(
            self.version << 4 | self.flags,
            self.token,
            self.sequence,
            self.timestamp_us,
            inet_pton(AF_INET, self.source[0]),
            inet_pton(AF_INET, self.destination[0]),
            self.source[1],
            self.destination[1],
        )

    def answer(self, *, sequence: int, timestamp_us: int) -> Header:
        """The header of an answer: ends swapped, version and token kept, no flags."""
        return attrs.evolve(
            self,
            flags=0,
            sequence=sequence,
            timestamp_us=timestamp_us,
            source=self.destination,
            destination=self.source,
        )


def decode(data: bytes) -> Header:
    """Read the first 20 bytes. Raises `WireError` "short" or "version", in that order."""
    if len(data) < HEADER_BYTES:
        raise WireError("short", got=len(data), need=HEADER_BYTES)
    first, token, sequence, timestamp_us, source, destination, source_port, destination_port = (
        _WHOLE.unpack_from(data)
    )
    version = first >> 4
    if version not in (VERSION_PLAIN, VERSION_FEC):
        raise WireError("version", got=version)
    return Header(
        version,
        first & 15,
        token,
        sequence,
        timestamp_us,
        (inet_ntop(AF_INET, source), source_port),
        (inet_ntop(AF_INET, destination), destination_port),
    )


def control_packet(flag: int, *, token: int = 0, sequence: int = 0, timestamp_us: int = 0) -> bytes:
    """A KEEPALIVE, HANDSHAKE or FIN: plain version, no addresses, no payload."""
    return PREFIX.pack(VERSION_PLAIN << 4 | flag, token, sequence, timestamp_us) + NO_ADDRESSES
