"""The window code done slowly, to compare with, and a network to send it through."""

from __future__ import annotations

import functools
import random
from collections.abc import Iterable, Sequence

import attrs
from lightspeed_protocol.fec import gf256
from lightspeed_protocol.fec.window import WindowDecoder, WindowEncoder
from lightspeed_protocol.fec.window_plan import GF256, RepairHead


@functools.cache
def multiply(a: int, b: int) -> int:
    """In GF(2^8) modulo 0x11D, bit by bit."""
    product = 0
    for bit in range(8):
        if b >> bit & 1:
            product ^= a << bit
    for bit in range(14, 7, -1):
        if product >> bit & 1:
            product ^= 0x11D << bit - 8
    return product


@functools.cache
def inverse(a: int) -> int:
    """The one element that gives 1 when multiplied by `a`."""
    return next(b for b in range(256) if multiply(a, b) == 1)


def coefficient(key: int, ssn: int) -> int:
    """1 / ((key & 127) XOR (128 | ssn & 127))."""
    return inverse((key & 127) ^ (128 | ssn & 127))


def rank(matrix: list[list[int]]) -> int:
    """Of rows of coefficients. Leaves the matrix in pieces."""
    found = 0
    for column in range(len(matrix[0])):
        at = next((i for i in range(found, len(matrix)) if matrix[i][column]), None)
        if at is None:
            continue
        matrix[found], matrix[at] = matrix[at], matrix[found]
        scale = gf256.PRODUCTS[gf256.INVERSES[matrix[found][column]]]
        own = [scale[x] for x in matrix[found]]
        for i in range(found + 1, len(matrix)):
            by = gf256.PRODUCTS[matrix[i][column]]
            matrix[i] = [x ^ by[y] for x, y in zip(matrix[i], own, strict=True)]
        found += 1
    return found


def symbol(head: RepairHead, payloads: Sequence[bytes]) -> bytes:
    """The symbol over `payloads`, the newest first."""
    total = bytearray(2 + max(map(len, payloads)))
    for back, payload in enumerate(payloads):
        ssn = head.newest - back * head.stride
        factor = coefficient(head.key, ssn) if head.field == GF256 else 1
        for i, byte in enumerate(len(payload).to_bytes(2, "big") + payload):
            total[i] ^= multiply(factor, byte)
    return bytes(total)


def repair(head: RepairHead, payloads: Sequence[bytes]) -> tuple[bytes, bytes]:
    """A repair packet, FEC field and body; what it covers is given the newest first."""
    field, begin = head.encode()
    return field, begin + symbol(head, payloads)


@attrs.frozen
class Packet:
    """What crosses the network: `payload` only of a source packet."""

    field: bytes
    body: bytes
    is_repair: bool = False

    @property
    def ssn(self) -> int:
        return int.from_bytes(self.field[2:], "big")


def sent(encoder: WindowEncoder, payload: bytes) -> list[Packet]:
    """The packets that leave for one payload, in that order."""
    field, repairs = encoder.protect(payload)
    return [Packet(field, payload), *(Packet(f, body, True) for f, body in repairs)]


def receive(decoder: WindowDecoder, packet: Packet) -> list[bytes]:
    if packet.is_repair:
        return decoder.repair(packet.field, packet.body)
    return decoder.source(packet.ssn, packet.body)


def receive_all(decoder: WindowDecoder, packets: Iterable[Packet]) -> list[bytes]:
    return [payload for packet in packets for payload in receive(decoder, packet)]


@attrs.define(eq=False)
class Network:
    """Loses, reorders and copies. `delay` is in packets."""

    rng: random.Random
    loss: float = 0.0
    reordering: float = 0.0
    duplication: float = 0.0
    delay: float = 20.0
    _on_the_way: list[tuple[float, int, Packet]] = attrs.field(factory=list, init=False)

    def carry(self, packet: Packet) -> None:
        at = len(self._on_the_way)
        for _ in range(2 if self.rng.random() < self.duplication else 1):
            if self.rng.random() >= self.loss:
                late = self.rng.random() * self.delay if self.rng.random() < self.reordering else 0
                self._on_the_way.append((at + late, len(self._on_the_way), packet))

    def arriving(self) -> list[Packet]:
        """All of them, in the order of their arrival."""
        return [packet for _, _, packet in sorted(self._on_the_way, key=lambda entry: entry[:2])]
