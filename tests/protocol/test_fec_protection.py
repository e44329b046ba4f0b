"""How one direction is protected, and how a client says so to a node."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lightspeed_protocol.errors import WireError
from lightspeed_protocol.fec.protection import BYTES, UNPROTECTED, Protection
from lightspeed_protocol.fec.window import Plan

CHOICES = [
    UNPROTECTED,
    Protection(adaptive=True),
    Protection(plan=Plan.xor(4)),
    Protection(plan=Plan(2, 4)),
    Protection(plan=Plan(1, 1, delay=3), cap=2.5, cap_kbps=128),
    Protection(plan=Plan(2, 2, stride=3), target=0.0005, budget_s=0.12),
    Protection(adaptive=True, cap=1.0, cap_kbps=4_000_000_000),
]


@pytest.mark.parametrize("protection", CHOICES)
def test_it_travels_in_18_bytes(protection: Protection) -> None:
    wire = protection.encode()
    assert len(wire) == BYTES == 18
    assert Protection.decode(wire) == protection


def test_the_bytes_are_the_documented_ones() -> None:
    wire = Protection(plan=Plan(2, 4), cap=1.5, cap_kbps=200).encode()
    assert wire.hex(" ") == "01 02 04 01 01 00 00 00 03 e8 00 32 00 96 00 00 00 c8"
    assert Protection(adaptive=True).encode().hex(" ") == (
        "02 00 00 00 00 00 00 00 03 e8 00 32 00 00 00 00 00 00"
    )


@given(st.binary(max_size=24))
def test_arbitrary_bytes_raise_nothing_but_the_wire_error(data: bytes) -> None:
    try:
        protection = Protection.decode(data)
    except WireError as error:
        assert error.reason == "tlv"
    else:
        assert Protection.decode(protection.encode()) == protection


@pytest.mark.parametrize(
    "wire",
    [
        "03 00 00 00 00 00 00 00 03 e8 00 32 00 00 00 00 00 00",  # a mode nobody knows
        "01 00 04 01 01 00 00 00 03 e8 00 32 00 00 00 00 00 00",  # a repair per 0 packets
        "01 02 41 01 01 00 00 00 03 e8 00 32 00 00 00 00 00 00",  # a window of 65
        "02 00 00 00 00 00 00 00 00 00 00 32 00 00 00 00 00 00",  # a target of 0
        "02 00 00 00 00 00 00 00 03 e8 00 04 00 00 00 00 00 00",  # a budget of 4 ms
        "02 00 00 00 00 00 00 00 03 e8 00 32 00 63 00 00 00 00",  # a cap below 1
    ],
)
def test_what_makes_no_sense_is_refused(wire: str) -> None:
    with pytest.raises(WireError, match="tlv"):
        Protection.decode(bytes.fromhex(wire))


def test_another_cap_is_never_a_larger_one() -> None:
    assert Protection(adaptive=True).capped(1.5).cap == 1.5
    assert Protection(adaptive=True).capped(3) == Protection(adaptive=True), "it is at 2 by itself"
    assert Protection(adaptive=True, cap=1.2).capped(1.5).cap == 1.2
    assert Protection(plan=Plan(1, 4)).capped(1.5).cap == 1.5


def test_a_plan_without_caps_has_room_for_itself() -> None:
    assert UNPROTECTED.credit() is None
    for plan in (Plan.xor(4), Plan(1, 4)):
        credit = Protection(plan=plan).credit()
        assert credit is not None
        assert credit.cap >= 1 + 1.1 / plan.every
    adaptive = Protection(adaptive=True).credit()
    assert adaptive is not None
    assert (adaptive.cap, adaptive.strict) == (2.0, False)


def test_a_cap_that_somebody_set_is_for_everything() -> None:
    for credit in (
        Protection(adaptive=True, cap=1.5).credit(),
        Protection(adaptive=True).capped(1.5).credit(),
    ):
        assert credit is not None
        assert (credit.cap, credit.strict) == (1.5, True)
