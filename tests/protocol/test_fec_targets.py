"""What the game misses and what that costs, through the real codec: every target of the design.

100 000 packets for each; `make bench-fec` judges the same cells, and more, by millions.
"""

from __future__ import annotations

import math
import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
from lightspeed_protocol.fec.window import Plan

from bench.fec_cells import (
    DELAYS_MS,
    LAST_LIMIT,
    PAUSE_CELL,
    Cell,
    Goal,
    choose,
    goals,
    neighbours,
    words,
)
from bench.fec_order import order
from bench.fec_world import Outcome, Scheme, Traffic, simulate
from bench.loss_world import Weather

DOCUMENT = Path(__file__).parents[2] / "docs/loss-repair.md"
PACKETS = 100_000
SEED = 7
GROUP = 2.0  # packets that are missing together where losses do not cling: 1.6 to 2.1, measured
LAST_PACKETS = PACKETS // PAUSE_CELL.traffic.burst

# Plans nobody would choose, which must not beat the bound either.
ODD = [
    Cell(Scheme(Plan(3, 7, stride=2, delay=1)), Weather(0.3)),
    Cell(Scheme(Plan(1, 24)), Weather(0.4, 4)),
    Cell(Scheme(Plan(5, 3, stride=5), twice=True), Weather(0.1, 2)),
    Cell(Scheme(Plan.xor(3), second_path=True), Weather(0.2, 5)),
    Cell(Scheme(Plan(1, 2, delay=2), twice=True), Weather(0.5), Traffic(None, 3, 1 / 30)),
    Cell(Scheme(Plan(2, 5)), Weather(0.25, 1), Traffic(None, 4, 1 / 64, sizes=(20, 900))),
]
EXACT = [
    Cell(Scheme(Plan(1, 1)), Weather(0.2)),
    Cell(Scheme(Plan(1, 1, delay=3)), Weather(0.05, 3)),
    Cell(Scheme(Plan(1, 1)), Weather(0.05, 3)),
]


def run(cell: Cell) -> Outcome:
    return simulate(cell.scheme, cell.weather, cell.traffic, PACKETS, SEED)


@pytest.fixture(scope="module")
def outcomes() -> dict[Cell, Outcome]:
    """All cells of this file, on all cores."""
    cells = neighbours([*(goal.cell for goal in goals()), PAUSE_CELL, *ODD, *EXACT])
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        return dict(zip(cells, pool.map(run, cells), strict=True))


def tolerance(outcome: Outcome, percent: float) -> float:
    """Three standard errors, in percent, of so few packets.

    What the run itself shows, with failures that come in groups; never less than the binomial
    error of the share that is judged, in groups of `GROUP`, for runs in which next to none failed.
    """
    binomial = 100 * math.sqrt(percent / 100 * GROUP / outcome.packets)
    return 3 * max(outcome.error, binomial)


@pytest.mark.parametrize("goal", goals(), ids=lambda goal: f"{goal.row} within {goal.limit}")
def test_no_more_than_the_target_is_missing_in_time(
    goal: Goal, outcomes: dict[Cell, Outcome]
) -> None:
    outcome = outcomes[goal.cell]
    assert outcome.bytes_ratio <= goal.limit
    assert outcome.r50 <= goal.most + tolerance(outcome, goal.most)


def test_a_repair_comes_soon(outcomes: dict[Cell, Outcome]) -> None:
    mine = [outcomes[goal.cell] for goal in goals() if goal.row == "5 %"]
    for outcome, most in zip(mine, DELAYS_MS, strict=True):
        assert outcome.repair_delay_ms <= most


def test_the_last_packet_before_a_silence_is_repaired(outcomes: dict[Cell, Outcome]) -> None:
    outcome = outcomes[PAUSE_CELL]
    assert outcome.bytes_ratio <= LAST_LIMIT
    most = 0.05 / 100 * LAST_PACKETS
    assert outcome.last_missing <= most + 3 * math.sqrt(most)


def test_the_bound_is_never_beaten(outcomes: dict[Cell, Outcome]) -> None:
    for cell, outcome in outcomes.items():
        assert outcome.missing >= outcome.bound, cell


def test_copies_fail_as_often_as_arithmetic_says(outcomes: dict[Cell, Outcome]) -> None:
    """The world is right where the answer is known without it."""
    loss, run = 0.05, 3
    cling = (1 - 1 / run) - loss / (run * (1 - loss))  # of a bad time with the next slot
    expected = [100 * 0.2**2, 100 * loss * (loss + (1 - loss) * cling**3), 100 * loss]
    for cell, percent in zip(EXACT, expected, strict=True):
        assert abs(outcomes[cell].r50 - percent) <= tolerance(outcomes[cell], percent)


@pytest.mark.parametrize(
    ("weather", "limit", "plan"),
    [
        (Weather(0.05), 1.30, Plan(4, 4)),
        (Weather(0.05), 1.60, Plan(2, 4)),
        (Weather(0.05), 2.15, Plan(1, 4)),
        (Weather(0.05, 3), 1.60, Plan(2, 2, stride=3)),
        (Weather(0.05, 3), 2.15, Plan(1, 1, delay=3)),
    ],
)
def test_the_plans_are_those_of_the_controller(weather: Weather, limit: float, plan: Plan) -> None:
    assert choose(weather, Traffic(), limit) == plan


def test_nothing_is_wrong_nothing_comes_twice_and_nothing_waits() -> None:
    """Packets out of order, duplicated and lost, plans that change, and the count that wraps."""
    seen = order(PACKETS, SEED)
    assert (seen.wrong, seen.twice, seen.held_back) == (0, 0, 0)
    assert seen.recovered > PACKETS / 25


def test_the_document_has_a_row_for_every_target_and_none_is_missed() -> None:
    text = DOCUMENT.read_text()
    for goal in goals():
        assert f"| {goal.row} | {goal.limit:.2f} | {words(goal.cell.scheme)} |" in text
    assert "MISSED" not in text


def test_a_run_depends_on_its_seed_alone() -> None:
    cell = goals()[0].cell
    runs: Sequence[Outcome] = [
        simulate(cell.scheme, cell.weather, cell.traffic, 20_000, seed) for seed in (1, 1, 2)
    ]
    assert runs[0] == runs[1] != runs[2]
