from __future__ import annotations

import pytest
from lightspeed_client.lab.game import Message, decode
from lightspeed_client.lab.player import Bot


def test_the_bot_sends_on_time_and_measures_from_input_to_the_state_that_shows_it() -> None:
    bot = Bot(seed=1, start=10.0)
    (first,) = bot.poll(10.0)
    assert bot.poll(10.001) == []
    assert bot.next_deadline() == pytest.approx(10 + 1 / 64)
    assert decode(first).number == 1
    for number, arrives in ((1, 10.03), (1, 10.031), (2, 10.04)):
        bot.receive(Message("state", 0, number, 10.01, 1, 0.0).encode(100), arrives)
    bot.receive(b"garbage", 10.05)
    assert bot.round_trips == [pytest.approx(0.03)]  # the second showing is no new answer
    assert (bot.states.duplicates, bot.corrupt) == (1, 1)


def test_a_later_state_answers_every_older_input_once() -> None:
    bot = Bot(seed=1, start=0.0)
    for n in range(4):
        assert len(bot.poll(n / 64)) == 1
    bot.receive(Message("state", 0, 1, 0.06, 3, 0.0).encode(100), 0.08)
    bot.receive(Message("state", 0, 2, 0.07, 2, 0.0).encode(100), 0.09)  # older news, reordered
    bot.receive(Message("state", 0, 3, 0.07, 99, 0.0).encode(100), 0.09)  # an input never sent
    assert bot.round_trips == [pytest.approx(0.08 - 2 / 64)]


def test_after_a_stall_the_bot_skips_instead_of_flooding() -> None:
    bot = Bot(seed=1, start=0.0)
    bot.poll(0.0)
    made_up = 0
    while bot.poll(10.0):
        made_up += 1
    assert made_up <= 6
    assert bot.skipped > 600


def test_a_stopped_bot_sends_nothing_but_still_hears() -> None:
    bot = Bot(seed=1, start=0.0)
    bot.stopped = True
    assert bot.poll(5.0) == []
    bot.receive(Message("state", 0, 1, 4.9, 0, 0.0).encode(100), 5.0)
    assert bot.states.numbers == {1}


def test_sizes_depend_on_the_seed_and_the_player() -> None:
    def sizes(seed: int, who: int) -> list[int]:
        bot = Bot(seed, 0.0, who)
        return [len(payload) for n in range(50) for payload in bot.poll(n / 64)]

    assert sizes(1, 0) == sizes(1, 0)
    assert sizes(1, 0) != sizes(2, 0)
    assert sizes(1, 0) != sizes(1, 1)
    assert all(50 <= size <= 110 for size in sizes(1, 0))
