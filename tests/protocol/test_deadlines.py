from __future__ import annotations

import math
import random

from hypothesis import given
from hypothesis import strategies as st
from lightspeed_protocol.deadlines import SPARE, Deadlines

steps = st.lists(
    st.one_of(
        st.tuples(st.just("set"), st.integers(0, 5), st.floats(0, 100)),
        st.tuples(st.just("never"), st.integers(0, 5), st.just(0.0)),
        st.tuples(st.just("drop"), st.integers(0, 5), st.just(0.0)),
        st.tuples(st.just("pass"), st.just(0), st.floats(0, 30)),
    ),
    max_size=60,
)


@given(steps)
def test_it_says_what_a_plain_table_would(script: list[tuple[str, int, float]]) -> None:
    deadlines: Deadlines[int] = Deadlines()
    table: dict[int, float] = {}
    now = 0.0
    for what, key, value in script:
        if what in ("set", "never"):
            at = value if what == "set" else math.inf
            deadlines.set(key, at)
            table[key] = at
        elif what == "drop":
            deadlines.drop(key)
            table.pop(key, None)
        else:
            now += value
            due = {key for key, at in table.items() if at <= now}
            assert set(deadlines.due(now)) == due
            for key in due:
                del table[key]
        assert deadlines.next_deadline() <= min(table.values(), default=math.inf)
        assert len(deadlines) == len(table)


def test_the_first_one_due_comes_first() -> None:
    deadlines: Deadlines[str] = Deadlines()
    for key, at in (("c", 3.0), ("a", 1.0), ("b", 2.0), ("later", 9.0)):
        deadlines.set(key, at)

    assert deadlines.due(3.0) == ["a", "b", "c"]
    assert deadlines.next_deadline() == 9.0


def test_keys_need_no_order_of_their_own() -> None:
    deadlines: Deadlines[object] = Deadlines()
    for _ in range(10):
        deadlines.set(object(), 1.0)

    assert len(deadlines.due(1.0)) == 10


def test_moving_deadlines_for_ever_keeps_the_heap_small() -> None:
    """What a busy connection does: an acknowledgement due soon, the idle timeout late."""
    deadlines: Deadlines[int] = Deadlines()
    rng = random.Random(3)
    now = 0.0
    for _ in range(20_000):
        key = rng.randrange(20)
        deadlines.set(key, now + 60.0)
        deadlines.set(key, now + 0.025)
        now += 0.03
        for due in deadlines.due(now):
            deadlines.set(due, now + 60.0)
    assert len(deadlines._heap) <= SPARE + 2 * 20 + 1
