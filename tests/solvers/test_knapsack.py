"""A layer budget as a 0-1 program: a reduction with an inverse; solvers agree with our choice."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pins.errors import ProgramError
from pins.selection.budget.choice import solve
from pins.selection.budget.program import BudgetProgram
from solvers import Enumeration, KnapsackFormulation, Status, find_solver
from tests.pins.selection.budget.tables import allowed, programs


@given(programs(layers=3, options=3), st.data())
def test_the_points_are_the_choices_within_the_budget(
    program: BudgetProgram, data: st.DataObject
) -> None:
    formulation, choices = KnapsackFormulation(program), allowed(program)
    options = data.draw(st.sampled_from(choices))
    x = formulation.apply(options)
    assert formulation.program.feasible(x)
    assert formulation.invert(x) == options
    other = data.draw(st.permutations(x.tolist()))
    if formulation.program.feasible(np.array(other)):
        assert formulation.invert(np.array(other)) in choices
    else:
        with pytest.raises(ProgramError, match="not one option for each layer, or exceeds"):
            formulation.invert(np.array(other))


@pytest.mark.parametrize("backend", ["enumeration", "cbc", "highs"])
def test_solvers_agree(backend: str) -> None:
    @given(programs(layers=3, options=3))
    @settings(max_examples=15 if backend == "cbc" else 40)
    def agree(program: BudgetProgram) -> None:
        formulation = KnapsackFormulation(program)
        result = find_solver(backend).solve(formulation.program)
        assert result.status is Status.OPTIMAL
        assert result.solution is not None
        found = formulation.invert(result.solution.x)
        assert program.error(found) == program.error(solve(program).options)

    agree()


def test_errors_beyond_floats_are_rounded_and_compared_in_rationals() -> None:
    near = 2**60
    program = BudgetProgram(
        ("a", "b"), ((0, 1),) * 2, ((near + 1, 0), (near, 0)), ((0, 5), (0, 5)), 5
    )
    formulation = KnapsackFormulation(program)
    found = Enumeration().solve(formulation.program).solution
    assert found is not None
    assert program.error(solve(program).options) == near
    assert program.error(formulation.invert(found.x)) - near in (0, 1)  # equal as floats


def test_numbers_that_solvers_do_not_take_are_refused() -> None:
    program = BudgetProgram(("a",), ((0, 1),), ((1, 0),), ((0, 2**53),), 2**60)
    with pytest.raises(ProgramError, match=r"9007199254740992 units came; solvers take"):
        KnapsackFormulation(program)
    program = BudgetProgram(("a",), ((0, 1),), ((10**400, 0),), ((0, 1),), 1, Fraction(1, 10**400))
    with pytest.raises(ProgramError, match="an error is beyond the largest float"):
        KnapsackFormulation(program)
