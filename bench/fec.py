"""`make bench-fec`: what loss repair leaves and costs, as a table, a plot and JSON.

    python -m bench.fec [--quick]

Writes the tables in docs/loss-repair.md between their markers, docs/loss-repair.svg, and
bench/results/fec.json. Virtual time and fixed seeds, so the figures are the same on any machine
and only the minutes differ: it uses every core. Exit 1 if a target is missed.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import multiprocessing
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any, Final

import attrs

from . import fec_plot, fec_tables
from .fec_cells import LOSSES, OTHERS, SCHEMES, Cell, games, goals, neighbours
from .fec_course import CALM, Course, Courses, drive, runs
from .fec_order import Deliveries, order
from .fec_world import Outcome, simulate
from .loss_world import TIMELINE, Tally

ROOT: Final = Path(__file__).parent.parent
PACKETS: Final = 1_000_000  # in each cell,
GOAL_PACKETS: Final = 2_000_000  # and where a target is judged
QUICK: Final = 20  # times fewer
SEED: Final = 1

Outcomes = dict[Cell, Outcome]


@attrs.define
class Everything:
    """What one run found."""

    packets: int
    goal_packets: int
    outcomes: Outcomes = attrs.field(factory=dict)
    order: Deliveries = attrs.field(factory=lambda: Deliveries(0))
    timeline: list[list[Tally]] = attrs.field(factory=list)
    two_paths: list[list[Tally]] = attrs.field(factory=list)
    calm: list[list[Tally]] = attrs.field(factory=list)

    @property
    def courses(self) -> Courses:
        one, two = (Course.over(TIMELINE, runs) for runs in (self.timeline, self.two_paths))
        return Courses(one, two, Course.over(CALM, self.calm))


def cells(found: Everything) -> dict[Cell, int]:
    """All there are, and how many packets each gets; those of one scheme together."""
    wanted = {
        Cell(scheme, weather): found.packets for _, scheme in SCHEMES for _, weather in LOSSES
    }
    wanted |= {cell: found.packets for _, cell in (*games(), *OTHERS)}
    wanted |= {goal.cell: found.goal_packets for goal in goals()}
    return {cell: wanted[cell] for cell in neighbours(wanted)}


def run(found: Everything) -> None:
    """Everything, on all cores; progress on stderr."""
    jobs: dict[Future[Any], Callable[[Any], None]] = {}
    began = time.monotonic()
    # Not forked: the children must not have half of a parent that runs threads.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(mp_context=context) as pool:
        jobs[pool.submit(order, found.packets, SEED)] = functools.partial(setattr, found, "order")
        for number in range(runs(found.packets)):
            jobs[pool.submit(drive, TIMELINE, number)] = found.timeline.append
            jobs[pool.submit(drive, CALM, number)] = found.calm.append
            two = pool.submit(drive, TIMELINE, number, second_path=True)
            jobs[two] = found.two_paths.append
        for cell, packets in cells(found).items():
            job = pool.submit(simulate, cell.scheme, cell.weather, cell.traffic, packets, SEED)
            jobs[job] = functools.partial(found.outcomes.__setitem__, cell)
        for done, job in zip(itertools.count(1), as_completed(jobs), strict=False):
            jobs[job](job.result())
            seconds = time.monotonic() - began
            print(f"\r{done} of {len(jobs)}, {seconds:.0f} s", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)


def as_json(found: Everything) -> dict[str, Any]:
    courses = found.courses
    return {
        "packets": found.packets,
        "goal_packets": found.goal_packets,
        "cells": [
            attrs.asdict(cell) | figures(outcome) for cell, outcome in found.outcomes.items()
        ],
        "targets": [
            {
                "row": goal.row,
                "limit": goal.limit,
                "most": goal.most,
                "plan": attrs.asdict(goal.cell.scheme),
                "met": fec_tables.is_met(goal, found.outcomes[goal.cell]),
            }
            | figures(found.outcomes[goal.cell])
            for goal in goals()
        ],
        "adaptive": {
            name: {
                "r50": course.total.r50,
                "bytes": course.total.bytes_ratio,
                "parts": [attrs.asdict(part) for part in course.parts],
            }
            for name, course in attrs.asdict(courses, recurse=False).items()
        },
        "order": attrs.asdict(found.order, filter=lambda field, _: field.name != "_known"),
    }


def figures(outcome: Outcome) -> dict[str, float]:
    names = (
        "r50",
        "error",
        "bound_r50",
        "bytes_ratio",
        "repair_delay_ms",
        "packets",
        "missing",
        "bound",
    )
    return {name: getattr(outcome, name) for name in names}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.fec", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a twentieth of the packets")
    parser.add_argument("--json", type=Path, default=ROOT / "bench/results/fec.json")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs", help="where to write")
    options = parser.parse_args()
    fewer = QUICK if options.quick else 1
    found = Everything(PACKETS // fewer, GOAL_PACKETS // fewer)
    run(found)
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(as_json(found), indent=1) + "\n")
    fec_plot.draw(found.outcomes, options.docs / "loss-repair.svg")
    tables = fec_tables.tables(found.outcomes, found.courses, found.order)
    fec_tables.insert(options.docs / "loss-repair.md", tables)
    print("\n\n".join(tables.values()))
    missed = [line for table in tables.values() for line in table.splitlines() if "MISSED" in line]
    print(f"\n{len(missed)} rows with a target that was missed; all figures: {options.json}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
