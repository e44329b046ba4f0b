"""The field's tables, against arithmetic done bit by bit."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lightspeed_protocol.fec import gf256

from tests.support.window_code import coefficient, inverse, multiply, rank

elements = st.integers(0, 255)


def test_every_product_is_the_schoolbook_one() -> None:
    for a in range(256):
        assert gf256.PRODUCTS[a] == bytes(multiply(a, b) for b in range(256))


def test_every_element_but_0_has_its_inverse() -> None:
    assert gf256.INVERSES[0] == 0
    assert all(gf256.INVERSES[a] == inverse(a) for a in range(1, 256))


def test_2_generates_the_field() -> None:
    power, powers = 1, set()
    for _ in range(255):
        powers.add(power)
        power = gf256.PRODUCTS[2][power]
    assert powers == set(range(1, 256))


@pytest.mark.parametrize("key", [0, 1, 77, 127])
def test_coefficients_are_those_of_the_format(key: int) -> None:
    for ssn in range(0, 0x10000, 33):
        assert gf256.coefficient(key, ssn) == coefficient(key, ssn) != 0
        assert gf256.SCALED[(key ^ ssn) & 127] == gf256.PRODUCTS[coefficient(key, ssn)]


def test_coefficients_repeat_only_after_128() -> None:
    for key in range(128):
        assert len({gf256.coefficient(key, ssn) for ssn in range(1000, 1128)}) == 128
        assert gf256.coefficient(key, 5) == gf256.coefficient(key + 128, 5 + 128)


def test_any_repairs_with_different_keys_are_independent() -> None:
    """Square parts of every size of the coefficients have an inverse: none is wasted."""
    rng = random.Random(4)
    for size in [*range(1, 9), 32, 64]:
        for _ in range(10):
            keys = rng.sample(range(128), size)
            ssns = rng.sample(range(128), size)
            assert rank([[gf256.coefficient(key, ssn) for ssn in ssns] for key in keys]) == size


@given(st.binary(max_size=40), st.binary(max_size=40), elements)
def test_sums_are_padded_and_products_distribute_over_them(a: bytes, b: bytes, c: int) -> None:
    total = gf256.add(a, b)
    size = max(len(a), len(b))
    assert total == bytes(
        x ^ y for x, y in zip(a.ljust(size, b"\0"), b.ljust(size, b"\0"), strict=True)
    )
    by = gf256.PRODUCTS[c]
    assert total.translate(by) == gf256.add(a.translate(by), b.translate(by))
