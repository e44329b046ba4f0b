"""Traces of a decoder that recovers later than ours, or wrongly, against ours."""

from __future__ import annotations

from typing import Any

import pytest
from lightspeed_protocol.conformance import check
from lightspeed_protocol.fec.header import FecHeader
from lightspeed_protocol.fec.xor import XorEncoder

A, B, C, D = b"alpha", b"beta", b"gamma!", b"d"
a, b, c, d = (payload.hex() for payload in (A, B, C, D))
Op = list[Any]


def data(block: int, index: int, k: int, payload: bytes) -> Op:
    return ["rx", (FecHeader(block, index, k).encode() + payload).hex()]


def parity(block: int, payloads: list[bytes], k: int | None = None) -> Op:
    """The repair packet of these, naming `k` (else their count)."""
    encoder = XorEncoder(16)
    for payload in payloads:
        encoder.protect(payload)
    body = encoder.flush()
    assert body is not None
    named = len(payloads) if k is None else k
    return ["rx", (FecHeader(block, named, named).encode() + body[4:]).hex()]


def outcome(ops: list[Op], out: list[Any], *, quirk: bool = False) -> str:
    one = {"id": "x", "kind": "fec.trace", "ops": ops, "out": out}
    return check(one | {"quirk": True} if quirk else one).outcome


P2 = parity(9, [A, B])
A2, B2 = data(9, 0, 2, A), data(9, 1, 2, B)


def test_the_recorded_decoder_caught_up_by_trying() -> None:
    ops = [P2, A2, ["try", 9], ["try", 9], ["stat"]]
    assert outcome(ops, [None, a, b, None, [0, 1, 1]]) == "better"
    assert outcome(ops, [None, a, a, None, [0, 1, 1]]) == "mismatch"
    assert outcome(ops, [None, a, None, None, [0, 1, 1]]) == "mismatch"
    assert outcome(ops, [b, a, None, None, [0, 1, 1]]) == "mismatch"


def test_the_recorded_decoder_never_tried() -> None:
    assert outcome([P2, A2, ["stat"]], [None, a, [1, 0, 1]]) == "better"
    assert outcome([P2, A2, ["stat"]], [None, a, [1, 1, 1]]) == "mismatch"


def test_the_packet_itself_came_after_its_early_recovery() -> None:
    assert outcome([P2, A2, B2], [None, a, b]) == "better"
    assert outcome([P2, A2, B2], [None, a, None]) == "mismatch"
    assert outcome([P2, A2, B2, B2], [None, a, b, b]) == "mismatch"
    assert outcome([P2, A2, B2, B2], [None, a, b, b], quirk=True) == "better"


def test_a_copy_delivered_twice_is_a_fault() -> None:
    assert outcome([A2, A2], [a, a], quirk=True) == "better"
    assert outcome([A2, A2], [a, a]) == "mismatch"
    assert outcome([A2, A2], [a, None]) == "ok"
    assert outcome([A2, A2], [a, b], quirk=True) == "mismatch"


def test_a_phantom_is_a_fault_and_a_missing_recovery_is_not_better() -> None:
    flushed = [data(3, 0, 4, A), data(3, 1, 4, B), parity(3, [A, B])]
    assert outcome(flushed, [a, b, ""], quirk=True) == "better"
    assert outcome(flushed, [a, b, None]) == "ok"
    assert outcome(flushed, [a, b, "77"], quirk=True) == "mismatch"

    lost = [data(3, 0, 4, A), parity(3, [A, B])]
    assert outcome(lost, [a, None], quirk=True) == "better"  # the original finds nothing here
    assert outcome(lost, [a, b]) == "ok"
    stale = [data(3, 0, 2, A), data(200, 0, 2, C), parity(3, [A, B])]
    assert outcome(stale, [a, c, b], quirk=True) == "mismatch"  # ours has let go of it


def test_a_wrong_sum_is_a_fault() -> None:
    mixed = [data(3, 0, 2, A), data(3, 0, 2, D), parity(3, [D, B])]
    assert outcome(mixed, [a, d, None]) == "ok"
    # The repair plus A has length 0: that is what a decoder that kept A invents.
    assert outcome(mixed, [a, d, ""], quirk=True) == "better"
    assert outcome(mixed, [a, d, ""]) == "mismatch"
    # Nobody can know that D was the right one, so we do not guess.
    assert outcome(mixed, [a, d, b], quirk=True) == "better"
    assert outcome(mixed, [a, d, c], quirk=True) == "mismatch"


def test_statistics_are_compared() -> None:
    ops = [A2, data(11, 0, 4, C), ["gc"], ["stat"]]
    assert outcome(ops, [a, c, None, [2, 0, 0]]) == "ok"
    assert outcome(ops, [a, c, None, [1, 0, 0]]) == "mismatch"
    assert outcome(ops, [a, c, None, [1, 0, 0]], quirk=True) == "mismatch"
    late = [A2, P2, B2, ["stat"]]
    assert outcome(late, [a, b, b, [1, 1, 0]], quirk=True) == "better"
    assert outcome(late, [a, b, b, "many"], quirk=True) == "mismatch"


def test_bytes_that_are_no_packet_answer_nothing() -> None:
    ops: list[Op] = [["rx", ""], ["rx", "000100"], ["rx", "00010011aa"], ["rx", "00010502aa"]]
    assert outcome(ops, [None] * 4) == "ok"
    assert outcome(ops, [None, "aa", None, None], quirk=True) == "mismatch"


@pytest.mark.parametrize("out", [[], [a, b], [a, None, None]])
def test_there_is_one_answer_for_each_operation(out: list[Any]) -> None:
    assert outcome([A2, A2], out, quirk=True) == "mismatch"
