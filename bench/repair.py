"""What loss repair costs the processor: microseconds a game packet, to make and to use repairs.

The window code with one repair per two packets, XOR blocks with as many repairs and with half,
and Reed-Solomon from `zfec`, written in C, in blocks of 4 with 2 repairs: as many bytes as the
window. Payloads of 100 bytes, 5 % of everything lost. All do the same: number packets, remember
what they need, pad, and give back payloads; `zfec` gets the least of that which works.
"""

from __future__ import annotations

import importlib
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from lightspeed_protocol.fec.window import Plan, WindowDecoder, WindowEncoder
from lightspeed_protocol.fec.xor import XorDecoder, XorEncoder

PAYLOAD_BYTES: Final = 100
AT_A_TIME: Final = 4000  # packets in a round, some tens of milliseconds
LOSS: Final = 0.05
K, M = 4, 6  # of Reed-Solomon

Payloads = list[bytes]
Encode = Callable[[Payloads], list[Any]]  # all datagrams in the order of sending
Decode = Callable[[list[Any]], int]  # payloads delivered


def _window(plan: Plan) -> tuple[Encode, Decode]:
    def encode(payloads: Payloads) -> list[tuple[bytes, bytes]]:
        encoder = WindowEncoder(plan)
        sent: list[tuple[bytes, bytes]] = []
        for payload in payloads:
            field, repairs = encoder.protect(payload)
            sent.append((field, payload))
            sent += repairs
        return sent

    def decode(came: list[tuple[bytes, bytes]]) -> int:
        decoder = WindowDecoder(from_start=True)
        delivered = 0
        for field, body in came:
            if field[0]:
                delivered += len(decoder.repair(field, body))
            else:
                delivered += len(decoder.source(int.from_bytes(field[2:], "big"), body))
        return delivered

    return encode, decode


def _xor(k: int) -> tuple[Encode, Decode]:
    def encode(payloads: Payloads) -> list[bytes]:
        encoder = XorEncoder(k)
        sent: list[bytes] = []
        for payload in payloads:
            field, repair = encoder.protect(payload)
            sent.append(field + payload)
            if repair is not None:
                sent.append(repair)
        return sent

    def decode(came: list[bytes]) -> int:
        decoder = XorDecoder()
        return sum(len(decoder.receive(body)) for body in came)

    return encode, decode


def _reed_solomon() -> tuple[Encode, Decode] | None:
    """None where `zfec` is not installed."""
    try:
        zfec: Any = importlib.import_module("zfec")
    except ImportError:
        return None

    def encode(payloads: Payloads) -> list[tuple[int, int, bytes]]:
        encoder = zfec.Encoder(K, M)
        sent: list[tuple[int, int, bytes]] = []
        for begin in range(0, len(payloads), K):
            block = payloads[begin : begin + K]
            sent += ((begin, index, payload) for index, payload in enumerate(block))
            size = max(map(len, block)) + 2
            symbols = [_symbol(payload, size) for payload in block]
            repairs = encoder.encode(symbols, range(K, M))
            sent += ((begin, index, repair) for index, repair in enumerate(repairs, K))
        return sent

    def decode(came: list[tuple[int, int, bytes]]) -> int:
        decoder = zfec.Decoder(K, M)
        blocks: dict[int, dict[int, bytes]] = {}
        delivered = 0
        for begin, index, body in came:
            block = blocks.setdefault(begin, {})
            block[index] = body
            delivered += index < K
            missing = K - sum(index < K for index in block)
            if missing and index >= K and len(block) == K:
                size = len(body)
                shares = [_symbol(part, size) if at < K else part for at, part in block.items()]
                found = decoder.decode(shares, list(block))
                for at in range(K):
                    if at not in block:
                        end = 2 + int.from_bytes(found[at][:2], "big")
                        block[at] = found[at][2:end]
                        delivered += 1
            blocks.pop(begin - 16 * K, None)
        return delivered

    return encode, decode


def _symbol(payload: bytes, size: int) -> bytes:
    return (len(payload).to_bytes(2, "big") + payload).ljust(size, b"\0")


def repair(_directory: Path, seconds: float) -> dict[str, Any]:
    """All in turn, so that they share what else the machine does; the best round of each."""
    subjects = {
        "window": _window(Plan(2, 4)),
        "xor_2": _xor(2),
        "xor_4": _xor(4),
        "zfec": _reed_solomon(),
    }
    rng = random.Random(1)
    payloads = [rng.randbytes(PAYLOAD_BYTES) for _ in range(AT_A_TIME)]
    results: dict[str, Any] = {}
    for _ in range(max(int(10 * seconds), 3)):
        for name, ends in subjects.items():
            if ends is None:
                continue
            encode, decode = ends
            began = time.perf_counter()
            sent = encode(payloads)
            encoded = time.perf_counter()
            came = [each for each in sent if rng.random() >= LOSS]
            lost = time.perf_counter()
            delivered = decode(came)
            decoded = time.perf_counter()
            took = {"encode_us": encoded - began, "decode_us": decoded - lost}
            row = results.setdefault(name, {"delivered": 0, "rounds": 0})
            row["delivered"] += delivered
            row["rounds"] += 1
            for figure, one in took.items():
                row[figure] = min(row.get(figure, one), one)
    return {name: _row(row) for name, row in results.items()}


def _row(row: dict[str, Any]) -> dict[str, float]:
    encode_us, decode_us = (row[name] / AT_A_TIME * 1e6 for name in ("encode_us", "decode_us"))
    left = 1 - row["delivered"] / row["rounds"] / AT_A_TIME
    return {
        "encode_us": round(encode_us, 2),
        "decode_us": round(decode_us, 2),
        "both_us": round(encode_us + decode_us, 2),
        "left_percent": round(100 * left, 3),
    }
