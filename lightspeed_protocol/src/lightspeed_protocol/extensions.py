"""What the TLVs of Register, RegisterAck and Disconnect mean: which tags, which sizes.

A tag that is not listed here is skipped, so that either end may be older. A number whose meaning
is unknown (a scheme, a feature, a refusal) stays a number: only its holder can say what to do.
Source: PROTOCOL.md, "Extensions".
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from enum import IntEnum
from ipaddress import ip_address
from typing import Final

import attrs

from . import tlv
from .control_messages import KEY_BYTES
from .errors import WireError
from .fec import protection
from .fec.protection import Protection

TOKEN_BYTES: Final = 32
RESUME_BYTES: Final = 16
MOST_TEXT_BYTES: Final = 200  # of a refusal
MOST_CLIENT_BYTES: Final = 32
MOST_HOST_BYTES: Final = 255

_CREDENTIAL: Final = 0x01
_VERSIONS: Final = 0x02
_OFFERED_FEC: Final = 0x03
_RESUME: Final = 0x04
_CLIENT: Final = 0x05
_FEATURES: Final = 0x06
_PROTECTION: Final = 0x07
_REPORTS: Final = 0x08

_VERSION: Final = 0x01
_KEY: Final = 0x02
_DATA: Final = 0x03
_CHOSEN_FEC: Final = 0x04
_LIMITS: Final = 0x05
_VISIBLE: Final = 0x06
_CAPABILITIES: Final = 0x07
_RESUME_SECRET: Final = 0x08
_RESUMED: Final = 0x09

_REFUSAL: Final = 0x01
_TEXT: Final = 0x02

_PORT: Final = struct.Struct("!H")
_LIMIT_FIELDS: Final = struct.Struct("!IIH")
_SECONDS: Final = struct.Struct("!I")
_MS: Final = struct.Struct("!H")

# Smallest and largest value, in bytes; the two visible addresses are checked where they are read.
_REGISTER_SIZES: Final = {
    _CREDENTIAL: (TOKEN_BYTES, TOKEN_BYTES),
    _VERSIONS: (1, 8),
    _OFFERED_FEC: (0, 8),
    _RESUME: (RESUME_BYTES, RESUME_BYTES),
    _CLIENT: (1, MOST_CLIENT_BYTES),
    _FEATURES: (0, 8),
    _PROTECTION: (protection.BYTES, protection.BYTES),
    _REPORTS: (_MS.size, _MS.size),
}
_ACK_SIZES: Final = {
    _VERSION: (1, 1),
    _KEY: (KEY_BYTES, KEY_BYTES),
    _DATA: (_PORT.size, _PORT.size + MOST_HOST_BYTES),
    _CHOSEN_FEC: (0, 8),
    _LIMITS: (_LIMIT_FIELDS.size, _LIMIT_FIELDS.size),
    _VISIBLE: (4, 16),
    _CAPABILITIES: (0, 16),
    _RESUME_SECRET: (RESUME_BYTES + _SECONDS.size, RESUME_BYTES + _SECONDS.size),
    _RESUMED: (1, 1),
}
_REFUSAL_SIZES: Final = {_REFUSAL: (1, 1), _TEXT: (1, MOST_TEXT_BYTES)}


class FecScheme(IntEnum):
    """Loss repair inside the sealed header, offered by the client and accepted by the node."""

    WINDOW_XOR = 1
    WINDOW_GF256 = 2
    RECEIVER_REPORTS = 3
    NACK = 4


class Feature(IntEnum):
    """What a client understands."""

    NODE_STREAM = 1  # the node's own unidirectional stream


class Capability(IntEnum):
    """What a node can do."""

    NODE_STREAM = 1
    PROBE = 2
    PEERS = 3
    REKEY = 4
    IPV6_INSIDE = 5


class RefusalCode(IntEnum):
    """Why a node said no, or ended a session."""

    UNKNOWN_TOKEN = 1
    EXPIRED = 2
    REVOKED = 3
    TOO_MANY_SESSIONS = 4
    NODE_FULL = 5
    DRAINING = 6
    NO_COMMON_VERSION = 7
    NO_CREDENTIAL = 8
    SESSION_ENDED = 9  # revoked while running, or replaced
    TOO_OFTEN = 10


@attrs.frozen(kw_only=True)
class RegisterExtensions:
    """What a client adds to Register. `versions`: header versions, most wanted first.

    `protection` is how it wants to be sent to, `reports_ms` how often it wants to be told what
    comes of its own packets: 0 never, None as often as the node likes.
    """

    credential: bytes | None = attrs.field(default=None, repr=False)
    versions: tuple[int, ...] = ()
    fec: tuple[int, ...] = ()
    resume: bytes | None = attrs.field(default=None, repr=False)
    client: str = ""
    features: tuple[int, ...] = ()
    protection: Protection | None = None
    reports_ms: int | None = None


@attrs.frozen(kw_only=True)
class Limits:
    """How much a session may send. `largest_datagram`: UDP payload of the tunnel, bytes."""

    packets_per_s: int
    bytes_per_s: int
    largest_datagram: int


@attrs.frozen(kw_only=True)
class AckExtensions:
    """What a node adds to RegisterAck.

    `version` 8 stands for 8 and 9 and comes with a `key`. Without `data_port` the tunnel goes to
    the control host, port 4434; an empty `data_host` is the control host. `resume` is good for
    `resume_s` seconds after the session's last sign of life.
    """

    version: int | None = None
    key: bytes | None = attrs.field(default=None, repr=False)
    data_port: int | None = None
    data_host: str = ""
    fec: tuple[int, ...] = ()
    limits: Limits | None = None
    visible: str | None = None
    capabilities: tuple[int, ...] = ()
    resume: bytes | None = attrs.field(default=None, repr=False)
    resume_s: int | None = None
    resumed: bool = False


@attrs.frozen(kw_only=True)
class Refusal:
    """What a node adds to Disconnect. `text` is one line for the player."""

    code: RefusalCode | int | None = None
    text: str = ""


def encode_register(ext: RegisterExtensions) -> bytes:
    """The TLVs. Raises `ValueError` for a value that no Register can carry."""
    fields: dict[int, bytes] = {}
    if ext.credential is not None:
        fields[_CREDENTIAL] = ext.credential
    if ext.versions:
        fields[_VERSIONS] = bytes(ext.versions)
    if ext.fec:
        fields[_OFFERED_FEC] = bytes(ext.fec)
    if ext.resume is not None:
        fields[_RESUME] = ext.resume
    if ext.client:
        fields[_CLIENT] = ext.client.encode()
    if ext.features:
        fields[_FEATURES] = bytes(ext.features)
    if ext.protection is not None:
        fields[_PROTECTION] = ext.protection.encode()
    if ext.reports_ms is not None:
        fields[_REPORTS] = ext.reports_ms.to_bytes(_MS.size, "big")
    return _encode(fields, _REGISTER_SIZES)


def decode_register(data: bytes) -> RegisterExtensions:
    """Read the TLVs. Raises `WireError` "short", "tlv" or "utf8"."""
    fields = _decode(data, _REGISTER_SIZES)
    wanted, reports = fields.get(_PROTECTION), fields.get(_REPORTS)
    return RegisterExtensions(
        credential=fields.get(_CREDENTIAL),
        versions=tuple(fields.get(_VERSIONS, b"")),
        fec=tuple(fields.get(_OFFERED_FEC, b"")),
        resume=fields.get(_RESUME),
        client=_text(fields.get(_CLIENT, b"")),
        features=tuple(fields.get(_FEATURES, b"")),
        protection=None if wanted is None else Protection.decode(wanted),
        reports_ms=None if reports is None else int.from_bytes(reports, "big"),
    )


def encode_ack(ext: AckExtensions) -> bytes:
    """The TLVs. Raises `ValueError` for a value that no RegisterAck can carry."""
    if ext.key is not None and ext.version != 8:
        raise ValueError(f"only version 8 has a session key, got one with version {ext.version}")
    if ext.data_host and ext.data_port is None:
        raise ValueError(f"data host {ext.data_host} needs a data port")
    if (ext.resume is None) != (ext.resume_s is None):
        raise ValueError("a resume secret and its seconds go together")
    fields: dict[int, bytes] = {}
    try:
        if ext.version is not None:
            fields[_VERSION] = bytes((ext.version,))
        if ext.key is not None:
            fields[_KEY] = ext.key
        if ext.data_port is not None:
            fields[_DATA] = _PORT.pack(ext.data_port) + ext.data_host.encode()
        if ext.fec:
            fields[_CHOSEN_FEC] = bytes(ext.fec)
        if ext.limits is not None:
            fields[_LIMITS] = _LIMIT_FIELDS.pack(*attrs.astuple(ext.limits))
        if ext.visible is not None:
            fields[_VISIBLE] = ip_address(ext.visible).packed
        if ext.capabilities:
            fields[_CAPABILITIES] = bytes(ext.capabilities)
        if ext.resume is not None and ext.resume_s is not None:
            if len(ext.resume) != RESUME_BYTES:
                raise ValueError(f"a resume secret is {RESUME_BYTES} bytes, got {len(ext.resume)}")
            fields[_RESUME_SECRET] = ext.resume + _SECONDS.pack(ext.resume_s)
        if ext.resumed:
            fields[_RESUMED] = b"\x01"
    except struct.error as error:
        raise ValueError(f"{ext} does not fit its fields: {error}") from None
    return _encode(fields, _ACK_SIZES)


def decode_ack(data: bytes) -> AckExtensions:
    """Read the TLVs. Raises `WireError` "short", "tlv" or "utf8"."""
    fields = _decode(data, _ACK_SIZES)
    version, where = fields.get(_VERSION), fields.get(_DATA)
    limits, visible, resume = fields.get(_LIMITS), fields.get(_VISIBLE), fields.get(_RESUME_SECRET)
    if visible is not None and len(visible) not in (4, 16):
        raise WireError("tlv", got=len(visible))
    return AckExtensions(
        version=None if version is None else version[0],
        key=fields.get(_KEY),
        data_port=None if where is None else _PORT.unpack_from(where)[0],
        data_host="" if where is None else _text(where[_PORT.size :]),
        fec=tuple(fields.get(_CHOSEN_FEC, b"")),
        limits=None if limits is None else _limits(limits),
        visible=None if visible is None else str(ip_address(visible)),
        capabilities=tuple(fields.get(_CAPABILITIES, b"")),
        resume=None if resume is None else resume[:RESUME_BYTES],
        resume_s=None if resume is None else _SECONDS.unpack_from(resume, RESUME_BYTES)[0],
        resumed=fields.get(_RESUMED) == b"\x01",
    )


def encode_refusal(ext: Refusal) -> bytes:
    """The TLVs; `text` is cut to what fits, at a character. Raises `ValueError` for no byte."""
    fields: dict[int, bytes] = {}
    if ext.code is not None:
        fields[_REFUSAL] = bytes((ext.code,))
    if ext.text:
        fields[_TEXT] = ext.text.encode()[:MOST_TEXT_BYTES].decode(errors="ignore").encode()
    return _encode(fields, _REFUSAL_SIZES)


def decode_refusal(data: bytes) -> Refusal:
    """Read the TLVs. Raises `WireError` "short", "tlv" or "utf8".

    `text` is a stranger's: whoever prints it makes it printable first.
    """
    fields = _decode(data, _REFUSAL_SIZES)
    code: int | None = None
    if _REFUSAL in fields:
        code = fields[_REFUSAL][0]
        if code in RefusalCode._value2member_map_:
            code = RefusalCode(code)
    return Refusal(code=code, text=_text(fields.get(_TEXT, b"")))


def _encode(fields: Mapping[int, bytes], sizes: Mapping[int, tuple[int, int]]) -> bytes:
    for tag, value in fields.items():
        least, most = sizes[tag]
        if not least <= len(value) <= most:
            want = f"{least}" if least == most else f"{least} to {most}"
            raise ValueError(f"extension {tag} holds {want} bytes, got {len(value)}")
    return tlv.encode(fields)


def _decode(data: bytes, sizes: Mapping[int, tuple[int, int]]) -> dict[int, bytes]:
    fields = tlv.decode(data)
    for tag, (least, most) in sizes.items():
        value = fields.get(tag)
        if value is not None and not least <= len(value) <= most:
            raise WireError("tlv", got=len(value), need=least if len(value) < least else most)
    return fields


def _limits(value: bytes) -> Limits:
    packets_per_s, bytes_per_s, largest_datagram = _LIMIT_FIELDS.unpack(value)
    return Limits(
        packets_per_s=packets_per_s, bytes_per_s=bytes_per_s, largest_datagram=largest_datagram
    )


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise WireError("utf8") from None
