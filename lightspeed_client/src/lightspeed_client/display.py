"""Shows the figures: a live table on a terminal, a line now and then elsewhere, or JSON.

Views write from a thread (`modes.redirect_mode` sees to that), so that a slow terminal or an
unread pipe never holds up a game packet.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
from typing import Any, Final, Protocol, TextIO

import attrs
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from .figures import Figures, State, Totals
from .report import plain_words
from .words import count

PLAIN_EVERY_S: Final = 5.0

STATE_WORDS: Final[dict[State, str]] = {
    "starting": "starting, nothing heard yet",
    "carrying": "carrying",
    "idle": "ready, no game packets",
    "no-answer": "no answer from the node",
    "node-leaving": "the node is ending the session",
}


@attrs.frozen(kw_only=True)
class Route:
    """What a session connects; the same from beginning to end."""

    local: list[str]  # where the game is to connect
    server: str
    node: str
    fec: str
    how: str = ""  # what the player does in a known game to connect it


class View(Protocol):
    """All of it is called from worker threads, one call at a time. May raise `OSError`."""

    def begin(self, route: Route) -> None: ...
    def show(self, figures: Figures) -> None: ...
    def end(self, figures: Figures, totals: Totals) -> None: ...


def pick_view(*, as_json: bool, out: TextIO | None = None) -> View:
    """JSON when asked, the live table on a terminal, else lines."""
    out = sys.stdout if out is None else out
    if as_json:
        return JsonView(out)
    return LiveView(Console(file=out)) if out.isatty() else PlainView(out)


class ScreenHandler(logging.Handler):
    """Logs to whatever stderr is at the moment: the live table replaces it while it is up."""

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(OSError, ValueError):  # nobody reads it: nothing to be done
            print(self.format(record), file=sys.stderr, flush=True)


def write_now(out: TextIO, text: str) -> None:
    """Past Python's buffer: an abandoned, blocked write must not hold its lock at exit."""
    try:
        handle = out.fileno()
    except OSError:  # a test's StringIO has none
        out.write(text)
        return
    data = text.encode("utf-8", "replace")
    while data:
        data = data[os.write(handle, data) :]


@attrs.define(eq=False)
class JsonView:
    """One object a second; the last has `"final": true` and the session's totals."""

    out: TextIO
    _route: Route | None = None

    def begin(self, route: Route) -> None:
        self._route = route

    def show(self, figures: Figures) -> None:
        self._write(figures.to_json())

    def end(self, figures: Figures, totals: Totals) -> None:
        self._write({**figures.to_json(), "final": True, "totals": totals.to_json()})

    def _write(self, record: dict[str, Any]) -> None:
        route = {} if self._route is None else attrs.asdict(self._route)
        write_now(self.out, json.dumps({**record, **route}) + "\n")


@attrs.define(eq=False)
class PlainView:
    """For log files and pipes: a line every `PLAIN_EVERY_S`, and one when the state changes."""

    out: TextIO
    _shown_at: float | None = None
    _state: State | None = None

    def begin(self, route: Route) -> None:
        lines = [
            f"point the game at {' or '.join(route.local)}; Ctrl-C ends",
            *([route.how] if route.how else []),
            f"game server {route.server}, node {route.node}, loss repair {route.fec}",
        ]
        write_now(self.out, "\n".join(lines) + "\n")

    def show(self, figures: Figures) -> None:
        due = self._shown_at is None or figures.elapsed_s - self._shown_at >= PLAIN_EVERY_S
        if due or figures.state != self._state:
            self._shown_at, self._state = figures.elapsed_s, figures.state
            write_now(self.out, one_line(figures) + "\n")

    def end(self, figures: Figures, totals: Totals) -> None:
        write_now(self.out, "\n".join(plain_words(totals)) + "\n")


@attrs.define(eq=False)
class LiveView:
    """The live table; log lines appear above it."""

    console: Console
    _live: Live | None = None
    _route: Route | None = None

    def begin(self, route: Route) -> None:
        self._route = route
        self._live = Live(console=self.console, auto_refresh=False, transient=True)
        self._live.start()

    def show(self, figures: Figures) -> None:
        if self._live is not None and self._route is not None:
            self._live.update(table(figures, self._route), refresh=True)

    def end(self, figures: Figures, totals: Totals) -> None:
        if self._live is not None:
            with contextlib.suppress(OSError):
                self._live.stop()
            self._live = None
        self.console.print("\n".join(plain_words(totals)), markup=False, highlight=False)


def one_line(figures: Figures) -> str:
    """The figures that matter most, for a log file."""
    parts = [
        f"{STATE_WORDS[figures.state]}: round trip {ms(figures.rtt_ms)}",
        f"jitter {ms(figures.jitter_ms)}",
        f"loss {part(figures.loss)}",
        f"loss down {part(figures.loss_down)}",
        f"loss {loss_up(figures)}",
        after_repair(figures, ", "),
        rebuilt(figures),
        f"sent {figures.sent}",
        f"received {figures.received}",
        f"overhead {part(figures.overhead)}",
    ]
    for way, words in (("up", figures.repair_up), ("down", figures.repair_down)):
        if words is not None:
            parts.append(f"repair {way} [{words}]")
    return ", ".join(parts) + (f" ({figures.notice})" if figures.notice else "")


def table(figures: Figures, route: Route) -> Table:
    """The live view's content."""
    good = figures.state in ("carrying", "idle")
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold")
    grid.add_column()
    grid.add_row("state", Text(STATE_WORDS[figures.state], style="green" if good else "yellow"))
    grid.add_row("game connects to", " or ".join(route.local))
    if route.how:
        grid.add_row("", Text(route.how))
    grid.add_row("game server", Text(f"{route.server}  through the node {route.node}"))
    if figures.control is not None:
        grid.add_row("session", session_words(figures))
    grid.add_row(
        "round trip",
        f"{ms(figures.rtt_ms)}  best {ms(figures.rtt_min_ms)}  95 % {ms(figures.rtt_p95_ms)}"
        f"  jitter {ms(figures.jitter_ms)}",
    )
    grid.add_row(
        "loss",
        f"round trip {part(figures.loss)}  down {part(figures.loss_down)}  {loss_up(figures)}",
    )
    grid.add_row("after repair", after_repair(figures, "  "))
    grid.add_row("repair", f"{route.fec}  {rebuilt(figures)}")
    grid.add_row("repair up", Text(figures.repair_up or "-"))
    grid.add_row("repair down", Text(figures.repair_down or "-"))
    grid.add_row(
        "packets",
        f"{figures.sent} sent ({rate(figures.sent_per_s)}/s)"
        f"  {figures.received} received ({rate(figures.received_per_s)}/s)",
    )
    grid.add_row(
        "tunnel",
        f"overhead {part(figures.overhead)}  {count(figures.flows, 'flow')}"
        f"  {figures.dropped} dropped  {figures.strangers} from strangers",
    )
    if figures.notice:
        grid.add_row("note", Text(figures.notice, style="yellow"))
    return grid


def loss_up(figures: Figures) -> str:
    """Whether the node has counted or it is an estimate."""
    return f"up {'about ' if figures.loss_up_estimated else ''}{part(figures.loss_up)}"


def after_repair(figures: Figures, between: str) -> str:
    """What the game misses: the node counts what is late to it with what is lost."""
    return (
        f"still lost down {part(figures.residual_down)}{between}"
        f"lost or late up {part(figures.residual_up)}"
    )


def rebuilt(figures: Figures) -> str:
    late = f" ({figures.repaired_late} too late)" if figures.repaired_late else ""
    return f"{figures.repaired} rebuilt{late}"


def session_words(figures: Figures) -> str:
    """What the control connection to an invited node says."""
    if figures.control == "registered":
        return f"{figures.session} at the node"
    if figures.control == "refused" or figures.session is None:
        return str(figures.control)
    return f"{figures.control}; session {figures.session} goes on meanwhile"


def ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} ms"


def part(value: float | None) -> str:
    return "-" if value is None else f"{value * 100:.1f} %"


def rate(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"
