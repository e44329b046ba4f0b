"""What players write about loss repair."""

from __future__ import annotations

import pytest
from lightspeed_client.fec_choice import OFF, Caps, parse_caps, parse_fec, within
from lightspeed_protocol.extensions import FecScheme
from lightspeed_protocol.fec.protection import Protection
from lightspeed_protocol.fec.window import Plan

ALL = frozenset(FecScheme)


def test_off_and_every_k_are_read() -> None:
    assert parse_fec("off") == OFF
    assert [parse_fec(f"xor:{k}").k for k in range(2, 17)] == list(range(2, 17))
    assert parse_fec("off").k is None


@pytest.mark.parametrize("text", ["off", "auto", "xor:4", "window:2:4", "auto,off", "xor:2,auto"])
def test_a_choice_is_written_as_it_is_read(text: str) -> None:
    assert str(parse_fec(text)) == text


def test_each_way_has_its_own_and_both_the_same_limits() -> None:
    choice = parse_fec("auto,window:2:4", budget_ms=80, target=0.01, caps=Caps(ratio=1.5, kbps=99))
    limits = {"budget_s": 0.08, "target": 0.01, "cap": 1.5, "cap_kbps": 99}
    assert choice.up == Protection(adaptive=True, **limits)  # type: ignore[arg-type]
    assert choice.down == Protection(plan=Plan(2, 4), **limits)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    [
        *("", "xor", "xor:", "xor:1", "xor:17", "xor:4.0", "xor:²", "4", "auto:2"),
        *("window:2", "window:0:4", "window:1:65", "auto,off,off", "off,"),
    ],
)
def test_anything_else_is_refused_with_what_is_wanted(text: str) -> None:
    with pytest.raises(ValueError, match="want off, auto, xor:K with K from 2 to 16"):
        parse_fec(text)


@pytest.mark.parametrize("text", ["auto", "window:2:4", "xor:4,off"])
def test_what_an_open_node_cannot_do_says_what_it_needs(text: str) -> None:
    with pytest.raises(ValueError, match="needs a node with an invite"):
        _ = parse_fec(text).k


@pytest.mark.parametrize(
    ("text", "caps"),
    [
        ("2x", Caps(ratio=2)),
        ("1.5x,128", Caps(ratio=1.5, kbps=128)),
        ("200kbit/s", Caps(kbps=200)),
        ("64 kbit, 3x", Caps(ratio=3, kbps=64)),
    ],
)
def test_caps_are_read(text: str, caps: Caps) -> None:
    assert parse_caps(text) == caps


@pytest.mark.parametrize(
    "text", ["", "0.5x", "x", "200 Mbit", "-1", "0", "1,,2", "101x", "1e9", "1.3", "2000000"]
)
def test_other_caps_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"want a ratio|a ratio is from|a rate is from"):
        parse_caps(text)


def test_a_ratio_without_its_x_is_asked_about() -> None:
    with pytest.raises(ValueError, match=r"did you mean 1\.3x\?"):
        parse_caps("1.3")


def test_towards_an_older_node_repair_is_what_it_takes() -> None:
    auto, window, xor = (parse_fec(text).up for text in ("auto", "window:2:4", "xor:3"))
    assert [within(each, ALL) for each in (auto, window, xor)] == [auto, window, xor]
    old = frozenset({FecScheme.WINDOW_XOR})
    assert [within(each, old).plan for each in (auto, window, xor)] == [
        Plan.xor(4),
        Plan.xor(4),
        Plan.xor(3),
    ]
    assert not any(within(each, frozenset()).active for each in (auto, window, xor))
    blind = frozenset({FecScheme.WINDOW_XOR, FecScheme.WINDOW_GF256})
    assert not within(auto, blind).adaptive, "what nobody reports nothing can adapt to"


def test_only_what_adapts_is_told_often() -> None:
    assert parse_fec("off,auto").agreed(ALL).reports_s == 0.25
    assert parse_fec("auto,xor:4").agreed(ALL).reports_s == 1.0
    assert parse_fec("auto").agreed(frozenset({FecScheme.WINDOW_XOR})).log() is None
