"""The tables of docs/loss-repair.md."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from .fec_cells import (
    DELAYS_MS,
    LAST_LIMIT,
    LAST_MOST,
    LOSSES,
    OTHERS,
    PAUSE_CELL,
    SCHEMES,
    Cell,
    Goal,
    games,
    goals,
    words,
)
from .fec_course import CALM_MOST, COURSE_MOST, COURSE_R50, TWO_PATHS_R50, Courses
from .fec_order import Deliveries
from .fec_world import Outcome
from .loss_world import Tally, Weather

BEGIN: Final = "<!-- bench-fec: {} -->"
END: Final = "<!-- bench-fec end -->"
IID_5: Final = Weather(0.05)

Outcomes = dict[Cell, Outcome]


def tables(outcomes: Outcomes, courses: Courses, order: Deliveries) -> dict[str, str]:
    """By the name in the marker."""
    return {
        "targets": _targets(outcomes),
        "delays": _delays(outcomes),
        "schemes": _schemes(outcomes),
        "others": _games(outcomes, list(OTHERS)),
        "games": _games(outcomes, games()),
        "silence": _silence(outcomes[PAUSE_CELL]),
        "adaptive": _adaptive(courses),
        "order": _order(order),
    }


def insert(document: Path, found: dict[str, str]) -> None:
    """Replace what stands between the markers. Raises `ValueError` if one is not there."""
    text = document.read_text()
    for name, table in found.items():
        before, begin, rest = text.partition(BEGIN.format(name) + "\n")
        _, end, after = rest.partition(END)
        if not begin or not end:
            raise ValueError(f"{document}: no markers for {name!r}")
        text = f"{before}{begin}\n{table}\n\n{end}{after}"
    document.write_text(text)


def is_met(goal: Goal, outcome: Outcome) -> bool:
    return outcome.r50 <= goal.most and outcome.bytes_ratio <= goal.limit


def share(percent: float) -> str:
    """Percent, to two digits that mean something."""
    if percent == 0:
        return "0"
    digits = 1 if percent >= 1 else 2
    for most in (0.1, 0.01, 0.001):
        digits += percent < most
    return f"{percent:.{digits}f}"


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in (head, *rows)]
    lines.insert(1, "|" + "---|" * len(head))
    return "\n".join(lines)


def _verdict(met: bool) -> str:
    return "met" if met else "MISSED"


def _targets(outcomes: Outcomes) -> str:
    """A row for each goal: the plan, what it left, the bound, the target."""
    rows = []
    for goal in goals():
        outcome = outcomes[goal.cell]
        rows.append(
            [
                goal.row,
                f"{goal.limit:.2f}",
                words(goal.cell.scheme),
                f"{outcome.bytes_ratio:.2f}",
                f"{share(outcome.r50)} ± {share(outcome.error)}",
                share(outcome.bound_r50),
                f"{goal.most:g}",
                _verdict(is_met(goal, outcome)),
            ]
        )
    return _table(["lost", "limit", "repairs", "bytes", "r50 %", "bound %", "target %", ""], rows)


def _delays(outcomes: Outcomes) -> str:
    rows = []
    mine = [goal for goal in goals() if goal.row == "5 %"]
    for goal, most in zip(mine, DELAYS_MS, strict=True):
        ms = outcomes[goal.cell].repair_delay_ms
        scheme = words(goal.cell.scheme)
        rows.append([f"{goal.limit:.2f}", scheme, f"{ms:.1f}", str(most), _verdict(ms <= most)])
    return _table(["limit", "repairs", "delay ms", "target ms", ""], rows)


def _schemes(outcomes: Outcomes) -> str:
    """r50 and, in brackets, the bound of the same losses."""
    rows = []
    for name, scheme in SCHEMES:
        row = [outcomes[Cell(scheme, weather)] for _, weather in LOSSES]
        at_5 = outcomes[Cell(scheme, IID_5)]
        rows.append(
            [
                name,
                f"{1 + scheme.repairs:.3g} / {at_5.bytes_ratio:.2f}",
                *(f"{share(each.r50)} ({share(each.bound_r50)})" for each in row),
                f"{at_5.repair_delay_ms:.1f}",
            ]
        )
    head = ["", "packets / bytes", *(name for name, _ in LOSSES), "delay ms at 5 %"]
    return _table(head, rows)


def _games(outcomes: Outcomes, named: list[tuple[str, Cell]]) -> str:
    rows = []
    for name, cell in named:
        outcome = outcomes[cell]
        rows.append(
            [
                name,
                words(cell.scheme),
                f"{outcome.bytes_ratio:.2f}",
                share(outcome.r50),
                share(outcome.bound_r50),
                f"{outcome.repair_delay_ms:.1f}",
            ]
        )
    return _table(["traffic, lost", "repairs", "bytes", "r50 %", "bound %", "delay ms"], rows)


def _silence(outcome: Outcome) -> str:
    last = 100 * outcome.last_missing / (outcome.packets / PAUSE_CELL.traffic.burst)
    met = last <= LAST_MOST and outcome.bytes_ratio <= LAST_LIMIT
    return _table(
        ["last packets before a silence", "bytes", "target", ""],
        [
            [
                f"{share(last)} %",
                f"{outcome.bytes_ratio:.2f}",
                f"{LAST_MOST} % within {LAST_LIMIT:.2f}",
                _verdict(met),
            ]
        ],
    )


def _adaptive(courses: Courses) -> str:
    """A row for each part of the timeline, and what is judged."""
    one, two, calm = courses.one_path, courses.two_paths, courses.calm
    rows = []
    for weather, *parts in zip(one.course, one.parts, two.parts, strict=True):
        runs = "" if weather.run is None else f" in bursts of {weather.run:g}"
        rows.append([f"{100 * weather.loss:g} %{runs}", *_both(parts)])
    rows.append(["**all**", *_both([one.total, two.total])])
    met = one.total.bytes_ratio <= COURSE_MOST and one.total.r50 <= COURSE_R50
    reached = two.total.bytes_ratio <= COURSE_MOST and two.total.r50 <= TWO_PATHS_R50
    rows.append(
        [
            f"target within {COURSE_MOST:.2f} bytes",
            "",
            f"{COURSE_R50:.2f} {_verdict(met)}",
            "",
            f"{TWO_PATHS_R50:.2f} {'met' if reached else 'not yet'}",
        ]
    )
    after = calm.parts[2].bytes_ratio
    verdict = f"{CALM_MOST} {_verdict(after <= CALM_MOST)}"
    rows.append(["from 15 s after the last loss", f"{after:.2f}", verdict, "", ""])
    head = ["lost", "bytes", "r50 %", "bytes, two paths", "r50 %, two paths"]
    return _table(head, rows)


def _both(tallies: list[Tally]) -> list[str]:
    return [text for each in tallies for text in (f"{each.bytes_ratio:.2f}", share(each.r50))]


def _order(order: Deliveries) -> str:
    met = not (order.wrong or order.twice or order.held_back)
    counts = (order.packets, order.recovered, order.wrong, order.twice, order.held_back)
    head = ["packets", "recovered", "wrong", "twice", "held back", ""]
    return _table(head, [[*map(str, counts), _verdict(met)]])
