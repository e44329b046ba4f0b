"""Replays a recorded decoder trace, and judges answers that differ from the recorded ones.

A trace is a list of operations with one answer each: `rx` (a packet arrives: the payload
handed on, or null), `try` (attempt a block now: the payload recovered, or null), `gc` (null) and
`stat` (open blocks, recovered, failures). The recorded decoder attempts recovery only when a
repair packet arrives or at `try`; ours on every arrival. So ours may hand on a payload early, and
when the recorded one catches up the two are even again. The judge adds up packets byte by byte on
its own, so that the codec does not vouch for itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import attrs

from .errors import WireError
from .fec import header
from .fec.xor import XorDecoder

Answer = str | list[int] | None


@attrs.frozen
class Packet:
    """One body that arrived, as far as its FEC field can be read."""

    block: int
    index: int
    k: int
    payload: bytes


@attrs.define
class Replay:
    """What our decoder did: the answers in the trace's form, and every payload per operation."""

    answers: list[Answer] = attrs.field(factory=list)
    delivered: list[tuple[int, list[bytes]]] = attrs.field(factory=list)  # block, payloads
    early: bool = False  # something was recovered before the recorded decoder would try


def replay(ops: Sequence[Sequence[object]]) -> Replay:
    """Run the operations. Raises `ValueError` for one that is not known."""
    decoder = XorDecoder()
    done = Replay()
    held: list[tuple[int, bytes]] = []  # recovered early, not yet answered with
    came_late = 0  # of those: answered when the packet itself arrived after all
    failed = 0  # repair packets that could not help when they arrived
    for op in ops:
        match op:
            case ["rx", str(text)]:
                body = bytes.fromhex(text)
                packet = read(body)
                failures = decoder.failures
                try:
                    payloads = decoder.receive(body)
                except WireError:
                    payloads = []
                failed += max(0, decoder.failures - failures)
                block = -1 if packet is None else packet.block
                done.delivered.append((block, payloads))
                answer = payloads[0] if payloads else None
                if packet is not None and packet.index < packet.k:
                    held += [(block, payload) for payload in payloads[1:]]
                    if answer is None and (block, packet.payload) in held:
                        held.remove((block, packet.payload))
                        came_late += 1
                        answer = packet.payload
                done.early |= len(payloads) > 1
                done.answers.append(None if answer is None else answer.hex())
            case ["try", int(block)]:
                waiting = next((pair for pair in held if pair[0] == block), None)
                if waiting is not None:
                    held.remove(waiting)
                done.answers.append(None if waiting is None else waiting[1].hex())
                done.delivered.append((block, []))
            case ["gc"]:
                done.answers.append(None)
                done.delivered.append((-1, []))
            case ["stat"]:
                done.answers.append(
                    [
                        decoder.open_blocks + len(held),
                        decoder.recovered - len(held) - came_late,
                        failed,
                    ]
                )
                done.delivered.append((-1, []))
            case _:
                raise ValueError(f"unknown operation {op!r:.60}")
    return done


def is_true(ops: Sequence[Sequence[object]], done: Replay) -> bool:
    """Whether all we handed on was sent, nothing twice, and each source packet by its arrival."""
    packets = [_packet(op) for op in ops]
    sent = _sent(packets)
    ours: dict[int, Counter[bytes]] = {}
    for packet, (block, payloads) in zip(packets, done.delivered, strict=True):
        ours.setdefault(block, Counter()).update(payloads)
        if (
            packet is not None
            and packet.index < packet.k
            and not ours[packet.block][packet.payload]
        ):
            return False
    return all(counts <= Counter(p for _, p in sent.get(b, ())) for b, counts in ours.items())


def is_better(ops: Sequence[Sequence[object]], done: Replay, want: Sequence[Answer]) -> bool:
    """Whether ours is true and holds all that is true in the recorded answers.

    Each recorded answer must also be one that a decoder with the known faults can give: a
    packet that arrived, a recovery, or a repair added to the wrong set of packets.
    """
    if len(want) != len(ops) or not is_true(ops, done):
        return False
    packets = [_packet(op) for op in ops]
    sent = _sent(packets)
    ours: dict[int, set[bytes]] = {}
    differed = False
    for at, (op, answer) in enumerate(zip(ops, want, strict=True)):
        packet, (block, payloads) = packets[at], done.delivered[at]
        ours.setdefault(block, set()).update(payloads)
        differs = done.answers[at] != answer
        if op[0] in ("stat", "gc"):
            if differs and (op[0] == "gc" or not differed or not isinstance(answer, list)):
                return False
            continue
        differed |= differs
        if answer is None:
            continue
        if not isinstance(answer, str) or (op[0] == "rx" and packet is None):
            return False
        payload = bytes.fromhex(answer)
        if packet is not None and packet.index < packet.k:
            if payload != packet.payload:
                return False
        elif any(payload == p for _, p in sent.get(block, ())):
            if payload not in ours[block]:
                return False
        elif payload not in _wrong_sums(packets[: at + 1], block):
            return False
    return True


def read(body: bytes) -> Packet | None:
    """The packet in `body`; None where its FEC field cannot be read."""
    try:
        field = header.decode(body)
    except WireError:
        return None
    return Packet(field.block, field.index, field.k, body[header.FEC_BYTES :])


def _packet(op: Sequence[object]) -> Packet | None:
    return read(bytes.fromhex(str(op[1]))) if op[0] == "rx" else None


def _sent(packets: Iterable[Packet | None]) -> dict[int, set[tuple[int, bytes]]]:
    """Per block: (index, payload) of what arrived, and of what its repair packets prove."""
    known = [packet for packet in packets if packet is not None]
    sources: dict[int, set[tuple[int, bytes]]] = {}
    for packet in known:
        if packet.index < packet.k:
            sources.setdefault(packet.block, set()).add((packet.index, packet.payload))
    sent = {block: set(pairs) for block, pairs in sources.items()}
    for repair in known:
        if repair.index != repair.k:
            continue
        pairs = [p for p in sources.get(repair.block, ()) if p[0] < repair.k]
        rows = dict(pairs)
        if len(rows) != len(pairs):
            continue  # two packets in one place: nothing can be proved
        for index in range(repair.k):
            others = [row for place, row in rows.items() if place != index]
            rebuilt = _add(repair.payload, others) if len(others) == repair.k - 1 else None
            if rebuilt is not None and rows.get(index, rebuilt) == rebuilt:
                sent.setdefault(repair.block, set()).add((index, rebuilt))
    return sent


def _wrong_sums(packets: Sequence[Packet | None], block: int) -> set[bytes]:
    """What a decoder makes of a repair packet when it takes the wrong packets for its block."""
    mine = [packet for packet in packets if packet is not None and packet.block == block]
    rows = [packet for packet in mine if packet.index < packet.k]
    choices = [
        [packet.payload for packet in rows],
        [packet.payload for packet in rows if packet.k == rows[0].k],
        list({packet.index: packet.payload for packet in rows}.values()),
        list({packet.index: packet.payload for packet in reversed(rows)}.values()),
    ]
    repairs = [packet.payload for packet in mine if packet.index >= packet.k]
    sums = (_add(repair, choice, trusting=True) for repair in repairs for choice in choices)
    return {payload for payload in sums if payload is not None}


def _add(repair: bytes, rows: Iterable[bytes], *, trusting: bool = False) -> bytes | None:
    """The payload that makes the sum whole; None where no payload does.

    `trusting` believes the length without looking at what lies beyond it.
    """
    if len(repair) < 2:
        return None
    total = bytearray(repair[:-2])
    length = repair[-2] << 8 | repair[-1]
    for row in rows:
        if len(row) > len(total) and not trusting:
            return None
        length ^= len(row)
        for at, byte in enumerate(row[: len(total)]):
            total[at] ^= byte
    if length > len(total) or (any(total[length:]) and not trusting):
        return None
    return bytes(total[:length])
