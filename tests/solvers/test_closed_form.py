import numpy as np
import pytest

from pins.errors import ProgramError
from solvers.closed_form import ClosedForm
from tests.solvers.solver_cases import cardinality, program


def test_ties_keep_the_lower_index() -> None:
    solution = ClosedForm().solve(cardinality(np.array([0.0, 1.0, -0.0, 0.0, 1.0]), 4)).solution
    assert solution is not None
    assert solution.x.tolist() == [True, True, True, False, True]


def test_signed_scores_are_not_ranked_by_magnitude() -> None:
    solution = ClosedForm().solve(cardinality(np.array([-5.0, 1.0, 2.0]), 2)).solution
    assert solution is not None
    assert solution.x.tolist() == [False, True, True]
    assert solution.objective == -3


def test_another_program_is_refused_by_name() -> None:
    instance = program([1, 2], [[1, 1], [1, 0]], "=<", [1, 1])
    with pytest.raises(ProgramError, match=r"2 rows with senses \(=, <=\) and 3 stored entries"):
        ClosedForm().solve(instance)
