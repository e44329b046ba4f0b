"""The words for plans and shares."""

from __future__ import annotations

import pytest
from lightspeed_protocol.fec.window import Plan
from lightspeed_protocol.fec.wording import percent, plan_words


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        (None, "no repair"),
        (Plan(1, 1, delay=3), "a copy of each packet 3 later"),
        (Plan(1, 4), "1 repair per packet over 4"),
        (Plan(2, 2, stride=3), "1 repair per 2 packets over 2 that are 3 apart"),
        (Plan.xor(4), "1 XOR repair per 4 packets over 4"),
    ],
)
def test_a_plan_says_what_is_sent(plan: Plan | None, words: str) -> None:
    assert plan_words(plan) == words


@pytest.mark.parametrize(
    ("share", "words"),
    [(0.0, "0 %"), (0.000123, "0.012 %"), (0.0099, "0.99 %"), (0.0469, "4.7 %"), (1.0, "100.0 %")],
)
def test_a_share_has_two_digits_below_one_percent(share: float, words: str) -> None:
    assert percent(share) == words
