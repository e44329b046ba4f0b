"""How each kind of `wire_vectors.json` is answered here, and when another answer is better.

An answer is the fields that a vector of that kind records. Fields whose names begin with an
underscore are for the judge of that kind. Source: PROTOCOL.md; the vectors' own field names.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, Final

import attrs

from . import conformance_trace as trace
from . import control, header, telemetry
from .errors import WireError
from .fec import header as fec_header
from .fec.xor import XorDecoder, XorEncoder

Vector = dict[str, Any]
Fields = dict[str, Any]

# Per kind: the fields that are input, how we answer, and when another answer is better.
Answer = Callable[[Vector], Fields]
Judge = Callable[[Vector, Fields, list[str]], bool]
Kind = tuple[tuple[str, ...], Answer, Judge]

_MESSAGES: Final[dict[str, type[control.ControlMessage]]] = {
    "ping": control.Ping,
    "pong": control.Pong,
    "register": control.Register,
    "register_ack": control.RegisterAck,
    "disconnect": control.Disconnect,
    "server_info": control.ServerInfo,
    "probe": control.Probe,
    "probe_result": control.ProbeResult,
    "peers_request": control.PeersRequest,
    "peers": control.Peers,
    "rekey": control.Rekey,
}


# --- header.*, fecheader.*, packet.decode


def _header_fields(found: header.Header) -> Fields:
    return {
        "version": found.version,
        "flags": found.flags,
        "session_token": found.token,
        "sequence": found.sequence,
        "timestamp_us": found.timestamp_us,
        "src_ip": found.source[0],
        "src_port": found.source[1],
        "dst_ip": found.destination[0],
        "dst_port": found.destination[1],
    }


def error_fields(error: WireError) -> Fields:
    value = {"version": "version", "unknown": "type"}.get(error.reason, "got")
    return {"error": error.reason, value: error.got, "need": error.need}


def _header_decode(vector: Vector) -> Fields:
    try:
        return {"fields": _header_fields(header.decode(bytes.fromhex(vector["hex"])))}
    except WireError as error:
        return error_fields(error)


def _header_encode(vector: Vector) -> Fields:
    fields = vector["fields"]
    made = header.Header(
        version=fields["version"],
        flags=fields["flags"],
        token=fields["session_token"],
        sequence=fields["sequence"],
        timestamp_us=fields["timestamp_us"],
        source=(fields["src_ip"], fields["src_port"]),
        destination=(fields["dst_ip"], fields["dst_port"]),
    )
    return {"hex": made.encode().hex()}


def _header_response(vector: Vector) -> Fields:
    request = header.decode(bytes.fromhex(vector["request"]))
    answer = request.answer(sequence=vector["sequence"], timestamp_us=vector["timestamp_us"])
    return {"hex": answer.encode().hex()}


def _fecheader_decode(vector: Vector) -> Fields:
    try:
        return _fec_fields(fec_header.decode(bytes.fromhex(vector["hex"])))
    except WireError as error:
        return error_fields(error)


def _fec_fields(found: fec_header.FecHeader) -> Fields:
    return {
        "block": found.block,
        "index": found.index,
        "k": found.k,
        "parity": found.is_repair,
    }


def _fecheader_encode(vector: Vector) -> Fields:
    made = fec_header.FecHeader(vector["block"], vector["index"], vector["k"])
    return {"hex": made.encode().hex(), "parity": made.is_repair}


def _packet_decode(vector: Vector) -> Fields:
    data = bytes.fromhex(vector["hex"])
    got: Fields = {}
    try:
        found = header.decode(data)
        got["fields"] = _header_fields(found)
        at = header.HEADER_BYTES
        if found.version == header.VERSION_FEC:
            got |= _fec_fields(fec_header.decode(data[at:]))
            at += fec_header.FEC_BYTES
        else:
            got |= {"block": None, "index": None, "k": None, "parity": None}
        got["payload"] = data[at:].hex()
    except WireError as error:
        got |= error_fields(error)
    return got


# --- fec.block, fec.flush, fec.trace


def _protect(k: int, payloads: list[bytes]) -> tuple[XorEncoder, list[bytes], bytes | None]:
    """The encoder afterwards, the source bodies, and the repair body that came last."""
    encoder = XorEncoder(k)
    sources, last = [], None
    for payload in payloads:
        field, repair = encoder.protect(payload)
        sources.append(field + payload)
        last = repair or last
    return encoder, sources, last


def _recovered(sources: list[bytes], repair: bytes) -> str | None:
    """What a decoder that heard `sources`, then `repair`, adds to them."""
    decoder = XorDecoder()
    for source in sources:
        decoder.receive(source)
    return next((payload.hex() for payload in decoder.receive(repair)), None)


def _fec_block(vector: Vector) -> Fields:
    payloads = [bytes.fromhex(payload) for payload in vector["payloads"]]
    _, sources, repair = _protect(vector["k"], payloads)
    if repair is None:
        return {"parity": None, "parity_len": None}
    parity = repair[fec_header.FEC_BYTES :]
    places = range(len(sources))
    pairs = [
        _recovered([sources[i] for i in places if i not in lost], repair)
        for lost in itertools.combinations(places, 2)
    ]
    return {
        "parity": parity.hex(),
        "parity_len": len(parity),
        "losses": [
            {
                "lost": loss["lost"],
                "recovered": _recovered([sources[i] for i in places if i != loss["lost"]], repair),
            }
            for loss in vector.get("losses", ())
        ],
        "no_loss_recovers": _recovered(sources, repair),
        "two_losses_recover": next((found for found in pairs if found is not None), None),
    }


def _fec_flush(vector: Vector) -> Fields:
    encoder, _, _ = _protect(vector["k"], [bytes.fromhex(p) for p in vector["payloads"]])
    repair = encoder.flush()
    if repair is None:
        got: Fields = {"block": None, "actual_k": None, "parity": None}
    else:
        found = fec_header.decode(repair)
        parity = repair[fec_header.FEC_BYTES :].hex()
        got = {"block": found.block, "actual_k": found.k, "parity": parity}
    return got | {"next_block": encoder.block}


def _fec_trace(vector: Vector) -> Fields:
    done = trace.replay(vector["ops"])
    return {"out": done.answers, "_better": done.early, "_replay": done}


def _trace_is_better(vector: Vector, got: Fields, wrong: list[str]) -> bool:
    """Recovered earlier than recorded, else the same; or the fault that is marked, avoided."""
    if wrong == ["out"] and vector.get("quirk") is True:
        return trace.is_better(vector["ops"], got["_replay"], vector["out"])
    return not wrong and trace.is_true(vector["ops"], got["_replay"])


# --- control.*


def plain(record: Any) -> Fields:
    """A record as JSON has it: bytes as hex, tuples as lists."""
    return attrs.asdict(record, value_serializer=_plain_value)


def _plain_value(_record: object, _field: object, value: object) -> object:
    if isinstance(value, bytes):
        return value.hex()
    return list(value) if isinstance(value, tuple) else value


def _message_fields(message: control.ControlMessage, *, whole: bool = False) -> Fields:
    """With the extensions only where the vector records them: the original ignores those bytes."""
    fields = plain(message)
    if not whole:
        fields.pop("extensions", None)
    name = next(name for name, kind in _MESSAGES.items() if type(message) is kind)
    return {"type": name} | fields


def _message(fields: Fields) -> control.ControlMessage:
    values = dict(fields)
    kind = _MESSAGES[values.pop("type")]
    for name in ("key", "extensions"):
        if name in values:
            values[name] = bytes.fromhex(values[name])
    if "peers" in values:
        values["peers"] = tuple(
            control.Peer(**(peer | {"pin": bytes.fromhex(peer["pin"])})) for peer in values["peers"]
        )
    return kind(**values)


def _control_encode(vector: Vector) -> Fields:
    message = _message(vector["message"])
    try:
        body = control.encode(message)
    except ValueError:
        return {"error": "refused"}
    return {"hex": body.hex(), "framed": control.frame(body).hex()}


def _refuses_long_string(vector: Vector, got: Fields, wrong: list[str]) -> bool:
    """The original cuts a string of over 255 bytes, which can end it inside a character."""
    strings = [v for v in vector["message"].values() if isinstance(v, str)]
    return (
        vector.get("quirk") is True
        and got.get("error") == "refused"
        and any(len(text.encode()) > control.LARGEST_STRING for text in strings)
    )


def _control_decode(vector: Vector) -> Fields:
    whole = "extensions" in vector.get("message", ())
    try:
        found = control.decode(bytes.fromhex(vector["hex"]))
        return {"message": _message_fields(found, whole=whole)}
    except WireError as error:
        return error_fields(error)


def _control_frames(vector: Vector) -> Fields:
    reader = control.FrameReader()
    messages: list[Fields] = []
    end = "eof"
    for item in reader.feed(bytes.fromhex(vector["hex"])):
        if isinstance(item, WireError):
            end = item.reason
        else:
            messages.append(_message_fields(item))
    try:
        reader.finish()
    except WireError:
        end = "io"
    return {"messages": messages, "end": end}


# --- telemetry.parse


def _telemetry(vector: Vector) -> Fields:
    try:
        event = telemetry.parse(vector["json"])
    except WireError as error:
        return {"object": None, "error": error.reason, "valid": None}
    return {
        "object": attrs.asdict(event),
        "error": None,
        "valid": telemetry.check(event) is None,
        "_event": event,
    }


def _telemetry_is_better(vector: Vector, got: Fields, wrong: list[str]) -> bool:
    """We refuse a country that is not two letters; the original counts its bytes only."""
    if vector.get("quirk") is not True or wrong != ["valid"] or vector["valid"] is not True:
        return False
    event: telemetry.TelemetryEvent = got["_event"]
    return (
        len(event.client_country.encode()) <= 2
        and telemetry.check(attrs.evolve(event, client_country="")) is None
    )


def never(vector: Vector, got: Fields, wrong: list[str]) -> bool:
    return False


KINDS: Final[dict[str, Kind]] = {
    "header.decode": (("hex",), _header_decode, never),
    "header.encode": (("fields",), _header_encode, never),
    "header.response": (("request", "sequence", "timestamp_us"), _header_response, never),
    "fecheader.decode": (("hex",), _fecheader_decode, never),
    "fecheader.encode": (("block", "index", "k"), _fecheader_encode, never),
    "packet.decode": (("hex",), _packet_decode, never),
    "fec.block": (("k", "payloads"), _fec_block, never),
    "fec.flush": (("k", "payloads"), _fec_flush, never),
    "fec.trace": (("ops",), _fec_trace, _trace_is_better),
    "control.encode": (("message",), _control_encode, _refuses_long_string),
    "control.decode": (("hex",), _control_decode, never),
    "control.frames": (("hex",), _control_frames, never),
    "telemetry.parse": (("json",), _telemetry, _telemetry_is_better),
}
