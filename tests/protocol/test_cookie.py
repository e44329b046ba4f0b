from __future__ import annotations

import hashlib
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lightspeed_protocol.cookie import MOST_SPENT, ROTATE_S, VALID_S, RetryCookies

HOME = ("192.0.2.7", 51820)
ODCID, RSCID = b"original", b"RetrySrc"

hosts = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str)
addresses = st.tuples(hosts, st.integers(0, 65535))
ids = st.binary(max_size=20)


def cookies(seed: int = 1) -> RetryCookies:
    return RetryCookies(random.Random(seed).randbytes)


def test_the_bytes_are_those_of_the_specification() -> None:
    made = RetryCookies(lambda count: bytes(range(count))).make(HOME, ODCID, RSCID, 305.9)

    body = bytes.fromhex("01 00000131 08") + ODCID + b"\x08" + RSCID
    place = bytes.fromhex("ca6c c0000207")
    tag = hashlib.blake2s(
        body + place, digest_size=16, key=bytes(range(32)), person=b"LS retry"
    ).digest()
    assert made == body + tag
    assert tag.hex() == "488807e87a251e11b194b99bd57e9c62"


@given(address=addresses, odcid=ids, rscid=ids, now=st.floats(0, 1e10))
def test_a_token_says_what_was_put_into_it(
    address: tuple[str, int], odcid: bytes, rscid: bytes, now: float
) -> None:
    jar = cookies()

    assert jar.check(jar.make(address, odcid, rscid, now), address, now) == (odcid, rscid)


@pytest.mark.parametrize(
    "other", [("192.0.2.8", 51820), ("192.0.2.7", 51821), ("::ffff:192.0.2.7", 51820)]
)
def test_a_token_is_worth_nothing_elsewhere(other: tuple[str, int]) -> None:
    jar = cookies()

    assert jar.check(jar.make(HOME, ODCID, RSCID, 1.0), other, 1.0) is None


def test_every_bit_counts() -> None:
    jar = cookies()
    token = jar.make(HOME, ODCID, RSCID, 1.0)

    for bit in range(len(token) * 8):
        forged = bytearray(token)
        forged[bit // 8] ^= 1 << bit % 8
        assert jar.check(bytes(forged), HOME, 1.0) is None
    for length in range(len(token)):
        assert jar.check(token[:length], HOME, 1.0) is None


@given(st.binary(max_size=80), addresses)
def test_any_bytes_are_refused_and_nothing_more(token: bytes, address: tuple[str, int]) -> None:
    assert cookies().check(token, address, 5.0) is None
    assert cookies().check(b"\x01" + token, address, 5.0) is None


def test_a_token_is_good_for_ten_seconds() -> None:
    jar = cookies()
    token = jar.make(HOME, ODCID, RSCID, 50.0)

    assert jar.check(token, HOME, 50.0 + VALID_S) is not None
    assert jar.check(token, HOME, 50.0 + VALID_S + 1) is None
    assert jar.check(token, HOME, 49.0) is None, "made in the future"


def test_seconds_may_wrap() -> None:
    jar = cookies()
    token = jar.make(HOME, ODCID, RSCID, 2.0**32 - 1)

    assert jar.check(token, HOME, 2.0**32 + 3) is not None


def test_a_new_secret_does_not_turn_away_who_is_under_way() -> None:
    jar = cookies()
    jar.make(HOME, ODCID, RSCID, 0.0)
    late = jar.make(HOME, ODCID, RSCID, ROTATE_S - 1)

    assert jar.check(late, HOME, ROTATE_S + 1) == (ODCID, RSCID)


def test_a_secret_is_used_for_one_term_and_accepted_for_two() -> None:
    drawn: list[bytes] = []

    def draw(count: int) -> bytes:
        drawn.append(random.Random(len(drawn)).randbytes(count))
        return drawn[-1]

    jar = RetryCookies(draw)
    for term in range(4):
        jar.make(HOME, ODCID, RSCID, term * ROTATE_S)
        jar.make(HOME, ODCID, RSCID, term * ROTATE_S + 1)
    assert len(drawn) == 4

    old = RetryCookies(lambda _: drawn[1]).make(HOME, ODCID, RSCID, 3 * ROTATE_S)
    previous = RetryCookies(lambda _: drawn[2]).make(HOME, ODCID, RSCID, 3 * ROTATE_S)
    assert jar.check(old, HOME, 3 * ROTATE_S) is None
    assert jar.check(previous, HOME, 3 * ROTATE_S) is not None


def test_the_secret_of_long_ago_is_not_kept() -> None:
    drawn = [bytes(32), b"x" * 32]
    jar = RetryCookies(lambda _: drawn.pop(0))
    jar.make(HOME, ODCID, RSCID, 0.0)
    jar.make(HOME, ODCID, RSCID, 1000.0)

    stolen = RetryCookies(lambda _: bytes(32)).make(HOME, ODCID, RSCID, 1000.0)
    assert jar.check(stolen, HOME, 1000.0) is None


def test_connection_ids_are_those_of_version_1() -> None:
    with pytest.raises(ValueError, match="at most 20"):
        cookies().make(HOME, bytes(21), RSCID, 0.0)


def test_a_token_is_used_once_while_it_is_good() -> None:
    jar = cookies()
    token = jar.make(HOME, ODCID, RSCID, 50.0)
    assert not jar.is_spent(RSCID, 50.0)
    jar.spend(RSCID, 50.0)
    for now in (50.0, 55.5, 60.999):
        assert jar.check(token, HOME, now) is not None
        assert jar.is_spent(RSCID, now)
    assert not jar.is_spent(b"another!", 50.0)
    assert jar.check(token, HOME, 61.0) is None  # and then it need not be remembered


def test_used_tokens_are_forgotten_in_time_and_never_too_many() -> None:
    jar = cookies()
    for number in range(MOST_SPENT + 10):
        jar.spend(number.to_bytes(8, "big"), 1.0)
    assert len(jar._spent) == MOST_SPENT
    assert jar.is_spent((MOST_SPENT + 9).to_bytes(8, "big"), 1.0)
    jar.spend(b"later on", 20.0)
    assert len(jar._spent) == 1
