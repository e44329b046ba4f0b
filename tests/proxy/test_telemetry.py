from __future__ import annotations

import attrs
import pytest
import trio
from lightspeed_protocol.runtime.daemon import stage
from lightspeed_protocol.telemetry import TelemetryEvent
from lightspeed_proxy.telemetry import MOST_CELLS, OTHER, SHOWN_FROM, TelemetryCells, run_writer

EVENT = TelemetryEvent(
    game_id=1,
    client_country="de",
    p50_ms=20.0,
    p95_ms=30.0,
    p99_ms=40.0,
    jitter_ms=2.0,
    sample_count=100,
    fec_recoveries=3,
    fec_losses=4,
    client_version="0.1.0",
)


def test_reports_of_one_game_and_country_add_up_in_one_cell() -> None:
    cells = TelemetryCells()
    for _ in range(SHOWN_FROM - 1):
        cells.add(EVENT)
    assert list(cells.shown()) == []  # too few to hide one player among
    cells.add(attrs.evolve(EVENT, client_country="DE", sample_count=1))
    ((key, cell),) = cells.shown()
    assert key == ("1", "DE")
    assert cell.reports == SHOWN_FROM
    assert cell.p50_s == pytest.approx(0.020 * SHOWN_FROM)
    assert cell.p99_s == pytest.approx(0.040 * SHOWN_FROM)
    assert (cell.fec_recoveries, cell.fec_losses) == (3 * SHOWN_FROM, 4 * SHOWN_FROM)


def test_the_table_is_bounded_and_loses_no_report() -> None:
    cells = TelemetryCells()
    for game in range(256):
        for country in ("", "de", "fr"):
            for _ in range(SHOWN_FROM):
                cells.add(attrs.evolve(EVENT, game_id=game, client_country=country))
    assert len(cells) == MOST_CELLS
    shown = dict(cells.shown())
    assert OTHER in shown
    assert sum(cell.reports for cell in shown.values()) == 256 * 3 * SHOWN_FROM


@pytest.mark.parametrize("country", ["", "x", "d\n", '"}', "\u00e9\u00e9", "12"])
def test_a_label_never_carries_what_somebody_typed(country: str) -> None:
    cells = TelemetryCells()
    for _ in range(SHOWN_FROM):
        cells.add(attrs.evolve(EVENT, client_country=country))
    assert [key for key, _ in cells.shown()] == [("1", "")]


async def test_the_writer_empties_its_inbox_when_it_stops() -> None:
    cells = TelemetryCells()
    send, receive = trio.open_memory_channel[TelemetryEvent](8)
    with send, receive:
        async with stage(run_writer, receive, cells):
            for _ in range(8):
                send.send_nowait(EVENT)
    ((_, cell),) = cells.shown()
    assert cell.reports == 8
