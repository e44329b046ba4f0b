"""What `make bench-fec` compares: schemes, losses, and the targets with the plans chosen for them.

Source: the design's tables; the choice is the controller's own, from `residual`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import attrs
from lightspeed_protocol.fec.residual import candidates, packets_ahead, residual
from lightspeed_protocol.fec.window import Plan
from lightspeed_protocol.fec.window_plan import REPAIR_EXTRA_BYTES

from .fec_world import BUDGET_S, SECOND_PATH_S, Scheme, Traffic
from .loss_world import HEADER_BYTES, Weather

PAYLOAD_BYTES: Final = 100
LIMITS: Final = (1.30, 1.60, 2.15)  # bytes sent over bytes of source packets


@attrs.frozen
class Cell:
    """One simulation."""

    scheme: Scheme
    weather: Weather
    traffic: Traffic = Traffic()  # noqa: RUF009  # frozen


def neighbours(cells: Iterable[Cell]) -> list[Cell]:
    """Each once, in an order in which what was encoded for one often serves the next."""
    return sorted(set(cells), key=lambda cell: str((cell.scheme, cell.traffic, cell.weather)))


@attrs.frozen
class Goal:
    """r50, percent, that must not be exceeded within so many bytes."""

    row: str
    limit: float
    most: float
    cell: Cell


IID: Final = tuple((f"{loss} %", Weather(loss / 100)) for loss in (1, 2, 5, 10, 20))
BURSTS: Final = tuple((f"5 % in bursts of {run}", Weather(0.05, run)) for run in (2, 3))
LOSSES: Final = IID + BURSTS

WINDOWS: Final = tuple(
    (f"window of 4, 1 per {every}" if every > 1 else "window of 4, 1 per packet", Plan(every, 4))
    for every in (8, 4, 3, 2, 1)
)
SCHEMES: Final[tuple[tuple[str, Scheme], ...]] = (
    ("XOR over blocks of 4", Scheme(Plan.xor(4))),
    ("Reed-Solomon, 2 per block of 4", Scheme(Plan(4, 4), twice=True)),
    *((name, Scheme(plan)) for name, plan in WINDOWS),
    ("pairs 3 apart, 1 per 2", Scheme(Plan(2, 2, stride=3))),
    ("each packet twice at once", Scheme(Plan(1, 1))),
    ("each packet again 3 later", Scheme(Plan(1, 1, delay=3))),
    ("second path: XOR over blocks of 4", Scheme(Plan.xor(4), second_path=True)),
    ("second path: window of 3, 1 per packet", Scheme(Plan(1, 3), second_path=True)),
)

# Row, loss, packets a second, whether repairs take a second path, and r50 for each of the limits.
_TARGETS: Final[tuple[tuple[str, Weather, float, bool, tuple[float | None, ...]], ...]] = (
    ("1 %", Weather(0.01), 64, False, (0.045, 0.002, 0.0003)),
    ("2 %", Weather(0.02), 64, False, (0.17, 0.0065, 0.0003)),
    ("5 %", Weather(0.05), 64, False, (1.0, 0.10, 0.001)),
    ("10 %", Weather(0.10), 64, False, (3.5, 0.75, 0.02)),
    ("20 %", Weather(0.20), 64, False, (12, 5.2, 0.5)),
    ("5 % in bursts of 2", Weather(0.05, 2), 64, False, (3.95, 3.05, 0.82)),
    ("5 % in bursts of 3", Weather(0.05, 3), 64, False, (4.5, 3.45, 1.65)),
    ("5 % on each of two paths", Weather(0.05), 64, True, (None, 0.35, 0.005)),
    ("5 % in bursts of 3 on each of two paths", Weather(0.05, 3), 64, True, (None, 3.45, 0.32)),
    ("5 %, 128 packets a second", Weather(0.05), 128, False, (0.55, 0.013, 0.0002)),
    ("5 %, 30 packets a second", Weather(0.05), 30, False, (3.1, 0.55, 0.032)),
)

# Mean repair delay, ms, at 5 % loss and 64 packets a second, for each of the limits.
DELAYS_MS: Final = (26, 13, 2)


def bytes_ratio(plan: Plan) -> float:
    """Of packets with `PAYLOAD_BYTES`."""
    size = PAYLOAD_BYTES + HEADER_BYTES
    return 1 + (size + REPAIR_EXTRA_BYTES) / size / plan.every


def choose(weather: Weather, traffic: Traffic, limit: float, *, second_path: bool = False) -> Plan:
    """What the controller would pick for a known loss if it might use so many bytes.

    Of its candidates the one it expects to leave least. It takes both paths for one, so it fears
    bursts that repairs do not meet on the second.
    """
    ahead = packets_ahead((BUDGET_S - SECOND_PATH_S * second_path) * traffic.mean_rate)
    run = None if weather.run is None else weather.run * traffic.burst  # packets
    clump = 1.0 if run is None else run * (1 - weather.loss)
    return min(
        (plan for plan in candidates(ahead) if bytes_ratio(plan) <= limit),
        key=lambda plan: residual(plan, ahead, weather.loss, clump),
    )


def goals() -> list[Goal]:
    found: list[Goal] = []
    for row, weather, rate, second_path, most in _TARGETS:
        for limit, share in zip(LIMITS, most, strict=True):
            if share is not None:
                traffic = Traffic(rate)
                plan = choose(weather, traffic, limit, second_path=second_path)
                scheme = Scheme(plan, second_path=second_path)
                found.append(Goal(row, limit, share, Cell(scheme, weather, traffic)))
    return found


# A tick sends three packets at once; a whole tick is lost, or each packet by itself.
TICKS: Final = tuple(
    (f"{rate} ticks a second of 3 packets, {name}", weather, Traffic(None, 3, 1 / rate))
    for rate in (64, 30)
    for name, weather in (("5 %", Weather(0.05)), ("5 % of whole ticks", Weather(0.05, 1)))
)
MIXED: Final = tuple(
    (f"50 to 500 bytes, {name}", weather, Traffic(sizes=(50, 500)))
    for name, weather in (("5 %", Weather(0.05)), *BURSTS[1:])
)
PAUSES: Final = Traffic(64.0, 10, 9 / 64 + 0.25, quiet=True)  # 10 packets, then 250 ms nothing
PAUSE_CELL: Final = Cell(Scheme(Plan(2, 4)), Weather(0.05), PAUSES)
LAST_MOST: Final = 0.05  # percent, of last packets before a silence,
LAST_LIMIT: Final = 1.70  # within so many bytes


def games() -> list[tuple[str, Cell]]:
    """Other traffic than equal packets equally far apart, with what the controller would use."""
    found: list[tuple[str, Cell]] = []
    for name, weather, traffic in (*TICKS, *MIXED):
        for limit in LIMITS:
            plan = choose(weather, traffic, limit)
            found.append((name, Cell(Scheme(plan), weather, traffic)))
    return [*found, ("10 packets, then 250 ms of silence, 5 %", PAUSE_CELL)]


# Plans that the controller does not have, where they do better than those it has.
OTHERS: Final[tuple[tuple[str, Cell], ...]] = (
    (
        "30 ticks a second of 3 packets, 5 % of whole ticks, within 2.15",
        Cell(Scheme(Plan(1, 1, delay=3)), *TICKS[3][1:]),
    ),
    (
        "5 % in bursts of 3, within 1.30",
        Cell(Scheme(Plan(4, 2, stride=3)), Weather(0.05, 3)),
    ),
    (
        "5 % in bursts of 3 on each of two paths, within 1.60",
        Cell(Scheme(Plan(2, 2, stride=2), second_path=True), Weather(0.05, 3)),
    ),
    (
        "5 % in bursts of 3 on each of two paths, within 2.15",
        Cell(Scheme(Plan(1, 2, stride=2), second_path=True), Weather(0.05, 3)),
    ),
)


def words(scheme: Scheme) -> str:
    """A plan in a table."""
    plan = scheme.plan
    if plan.delay:
        return f"copy {plan.delay} later"
    if plan.window == 1:
        return "copy at once"
    apart = "" if plan.stride == 1 else f", {plan.stride} apart"
    packets = "packet" if plan.every == 1 else f"{plan.every}"
    return f"1 per {packets} over {plan.window}{apart}"
