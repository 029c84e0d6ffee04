import numpy as np
import pytest
import torch
from hypothesis import given, settings

from pins.errors import ProgramError
from pins.selection.tree import Node, Runs, TensorNode, View
from solvers.enumeration import optimal_set
from solvers.relaxation import Relaxation
from solvers.thresholds import Thresholds
from solvers.tree import TreeFormulation
from tests.solvers.test_tree import Pair
from verification.strategies import tree_pairs

TOLERANCE = 1e-6  # of the simplex method, for scores below 10


def by_hand() -> TreeFormulation:
    """Scores 5 4 | 3 2 1, at most one of the first two and at least two of the others."""
    importance = {"a": torch.tensor([5.0, 4.0]), "b": torch.tensor([3.0, 2.0, 1.0])}
    a = TensorNode("a", View(1, 1, 2), 0, 1)
    b = TensorNode("b", View(1, 1, 3), runs=(Runs(3, 2, None),))
    return TreeFormulation(importance, Node("model", (a, b), 3, 3))


def test_a_threshold_is_the_sum_of_the_prices_above_it() -> None:
    formulation = by_hand()
    assert [row.sign for row in formulation.rows] == [1, 1, -1]
    thresholds = Thresholds(formulation, np.array([2.0, 2.5, 1.0]))
    assert thresholds.by_name == ({"model": 2.0, "a": 4.5, "b": 2.0, "run 0 of b": 1.0},)
    best = np.array([True, False, True, True, False])
    assert thresholds.violation(best) == 0
    # 4 > 4.5 − 1: its threshold leaves the pruned weight above it
    assert Thresholds(formulation, np.array([2.0, 1.5, 1.0])).violation(best) == 0.5
    # the other weight of the first two is kept: 5 is above its threshold by ½
    assert thresholds.violation(np.array([False, True, True, True, False])) == 0.5


@settings(max_examples=15)
@given(tree_pairs(allowed=True))
def test_the_duals_of_a_solver_prove_the_optima_and_no_other_mask(pair: Pair) -> None:
    importance, roots = pair
    for given_roots in (roots[:1], roots):
        formulation = TreeFormulation(importance, given_roots)
        program = formulation.program
        multipliers = Relaxation().solve(program).multipliers
        assert multipliers is not None
        thresholds = Thresholds(formulation, multipliers)
        best = optimal_set(program)
        allowed = optimal_set(
            type(program)(np.zeros(program.size), program.matrix, program.senses, program.rhs)
        )
        optimum = program.objective @ best[0]
        for x in allowed:
            proved = thresholds.violation(x) < TOLERANCE
            assert proved == (program.objective @ x == optimum)


def test_multipliers_of_another_program_are_refused() -> None:
    with pytest.raises(ProgramError, match=r"shape \(2,\) came; pass one for each of the 3 rows"):
        Thresholds(by_hand(), np.zeros(2))
