from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings

from pins.errors import ProgramError
from solvers.enumeration import Enumeration, optimal_set
from solvers.exact import FloatArray
from solvers.result import Status
from tests.solvers.solver_cases import cardinality, cardinality_programs, program


@settings(deadline=None, max_examples=50)
@given(cardinality_programs(max_size=6))
def test_against_a_loop_over_fractions(instance: tuple[FloatArray, int]) -> None:
    scores, keep = instance
    points = [x for x in product([True, False], repeat=scores.size) if sum(x) == keep]
    values = [
        sum((Fraction(s) for s, kept in zip(scores, x, strict=True) if kept), Fraction(0))
        for x in points
    ]
    best = [list(x) for x, value in zip(points, values, strict=True) if value == max(values)]
    # product([True, False]) runs from the lexicographically largest point down.
    assert [x.tolist() for x in optimal_set(cardinality(scores, keep))] == best


def test_differences_that_floats_cannot_see_decide() -> None:
    # In float64 both sums round to 1e16; exactly, the first is better.
    instance = program([-1e16, -1.0, -1e16], [[1, 1, 1], [1, 0, 1]], "<=", [2, 1])
    solution = Enumeration().solve(instance).solution
    assert solution is not None
    assert solution.objective == -(10**16) - 1
    assert -1e16 - 1.0 == -1e16


def test_numbers_beyond_64_bits() -> None:
    instance = program([1e300, 1e-300, -1e-300], [[1, 1, 1]], "=", [2])
    solution = Enumeration().solve(instance).solution
    assert solution is not None
    assert solution.x.tolist() == [False, True, True]
    assert solution.objective == 0


def test_uniqueness_is_the_size_of_the_optimal_set() -> None:
    assert len(optimal_set(cardinality(np.array([3.0, 2.0, 1.0]), 2))) == 1
    tied = optimal_set(cardinality(np.array([1.0, 1.0, 2.0]), 2))
    assert [x.tolist() for x in tied] == [[True, False, True], [False, True, True]]


def test_an_infeasible_program_has_no_optimal_point() -> None:
    instance = program([1, 1], [[2, 2]], "=", [1])
    assert optimal_set(instance) == []
    assert Enumeration().solve(instance).status is Status.INFEASIBLE


def test_the_largest_size_and_one_more() -> None:
    assert Enumeration().solve(cardinality(np.arange(20.0), 10)).status is Status.OPTIMAL
    with pytest.raises(ProgramError, match="21 variables came; it takes at most 20"):
        Enumeration().solve(cardinality(np.arange(21.0), 10))
