"""How the kinds of `sealed_vectors.json` are answered here: seal, TLVs, invites, Retry token.

These are our own inventions, recorded from PROTOCOL.md by a program that shares no code with this
one, so no other answer is ever "better". Source: PROTOCOL.md; the vectors' own field names.
"""

from __future__ import annotations

import struct
from ipaddress import ip_address
from typing import Any, Final

from . import extensions, tlv
from .conformance_kinds import Fields, Kind, Vector, error_fields, never, plain
from .conformance_repair import protection, protection_fields
from .cookie import RetryCookies
from .errors import WireError
from .invite import Invite
from .seal import VERSION_SEALED, VERSION_SEALED6, SealedEnd, direction_keys

_PORTS: Final = struct.Struct("!HH")


# --- seal.*


def _seal_keys(vector: Vector) -> Fields:
    up, down = direction_keys(bytes.fromhex(vector["session_key"]), vector["session_id"])
    return {"up": up.hex(), "down": down.hex()}


def _ends(vector: Vector) -> tuple[SealedEnd, SealedEnd]:
    """Who seals in the vector's direction, and who opens."""
    key, session = bytes.fromhex(vector["session_key"]), vector["session_id"]
    client, node = SealedEnd.client(session, key), SealedEnd.node(session, key)
    return {"up": (client, node), "down": (node, client)}[vector["direction"]]


def _seal_packet(vector: Vector) -> Fields:
    """Sealed as recorded, and the recorded bytes opened again."""
    fields = vector["fields"]
    source, destination = ip_address(fields["src_ip"]), ip_address(fields["dst_ip"])
    addresses = source.packed + destination.packed
    addresses += _PORTS.pack(fields["src_port"], fields["dst_port"])
    version = VERSION_SEALED if source.version == 4 else VERSION_SEALED6
    sender, receiver = _ends(vector)
    sender.sealer.number, sender.sealer.path = fields["number"], fields["path"]
    made = sender.sealer.seal(
        version << 4 | fields["flags"],
        fields["timestamp_us"],
        addresses,
        bytes.fromhex(fields["fec_field"]),
        bytes.fromhex(fields["payload"]),
    )
    receiver.opener.highest = fields["number"] - 1  # as if it had heard all before
    found = receiver.open(bytes.fromhex(vector["hex"]), 0.0)
    read = {
        "flags": found.flags,
        "number": found.number,
        "timestamp_us": found.timestamp_us,
        "fec_field": found.fec_field.hex(),
        "payload": found.payload.hex(),
    }
    wrong = {name: value for name, value in read.items() if fields[name] != value}
    if found.addresses != addresses:
        wrong["addresses"] = found.addresses.hex()
    return {"hex": made.hex(), "error": f"read as {wrong}" if wrong else None}


def _seal_open(vector: Vector) -> Fields:
    """One answer for each operation: a packet's whole number, why it was refused, or null."""
    _, receiver = _ends(vector)
    now = 0.0
    out: list[int | str | None] = []
    for op in vector["ops"]:
        match op:
            case str():
                try:
                    out.append(receiver.open(bytes.fromhex(op), now).number)
                except WireError as error:
                    out.append(error.reason)
            case {"key": key}:
                receiver.rekey(bytes.fromhex(key), now)
                out.append(None)
            case {"wait": seconds}:
                now += seconds
                out.append(None)
            case _:
                raise ValueError(f"unknown operation {op!r:.60}")
    return {"out": out}


# --- tlv, extensions.*


def _tlv(vector: Vector) -> Fields:
    raw = bytes.fromhex(vector["hex"])
    try:
        fields = tlv.decode(raw)
    except WireError as error:
        return error_fields(error)
    again = tlv.encode(fields)
    return {
        "fields": [[tag, value.hex()] for tag, value in fields.items()],
        "error": None if again == raw else f"written as {again.hex()}",
    }


def _extensions_encode(vector: Vector) -> Fields:
    fields = dict(vector["fields"])
    for name in ("credential", "resume", "key"):
        if fields.get(name) is not None:
            fields[name] = bytes.fromhex(fields[name])
    if fields.get("protection") is not None:
        fields["protection"] = protection(fields["protection"])
    if fields.get("limits") is not None:
        fields["limits"] = extensions.Limits(**fields["limits"])
    match vector["of"]:
        case "register":
            made = extensions.encode_register(extensions.RegisterExtensions(**fields))
        case "ack":
            made = extensions.encode_ack(extensions.AckExtensions(**fields))
        case "refusal":
            made = extensions.encode_refusal(extensions.Refusal(**fields))
        case other:
            raise ValueError(f"extensions of {other!r:.20}")
    return {"hex": made.hex()}


def _extensions_decode(vector: Vector) -> Fields:
    decode: Any = {
        "register": extensions.decode_register,
        "ack": extensions.decode_ack,
        "refusal": extensions.decode_refusal,
    }[vector["of"]]
    try:
        ext = decode(bytes.fromhex(vector["hex"]))
    except WireError as error:
        return error_fields(error)
    fields = plain(ext)
    if isinstance(ext, extensions.RegisterExtensions):  # what came later is named where it is said
        if ext.reports_ms is None:
            del fields["reports_ms"]
        del fields["protection"]
        if ext.protection is not None:
            fields["protection"] = protection_fields(ext.protection)
    return {"fields": fields}


# --- invite.*, retry.token


def _invite_encode(vector: Vector) -> Fields:
    fields = vector["fields"]
    token = fields["token"]
    made = Invite(
        fields["host"],
        fields["port"],
        bytes.fromhex(fields["pin"]),
        None if token is None else bytes.fromhex(token),
        fields["name"],
    )
    return {"line": str(made)}


def _invite_decode(vector: Vector) -> Fields:
    try:
        return {"fields": plain(Invite.parse(vector["line"]))}
    except ValueError:
        return {"error": "refused"}


def _retry_token(vector: Vector) -> Fields:
    """Made as recorded, and the recorded one accepted."""
    secret = bytes.fromhex(vector["secret"])
    cookies = RetryCookies(random=lambda _: secret)
    address, now = (vector["ip"], vector["port"]), float(vector["seconds"])
    ids = bytes.fromhex(vector["original_cid"]), bytes.fromhex(vector["retry_cid"])
    made = cookies.make(address, *ids, now)
    found = cookies.check(bytes.fromhex(vector["hex"]), address, now)
    return {"hex": made.hex(), "error": None if found == ids else "not accepted"}


_SEAL: Final = ("session_key", "session_id")

KINDS: Final[dict[str, Kind]] = {
    "seal.keys": (_SEAL, _seal_keys, never),
    "seal.packet": ((*_SEAL, "direction", "fields"), _seal_packet, never),
    "seal.open": ((*_SEAL, "direction", "ops"), _seal_open, never),
    "tlv": (("hex",), _tlv, never),
    "extensions.encode": (("of", "fields"), _extensions_encode, never),
    "extensions.decode": (("of", "hex"), _extensions_decode, never),
    "invite.encode": (("fields",), _invite_encode, never),
    "invite.decode": (("line",), _invite_decode, never),
    "retry.token": (
        ("secret", "seconds", "original_cid", "retry_cid", "ip", "port"),
        _retry_token,
        never,
    ),
}
