"""Prints a match as it runs and its table: rich on a terminal, lines elsewhere, or JSON."""

from __future__ import annotations

import contextlib
import json
import sys
import textwrap
from collections.abc import Callable
from typing import Any, Final, Protocol, TextIO

import attrs
from rich.console import Console
from rich.live import Live as Screen
from rich.table import Table

from ..display import ms
from .tally import Live, Tally
from .way import Way, in_ms, mean_in_ms
from .weather import Cause

PLAIN_EVERY_S: Final = 5.0


class View(Protocol):
    """`show` is called from a worker thread, one call at a time; the rest from the main one."""

    def say(self, line: str) -> None: ...
    def begin(self, title: str) -> None: ...
    def show(self, live: Live) -> None: ...
    def end(self) -> None: ...
    def result(self, lines: list[str], record: dict[str, Any]) -> None: ...


def pick_view(*, as_json: bool, out: TextIO | None = None) -> View:
    """JSON when asked, the live table on a terminal, else lines."""
    out = sys.stdout if out is None else out
    if as_json:
        return JsonView(out)
    return ScreenView(Console(file=out)) if out.isatty() else PlainView(out)


@attrs.define(eq=False)
class JsonView:
    """One object a second; the last has `"final": true`."""

    out: TextIO
    _title: str = ""

    def say(self, line: str) -> None:
        pass  # words are for people; the figures carry the same

    def begin(self, title: str) -> None:
        self._title = title

    def show(self, live: Live) -> None:
        self._write({"match": self._title, **live.to_json()})

    def end(self) -> None:
        pass  # nothing is held open

    def result(self, lines: list[str], record: dict[str, Any]) -> None:
        self._write({**record, "final": True})

    def _write(self, record: dict[str, Any]) -> None:
        print(json.dumps(record), file=self.out, flush=True)


@attrs.define(eq=False)
class PlainView:
    """A line in the first second and every `PLAIN_EVERY_S` after."""

    out: TextIO
    _shown_at: float | None = None

    def say(self, line: str) -> None:
        print(line, file=self.out, flush=True)

    def begin(self, title: str) -> None:
        self._shown_at = None
        self.say(title)

    def show(self, live: Live) -> None:
        if self._shown_at is None or live.seconds - self._shown_at >= PLAIN_EVERY_S - 0.1:
            self._shown_at = live.seconds
            self.say(f"  {one_line(live)}")

    def end(self) -> None:
        pass  # nothing is held open

    def result(self, lines: list[str], record: dict[str, Any]) -> None:
        self.say("\n".join(lines))


@attrs.define(eq=False)
class ScreenView:
    """A table that is drawn anew each second."""

    console: Console
    _screen: Screen | None = None

    def say(self, line: str) -> None:
        text = "\n".join(fold(each, self.console.width) for each in line.split("\n"))
        self.console.print(text, markup=False, highlight=False)

    def begin(self, title: str) -> None:
        self.say(title)
        self._screen = Screen(console=self.console, auto_refresh=False)
        self._screen.start()

    def show(self, live: Live) -> None:
        if self._screen is not None:
            self._screen.update(live_table(live), refresh=True)

    def end(self) -> None:
        if self._screen is not None:
            with contextlib.suppress(OSError):
                self._screen.stop()
            self._screen = None

    def result(self, lines: list[str], record: dict[str, Any]) -> None:
        self.say("\n".join(lines))


def one_line(live: Live) -> str:
    """The figures that matter most."""
    return (
        f"{live.seconds:4.0f} s: inputs {live.inputs_sent} sent, {live.inputs_dropped} dropped by"
        f" the link, {live.inputs_missing} missing; states {live.states_sent} sent,"
        f" {live.states_dropped} dropped, {live.states_missing} missing;"
        f" round trip {ms(live.round_trip_ms)}; longest freeze {live.freeze_ms:.0f} ms"
        + "".join(f"; {line}" for line in repair_lines(live))
    )


def repair_lines(told: Live | Tally) -> list[str]:
    """What is done against loss each way, and why, as far as it is known."""
    ways = (("up", told.repair_up), ("down", told.repair_down))
    return [f"{way}: {words}" for way, words in ways if words is not None]


def live_table(live: Live) -> Table:
    """What the terminal shows while a match runs."""
    table = Table(title=f"{live.seconds:.0f} s", title_justify="left")
    for heading in ("", "sent", "dropped by the link", "missing so far"):
        table.add_column(heading, justify="left" if not heading else "right")
    for name, *numbers in (
        ("inputs, player to server", live.inputs_sent, live.inputs_dropped, live.inputs_missing),
        ("states, server to player", live.states_sent, live.states_dropped, live.states_missing),
    ):
        table.add_row(name, *map(str, numbers))
    figures = (
        f"round trip {ms(live.round_trip_ms)}, longest freeze {live.freeze_ms:.0f} ms,"
        f" repair packets {live.repair_packets}"
    )
    table.caption = "\n".join([figures, *repair_lines(live)])
    table.caption_justify = "left"
    return table


def final_table(*tallies: Tally) -> list[str]:
    """The figures of one or more matches side by side, aligned, as plain text."""
    rows = [("", [f"repair {tally.fec}" for tally in tallies])]
    for name, pick in (("inputs, player to server", "up"), ("states, server to player", "down")):
        ways: list[Way] = [getattr(tally, pick) for tally in tallies]
        rows.append((name, ["" for _ in ways]))
        causes = dict.fromkeys(cause for way in ways for cause in way.lost_by)
        for label, cells in _WAY_ROWS:
            rows.append((f"  {label}", [cells(way) for way in ways]))
            if label == _LATE and any(way.lost_elsewhere for way in ways):
                rows.append(
                    ("  lost, but not on the link", [_of(w.lost_elsewhere, w.sent) for w in ways])
                )
            if label == _BEFORE_REPAIR and len(causes) > 1:
                rows += [
                    (f"    {_CAUSES[cause]}", [_of(w.lost_by.get(cause, 0), w.sent) for w in ways])
                    for cause in causes
                ]
        if any(way.corrupt for way in ways):
            rows.append(("  damaged", [str(way.corrupt) for way in ways]))
    rows += [
        ("round trip, input to state, p50", [ms(in_ms(t.round_trips_s, 0.5)) for t in tallies]),
        ("round trip, input to state, p95", [ms(in_ms(t.round_trips_s, 0.95)) for t in tallies]),
        ("round trip of the tunnel, median", [ms(t.tunnel_rtt_ms) for t in tallies]),
        (
            "headers and repair, per byte of the game",
            ["-" if t.overhead is None else f"{t.overhead:.1%}" for t in tallies],
        ),
    ]
    if any(tally.control_bytes for tally in tallies):
        rows.append(("bytes of the control connection", [str(t.control_bytes) for t in tallies]))
    label_width = max(len(label) for label, _ in rows)
    width = max(len(cell) for _, cells in rows for cell in cells)
    lines = [
        f"{label:<{label_width}}  {'  '.join(f'{cell:>{width}}' for cell in cells)}".rstrip()
        for label, cells in rows
    ]
    return [*lines, "", *legend(tallies[0].up.budget_s)]


def legend(budget_s: float) -> list[str]:
    """What the table's words mean."""
    return [
        f"In time: within {budget_s * 1000:.0f} ms of the moment the packet would have come"
        " undisturbed, which is the time that the fastest packet of its stream took.",
        "Any code: the least that could have been left of the same losses with as many repair"
        " packets at the same times, each of which brings back one packet at most.",
        "Bytes: IP packets, over the game's packets alone in the same tunnel header. Reports and"
        " asks are about the packets of the other way.",
    ]


def fold(line: str, width: int) -> str:
    """Long lines broken at words, what follows a "- " kept under it."""
    words = line.lstrip()
    indent = len(line) - len(words) + (2 if words.startswith("- ") else 0)
    if len(line) <= width or not words:
        return line
    return textwrap.fill(
        line, max(20, width), subsequent_indent=" " * indent, break_on_hyphens=False
    )


def _of(part: int, whole: int) -> str:
    return f"{part} ({part / whole:.2%})" if whole else str(part)


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


_LATE: Final = "  of those, repaired"
_BEFORE_REPAIR: Final = "lost before repair"
_CAUSES: Final[dict[Cause, str]] = {
    "loss": "by independent loss",
    "burst": "in a burst",
    "queue": "over the rate limit",
    "blackhole": "in a blackhole",
}
_WAY_ROWS: Final[tuple[tuple[str, Callable[[Way], str]], ...]] = (
    ("sent", lambda way: str(way.sent)),
    ("arrived", lambda way: str(way.arrived)),
    (_BEFORE_REPAIR, lambda way: _of(len(way.dropped), way.sent)),
    ("repaired", lambda way: str(way.repaired)),
    ("lost after repair", lambda way: _of(way.lost, way.sent)),
    ("late", lambda way: _of(way.late, way.sent)),
    (_LATE, lambda way: str(way.repaired_late)),
    ("not there in time", lambda way: _of(way.unknown, way.sent)),
    ("  no code could leave fewer than", lambda way: _of(way.bound, way.sent)),
    ("delivered twice", lambda way: str(way.duplicates)),
    ("longest freeze", lambda way: f"{way.freeze_s * 1000:.0f} ms"),
    ("repair delay, mean", lambda way: ms(mean_in_ms(way.repair_delays_s))),
    ("repair delay p95", lambda way: ms(in_ms(way.repair_delays_s, 0.95))),
    ("bytes over the game's packets", lambda way: _ratio(way.wire.ratio)),
    ("  for repair packets", lambda way: _ratio(way.wire.over_source(way.wire.repair))),
    ("  for reports and asks", lambda way: _ratio(way.wire.over_source(way.wire.feedback))),
)
