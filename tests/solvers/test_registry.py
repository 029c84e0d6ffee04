import pytest

import solvers
from pins.errors import ProgramError
from solvers.registry import SOLVERS, find_solver
from solvers.solver import Solver


def test_every_row_makes_a_solver_of_that_name() -> None:
    assert list(SOLVERS) == ["closed-form", "enumeration", "cbc", "highs"]
    for name in SOLVERS:
        made = find_solver(name)
        assert isinstance(made, Solver)
        assert made.name == name


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ProgramError, match="no solver 'glpk': choose one of closed-form"):
        find_solver("glpk")


def test_the_public_names_exist_once() -> None:
    assert len(set(solvers.__all__)) == len(solvers.__all__)
    for name in solvers.__all__:
        assert hasattr(solvers, name)
