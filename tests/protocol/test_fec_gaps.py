"""What is missing of a flow, since when, and when it is given up."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from lightspeed_protocol.fec.gaps import EARNED, MOST_EARNED, Gaps
from lightspeed_protocol.sequence import JUMP

U16 = st.integers(0, 0xFFFF)


def test_missing_packets_were_due_evenly_between_their_neighbours() -> None:
    gaps = Gaps()
    gaps.came(0xFFFE, 1.0)
    gaps.came(1, 1.03)
    assert [at & 0xFFFF for at in gaps.missing] == [0xFFFF, 0]
    due = [round(missing.due_s, 9) for missing in gaps.missing.values()]
    assert due == [1.01, 1.02]
    assert {missing.noticed_s for missing in gaps.missing.values()} == {1.03}


def test_what_comes_after_all_is_missing_no_more_and_counts_if_it_was_asked_for() -> None:
    gaps = Gaps()
    for ssn in (0, 3):
        gaps.came(ssn, 0.01 * ssn)
    first, second = gaps.missing.values()
    second.asked_s = 0.031
    gaps.came(1, 0.032)
    assert (list(gaps.missing.values()), gaps.needless) == ([second], 0)
    gaps.came(2, 0.033)
    assert (gaps.missing, gaps.needless) == ({}, 1)
    assert first.asked_s is None


def test_what_repair_rebuilds_before_anything_newer_shows_what_lies_between() -> None:
    gaps = Gaps()
    gaps.came(0, 0.0)
    gaps.came(1, 0.01)
    rebuilt = gaps.recovered(3, 0.04)
    assert rebuilt is not None
    assert (rebuilt.repaired, rebuilt.late) == (True, False)
    assert [missing.repaired for missing in gaps.missing.values()] == [False, True]


def test_it_is_given_up_when_it_has_been_missing_for_the_budget() -> None:
    gaps = Gaps(budget_s=0.05)
    gaps.came(0, 0.0)
    gaps.came(2, 0.02)
    assert gaps.settle(0.069) == []
    assert [at & 0xFFFF for at, _ in gaps.settle(0.07)] == [1]
    assert gaps.recovered(1, 0.08) is None


def test_an_outage_leaves_nothing_missing_and_uses_no_number_twice() -> None:
    gaps = Gaps()
    gaps.came(0, 0.0)
    gaps.came(2, 0.02)
    before = gaps.highest
    gaps.came(2 + JUMP, 9.0)
    assert before is not None
    assert gaps.highest is not None
    assert (gaps.missing, gaps.highest & 0xFFFF) == ({}, 2 + JUMP)
    assert gaps.highest > before + JUMP


@given(st.lists(st.tuples(U16, st.booleans(), st.floats(0, 0.1)), max_size=200))
def test_whatever_comes_what_is_missing_is_older_than_the_newest(
    events: list[tuple[int, bool, float]],
) -> None:
    gaps = Gaps()
    now, newest = 0.0, -1
    for ssn, recovered, pause in events:
        now += pause
        gaps.settle(now)
        if recovered:
            gaps.recovered(ssn, now)
        else:
            gaps.came(ssn, now)
        gaps.settle(now)
        assert gaps.highest is not None
        assert gaps.highest >= newest
        newest = gaps.highest
        assert list(gaps.missing) == sorted(gaps.missing)
        assert len(gaps.missing) <= JUMP
        for at, missing in gaps.missing.items():
            assert at < newest or missing.repaired
            assert missing.due_s <= missing.noticed_s <= now < missing.noticed_s + gaps.budget_s


def test_numbers_that_leave_out_more_than_came_account_for_are_outages() -> None:
    gaps = Gaps(budget_s=1.0)
    noticed = 0
    for i in range(1000):
        before = len(gaps.missing)
        gaps.came(i * (JUMP - 1) & 0xFFFF, 0.001 * i)
        noticed += max(len(gaps.missing) - before, 0)
        gaps.settle(0.001 * i)
    assert noticed <= MOST_EARNED + 1000 * EARNED


def test_a_path_that_loses_four_of_five_packets_is_no_outage() -> None:
    gaps = Gaps()
    given_up = 0
    for i in range(0, 5000, 5):
        gaps.came(i, i / 64)
        given_up += len(gaps.settle(i / 64))
    assert given_up == 4 * 998, "the last ones have time left"
