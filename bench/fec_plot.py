"""docs/loss-repair.svg: what is left over what it costs, a panel for each kind of loss."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, Final

from .fec_cells import LOSSES, SCHEMES, WINDOWS, Cell
from .fec_world import Outcome, Scheme

FLOOR: Final = 1e-4  # percent: one packet in a million; what is less is drawn there
TOP: Final = 60.0
COLUMNS: Final = 4
# Colours that are told apart in any sight: Okabe and Ito, "Color Universal Design", 2008.
BLACK, GREY = "#222222", "#f0f0f0"
ORANGE, SKY, GREEN, BLUE, RED, PINK = (
    *("#e69f00", "#56b4e9", "#009e73"),
    *("#0072b2", "#d55e00", "#cc79a7"),
)
ON_THE_LINE: Final = tuple(Scheme(plan) for _, plan in WINDOWS)
# The other schemes in their order: colour, marker, size.
POINTS: Final = (
    (ORANGE, "s", 7),
    (GREEN, "D", 7),
    (PINK, "v", 8),
    (SKY, "<", 8),
    (SKY, "^", 8),
    (RED, "X", 9),
    (RED, "*", 13),
)
STYLE: Final = {
    "svg.hashsalt": "loss repair",  # the same figures give the same file
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
}

Outcomes = dict[Cell, Outcome]


def draw(outcomes: Outcomes, target: Path) -> None:
    """Write the file; its ending names the format. Needs matplotlib, of the `bench` group."""
    matplotlib: Any = importlib.import_module("matplotlib")
    matplotlib.use("Agg")
    pyplot: Any = importlib.import_module("matplotlib.pyplot")
    with pyplot.rc_context(STYLE):
        figure, grid = pyplot.subplots(
            2, COLUMNS, figsize=(12, 6.4), sharex=True, sharey=True, layout="constrained"
        )
        panels = list(grid.flat)
        for axes, (name, weather) in zip(panels, LOSSES, strict=False):
            _panel(axes, {scheme: outcomes[Cell(scheme, weather)] for _, scheme in SCHEMES})
            axes.set_title(name.replace("%", "% lost"))
        for axes in grid[:, 0]:
            axes.set_ylabel("not known within 50 ms, %")
        for axes in panels[COLUMNS - 1 : -1]:
            axes.set_xlabel("bytes, times the game's own")
        panels[COLUMNS - 1].xaxis.set_tick_params(labelbottom=True)
        handles, labels = panels[0].get_legend_handles_labels()
        legend = panels[-1].legend(handles, labels, loc="center", fontsize=8, frameon=False)
        legend.set_in_layout(False)
        panels[-1].axis("off")
        metadata = {"Date": None} if target.suffix == ".svg" else None
        figure.savefig(target, metadata=metadata, dpi=100)
        pyplot.close(figure)


def _panel(axes: Any, found: dict[Scheme, Outcome]) -> None:
    line = [found[scheme] for scheme in ON_THE_LINE]
    unprotected = 100 * line[0].taken / line[0].packets
    costs = [1.0, *(outcome.bytes_ratio for outcome in line)]
    bounds = [unprotected, *(_seen(outcome.bound_r50) for outcome in line)]
    left = [unprotected, *(_seen(outcome.r50) for outcome in line)]
    axes.fill_between(costs, FLOOR / 10, bounds, color=GREY, lw=0)
    axes.plot(costs, bounds, "--", color=BLACK, lw=1, label="no code leaves less on one path")
    name = "window of 4, 1 per 8, 4, 3, 2, 1"
    axes.plot(costs, left, "o-", color=BLUE, ms=5, lw=1.6, label=name)
    others = [(label, scheme) for label, scheme in SCHEMES if scheme not in ON_THE_LINE]
    for (label, scheme), (color, marker, size) in zip(others, POINTS, strict=True):
        at = found[scheme].bytes_ratio, _seen(found[scheme].r50)
        axes.plot(
            *at, marker, color=color, ms=size, mec="white", mew=0.7, label=label, clip_on=False
        )
    axes.set_yscale("log")
    axes.set_ylim(FLOOR / 1.6, TOP)
    axes.set_xlim(0.97, 2.15)
    axes.set_xticks((1.0, 1.25, 1.5, 1.75, 2.0))
    axes.grid(which="major", color="#dddddd", lw=0.6)
    axes.set_axisbelow(True)
    axes.yaxis.set_major_formatter(_tick)
    axes.minorticks_off()


def _tick(value: float, _: int) -> str:
    return f"≤ {value:g}" if value < 2 * FLOOR else f"{value:g}"


def _seen(percent: float) -> float:
    return max(percent, FLOOR)
