"""The control messages: what each one holds, and who says it when.

The bytes are `control`'s affair. What a log or an error prints of a message never holds a key or
a token: those fields, and the extensions that may carry them, show only their length.
Source: PROTOCOL.md, "Control messages".
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

import attrs

KEY_BYTES: Final = 16  # a session key
PIN_BYTES: Final = 32  # SHA-256 of a certificate's public key
NO_KEY: Final = bytes(KEY_BYTES)
MOST_PROBES: Final = 10  # in one Probe


def _length(raw: bytes) -> str:
    return f"<{len(raw)} bytes>"


class Kind(IntEnum):
    """The type byte of each message. 0x07-0x09 belong to the original's later releases."""

    PING = 0x01
    PONG = 0x02
    REGISTER = 0x03
    REGISTER_ACK = 0x04
    DISCONNECT = 0x05
    SERVER_INFO = 0x06
    PROBE = 0x10
    PROBE_RESULT = 0x11
    PEERS_REQUEST = 0x12
    PEERS = 0x13
    REKEY = 0x14


class DisconnectReason(IntEnum):
    """Why a session ends. A byte beyond these is legal on the wire and stays a plain number."""

    NORMAL = 0
    TIMEOUT = 1
    SERVER_SHUTDOWN = 2
    RATE_LIMITED = 3
    AUTH_FAILURE = 4


class ProbeMethod(IntEnum):
    """How a node measured its way to a game server. Other bytes stay plain numbers."""

    NOTHING = 0  # nothing answered
    GAME_QUERY = 1
    ICMP = 2
    TCP = 3
    PASSIVE = 4  # from flows that run anyway


@attrs.frozen
class Ping:
    """Asks for a `Pong` with the same timestamp. The sender's clock, microseconds."""

    timestamp_us: int


@attrs.frozen
class Pong:
    """Answers a `Ping`: its timestamp, and the answering clock."""

    client_timestamp_us: int
    server_timestamp_us: int


@attrs.frozen
class Register:
    """A client asks for a session. `game` 0 is unknown; any byte is legal."""

    protocol_version: int
    game: int = 0
    extensions: bytes = attrs.field(default=b"", repr=_length)


@attrs.frozen
class RegisterAck:
    """The session granted, and who grants it."""

    session_id: int
    session_token: int
    node_id: str
    region: str
    extensions: bytes = attrs.field(default=b"", repr=_length)


@attrs.frozen
class Disconnect:
    """The session is over, or was refused. `reason` is a `DisconnectReason` where it names one."""

    reason: int = DisconnectReason.NORMAL
    extensions: bytes = attrs.field(default=b"", repr=_length)


@attrs.frozen
class ServerInfo:
    """How busy a node is. From a client, all zeros: the question."""

    load_pct: int
    active_clients: int
    capacity: int


@attrs.frozen
class Probe:
    """Asks a node for its round trip to a game server, `count` (1..10) times.

    `address` is an IPv4 or IPv6 address as text.
    """

    game: int
    count: int
    address: str
    port: int


@attrs.frozen
class ProbeResult:
    """What a node measured. Times are microseconds, 0 when nothing answered."""

    method: int
    sent: int
    answered: int
    min_us: int
    median_us: int


@attrs.frozen
class PeersRequest:
    """Asks a node which other nodes it knows."""


@attrs.frozen
class Peer:
    """One node that another one knows. `pin` is 32 bytes, as in an invite."""

    node_id: str
    region: str
    host: str
    port: int
    pin: bytes


@attrs.frozen
class Peers:
    """The nodes that a node knows, at most 255."""

    peers: tuple[Peer, ...] = ()


@attrs.frozen
class Rekey:
    """A new session key (16 bytes) and its epoch, 1 to 255 and then 1 again.

    `Rekey()` from a client asks for one.
    """

    epoch: int = 0
    key: bytes = attrs.field(default=NO_KEY, repr=_length)


ControlMessage = (
    Ping
    | Pong
    | Register
    | RegisterAck
    | Disconnect
    | ServerInfo
    | Probe
    | ProbeResult
    | PeersRequest
    | Peers
    | Rekey
)
