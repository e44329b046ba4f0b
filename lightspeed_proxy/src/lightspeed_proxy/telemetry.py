"""Adds players' opt-in reports up by game and country, and keeps nothing else of them.

No address, no time and no single report is stored. A cell shows itself only once enough reports
are in it, so that nobody's figures can be read off.
Source: PROTOCOL.md (the report); the original's later releases publish from 3 distinct sources on,
which cannot be told apart here because no source is kept, so the bar is higher.
"""

from __future__ import annotations

import contextlib
import string
from typing import Final

import attrs
import trio
from lightspeed_protocol.telemetry import TelemetryEvent

INBOX: Final = 256  # reports; a report comes once per match, so a full inbox is an attack
MOST_CELLS: Final = 64  # keeps a scrape small; what does not fit is added up under `OTHER`
SHOWN_FROM: Final = 5  # reports in a cell

Key = tuple[str, str]  # game id in decimal, country in capitals or ""
OTHER: Final[Key] = ("other", "")

_LETTERS: Final = frozenset(string.ascii_uppercase)


@attrs.define(eq=False)
class Cell:
    """Sums over reports; every report weighs the same, whatever sample count it claims."""

    reports: int = 0
    p50_s: float = 0.0
    p95_s: float = 0.0
    p99_s: float = 0.0
    jitter_s: float = 0.0
    fec_recoveries: int = 0
    fec_losses: int = 0


@attrs.define(eq=False)
class TelemetryCells:
    """A bounded table of sums."""

    _cells: dict[Key, Cell] = attrs.field(factory=dict)

    def add(self, event: TelemetryEvent) -> None:
        """`event` has passed the schema's check."""
        cell = self._cell((str(event.game_id), _country(event.client_country)))
        cell.reports += 1
        cell.p50_s += event.p50_ms / 1000
        cell.p95_s += event.p95_ms / 1000
        cell.p99_s += event.p99_ms / 1000
        cell.jitter_s += event.jitter_ms / 1000
        cell.fec_recoveries += event.fec_recoveries
        cell.fec_losses += event.fec_losses

    def shown(self) -> list[tuple[Key, Cell]]:
        """The cells with enough reports."""
        return [item for item in self._cells.items() if item[1].reports >= SHOWN_FROM]

    def __len__(self) -> int:
        return len(self._cells)

    def _cell(self, key: Key) -> Cell:
        if key not in self._cells and len(self._cells) >= MOST_CELLS - 1:
            key = OTHER
        return self._cells.setdefault(key, Cell())


def _country(text: str) -> str:
    """Two letters or nothing: a label must not carry what somebody typed."""
    letters = text.upper()
    return letters if len(letters) == 2 and _LETTERS.issuperset(letters) else ""


async def run_writer(
    inbox: trio.MemoryReceiveChannel[TelemetryEvent],
    cells: TelemetryCells,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Never returns. Cancelled, it still adds up what is in the inbox, which needs no waiting."""
    task_status.started()
    try:
        while True:
            cells.add(await inbox.receive())
    finally:
        with contextlib.suppress(trio.WouldBlock, trio.EndOfChannel, trio.ClosedResourceError):
            while True:
                cells.add(inbox.receive_nowait())
