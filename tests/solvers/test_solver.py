"""Laws that every solver obeys, one table of solvers for all."""

import numpy as np
import pytest
from hypothesis import given, settings

from pins.errors import ProgramError
from solvers.enumeration import optimal_set
from solvers.exact import FloatArray
from solvers.program import BinaryProgram
from solvers.result import Status
from solvers.solver import Solver
from tests.solvers.solver_cases import (
    GENERAL_SOLVERS,
    SOLVERS,
    cardinality,
    cardinality_programs,
    program,
)
from verification.strategies import programs


def name_of(solver: Solver) -> str:
    return solver.name


each_solver = pytest.mark.parametrize("solver", SOLVERS, ids=name_of)
each_general_solver = pytest.mark.parametrize("solver", GENERAL_SOLVERS, ids=name_of)


# Derandomised, because a new defect of somebody else's solver should not stop an unrelated change.
@each_general_solver
@settings(max_examples=100, deadline=None, derandomize=True)
@given(instance=programs())
def test_the_point_is_in_the_optimal_set(solver: Solver, instance: BinaryProgram) -> None:
    result = solver.solve(instance)
    points = [point.tolist() for point in optimal_set(instance)]
    if not points:
        assert result.status is Status.INFEASIBLE
        assert result.solution is None
    else:
        assert result.status is Status.OPTIMAL
        assert result.solution is not None
        assert result.solution.x.tolist() in points


@each_solver
def test_optimality_condition_of_the_cardinality_program(solver: Solver) -> None:
    scores = np.random.default_rng(0).standard_normal(16)
    for keep in range(17):
        solution = solver.solve(cardinality(scores, keep)).solution
        assert solution is not None
        assert solution.x.sum() == keep
        # Theorem 1: no pruned score is above a kept one.
        kept, pruned = scores[solution.x], scores[~solution.x]
        assert kept.min(initial=np.inf) >= pruned.max(initial=-np.inf)


@settings(deadline=None)
@given(cardinality_programs())
def test_closed_form_and_enumeration_return_the_same_point(
    instance: tuple[FloatArray, int],
) -> None:
    scores, keep = instance
    closed_form, enumeration = (s.solve(cardinality(scores, keep)).solution for s in SOLVERS[:2])
    assert closed_form is not None
    assert enumeration is not None
    assert closed_form.x.tolist() == enumeration.x.tolist()
    assert closed_form.objective == enumeration.objective


@each_solver
def test_ones_cannot_sum_to_more_than_n(solver: Solver) -> None:
    result = solver.solve(cardinality(np.ones(3), 4))
    assert result.status is Status.INFEASIBLE
    assert result.solution is None


@each_solver
def test_ones_cannot_sum_to_a_fraction(solver: Solver) -> None:
    result = solver.solve(program([1, 2, 3], [[1, 1, 1]], "=", [1.5]))
    assert result.status is Status.INFEASIBLE


@each_solver
def test_the_report_names_the_solver(solver: Solver) -> None:
    report = solver.solve(cardinality(np.array([3.0, 1.0]), 1)).report
    assert report.solver == solver.name
    assert report.version
    assert report.message
    assert 0 <= report.seconds < 60
    assert report.claimed_objective in (None, -3.0)


@each_solver
@pytest.mark.parametrize("time_limit", [0.0, -1.0, float("nan")])
def test_a_time_limit_must_be_positive(solver: Solver, time_limit: float) -> None:
    with pytest.raises(ProgramError, match=r"time_limit=.* came; pass seconds > 0"):
        solver.solve(cardinality(np.ones(2), 1), time_limit=time_limit)


@each_general_solver
def test_a_program_without_rows(solver: Solver) -> None:
    solution = solver.solve(program([1, -1, 0], [], "", [])).solution
    assert solution is not None
    assert solution.objective == -1


@each_general_solver
def test_a_row_of_zeros_can_make_a_program_infeasible(solver: Solver) -> None:
    assert solver.solve(program([1, 1], [[0, 0]], "<", [-1])).status is Status.INFEASIBLE
    assert solver.solve(program([1, 1], [[0, 0]], "=", [0])).status is Status.OPTIMAL
