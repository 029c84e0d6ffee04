import numpy as np
import pytest

from solvers.incumbent import read_incumbent
from solvers.result import Status
from tests.solvers.solver_cases import program

INSTANCE = program([1, 2], [[1, 1]], "=", [1])
CLAIMS = [Status.OPTIMAL, Status.NOT_PROVED]


@pytest.mark.parametrize("status", [*CLAIMS, Status.INTERRUPTED])
def test_floats_near_a_feasible_point_become_it(status: Status) -> None:
    found, solution, distance = read_incumbent(INSTANCE, status, np.array([1 - 1e-7, 1e-7]))
    assert found is status
    assert solution is not None
    assert solution.x.tolist() == [True, False]
    assert 0 < distance < 1e-6


@pytest.mark.parametrize("values", [None, np.array([0.5, 0.5]), np.array([np.nan, 1])])
def test_a_claim_without_a_point_is_a_failure(values: np.ndarray | None) -> None:
    for status in CLAIMS:
        assert read_incumbent(INSTANCE, status, values)[:2] == (Status.FAILED, None)
    assert read_incumbent(INSTANCE, Status.INTERRUPTED, values)[:2] == (Status.INTERRUPTED, None)


def test_a_claimed_optimum_that_is_infeasible_is_kept_for_the_comparison() -> None:
    status, solution, _ = read_incumbent(INSTANCE, Status.OPTIMAL, np.ones(2))
    assert status is Status.OPTIMAL
    assert solution is not None
    assert read_incumbent(INSTANCE, Status.INTERRUPTED, np.ones(2))[:2] == (
        Status.INTERRUPTED,
        None,
    )


@pytest.mark.parametrize("status", [Status.INFEASIBLE, Status.UNBOUNDED, Status.FAILED])
def test_other_statuses_have_no_point(status: Status) -> None:
    assert read_incumbent(INSTANCE, status, np.array([1.0, 0.0])) == (status, None, 0.0)
