from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

from pins.errors import CardinalityError
from pins.selection.constraints import PerTensor
from pins.selection.tree import Node, Runs, TensorNode, View
from solvers.enumeration import optimal_set
from solvers.exact import BoolArray
from solvers.relaxation import Relaxation
from solvers.result import Status
from solvers.solver import Solver
from solvers.tree import TreeFormulation
from tests.solvers.solver_cases import BACKENDS
from tests.tree_oracle import Enumerated, enumerate_tree
from verification.strategies import Tree, tree_pairs, trees

Pair = tuple[dict[str, Tensor], tuple[Node, Node]]


def rows(formulation: TreeFormulation) -> list[tuple[list[float], str, float]]:
    program = formulation.program
    senses = [sense.value for sense in program.senses]
    return list(zip(program.matrix.toarray().tolist(), senses, program.rhs.tolist(), strict=True))


def mask_of(x: BoolArray) -> int:
    return int("".join(str(int(bit)) for bit in x), 2)


def test_a_node_has_a_row_for_each_bound_that_can_bind() -> None:
    importance = {"a": torch.tensor([3.0, 1.0]), "b": torch.tensor(2.0), "c": torch.zeros(0)}
    low, high = Node("low", (), 1), Node("any", (), 0, 0)
    a, b, c = (TensorNode(name, View.of(s.shape)) for name, s in importance.items())
    inner = Node("inner", (a, c, high), 1, 1)
    assert rows(TreeFormulation(importance, Node("model", (inner, b), 2, 2))) == [
        ([1, 1, 1], "=", 2),
        ([1, 1, 0], "=", 1),
    ]
    children = (replace(a, minimum=-1, maximum=1), replace(b, minimum=1, maximum=9), c)
    assert rows(TreeFormulation(importance, Node("model", children, 1, 2))) == [
        ([1, 1, 1], "<=", 2),
        ([-1, -1, -1], "<=", -1),
        ([1, 1, 0], "<=", 1),
        ([0, 0, 1], "=", 1),
    ]
    # an empty node with a minimum: no mask
    assert ([0, 0, 0], "<=", -1) in rows(TreeFormulation(importance, Node("all", (a, b, c, low))))


def test_runs_and_frozen_weights_are_rows_in_the_order_of_the_view() -> None:
    importance = {"w": torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])}
    zeros = torch.tensor([[False, True, False], [False, False, False]])
    fixed = torch.tensor([[False, False, False], [False, False, True]])
    view = View.of((2, 3), transposed=True)
    node = TensorNode("w", view, runs=(Runs(2, 1, 1),), zeros=zeros, fixed=fixed)
    root = Node("model", (node,), 3, 3)
    formulation = TreeFormulation(importance, root)
    assert formulation.program.objective.tolist() == [-1, -4, -2, -5, -3, -6]
    assert rows(formulation) == [
        ([1, 1, 1, 1, 1, 1], "=", 3),
        ([1, 1, 0, 0, 0, 0], "=", 1),
        ([0, 0, 1, 1, 0, 0], "=", 1),
        ([0, 0, 0, 0, 1, 1], "=", 1),
        ([0, 0, 1, 0, 0, 0], "=", 0),
        ([0, 0, 0, 0, 0, 1], "=", 1),
    ]
    (best,) = optimal_set(formulation.program)
    masks = formulation.invert(best)
    assert isinstance(masks, dict)
    assert masks["w"].tolist() == [[False, False, False], [True, True, True]]
    # a second tree has the same variables, whatever its view
    rowwise = TensorNode("w", View.of((2, 3)), runs=(Runs(3, 0, 2),))
    both = TreeFormulation(importance, [root, Node("model", (rowwise,))])
    assert rows(both)[6:] == [([1, 0, 1, 0, 1, 0], "<=", 2), ([0, 1, 0, 1, 0, 1], "<=", 2)]


def require_the_points_of(formulation: TreeFormulation, found: Enumerated) -> None:
    """The feasible points are the allowed masks, the first optimum is that of the tie rule."""
    program = formulation.program
    allowed = optimal_set(replace(program, objective=np.zeros(program.size)))
    assert {mask_of(x) for x in allowed} == {*found.values}
    best = optimal_set(program)
    assert [mask_of(x) for x in best] == (sorted(found.optima)[::-1] if found.values else [])
    for x in best[:1]:
        masks = formulation.invert(x)
        assert isinstance(masks, dict)
        assert all(torch.equal(masks[name], mask) for name, mask in found.first_masks.items())
        assert np.array_equal(formulation.apply(masks), x)


@given(trees())
def test_the_points_are_the_masks_that_a_tree_allows(tree: Tree) -> None:
    require_the_points_of(TreeFormulation(*tree), enumerate_tree(*tree))


@given(tree_pairs())
def test_the_points_of_two_trees_are_the_masks_that_both_allow(pair: Pair) -> None:
    importance, roots = pair
    require_the_points_of(TreeFormulation(importance, roots), enumerate_tree(importance, *roots))


def test_two_trees_are_transposable_two_of_four() -> None:
    views = (View.of((4, 4), transposed=by_columns) for by_columns in (False, True))
    leaves = (TensorNode("w", view, runs=(Runs(4, 2, 2),)) for view in views)
    roots = [Node("model", (leaf,), 8, 8) for leaf in leaves]
    # OEIS A001499: 90 binary matrices of size 4 have two ones in each row and column
    assert len(optimal_set(TreeFormulation({"w": torch.zeros(4, 4)}, roots).program)) == 90


@settings(max_examples=15)
@pytest.mark.parametrize("solver", BACKENDS, ids=lambda solver: solver.name)
@given(trees(integers=True))
def test_a_solver_finds_an_optimum_of_a_tree_or_that_it_has_no_mask(
    solver: Solver, tree: Tree
) -> None:
    found, result = enumerate_tree(*tree), solver.solve(TreeFormulation(*tree).program)
    if found.values:
        assert result.status is Status.OPTIMAL
        assert result.solution is not None
        assert mask_of(result.solution.x) in found.optima
    else:
        assert result.status is Status.INFEASIBLE


@settings(max_examples=15)
@given(tree_pairs(allowed=True))
def test_the_relaxation_of_two_trees_has_the_value_of_an_integral_point(pair: Pair) -> None:
    importance, roots = pair
    relaxed = Relaxation().solve(TreeFormulation(importance, roots).program)
    assert relaxed.objective == pytest.approx(-float(enumerate_tree(importance, *roots).best))
    assert relaxed.x is not None
    assert np.minimum(np.abs(relaxed.x), np.abs(relaxed.x - 1)).max() < 1e-6


def test_the_relaxation_of_three_trees_need_not() -> None:
    # the negative control: three weights, any two of which are a node of one of the trees
    importance = {name: torch.ones(1) for name in "abc"}
    leaves = {name: TensorNode(name, View(1, 1, 1)) for name in importance}
    roots = [
        Node("model", (Node("pair", (leaves[a], leaves[b]), 0, 1), leaves[c]))
        for a, b, c in ("abc", "bca", "cab")
    ]
    relaxed = Relaxation().solve(TreeFormulation(importance, roots).program)
    assert relaxed.objective == pytest.approx(-1.5)
    assert enumerate_tree(importance, *roots).best == 1


def test_a_constraint_is_its_tree() -> None:
    importance = {"w": torch.arange(6.0).reshape(2, 3)}
    constraint = PerTensor({"w": 4})
    (points,) = optimal_set(TreeFormulation(importance, constraint).program)
    assert points.tolist() == [False, False, True, True, True, True]
    with pytest.raises(CardinalityError, match="PerTensor says nothing of 'w'"):
        TreeFormulation(importance, PerTensor({}))


@pytest.mark.parametrize("sizes", [{"w": 2}, {"w": 3, "v": 1}, {}])
def test_a_tree_of_other_tensors_is_refused(sizes: dict[str, int]) -> None:
    leaves = tuple(TensorNode(name, View(1, 1, size)) for name, size in sizes.items())
    with pytest.raises(CardinalityError, match=r"model and the scores differ in the tensors"):
        TreeFormulation({"w": torch.zeros(3)}, Node("model", leaves))


def test_names_are_given_once() -> None:
    with pytest.raises(CardinalityError, match="2 nodes of a tree are called 'w'"):
        Node("model", (TensorNode("w", View(1, 1, 3)),) * 2)
