"""An address proves itself by what nobody else can know."""

from __future__ import annotations

import math

from lightspeed_client.data_proof import PROOF_BYTES, DataProof


def test_nothing_is_asked_or_proven_before_there_is_an_address() -> None:
    proof = DataProof()
    assert (proof.given, proof.next_deadline()) == (False, math.inf)
    assert not proof.answered(b"")


def test_the_question_is_asked_again_with_growing_pauses_until_it_comes_back() -> None:
    proof = DataProof()
    proof.begin()
    asked = proof.question(10.0)
    assert len(asked) == PROOF_BYTES
    pauses, now = [], 10.0
    for _ in range(6):
        pauses.append(round(proof.next_deadline() - now, 6))
        now = proof.next_deadline()
        assert proof.question(now) == asked
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    assert not proof.answered(bytes(PROOF_BYTES))
    assert proof.answered(asked)
    assert (proof.given, proof.next_deadline()) == (True, math.inf)
    assert not proof.answered(asked), "the second time it is no news"


def test_another_address_is_asked_something_else() -> None:
    proof = DataProof()
    proof.begin()
    old = proof.question(0.0)
    assert proof.answered(old)
    proof.begin()
    assert not proof.given
    assert proof.question(5.0) != old
    assert not proof.answered(old)
