from __future__ import annotations

import random

import attrs
from lightspeed_proxy.abuse import (
    CHALLENGE_S,
    MOST_BANS,
    MOST_CHALLENGES,
    Bans,
    Challenges,
    Opened,
    amplifies,
)
from lightspeed_proxy.config import Security

SECURITY = attrs.evolve(Security(), max_destinations_per_window=3, destinations_window_s=10.0)
CLIENT = ("192.0.2.1", 5000)


def test_a_scan_is_refused_and_the_next_window_is_free() -> None:
    opened = Opened()
    assert [opened.admit(SECURITY, 100.0) for _ in range(5)] == [True] * 3 + [False] * 2
    assert not opened.admit(SECURITY, 109.9)
    assert opened.admit(SECURITY, 110.0)


def test_only_the_right_number_proves_an_address_and_only_once() -> None:
    asker = Challenges(random.Random(1))
    asked = asker.challenge(CLIENT, 0.0)
    assert asked is not None
    token, sequence = asked
    assert not asker.proven(CLIENT, token, sequence ^ 1, 0.1)
    assert not asker.proven(CLIENT, token, sequence, 0.1)  # one try
    asked = asker.challenge(CLIENT, 0.2)
    assert asked is not None
    assert asker.proven(CLIENT, *asked, 0.3)
    assert not asker.proven(CLIENT, *asked, 0.3)


def test_a_proof_that_comes_late_proves_nothing() -> None:
    asker = Challenges(random.Random(1))
    asked = asker.challenge(CLIENT, 0.0)
    assert asked is not None
    assert not asker.proven(CLIENT, *asked, CHALLENGE_S)


def test_one_question_at_a_time() -> None:
    asker = Challenges(random.Random(1))
    assert asker.challenge(CLIENT, 0.0) is not None
    assert asker.challenge(CLIENT, 1.0) is None
    assert asker.challenge(CLIENT, CHALLENGE_S) is not None


def test_a_ban_ends_and_reaches_no_neighbour() -> None:
    bans = Bans()
    bans.ban(CLIENT, 60.0)
    assert bans.holds(CLIENT, 59.9)
    assert not bans.holds((CLIENT[0], CLIENT[1] + 1), 0.0)
    assert not bans.holds(CLIENT, 60.0)
    assert len(bans) == 0


def test_bans_and_questions_are_bounded() -> None:
    bans, asker = Bans(), Challenges(random.Random(1))
    for number in range(MOST_BANS + 10):
        bans.ban(("192.0.2.1", number), 60.0)
    assert len(bans) == MOST_BANS
    assert not bans.holds(("192.0.2.1", 0), 0.0)
    assert bans.holds(("192.0.2.1", MOST_BANS + 9), 0.0)
    first = asker.challenge(("192.0.2.2", 0), 0.0)
    for number in range(1, MOST_CHALLENGES + 1):
        asker.challenge(("192.0.2.2", number), 0.0)
    assert first is not None
    assert not asker.proven(("192.0.2.2", 0), *first, 0.1)  # pushed out


def test_answers_may_be_so_much_larger_than_what_was_sent() -> None:
    security = attrs.evolve(SECURITY, max_amplification=3.0, amplification_grace_bytes=1000)
    assert not amplifies(1300, 100, security)
    assert amplifies(1301, 100, security)
