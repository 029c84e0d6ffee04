from itertools import combinations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pins.errors import CardinalityError, ProgramError
from solvers.closed_form import ClosedForm
from solvers.exact import FloatArray, exact_sum
from solvers.program import BinaryProgram, Sense
from solvers.relaxation import Relaxation, dual_interval, dual_value
from solvers.result import Status
from tests.solvers.solver_cases import (
    cardinality,
    cardinality_programs,
    finite,
    program,
    score_kinds,
)
from verification.strategies import programs


@given(cardinality_programs(max_size=6), finite())
def test_every_multiplier_bounds_every_mask(
    instance: tuple[FloatArray, int], multiplier: float
) -> None:
    scores, keep = instance
    bound = dual_value(scores, keep, multiplier)
    for kept in combinations(range(scores.size), keep):
        assert exact_sum(scores[list(kept)]) <= bound


@given(cardinality_programs(), st.lists(finite(), max_size=5))
def test_the_gap_is_zero_exactly_on_the_interval(
    instance: tuple[FloatArray, int], others: list[float]
) -> None:
    scores, keep = instance
    solution = ClosedForm().solve(cardinality(scores, keep)).solution
    assert solution is not None
    low, high = dual_interval(scores, keep)
    assert low <= high
    for multiplier in (value for value in [low, high, *others] if np.isfinite(value)):
        tight = dual_value(scores, keep, multiplier) == -solution.objective
        # The negative half: outside the interval the bound is strictly above the optimum.
        assert tight == (low <= multiplier <= high)


def test_the_interval_by_hand() -> None:
    scores = np.array([1.0, 4.0, 2.0])
    assert dual_interval(scores, 0) == (4, np.inf)
    assert dual_interval(scores, 1) == (2, 4)
    assert dual_interval(scores, 3) == (-np.inf, 1)


@pytest.mark.parametrize("keep", [-1, 4])
def test_a_count_that_no_mask_has_is_refused(keep: int) -> None:
    with pytest.raises(CardinalityError, match=f"dual_value: keep={keep} came for 3 scores"):
        dual_value(np.ones(3), keep, 0.0)
    with pytest.raises(CardinalityError, match=f"dual_interval: keep={keep} came"):
        dual_interval(np.ones(3), keep)


def test_a_multiplier_that_is_not_finite_is_refused() -> None:
    with pytest.raises(ProgramError, match="multiplier inf came"):
        dual_value(np.ones(3), 1, float("inf"))


@pytest.mark.parametrize("kind", score_kinds(1))
@pytest.mark.parametrize("keep", [1, 150, 299])
def test_the_row_of_ones_is_priced_at_the_threshold(kind: str, keep: int) -> None:
    scores = score_kinds(300)[kind]
    result = Relaxation().solve(cardinality(scores, keep))
    assert result.status is Status.OPTIMAL
    assert result.multipliers is not None
    assert result.x is not None
    assert result.x.sum() == pytest.approx(keep)
    low, high = dual_interval(scores, keep)
    # 1e-7 is the simplex's tolerance, in the scaled unit where the largest score is above 2⁹.
    slack = 1e-7 * 2.0**-result.report.exponent
    assert low - slack <= result.multipliers[0] <= high + slack


def test_the_wrong_sign_would_be_noticed() -> None:
    scores = np.array([4.0, 3.0, 1.0])
    result = Relaxation().solve(cardinality(scores, 2))
    assert result.multipliers is not None
    low, high = dual_interval(scores, 2)
    assert low <= result.multipliers[0] <= high
    assert not low <= -result.multipliers[0] <= high


@settings(max_examples=50, deadline=None)
@given(programs())
def test_optimality_conditions_of_the_relaxation(instance: BinaryProgram) -> None:
    result = Relaxation().solve(instance)
    assume(result.status is Status.OPTIMAL)
    assert result.x is not None
    assert result.multipliers is not None
    assert result.objective is not None
    left = instance.matrix @ result.x
    for value, sense, bound, price in zip(
        left, instance.senses, instance.rhs, result.multipliers, strict=True
    ):
        assert value <= bound + 1e-6
        if sense is Sense.EQUAL:
            assert value == pytest.approx(bound, abs=1e-6)
        else:
            assert price >= -1e-6
    # The gap is 0: b·λ + Σ max(0, sᵢ − (Aᵀλ)ᵢ) = s·x with s = −c.
    reduced = -instance.objective - instance.matrix.T @ result.multipliers
    dual = instance.rhs @ result.multipliers + np.maximum(0, reduced).sum()
    assert dual == pytest.approx(-result.objective, abs=1e-5)
    assert instance.objective @ result.x == pytest.approx(result.objective, abs=1e-5)


def test_an_infeasible_relaxation_has_no_point() -> None:
    result = Relaxation().solve(cardinality(np.ones(2), 3))
    assert result.status is Status.INFEASIBLE
    assert result.x is None
    assert result.multipliers is None
    assert result.objective is None


def test_a_fractional_optimum_stays_fractional() -> None:
    result = Relaxation().solve(program([-1, -1], [[2, 2]], "=", [1]))
    assert result.objective == pytest.approx(-0.5)
    assert result.multipliers is not None
    assert result.multipliers[0] == pytest.approx(0.5)
