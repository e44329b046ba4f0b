from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
from lightspeed_protocol.runtime.logs import (
    JsonFormatter,
    ShortFormatter,
    Style,
    pick_formatter,
    set_up,
)


@pytest.fixture
def root_logger() -> Iterator[logging.Logger]:
    """The root logger, put back as it was afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield root
    root.handlers[:] = handlers
    root.setLevel(level)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("style", "journal", "terminal", "want"),
    [
        ("auto", "", False, ShortFormatter),
        ("auto", "8:123", False, JsonFormatter),
        ("auto", "8:123", True, ShortFormatter),  # a shell that a service started
        ("json", "", True, JsonFormatter),
        ("short", "8:123", False, ShortFormatter),
    ],
)
def test_json_under_systemd_and_short_lines_elsewhere(
    style: Style, journal: str, terminal: bool, want: type[logging.Formatter]
) -> None:
    environment = {"JOURNAL_STREAM": journal} if journal else {}
    assert type(pick_formatter(style, environment, terminal=terminal)) is want


def test_a_short_line_names_time_level_and_module(root_logger: logging.Logger) -> None:
    out = Terminal()
    set_up({}, stream=out)
    logging.getLogger("lightspeed_proxy.relay").warning("%d lost", 3)
    logging.getLogger("lightspeed_proxy.relay").info("fine")
    logging.getLogger("lightspeed_proxy.relay").debug("not shown")
    warning, fine = out.getvalue().splitlines()
    assert warning[8:] == " warning relay: 3 lost"
    assert fine[8:] == " relay: fine"


def test_a_json_record_is_one_line_even_with_a_traceback(root_logger: logging.Logger) -> None:
    out = io.StringIO()
    set_up({"JOURNAL_STREAM": "8:123"}, stream=out, level="debug")
    try:
        raise ValueError("bad\nvalue")
    except ValueError:
        logging.getLogger("a.b").exception("two\nlines")
    (line,) = out.getvalue().splitlines()
    record = json.loads(line)
    assert record["level"] == "error"
    assert record["logger"] == "a.b"
    assert record["message"] == "two\nlines"
    assert "ValueError: bad\nvalue" in record["exception"]
    assert record["time"].endswith("+00:00")


def test_text_from_outside_cannot_forge_a_line(root_logger: logging.Logger) -> None:
    out = io.StringIO()
    set_up({}, stream=out)
    logging.getLogger("x").info("name %s", "a\r\n12:00:00 x: forged")
    assert len(out.getvalue().splitlines()) == 1


HOSTILE = "\x1b]0;pwned\x07\x9b31m\u202eX\x7f\u2028\U000e0001\ud800 caf\u00e9"


@pytest.mark.parametrize("journal", ["", "8:123"])
def test_text_from_outside_cannot_steer_the_terminal(
    root_logger: logging.Logger, journal: str
) -> None:
    out = io.StringIO()
    set_up({"JOURNAL_STREAM": journal} if journal else {}, stream=out)
    logging.getLogger("x").info("name %s", HOSTILE)
    try:
        raise ValueError(HOSTILE)
    except ValueError:
        logging.getLogger("x").exception("failed")
    text = out.getvalue()
    assert text.replace("\n", "").isprintable()
    assert "caf\u00e9" in text, "what can be read stays as it is"
    first = text.split("\n")[0]
    if journal:
        assert json.loads(first)["message"] == f"name {HOSTILE}", "readers lose nothing"
    else:
        assert r"\x1b]0;pwned\x07\x9b31m\u202eX\x7f\u2028\U000e0001\ud800 caf" in first
