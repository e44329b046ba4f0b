"""Asks a game server for a sign of life: the question's bytes, and what counts as its answer.

Source: A2S_INFO and its challenge, Valve developer wiki "Server queries"; Quake 3 and
DarkPlaces out-of-band `getinfo`; RakNet unconnected ping (0x01, answered by 0x1c); Teeworlds
0.6 connless `gie3`; Luanti's network protocol, an empty "original" packet to get a peer id.
"""

from __future__ import annotations

from typing import Final

_OOB: Final = b"\xff\xff\xff\xff"
_A2S_INFO: Final = _OOB + b"TSource Engine Query\0"
_RAKNET_MAGIC: Final = bytes.fromhex("00ffff00fefefefefdfdfdfd12345678")
_TEEWORLDS: Final = b"\xff" * 6 + _OOB
_LUANTI: Final = bytes.fromhex("4f457403")

HELLO: Final = b"LightSpeed test: hello\n"  # for an echo server; no game answers it

# For a server of which nothing is known, in this order.
EVERY_KIND: Final = ("quake3", "a2s", "raknet", "teeworlds", "luanti", "none")


def question(kind: str) -> bytes:
    """The datagram to send; `HELLO` for a game without a known query."""
    match kind:
        case "a2s":
            return _A2S_INFO
        case "quake3":
            return _OOB + b"getinfo lightspeed\n"
        case "raknet":
            return b"\x01" + bytes(8) + _RAKNET_MAGIC + bytes(8)
        case "teeworlds":
            return _TEEWORLDS + b"gie3\0"
        case "luanti":
            return _LUANTI + b"\0\0\0\x01"
        case _:
            return HELLO


def is_answer(kind: str, datagram: bytes) -> bool:
    """Whether this is what a server of that kind says to `question`."""
    match kind:
        case "a2s":
            return datagram[:5] in (_OOB + b"I", _OOB + b"A") or datagram[:4] == b"\xfe\xff\xff\xff"
        case "quake3":
            return datagram.startswith((_OOB + b"infoResponse", _OOB + b"statusResponse"))
        case "raknet":
            return datagram[:1] == b"\x1c" and _RAKNET_MAGIC in datagram[:40]
        case "teeworlds":
            return datagram.startswith(_TEEWORLDS + b"inf3")
        case "luanti":
            return datagram.startswith(_LUANTI)
        case _:
            return datagram == HELLO


def recognise(datagram: bytes) -> str | None:
    """The kind whose answer this is; "none" is an echo of `HELLO`."""
    return next((kind for kind in EVERY_KIND if is_answer(kind, datagram)), None)


def goodbye(kind: str, answer: bytes) -> bytes | None:
    """What ends what the question began: Luanti counts a peer until told."""
    if kind == "luanti" and len(answer) >= 14:
        return _LUANTI + answer[12:14] + b"\0\0\x03"
    return None
