from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lightspeed_client.games import QUERY_KINDS
from lightspeed_client.games.query import (
    EVERY_KIND,
    HELLO,
    goodbye,
    is_answer,
    question,
    recognise,
)

MAGIC = bytes.fromhex("00ffff00fefefefefdfdfdfd12345678")
ANSWERS = {
    "a2s": b"\xff\xff\xff\xffI\x11name\0",
    "quake3": b"\xff\xff\xff\xffinfoResponse\n\\hostname\\x",
    "raknet": b"\x1c" + bytes(16) + MAGIC + b"\0\x04MCPE",
    "teeworlds": b"\xff" * 10 + b"inf30\0name\0",
    "luanti": bytes.fromhex("4f457403 0001 00 00 01 0002"),
    "none": HELLO,
}


def test_every_kind_has_a_question_and_knows_its_own_answer_only() -> None:
    assert set(EVERY_KIND) == set(QUERY_KINDS) == set(ANSWERS)
    assert len({question(kind) for kind in EVERY_KIND}) == len(EVERY_KIND)
    for kind, answer in ANSWERS.items():
        assert recognise(answer) == kind
        assert [k for k in EVERY_KIND if is_answer(k, answer)] == [kind]


def test_a_source_server_may_ask_for_a_challenge_first() -> None:
    assert is_answer("a2s", b"\xff\xff\xff\xffA\x01\x02\x03\x04")


@pytest.mark.parametrize("kind", [kind for kind in EVERY_KIND if kind != "none"])
def test_an_echoed_question_is_no_answer(kind: str) -> None:
    if kind != "luanti":  # there only the peer ids differ; `asking` knows its own question
        assert not is_answer(kind, question(kind))


@given(st.binary(max_size=64))
def test_any_bytes_are_judged(datagram: bytes) -> None:
    kind = recognise(datagram)
    assert kind is None or is_answer(kind, datagram)
    for each in EVERY_KIND:
        goodbye(each, datagram)


def test_luanti_is_told_when_we_leave() -> None:
    answer = bytes.fromhex("4f457403 0001 00 03 ffdc 00 01") + b"\x00\x2a"
    assert goodbye("luanti", answer) == bytes.fromhex("4f457403 002a 00 00 03")
    assert goodbye("luanti", b"short") is None
    assert goodbye("quake3", answer) is None
