"""What a log line looks like: short for people on a terminal, one JSON object under systemd.

What is not printable is escaped in both: text of a peer ends up in them.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final, Literal, TextIO

Style = Literal["auto", "short", "json"]
LEVELS: Final = ("debug", "info", "warning", "error")


class ShortFormatter(logging.Formatter):
    """``12:00:01 warning relay: text``; the level is left out when it is info."""

    def __init__(self) -> None:
        super().__init__(datefmt="%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        level = "" if record.levelno == logging.INFO else f"{record.levelname.lower()} "
        line = f"{self.formatTime(record, self.datefmt)} {level}{_short_name(record.name)}: "
        line += _one_line(record.getMessage())
        if record.exc_info:
            trace = self.formatException(record.exc_info)
            line += "".join("\n" + _one_line(part) for part in trace.split("\n"))
        return line


class JsonFormatter(logging.Formatter):
    """One object a line; a traceback is a field of it, so a record never spans two lines."""

    def format(self, record: logging.LogRecord) -> str:
        when = datetime.fromtimestamp(record.created, UTC)
        fields = {
            "time": when.isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        line = json.dumps(fields, ensure_ascii=False)
        # readers get what was logged; whoever looks at the raw line gets nothing that acts
        return line if line.isprintable() else "".join(map(_in_json, line))


def _short_name(name: str) -> str:
    return name.rpartition(".")[2]


def _one_line(text: str) -> str:
    """Text from outside must not forge a second line, nor steer the terminal that shows it."""
    return text if text.isprintable() else "".join(map(_visible, text))


def _visible(character: str) -> str:
    """Controls and what turns the writing direction as escapes, as in a Python string."""
    return character if character.isprintable() else repr(character)[1:-1]


def _in_json(character: str) -> str:
    return character if character.isprintable() else json.dumps(character)[1:-1]


def pick_formatter(
    style: Style, environment: Mapping[str, str], *, terminal: bool
) -> logging.Formatter:
    """JOURNAL_STREAM is systemd's word that stderr goes to the journal (systemd.exec(5))."""
    if style == "auto":
        style = "json" if environment.get("JOURNAL_STREAM") and not terminal else "short"
    return JsonFormatter() if style == "json" else ShortFormatter()


def set_up(
    environment: Mapping[str, str],
    *,
    style: Style = "auto",
    level: str = "info",
    stream: TextIO | None = None,
) -> None:
    """Send every record to `stream` (stderr). Called once, at the start of the program."""
    stream = sys.stderr if stream is None else stream
    handler = logging.StreamHandler(stream)
    handler.setFormatter(pick_formatter(style, environment, terminal=stream.isatty()))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
