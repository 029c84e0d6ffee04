from dataclasses import FrozenInstanceError
from fractions import Fraction

import numpy as np
import pytest

from pins.errors import ProgramError
from solvers.result import Report, Result, Solution, Status
from tests.solvers.solver_cases import program


def test_a_status_reads_as_a_sentence() -> None:
    assert len({status.value for status in Status}) == len(Status) == 6
    for status in Status:
        assert status.value.startswith("The solver ")
        assert status.value.endswith(".")


def test_a_solution_is_evaluated_exactly_and_cannot_change() -> None:
    x = np.array([True, True, True])
    solution = Solution.of(program([1e16, 1.0, -1e16], [], "", []), x)
    assert solution.objective == Fraction(1)
    x[0] = False
    assert solution.x.all()
    with pytest.raises(ValueError, match="read-only"):
        solution.x[0] = False


def test_a_point_of_another_size_has_no_objective() -> None:
    with pytest.raises(ProgramError, match=r"pass a bool array of shape \(2,\)"):
        Solution.of(program([1, 2], [], "", []), np.ones(3, dtype=np.bool_))


def test_a_result_cannot_change() -> None:
    result = Result(Status.FAILED, None, Report("a", "1", 0.0, "none"))
    with pytest.raises(FrozenInstanceError):
        result.status = Status.OPTIMAL  # type: ignore[misc]
