from __future__ import annotations

from lightspeed_client.words import count, printable, why_no_answer


def test_one_is_singular_and_none_is_not() -> None:
    assert [count(n, "flow") for n in (0, 1, 2)] == ["0 flows", "1 flow", "2 flows"]


def test_every_reason_for_silence_is_named() -> None:
    text = why_no_answer(4434)
    for part in ("does not run", "UDP port 4434", "without --dev", "lightspeed-proxy status"):
        assert part in text
    assert "its UDP port" in why_no_answer()


def test_text_from_outside_is_one_line_that_steers_nothing() -> None:
    assert printable("\x1b[31mred\x07\r\n\x9b2J\u202eabc\u2028 ") == "[31mred    2J abc"
    assert printable("n\u00f6rd \u65e5\u672c") == "n\u00f6rd \u65e5\u672c"
