"""Regenerates `lightspeed_protocol/fec/residual_table.py`: what windows leave unrepaired.

    python -m bench.residual_table

Of packets that are lost, the share not known within the budget, by simulation of the window
code's rank alone: coefficients are taken to be independent, which GF(256) is to 0.4 %.
"""

from __future__ import annotations

import math
import random
from pathlib import Path

from lightspeed_protocol.fec import residual

LOSSES = 20_000  # in each cell: a share of 1 % is good to 7 %
LEAST = 450  # stands for a share that did not occur


def unrepaired(every: int, most: int, loss: float, clump: float | None, *, seed: int = 1) -> float:
    """The share for a repair after each `every` packets over windows of `most` + 1.

    A packet must be known when `most` more have been sent. `clump` None: each packet and repair
    is lost by itself. Else bad times begin and end between packets, last `clump` / (1 - loss)
    packets in the mean and take everything along.
    """
    rng = random.Random(f"{every} {most} {loss} {clump} {seed}")
    stay = None if clump is None else 1 - (1 - loss) / clump
    enter = loss if stay is None else loss * (1 - stay) / (1 - loss)
    unknown = 0  # bit i: the packet i before the newest
    rows = 0  # equations that wait: each takes one of the oldest unknown packets with it
    lost = failed = slot = 0
    bad = False
    while lost < LOSSES or unknown:
        if not unknown and not bad:  # nothing happens before the next loss
            slot += int(math.log(1 - rng.random()) / math.log(1 - enter))
            bad = True
        elif stay is not None and bad:
            bad = rng.random() < stay
        else:
            bad = rng.random() < enter
        slot += 1
        unknown = unknown << 1 | bad
        lost += bad
        repair_lost = bad if stay is not None else rng.random() < loss
        if slot % every == 0 and unknown and not repair_lost:
            rows += 1
            if rows == unknown.bit_count():
                unknown = rows = 0
        if unknown >> most & 1:
            failed += 1
            unknown ^= 1 << most
            rows -= rows > 0
        if stay is None:
            bad = False
    return failed / lost


def cell(every: int, most: int, loss: float, clump: float | None) -> int:
    """As the table has it: hundredths of a decade below 1."""
    share = unrepaired(every, most, loss, clump)
    return min(round(-100 * math.log10(share)), LEAST) if share else LEAST


def main() -> None:
    lines = []
    for most in residual.AHEAD:
        for every in residual.EVERY:
            lines.append(f"    ({most}, {every}): (")
            for clump in (None, *residual.CLUMPS[1:]):
                row = [str(cell(every, most, loss, clump)) for loss in residual.LOSSES]
                lines.append(f"        ({', '.join(row)}),")
            lines.append("    ),")
        print(most, flush=True)
    target = Path(residual.__file__).with_name("residual_table.py")
    target.write_text(HEAD + "\n".join(lines) + "\n}\n")


HEAD = '''"""What windows leave unrepaired. `python -m bench.residual_table` writes this file.

By packets the budget allows and packets per repair: a row for each of `residual.CLUMPS`, in it a
number for each of `residual.LOSSES`: -100·log10 of the share of lost packets not known in time.
"""

from __future__ import annotations

from typing import Final

SHARES: Final[dict[tuple[int, int], tuple[tuple[int, ...], ...]]] = {
'''


if __name__ == "__main__":
    main()
