"""What `make fuzz` runs, with hypothesis's bytes in place of an engine's, and what it prints."""

from __future__ import annotations

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from lightspeed_protocol.control import FrameReader
from lightspeed_protocol.errors import WireError
from lightspeed_protocol.runtime.quic_server import QuicServer
from trio.testing import MockClock

from fuzz import quic_target, targets
from fuzz.__main__ import NAMES, Outcome, main, story
from fuzz.words import Words
from tests.support.certs import throw_away_identity

QUIC = quic_target.QuicTarget(throw_away_identity())
inputs = st.binary(max_size=200) | st.lists(st.integers(0, 15), max_size=80).map(bytes)


def in_trio(data: bytes) -> QuicServer:
    async def scenario() -> QuicServer:
        return QUIC(data)

    return trio.run(scenario, clock=MockClock())


def test_every_name_has_a_target() -> None:
    assert {*targets.TARGETS, "quic"} == set(NAMES)


@pytest.mark.parametrize("name", targets.TARGETS)
def test_a_target_has_seeds_and_takes_them(name: str) -> None:
    seeds = targets.seeds(name)
    assert seeds
    for seed in seeds:
        targets.TARGETS[name](seed)


@pytest.mark.parametrize("name", targets.TARGETS)
def test_a_target_takes_any_bytes(name: str) -> None:
    @settings(max_examples=50)
    @given(inputs)
    def any_bytes(data: bytes) -> None:
        targets.TARGETS[name](data)

    any_bytes()


def test_the_quic_port_takes_its_seeds_and_any_bytes() -> None:
    for seed in quic_target.seeds():
        in_trio(seed)

    @settings(max_examples=50)
    @given(inputs)
    def any_bytes(data: bytes) -> None:
        in_trio(data)

    any_bytes()


def test_the_quic_seeds_get_as_far_as_the_choice_of_protocol() -> None:
    """Else the engine would only knock at a closed door."""
    refused, open_, none = (
        in_trio(hello) for hello in map(quic_target.hello_seed, ("other", "lightspeed/1", None))
    )
    assert (refused.counters.refused_alpn, refused.connections) == (1, 0)
    assert (open_.counters.refused_alpn, open_.half_open) == (0, 1)
    assert (none.counters.refused_alpn, none.half_open) == (0, 1)


def test_most_seeds_are_read_not_refused() -> None:
    """Else they would lead an engine nowhere."""
    whole = 0
    for seed in targets.seeds("control"):
        found = FrameReader().feed(seed[1:])
        whole += len(found) == 1 and not isinstance(found[0], WireError)
    assert whole == len(targets.seeds("control"))


def test_words_beyond_the_end_are_zeros() -> None:
    words = Words(b"\x02ab\x01")
    assert (words.number(), words.take(2), words.number(2)) == (2, b"ab", 0x0100)
    assert not words
    assert words.number(4) == 0
    assert list(Words(b"\x01a\x00\x05bc").pieces()) == [b"a", b"", b"bc"]


FINDING = """INFO: Instrumenting lightspeed_protocol
#2 INITED

 === Uncaught Python exception: ===
AssertionError: a packet was taken twice
Traceback (most recent call last):
  File "fuzz/targets.py", line 9, in sealed
==7== ERROR: libFuzzer: fuzz target exited
Test unit written to dist/fuzz/sealed-crash-1
stat::number_of_executed_units: 20
"""


def test_a_finding_is_told_apart_from_a_target_that_did_not_run() -> None:
    assert Outcome("x", 20).verdict == "nothing found"
    assert Outcome("x", 20, FINDING).verdict == "FOUND SOMETHING"
    assert Outcome("x", 0, "ModuleNotFoundError: fuzz").verdict == "DID NOT RUN TO ITS END"
    told = story(FINDING).splitlines()
    assert told[0].strip() == "=== Uncaught Python exception: ==="
    assert told[-1].strip() == "Test unit written to dist/fuzz/sealed-crash-1"


@pytest.mark.parametrize("arguments", [["no-such-target"], ["--seconds", "0"], ["--replay"]])
def test_what_cannot_be_asked_is_said(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert "usage" in capsys.readouterr().err


def test_an_input_can_be_run_again(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--replay", "telemetry", str(targets.WIRE / "sealed_vectors.json")]) == 0
    assert capsys.readouterr().out == "nothing was raised\n"
