"""Nothing wrong and nothing twice: packets out of order, duplicated and lost, plans that change.

A packet or repair is lost by itself, comes later than 1 to 12 that were sent after it, or comes
twice, the second time up to 12 later. Contents are compared byte by byte.
"""

from __future__ import annotations

import heapq
import random
from typing import Final

import attrs
from lightspeed_protocol.fec.window import Plan, WindowDecoder, WindowEncoder
from lightspeed_protocol.fec.window_encoder import Repair

LOST: Final = 0.05
REORDERED: Final = 0.02
DUPLICATED: Final = 0.01
FURTHEST: Final = 12  # datagrams
FIRST_SSN: Final = 65_000  # near the wrap
EACH: Final = 500  # packets with one plan
PLANS: Final = (
    Plan(2, 4),
    Plan(1, 4),
    Plan(4, 4),
    Plan.xor(4),
    Plan(2, 2, stride=3),
    Plan(1, 1, delay=3),
    Plan(1, 13),
    Plan(8, 9),
)
_TAIL: Final = random.Random(1).randbytes(1024)


@attrs.define
class Deliveries:
    """What came out of the decoder."""

    packets: int  # sent
    delivered: int = 0
    recovered: int = 0
    wrong: int = 0  # not what was sent
    twice: int = 0
    held_back: int = 0  # came, and were delivered neither then nor before
    _known: bytearray = attrs.field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self._known = bytearray(self.packets)

    def take(self, payloads: list[bytes], came: int | None) -> None:
        """Handed to the game; `came` is the number of the source packet this happened at."""
        for payload in payloads:
            number = int.from_bytes(payload[:4], "big")
            if number >= self.packets or payload != content(number):
                self.wrong += 1
                continue
            self.delivered += 1
            self.recovered += number != came
            self.twice += self._known[number]
            self._known[number] = 1
        if came is not None:
            self.held_back += not self._known[came]


def content(number: int) -> bytes:
    """4 to 503 bytes that tell their number."""
    size, begin = number * 7919 % 500, number * 31 % 509
    return number.to_bytes(4, "big") + _TAIL[begin : begin + size]


def order(packets: int, seed: object) -> Deliveries:
    """So many packets through one encoder and one decoder."""
    rng = random.Random(f"{seed} order")
    encoder = WindowEncoder(PLANS[0], first_ssn=FIRST_SSN)
    decoder = WindowDecoder(from_start=True)
    result = Deliveries(packets)
    coming: list[tuple[int, int, int | None, Repair]] = []  # when, tie, number if a source packet
    clock = 0

    def send(number: int | None, datagram: Repair) -> None:
        nonlocal clock
        clock += 1
        if rng.random() < LOST:
            return
        later = rng.randint(1, FURTHEST) if rng.random() < REORDERED else 0
        heapq.heappush(coming, (clock + later, clock, number, datagram))
        if rng.random() < DUPLICATED:
            again = clock + later + rng.randint(0, FURTHEST)
            heapq.heappush(coming, (again, -clock, number, datagram))

    def receive(until: int) -> None:
        while coming and coming[0][0] <= until:
            _, _, number, (field, body) = heapq.heappop(coming)
            if number is None:
                result.take(decoder.repair(field, body), None)
            else:
                result.take(decoder.source(int.from_bytes(field[2:], "big"), body), number)

    for number in range(packets):
        if number % EACH == 0:
            encoder.plan = PLANS[number // EACH % len(PLANS)]
        payload = content(number)
        field, repairs = encoder.protect(payload)
        send(number, (field, payload))
        for repair in repairs:
            send(None, repair)
        receive(clock)
    receive(clock + 2 * FURTHEST)
    return result
