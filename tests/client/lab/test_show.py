from __future__ import annotations

import io
import json

import attrs
from lightspeed_client.lab.show import (
    JsonView,
    PlainView,
    ScreenView,
    final_table,
    fold,
    live_table,
    one_line,
    pick_view,
)
from lightspeed_client.lab.tally import Live
from lightspeed_client.lab.way import Wire
from rich.console import Console

from .test_verdict import DROPPED, OFF, tally, way

LIVE = Live(
    seconds=1.0,
    inputs_sent=64,
    inputs_dropped=3,
    inputs_missing=2,
    states_sent=63,
    states_dropped=5,
    states_missing=1,
    duplicates=0,
    round_trip_ms=None,
    freeze_ms=31.0,
    repair_packets=16,
)


def test_a_pipe_gets_lines_now_and_then() -> None:
    out = io.StringIO()
    view = pick_view(as_json=False, out=out)
    assert isinstance(view, PlainView)
    view.begin("match 1")
    for second in range(1, 12):
        view.show(attrs.evolve(LIVE, seconds=second + 0.01))
    view.end()
    view.result(["the end"], {})
    lines = out.getvalue().splitlines()
    assert lines[0] == "match 1"
    assert [line.split()[0] for line in lines[1:-1]] == ["1", "6", "11"]
    assert lines[-1] == "the end"


def test_json_is_one_object_a_line_and_the_last_is_final() -> None:
    out = io.StringIO()
    view = pick_view(as_json=True, out=out)
    assert isinstance(view, JsonView)
    view.say("words")
    view.begin("match 1")
    view.show(LIVE)
    view.end()
    view.result(["words"], OFF.to_json())
    first, last = map(json.loads, out.getvalue().splitlines())
    assert (first["match"], first["states_dropped"], first["round_trip_ms"]) == ("match 1", 5, None)
    assert last["final"] is True
    assert last["up"]["sent"] == 1000


def test_a_terminal_gets_a_table_that_is_taken_down() -> None:
    out = io.StringIO()
    view = ScreenView(Console(file=out, force_terminal=True, width=100))
    view.begin("match 1")
    view.show(LIVE)
    view.end()
    view.end()
    view.result(["the [end]"], {})
    text = out.getvalue()
    assert "states, server to player" in text
    assert "longest freeze 31 ms" in text
    assert "the [end]" in text


def test_unknown_figures_are_dashes() -> None:
    assert "round trip -;" in one_line(LIVE)
    assert "up:" not in one_line(LIVE)
    cells = [line.split() for line in final_table(OFF)]
    assert ["repair", "delay,", "mean", "-"] in cells
    assert ["bytes", "over", "the", "game's", "packets", "-"] in cells


def test_what_is_done_against_loss_is_said_while_it_runs() -> None:
    live = attrs.evolve(LIVE, repair_up="1 repair per packet over 4", repair_down="no repair")
    assert one_line(live).endswith("; up: 1 repair per packet over 4; down: no repair")
    out = io.StringIO()
    Console(file=out, width=100).print(live_table(live))
    assert "up: 1 repair per packet over 4 " in out.getvalue()


def test_what_was_left_stands_beside_what_any_code_would_have_left() -> None:
    wire = Wire(source=1000, repair=512, feedback=8)
    one = attrs.evolve(way(DROPPED - {20, 40}, late=1), wire=wire, bound=2)
    lines = [" ".join(line.split()) for line in final_table(tally(one))]
    at = lines.index("not there in time 3 (0.30%)")
    assert lines[at + 1] == "no code could leave fewer than 2 (0.20%)"
    at = lines.index("bytes over the game's packets 1.520")
    assert lines[at + 1 : at + 3] == [
        "for repair packets 0.512",
        "for reports and asks 0.008",
    ]


def test_losses_are_told_by_cause_only_when_there_is_more_than_one() -> None:
    alone = attrs.evolve(way(), lost_by={"loss": 49})
    assert not any("loss" in line.split() for line in final_table(tally(alone)))
    both = attrs.evolve(way(), lost_by={"loss": 40, "blackhole": 9})
    lines = [" ".join(line.split()) for line in final_table(tally(both))]
    at = lines.index("lost before repair 49 (4.90%)")
    assert lines[at + 1 : at + 3] == [
        "by independent loss 40 (4.00%)",
        "in a blackhole 9 (0.90%)",
    ]


def test_the_table_says_late_against_what_and_how_many_of_those_were_repaired() -> None:
    lines = final_table(tally(attrs.evolve(way({20, 40}, late=3), repaired_late=2)))
    cells = [line.split() for line in lines]
    assert ["late", "3", "(0.30%)"] in cells
    assert ["of", "those,", "repaired", "2"] in cells
    assert lines[-3].startswith(
        "In time: within 50 ms of the moment the packet would have come undisturbed"
    )
    slow = attrs.evolve(way(), budget_s=0.12)
    assert any(line.startswith("In time: within 120 ms") for line in final_table(tally(slow)))


def test_the_control_connection_is_counted_where_there_is_one() -> None:
    assert not any("control connection" in line for line in final_table(OFF))
    lines = final_table(attrs.evolve(OFF, control_bytes=5432), OFF)
    (line,) = [line.split() for line in lines if "control connection" in line]
    assert line[-2:] == ["5432", "0"]


def test_long_lines_are_folded_under_their_own_beginning() -> None:
    assert fold("  - one two three four five six --pps", 20).split("\n") == [
        "  - one two three",
        "    four five six",
        "    --pps",
    ]
    assert fold("a  table   row", 20) == "a  table   row"
    assert fold("", 20) == ""


def test_matches_stand_side_by_side() -> None:
    lines = final_table(OFF, tally(way({20})))
    assert lines[0].split() == ["repair", "off", "repair", "xor:4"]
    assert any(line.split() == ["repaired", "0", "1"] for line in lines)
    assert any("49 (4.90%)" in line and "48 (4.80%)" in line for line in lines)
    assert len({line.rindex("ms") for line in lines if line.startswith("round trip")}) == 1
