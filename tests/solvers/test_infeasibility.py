"""A proof that there is no point is never wrong, and one is found for every small program."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from solvers import infeasibility
from solvers.cbc import Cbc
from solvers.enumeration import Enumeration, optimal_set
from solvers.highs import Highs
from solvers.incumbent import read_incumbent
from solvers.infeasibility import proved_infeasible, relaxation_proved_infeasible
from solvers.program import BinaryProgram
from solvers.result import Report, Result, Status
from solvers.solver import Solver, check_time_limit
from tests.solvers.solver_cases import cardinality, market_split, program
from verification.strategies import programs

Parts = tuple[list[float], list[list[float]], str, list[float]]
# costs, rows, senses, right sides; each has a point
FEASIBLE_WITH_LARGE_ENTRIES: dict[str, Parts] = {
    "two rows of 1e12": ([0, 0], [[100.4534, 1e12], [100.4534, -1e12]], "<<", [1e12, 0]),
    "bytes": ([-3, -2, -2], [[1.5e10, 1e10 + 1, 1e10]], "<", [2e10]),
    "a switch": ([1, -1], [[-1e7, 1], [0, -1]], "<<", [0, -1]),
}
OF_ONE_SIZE: dict[str, Parts] = {
    "FLOPs": ([-3, -2, -2], [[6e15, 4e15, 4e15]], "<", [8e15]),
    "2^70": ([-1, -2], [[2.0**70, 2.0**70]], "<", [2.0**70]),
}
BACKENDS: list[Solver] = [Cbc(), Highs()]


@st.composite
def large_programs(draw: st.DrawFn) -> BinaryProgram:
    """Small programs, some rows of which have large entries; shrinks to one variable."""
    given_ = draw(programs(max_size=5))
    sizes = st.sampled_from([1.0, 1e7, 1e12, 2.0**70])
    scales = [draw(sizes) for _ in given_.senses]
    extra = np.array([draw(st.sampled_from([0.0, 1.0])) for _ in given_.senses])
    rows = given_.matrix.toarray() * np.array(scales)[:, None]
    senses = "".join(sense.value[0] for sense in given_.senses)
    rhs = given_.rhs * scales + extra
    return program(given_.objective.tolist(), rows.tolist(), senses, rhs.tolist())


class SaysInfeasible(Solver):
    """A backend that says "infeasible" to every program; it is believed if `believed`."""

    name = "says-infeasible"

    def __init__(self, *, believed: bool) -> None:
        self.believed = believed

    def solve(self, program: BinaryProgram, *, time_limit: float | None = None) -> Result:
        check_time_limit(time_limit)
        status, solution = Status.INFEASIBLE, None
        if not self.believed:
            status, solution = read_incumbent(program, status, None)[:2]
        return Result(status, solution, Report(self.name, "1", 0.0, "no"))


def check(solver: Solver, instance: BinaryProgram) -> None:
    """INFEASIBLE ⇔ enumeration finds no point."""
    status = solver.solve(instance).status
    assert (status is Status.INFEASIBLE) == (not optimal_set(instance))


@pytest.mark.parametrize(
    "solver", [Enumeration(), *BACKENDS, SaysInfeasible(believed=False)], ids=lambda s: s.name
)
@settings(max_examples=25, deadline=None, derandomize=True)
@given(instance=large_programs())
def test_infeasible_means_that_enumeration_finds_no_point(
    solver: Solver, instance: BinaryProgram
) -> None:
    check(solver, instance)


def test_a_solver_that_is_believed_is_caught() -> None:
    instance = program(*FEASIBLE_WITH_LARGE_ENTRIES["bytes"])
    check(SaysInfeasible(believed=False), instance)
    with pytest.raises(AssertionError):
        check(SaysInfeasible(believed=True), instance)


@pytest.mark.parametrize("solver", BACKENDS, ids=lambda s: s.name)
@pytest.mark.parametrize("name", FEASIBLE_WITH_LARGE_ENTRIES)
def test_a_feasible_program_is_never_called_infeasible(name: str, solver: Solver) -> None:
    assert solver.solve(program(*FEASIBLE_WITH_LARGE_ENTRIES[name])).status != Status.INFEASIBLE


@pytest.mark.parametrize("solver", BACKENDS, ids=lambda s: s.name)
@pytest.mark.parametrize("name", OF_ONE_SIZE)
def test_large_rows_of_one_size_are_solved(name: str, solver: Solver) -> None:
    instance = program(*OF_ONE_SIZE[name])
    result = solver.solve(instance)
    assert result.status is Status.OPTIMAL
    assert result.solution is not None
    assert instance.feasible(result.solution.x)
    assert result.solution.x.tolist() in [x.tolist() for x in optimal_set(instance)]


@pytest.mark.parametrize("scaled", [True, False])
def test_without_scaling_a_backend_misses_large_rows(scaled: bool) -> None:
    # The negative control of the test above.
    solved = [
        solver.solve(program(*OF_ONE_SIZE[name])).status is Status.OPTIMAL
        for name in OF_ONE_SIZE
        for solver in (Cbc(scale=scaled), Highs(scale=scaled))
    ]
    assert all(solved) is scaled


@settings(max_examples=60, deadline=None)
@given(instance=st.one_of(programs(), large_programs()))
def test_bounds_alone_prove_nothing_false(instance: BinaryProgram) -> None:
    proved = infeasibility._contradictory(instance) or infeasibility._not_divisible(instance)
    if proved:
        assert not optimal_set(instance)
    if relaxation_proved_infeasible(instance):
        assert proved


def test_bounds_are_propagated_from_row_to_row() -> None:
    # x₀ + … + x₂₉ = 30 fixes all; then x₀ + x₁ ≤ 1 has no point
    ones, two = [1.0] * 30, [1.0, 1.0] + [0.0] * 28
    assert proved_infeasible(program([0.0] * 30, [two, ones], "<=", [1, 30]))
    assert not proved_infeasible(program([0.0] * 30, [two, ones], "<=", [1, 29]))


def test_an_equality_of_multiples_has_a_multiple_on_the_right() -> None:
    assert proved_infeasible(program([0.0] * 40, [[2.0] * 40], "=", [7]))
    assert not proved_infeasible(program([0.0] * 40, [[2.0] * 40], "=", [8]))


def test_a_program_that_is_too_large_to_enumerate_is_not_known() -> None:
    assert not proved_infeasible(market_split(rows=5, size=40))
    assert proved_infeasible(cardinality(np.ones(1000), 1001))


def test_the_work_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    ones, two = [1.0] * 30, [1.0, 1.0] + [0.0] * 28
    instance = program([0.0] * 30, [two, ones], "<=", [1, 30])
    monkeypatch.setattr(infeasibility, "WORK", 1)
    assert not proved_infeasible(instance)
