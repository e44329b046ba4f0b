from __future__ import annotations

import io
import json
import os
from typing import Any

import attrs
import pytest
from lightspeed_client.display import (
    JsonView,
    LiveView,
    PlainView,
    Route,
    one_line,
    pick_view,
    session_words,
    table,
    write_now,
)
from lightspeed_client.figures import ControlState, Figures
from lightspeed_client.flows import FlowTable
from lightspeed_client.gauges import Gauges
from lightspeed_protocol.keepalive import Prober
from rich.console import Console

GAUGES = Gauges(FlowTable(), Prober(0.25, 0.0), 0.0)
FIGURES = GAUGES.figures(0.0, strangers=0, notice=None)
ROUTE = Route(
    local=["127.0.0.1:27960", "[::1]:27960"],
    server="203.0.113.5:1",
    node="192.0.2.1:2",
    fec="xor:4",
)
TOTALS = GAUGES.totals(9.0, strangers=0, server="203.0.113.5:1", node="192.0.2.1:2")


def at(second: float, **change: Any) -> Figures:
    return attrs.evolve(FIGURES, elapsed_s=second, **change)


def test_json_is_one_object_a_line_and_only_the_last_is_final() -> None:
    out = io.StringIO()
    view = JsonView(out)
    view.begin(ROUTE)
    for second in range(3):
        view.show(at(second))
    view.end(at(3), TOTALS)
    records = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [record.get("final", False) for record in records] == [False, False, False, True]
    assert records[-1]["totals"]["server"] == "203.0.113.5:1"
    for record in records:
        assert record.items() >= attrs.asdict(ROUTE).items()


def test_plain_lines_come_every_five_seconds_and_when_the_state_changes() -> None:
    out = io.StringIO()
    view = PlainView(out)
    view.begin(ROUTE)
    for second in range(11):
        view.show(at(second, state="carrying" if second >= 7 else "idle"))
    view.end(at(11), TOTALS)
    lines = out.getvalue().splitlines()
    assert "127.0.0.1:27960 or [::1]:27960" in lines[0]
    assert "203.0.113.5:1, node 192.0.2.1:2, loss repair xor:4" in lines[1]
    assert len([line for line in lines if "round trip" in line]) == 3  # 0, 5, and the change at 7
    assert "No game sent a packet" in lines[-1]


def test_unknown_figures_show_as_a_dash() -> None:
    assert "round trip -, jitter -, loss -, loss down -" in one_line(FIGURES)
    assert "(do this)" in one_line(attrs.evolve(FIGURES, notice="do this"))


def test_the_live_table_shows_what_matters() -> None:
    out = io.StringIO()
    console = Console(file=out, width=120)
    good = at(5, state="carrying", rtt_ms=31.25, loss=0.05, loss_up=0.02, repaired=7)
    console.print(table(good, ROUTE))
    console.print(table(at(5, state="no-answer", notice="check [the] cable", flows=1), ROUTE))
    text = out.getvalue()
    for part in ("carrying", "31.2 ms", "5.0 %", "2.0 %", "7 rebuilt", "check [the] cable"):
        assert part in text
    for part in ("127.0.0.1:27960 or [::1]:27960", "203.0.113.5:1", "192.0.2.1:2", "xor:4"):
        assert part in text
    assert "0 flows" in text
    assert "1 flow " in text


def screen(figures: Figures, width: int = 80) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    console.print(table(figures, attrs.evolve(ROUTE, fec="auto")))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


UP = (
    "1 repair per 2 packets over 4, asks again for what is missing: 4.7 % lost in runs of 1.1,"
    " expected left 0.068 %, costs 1.51x, held back: with more, 6.0 % were lost instead of 3.0 %"
)
REPAIRING = at(
    9,
    state="carrying",
    loss=0.1,
    loss_down=0.05,
    loss_up=0.047,
    loss_up_estimated=False,
    residual_down=0.001,
    residual_up=0.002,
    repaired=12,
    repaired_late=3,
    repair_up=UP,
    repair_down="0.52 repairs per packet: 5.0 % lost, 0.1 % left",
    notice="a note " * 20,
    control="registered",
    session="00001b59",
)


def test_what_is_done_against_loss_is_told_both_ways() -> None:
    text = [" ".join(line.split()) for line in screen(REPAIRING, 300)]
    assert "loss round trip 10.0 % down 5.0 % up 4.7 %" in text
    assert "after repair still lost down 0.1 % lost or late up 0.2 %" in text
    assert "repair auto 12 rebuilt (3 too late)" in text
    assert f"repair up {UP}" in text
    assert "repair down 0.52 repairs per packet: 5.0 % lost, 0.1 % left" in text
    nothing = [" ".join(line.split()) for line in screen(at(1))]
    assert "repair up -" in nothing
    assert "loss round trip - down - up about -" in nothing
    line = one_line(REPAIRING)
    assert "loss down 5.0 %, loss up 4.7 %, still lost down 0.1 %, lost or late up 0.2 %" in line
    assert f"12 rebuilt (3 too late), sent 0, received 0, overhead -, repair up [{UP}], re" in line
    assert "repair up" not in one_line(FIGURES)


def test_all_of_it_fits_a_small_terminal() -> None:
    lines = screen(attrs.evolve(REPAIRING))
    assert len(lines) <= 23
    assert max(map(len, lines)) <= 80


def test_a_live_session_ends_with_the_report_on_screen() -> None:
    out = io.StringIO()
    view = LiveView(Console(file=out, force_terminal=True, width=100))
    view.begin(ROUTE)
    view.show(FIGURES)
    view.end(FIGURES, TOTALS)
    assert "through 192.0.2.1:2" in out.getvalue()


def test_the_view_fits_its_reader() -> None:
    assert isinstance(pick_view(as_json=True), JsonView)
    assert isinstance(pick_view(as_json=False, out=io.StringIO()), PlainView)


def test_a_closed_pipe_is_an_os_error_for_the_caller() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as out, pytest.raises(BrokenPipeError):
        write_now(out, "text")


def test_what_to_do_in_the_game_is_shown_where_it_is_known() -> None:
    how = "open the console and type: connect 127.0.0.1:27960"
    out = io.StringIO()
    PlainView(out).begin(attrs.evolve(ROUTE, how=how))
    assert how in out.getvalue()
    console = Console(file=io.StringIO(), width=120)
    console.print(table(FIGURES, attrs.evolve(ROUTE, how=how)))
    assert isinstance(console.file, io.StringIO)
    assert how in console.file.getvalue()


@pytest.mark.parametrize(
    ("control", "session", "words"),
    [
        ("registered", "00001b59", "00001b59 at the node"),
        ("connecting", "00001b59", "connecting; session 00001b59 goes on meanwhile"),
        ("connecting", None, "connecting"),
        ("refused", None, "refused"),
    ],
)
def test_the_session_at_an_invited_node_is_shown(
    control: ControlState, session: str | None, words: str
) -> None:
    assert session_words(at(1, control=control, session=session)) == words
    console = Console(file=io.StringIO(), width=120)
    console.print(table(at(1, control=control, session=session), ROUTE))
    assert isinstance(console.file, io.StringIO)
    assert words in console.file.getvalue()
