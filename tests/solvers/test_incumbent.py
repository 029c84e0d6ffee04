import numpy as np
import pytest

from solvers.incumbent import UNPROVED, read_incumbent
from solvers.result import Status
from tests.solvers.solver_cases import program

INSTANCE = program([1, 2], [[1, 1]], "=", [1])
CLAIMS = [Status.OPTIMAL, Status.NOT_PROVED]


@pytest.mark.parametrize("status", [*CLAIMS, Status.INTERRUPTED])
def test_floats_near_a_feasible_point_become_it(status: Status) -> None:
    found, solution, distance, reason = read_incumbent(INSTANCE, status, np.array([1 - 1e-7, 1e-7]))
    assert not reason
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
    status, solution = read_incumbent(INSTANCE, Status.OPTIMAL, np.ones(2))[:2]
    assert status is Status.OPTIMAL
    assert solution is not None
    assert read_incumbent(INSTANCE, Status.INTERRUPTED, np.ones(2))[:2] == (
        Status.INTERRUPTED,
        None,
    )


@pytest.mark.parametrize("status", [Status.UNBOUNDED, Status.FAILED])
def test_other_statuses_have_no_point(status: Status) -> None:
    assert read_incumbent(INSTANCE, status, np.array([1.0, 0.0])) == (status, None, 0.0, "")


def test_infeasible_is_believed_only_where_it_is_proved() -> None:
    assert read_incumbent(INSTANCE, Status.INFEASIBLE, None) == (Status.FAILED, None, 0, UNPROVED)
    # two rows that no point of 30 variables meets together, which bounds do not show
    halves = [[1.0] * 15 + [0.0] * 15, [0.0] * 15 + [1.0] * 15, [1.0] * 30]
    unknown = program([0.0] * 30, halves, "===", [7, 7, 15])
    assert read_incumbent(unknown, Status.INFEASIBLE, None)[:2] == (Status.FAILED, None)


@pytest.mark.parametrize("status", [*CLAIMS, Status.INFEASIBLE, Status.FAILED])
def test_no_claim_is_believed_where_there_is_no_point(status: Status) -> None:
    empty = program([1, 2], [[1, 1], [1, -1]], "==", [1, 0])
    for values in (None, np.ones(2)):
        assert read_incumbent(empty, status, values)[:2] == (Status.INFEASIBLE, None)
    assert read_incumbent(empty, Status.INTERRUPTED, None)[0] is Status.INTERRUPTED
