"""The control messages 0x01-0x06: what they hold, their bytes, and the frames that carry them.

A frame is `u16 length, u8 type, fields`; a string is `u8 length, UTF-8`. Bytes after the known
fields are how a message grows: Register and RegisterAck keep them as `extensions`, the others
ignore them. Source: PROTOCOL.md, "Control messages".
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Final

import attrs

from .errors import WireError

LARGEST_FRAME: Final = 0xFFFF
LARGEST_STRING: Final = 0xFF

_LENGTH: Final = struct.Struct("!H")
_PING: Final = struct.Struct("!Q")
_PONG: Final = struct.Struct("!QQ")
_REGISTER: Final = struct.Struct("!BB")
_REGISTER_ACK: Final = struct.Struct("!IB")
_DISCONNECT: Final = struct.Struct("!B")
_SERVER_INFO: Final = struct.Struct("!BII")


class Kind(IntEnum):
    """The type byte of each message."""

    PING = 0x01
    PONG = 0x02
    REGISTER = 0x03
    REGISTER_ACK = 0x04
    DISCONNECT = 0x05
    SERVER_INFO = 0x06


class DisconnectReason(IntEnum):
    """Why a session ends. A byte beyond these is legal on the wire and stays a plain number."""

    NORMAL = 0
    TIMEOUT = 1
    SERVER_SHUTDOWN = 2
    RATE_LIMITED = 3
    AUTH_FAILURE = 4


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
    extensions: bytes = b""


@attrs.frozen
class RegisterAck:
    """The session granted, and who grants it."""

    session_id: int
    session_token: int
    node_id: str
    region: str
    extensions: bytes = b""


@attrs.frozen
class Disconnect:
    """The session is over. `reason` is a `DisconnectReason` where the byte names one."""

    reason: int = DisconnectReason.NORMAL


@attrs.frozen
class ServerInfo:
    """How busy a node is."""

    load_pct: int
    active_clients: int
    capacity: int


ControlMessage = Ping | Pong | Register | RegisterAck | Disconnect | ServerInfo


def encode(message: ControlMessage) -> bytes:
    """Type and fields, without the frame's length.

    Raises `ValueError` where a number does not fit its field or a string is over 255 bytes.
    """
    try:
        match message:
            case Ping(timestamp_us):
                return bytes((Kind.PING,)) + _PING.pack(timestamp_us)
            case Pong(client_timestamp_us, server_timestamp_us):
                return bytes((Kind.PONG,)) + _PONG.pack(client_timestamp_us, server_timestamp_us)
            case Register(protocol_version, game, extensions):
                return bytes((Kind.REGISTER,)) + _REGISTER.pack(protocol_version, game) + extensions
            case RegisterAck(session_id, session_token, node_id, region, extensions):
                return (
                    bytes((Kind.REGISTER_ACK,))
                    + _REGISTER_ACK.pack(session_id, session_token)
                    + _string("node_id", node_id)
                    + _string("region", region)
                    + extensions
                )
            case Disconnect(reason):
                return bytes((Kind.DISCONNECT,)) + _DISCONNECT.pack(reason)
            case ServerInfo(load_pct, active_clients, capacity):
                return bytes((Kind.SERVER_INFO,)) + _SERVER_INFO.pack(
                    load_pct, active_clients, capacity
                )
    except struct.error as error:
        raise ValueError(f"{message} does not fit its fields: {error}") from None


def decode(body: bytes) -> ControlMessage:
    """Read one message, type byte first.

    Raises `WireError` "short" (`got` and `need`: bytes of the part that was cut), "unknown"
    (`got`: the type) or "utf8".
    """
    if not body:
        raise WireError("short", got=0, need=1)
    kind, at = body[0], 1
    match kind:
        case Kind.PING:
            return Ping(*_fields(_PING, body, at))
        case Kind.PONG:
            return Pong(*_fields(_PONG, body, at))
        case Kind.REGISTER:
            version, game = _fields(_REGISTER, body, at)
            return Register(version, game, body[at + _REGISTER.size :])
        case Kind.REGISTER_ACK:
            session_id, token = _fields(_REGISTER_ACK, body, at)
            node_id, at = _read_string(body, at + _REGISTER_ACK.size)
            region, at = _read_string(body, at)
            return RegisterAck(session_id, token, node_id, region, body[at:])
        case Kind.DISCONNECT:
            (reason,) = _fields(_DISCONNECT, body, at)
            known = reason in DisconnectReason._value2member_map_
            return Disconnect(DisconnectReason(reason) if known else reason)
        case Kind.SERVER_INFO:
            return ServerInfo(*_fields(_SERVER_INFO, body, at))
        case _:
            raise WireError("unknown", got=kind)


def frame(body: bytes) -> bytes:
    """An encoded message as it goes on the stream."""
    if not 1 <= len(body) <= LARGEST_FRAME:
        raise ValueError(f"a frame holds 1 to {LARGEST_FRAME} bytes, got {len(body)}")
    return _LENGTH.pack(len(body)) + body


@attrs.define(eq=False)
class FrameReader:
    """Cuts one stream into messages, however its bytes were chunked.

    The first error is the last thing that comes out: framing is lost, and the caller resets
    the stream. Holds at most one frame, `largest` bytes and its length.
    """

    largest: int = LARGEST_FRAME
    broken: bool = attrs.field(default=False, init=False)
    _buffer: bytearray = attrs.field(factory=bytearray, init=False)

    def feed(self, data: bytes) -> list[ControlMessage | WireError]:
        """What is complete now, in order.

        Errors are those of `decode`, also for a length of 0 ("short"), and "long" for a frame
        over `largest`.
        """
        results: list[ControlMessage | WireError] = []
        if self.broken:
            return results
        buffer = self._buffer
        buffer += data
        at = 0
        while len(buffer) - at >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(buffer, at)
            try:
                if length > self.largest:
                    raise WireError("long", got=length, need=self.largest)
                if len(buffer) - at - _LENGTH.size < length:
                    break
                at += _LENGTH.size
                results.append(decode(bytes(buffer[at : at + length])))
                at += length
            except WireError as error:
                results.append(error)
                self.broken = True
                buffer.clear()
                return results
        del buffer[:at]
        return results

    def finish(self) -> None:
        """The stream has ended. Raises `WireError` "cut" when it ended inside a message.

        One lone byte announced nothing and is no error.
        """
        if len(self._buffer) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer)
            raise WireError("cut", got=len(self._buffer) - _LENGTH.size, need=length)


def _fields(layout: struct.Struct, body: bytes, at: int) -> tuple[int, ...]:
    if len(body) - at < layout.size:
        raise WireError("short", got=len(body) - at, need=layout.size)
    return layout.unpack_from(body, at)


def _string(name: str, text: str) -> bytes:
    raw = text.encode()
    if len(raw) > LARGEST_STRING:
        raise ValueError(f"{name} holds at most {LARGEST_STRING} UTF-8 bytes, got {len(raw)}")
    return bytes((len(raw),)) + raw


def _read_string(body: bytes, at: int) -> tuple[str, int]:
    """The string that starts at `at`, and where it ends."""
    if len(body) <= at:
        raise WireError("short", got=0, need=1)
    start, length = at + 1, body[at]
    if len(body) - start < length:
        raise WireError("short", got=len(body) - start, need=length)
    try:
        return body[start : start + length].decode(), start + length
    except UnicodeDecodeError:
        raise WireError("utf8") from None
