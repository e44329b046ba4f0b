"""The bytes of the control messages, and the frames that carry them.

A frame is `u16 length, u8 type, fields`; a string is `u8 length, UTF-8`. Bytes after the known
fields are how a message grows: Register, RegisterAck and Disconnect keep them as `extensions`
(`tlv`, `extensions`), the others ignore them. Source: PROTOCOL.md, "Control messages".
"""

from __future__ import annotations

import struct
from enum import IntEnum
from ipaddress import ip_address
from typing import Final, TypeVar

import attrs

from .control_messages import (
    KEY_BYTES,
    MOST_PROBES,
    PIN_BYTES,
    ControlMessage,
    Disconnect,
    DisconnectReason,
    Kind,
    Peer,
    Peers,
    PeersRequest,
    Ping,
    Pong,
    Probe,
    ProbeMethod,
    ProbeResult,
    Register,
    RegisterAck,
    Rekey,
    ServerInfo,
)
from .errors import WireError

__all__ = [
    "LARGEST_FRAME",
    "LARGEST_STRING",
    "ControlMessage",
    "Disconnect",
    "DisconnectReason",
    "FrameReader",
    "Kind",
    "Peer",
    "Peers",
    "PeersRequest",
    "Ping",
    "Pong",
    "Probe",
    "ProbeMethod",
    "ProbeResult",
    "Register",
    "RegisterAck",
    "Rekey",
    "ServerInfo",
    "decode",
    "encode",
    "frame",
]

LARGEST_FRAME: Final = 0xFFFF
LARGEST_STRING: Final = 0xFF

_LENGTH: Final = struct.Struct("!H")
_PING: Final = struct.Struct("!Q")
_PONG: Final = struct.Struct("!QQ")
_REGISTER: Final = struct.Struct("!BB")
_REGISTER_ACK: Final = struct.Struct("!IB")
_DISCONNECT: Final = struct.Struct("!B")
_SERVER_INFO: Final = struct.Struct("!BII")
_PROBE: Final = struct.Struct("!BBHB")  # game, count, port, length of the address
_PROBE_RESULT: Final = struct.Struct("!BBBII")
_PEERS: Final = struct.Struct("!B")
_PORT: Final = struct.Struct("!H")
_EPOCH: Final = struct.Struct("!B")

_Named = TypeVar("_Named", bound=IntEnum)


def encode(message: ControlMessage) -> bytes:
    """Type and fields, without the frame's length.

    Raises `ValueError` where a number does not fit its field, a string is over 255 bytes, or an
    address, pin or key is none.
    """
    try:
        return _encode(message)
    except struct.error as error:
        raise ValueError(f"{message} does not fit its fields: {error}") from None


def _encode(message: ControlMessage) -> bytes:
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
        case Disconnect(reason, extensions):
            return bytes((Kind.DISCONNECT,)) + _DISCONNECT.pack(reason) + extensions
        case ServerInfo(load_pct, active_clients, capacity):
            return bytes((Kind.SERVER_INFO,)) + _SERVER_INFO.pack(
                load_pct, active_clients, capacity
            )
        case Probe(game, count, address, port):
            if not 1 <= count <= MOST_PROBES:
                raise ValueError(f"a probe asks 1 to {MOST_PROBES} times, got {count}")
            packed = ip_address(address).packed
            return bytes((Kind.PROBE,)) + _PROBE.pack(game, count, port, len(packed)) + packed
        case ProbeResult(method, sent, answered, min_us, median_us):
            return bytes((Kind.PROBE_RESULT,)) + _PROBE_RESULT.pack(
                method, sent, answered, min_us, median_us
            )
        case PeersRequest():
            return bytes((Kind.PEERS_REQUEST,))
        case Peers(peers):
            return (
                bytes((Kind.PEERS,)) + _PEERS.pack(len(peers)) + b"".join(map(_encode_peer, peers))
            )
        case Rekey(epoch, key):
            return bytes((Kind.REKEY,)) + _EPOCH.pack(epoch) + _exactly("key", key, KEY_BYTES)


def decode(body: bytes) -> ControlMessage:
    """Read one message, type byte first.

    Raises `WireError` "short" (`got` and `need`: bytes of the part that was cut), "unknown"
    (`got`: the type), "utf8" or "value" (a Probe's count or address length, in `got`).
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
            return Disconnect(_named(DisconnectReason, reason), body[at + _DISCONNECT.size :])
        case Kind.SERVER_INFO:
            return ServerInfo(*_fields(_SERVER_INFO, body, at))
        case Kind.PROBE:
            return _decode_probe(body, at)
        case Kind.PROBE_RESULT:
            method, *figures = _fields(_PROBE_RESULT, body, at)
            return ProbeResult(_named(ProbeMethod, method), *figures)
        case Kind.PEERS_REQUEST:
            return PeersRequest()
        case Kind.PEERS:
            return _decode_peers(body, at)
        case Kind.REKEY:
            (epoch,) = _fields(_EPOCH, body, at)
            return Rekey(epoch, _bytes(body, at + _EPOCH.size, KEY_BYTES))
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


def _decode_probe(body: bytes, at: int) -> Probe:
    game, count, port, length = _fields(_PROBE, body, at)
    if not 1 <= count <= MOST_PROBES:
        raise WireError("value", got=count)
    if length not in (4, 16):
        raise WireError("value", got=length)
    return Probe(game, count, str(ip_address(_bytes(body, at + _PROBE.size, length))), port)


def _encode_peer(peer: Peer) -> bytes:
    return (
        _string("node_id", peer.node_id)
        + _string("region", peer.region)
        + _string("host", peer.host)
        + _PORT.pack(peer.port)
        + _exactly("pin", peer.pin, PIN_BYTES)
    )


def _decode_peers(body: bytes, at: int) -> Peers:
    (count,) = _fields(_PEERS, body, at)
    at += _PEERS.size
    peers: list[Peer] = []
    for _ in range(count):
        node_id, at = _read_string(body, at)
        region, at = _read_string(body, at)
        host, at = _read_string(body, at)
        (port,) = _fields(_PORT, body, at)
        pin = _bytes(body, at + _PORT.size, PIN_BYTES)
        peers.append(Peer(node_id, region, host, port, pin))
        at += _PORT.size + PIN_BYTES
    return Peers(tuple(peers))


def _named(names: type[_Named], value: int) -> int:
    """The name for a byte that has one; others stay numbers."""
    return names(value) if value in names._value2member_map_ else value


def _fields(layout: struct.Struct, body: bytes, at: int) -> tuple[int, ...]:
    if len(body) - at < layout.size:
        raise WireError("short", got=len(body) - at, need=layout.size)
    return layout.unpack_from(body, at)


def _bytes(body: bytes, at: int, size: int) -> bytes:
    if len(body) - at < size:
        raise WireError("short", got=len(body) - at, need=size)
    return body[at : at + size]


def _exactly(name: str, raw: bytes, size: int) -> bytes:
    if len(raw) != size:
        raise ValueError(f"{name} holds {size} bytes, got {len(raw)}")
    return raw


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
