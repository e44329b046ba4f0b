"""Equations over GF(2^8): what follows from them, and what they cost."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lightspeed_protocol.errors import WireError
from lightspeed_protocol.fec.gf256 import INVERSES, PRODUCTS
from lightspeed_protocol.fec.window_solver import MOST_ROWS, MOST_WORK, WindowSolver

from tests.support.window_code import rank

Equation = dict[int, int]  # SSN to coefficient


def value(ssn: int) -> bytes:
    return random.Random(ssn).randbytes(1 + ssn % 5)


def total(equation: Equation, *, size: int = 5) -> bytes:
    out = bytearray(size)
    for ssn, factor in equation.items():
        for i, byte in enumerate(value(ssn)):
            out[i] ^= PRODUCTS[factor][byte]
    return bytes(out)


def add(solver: WindowSolver, equation: Equation) -> dict[int, bytes] | None:
    solved = solver.equation(list(equation.items()), total(equation))
    return None if solved is None else {ssn: part.rstrip(b"\0") for ssn, part in solved}


def follow(equations: list[Equation]) -> set[int]:
    """The packets that follow, by rank: to know one more in advance would teach nothing."""
    columns = sorted({ssn for equation in equations for ssn in equation})
    rows = [[equation.get(ssn, 0) for ssn in columns] for equation in equations]
    known = rank([list(row) for row in rows])
    return {
        ssn
        for i, ssn in enumerate(columns)
        if rank([*(list(row) for row in rows), [int(i == j) for j in range(len(columns))]]) == known
    }


equations = st.lists(
    st.dictionaries(st.integers(1000, 1007), st.integers(1, 255), min_size=1, max_size=5),
    min_size=1,
    max_size=9,
)


@given(equations)
def test_exactly_what_follows_is_solved_at_the_first_equation_it_follows_from(
    given_equations: list[Equation],
) -> None:
    solver = WindowSolver()
    solver.forget(900)
    solved: dict[int, bytes] = {}
    for count, equation in enumerate(given_equations, 1):
        unknown = {ssn: factor for ssn, factor in equation.items() if ssn not in solved}
        if unknown:
            before = rank(matrix(given_equations[: count - 1]))
            now = add(solver, unknown)
            assert (now is None) == (rank(matrix(given_equations[:count])) == before)
            solved |= now or {}
        assert set(solved) == follow(given_equations[:count])
    assert solved == {ssn: value(ssn).rstrip(b"\0") for ssn in solved}


def matrix(given_equations: list[Equation]) -> list[list[int]]:
    if not given_equations:
        return [[0]]
    return [[equation.get(ssn, 0) for ssn in range(1000, 1008)] for equation in given_equations]


@given(equations, st.permutations(range(1000, 1008)))
def test_packets_that_come_after_all_take_part(
    given_equations: list[Equation], order: list[int]
) -> None:
    solver = WindowSolver()
    solver.forget(1000)
    known: set[int] = set()

    def learn(now: dict[int, bytes]) -> None:
        for ssn, found in now.items():
            assert ssn not in known
            assert found == value(ssn).rstrip(b"\0")
        known.update(now)

    arriving = iter(order)
    told: list[Equation] = []
    for equation in given_equations:
        unknown = {ssn: factor for ssn, factor in equation.items() if ssn not in known}
        told.append(equation)
        if unknown:
            learn(add(solver, unknown) or {})
        ssn = next(arriving, None)
        if ssn is not None and ssn not in known:
            solved = solver.packet(ssn, value(ssn))
            known.add(ssn)
            told.append({ssn: 1})
            learn({at: part.rstrip(b"\0") for at, part in solved})
        assert known == follow(told)


def test_slots_turn_with_the_packets() -> None:
    """Rows wide as they may be, at every turn of the 128 slots: the oldest packet leads."""
    for begin in range(1000, 1130, 7):
        solver = WindowSolver()
        solver.forget(begin)
        assert add(solver, {begin: 3, begin + 127: 5}) == {}
        assert add(solver, {begin + 1: 9, begin + 127: 7}) == {}
        solver.forget(begin + 1)
        assert (len(solver), solver.given_up) == (1, 1)
        assert solver.packet(begin + 127, value(begin + 127))[0][0] == begin + 1


def test_forgetting_the_oldest_packet_keeps_what_others_say_without_it() -> None:
    solver = WindowSolver()
    solver.forget(10)
    add(solver, {10: 1, 11: 1, 12: 1})
    add(solver, {10: 2, 11: 3, 12: 4})
    solver.forget(11)
    assert (len(solver), solver.given_up) == (1, 1)
    assert [ssn for ssn, _ in solver.packet(12, value(12))] == [11]


def test_equations_that_cannot_both_be_true_are_all_forgotten() -> None:
    solver = WindowSolver()
    solver.forget(0)
    solver.equation([(1, 2), (2, 3)], b"\1")
    with pytest.raises(WireError, match="fec-contradiction"):
        solver.equation([(1, 2), (2, 3)], b"\2")
    assert len(solver) == 0


def test_a_packet_longer_than_a_symbol_it_is_in_contradicts() -> None:
    for lie in (1, 2):
        solver = WindowSolver()
        solver.forget(0)
        solver.equation([(1, 2), (2, 3)], b"\1\1")
        with pytest.raises(WireError, match="fec-contradiction"):
            solver.packet(lie, b"\1\1\1")
        assert len(solver) == 0
        assert solver.packet(lie, b"\1\1\1") == []


def test_rows_and_work_are_bounded_whatever_comes() -> None:
    rng = random.Random(3)
    solver = WindowSolver()
    most = 0
    for step in range(3000):
        solver.forget(step // 4)
        before = solver.operations
        if rng.random() < 0.8:
            ssns = rng.sample(range(step // 4, step // 4 + 128), 64)
            solver.equation([(ssn, rng.randrange(1, 256)) for ssn in ssns], rng.randbytes(4))
        else:
            try:
                solver.packet(rng.randrange(step // 4, step // 4 + 128), rng.randbytes(4))
            except WireError:
                assert len(solver) == 0
        most = max(most, solver.operations - before)
        assert len(solver) <= MOST_ROWS
    assert MOST_ROWS < most <= MOST_WORK
    assert solver.displaced > 100


def test_a_row_that_gives_way_takes_nothing_else_along() -> None:
    solver = WindowSolver()
    solver.forget(0)
    for pair in range(MOST_ROWS + 1):
        add(solver, {2 * pair: 1, 2 * pair + 1: INVERSES[7]})
    assert (len(solver), solver.displaced) == (MOST_ROWS, 1)
    assert solver.packet(1, value(1)) == []
    for pair in range(1, MOST_ROWS + 1):
        assert [ssn for ssn, _ in solver.packet(2 * pair, value(2 * pair))] == [2 * pair + 1]
