"""Trees of bounds: views of tensors, and which tensors a tree is over."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from torch import Tensor

import pins
from pins.errors import CardinalityError
from pins.selection.optimality import optimality
from pins.selection.tree import Node, Runs, TensorNode, View, in_view, require_over
from verification.strategies import score_mappings
from verification.testing.threaded_group import shards, together


@pytest.mark.parametrize(
    ("shape", "transposed", "view", "order"),
    [
        ((), False, (1, 1, 1), [0]),
        ((3,), False, (1, 1, 3), [0, 1, 2]),
        ((3,), True, (1, 1, 3), [0, 1, 2]),  # one dimension has no other order
        ((2, 3), False, (1, 2, 3), [0, 1, 2, 3, 4, 5]),
        ((2, 3), True, (1, 3, 2), [0, 3, 1, 4, 2, 5]),
        ((3, 1), True, (1, 1, 3), [0, 1, 2]),
        ((2, 1, 2), True, (2, 2, 1), [0, 1, 2, 3]),
        ((2, 2, 2), True, (2, 2, 2), [0, 2, 1, 3, 4, 6, 5, 7]),
        ((2, 2, 1, 2), False, (4, 1, 2), [0, 1, 2, 3, 4, 5, 6, 7]),
        ((2, 0), True, (1, 0, 2), []),
    ],
)
def test_a_view_is_groups_outputs_inputs(
    shape: tuple[int, ...], transposed: bool, view: tuple[int, int, int], order: list[int]
) -> None:
    found = View.of(shape, transposed=transposed)
    assert (found.groups, found.outputs, found.inputs) == view
    stored = torch.arange(found.size).reshape(shape)
    assert found.apply(stored).tolist() == order
    assert found.stored.apply(stored).tolist() == list(range(found.size))
    assert found.stored.size == found.size
    # each output is a row of what it multiplies, whichever way it is stored
    matrices = stored.reshape(found.shape)
    rows = matrices.transpose(-1, -2) if found.transposed else matrices
    assert torch.equal(found.apply(stored).view(*view), rows)


@given(score_mappings(zero_size=True))
def test_a_view_is_inverted_whatever_the_shape(tensors: dict[str, Tensor]) -> None:
    for tensor in tensors.values():
        for transposed in (False, True):
            view = View.of(tensor.shape, transposed=transposed)
            assert torch.equal(view.invert(view.apply(tensor)).view(tensor.shape), tensor)


def test_the_parts_of_the_ranks_are_put_in_the_order_of_the_view() -> None:
    whole = torch.arange(24).reshape(2, 4, 3)
    view = View.of(whole.shape, transposed=True)
    parts = shards({"w": whole}, [0.1, 0.55])
    found = together(3, lambda rank: in_view(view, parts[rank.rank]["w"], rank))
    assert all(torch.equal(each, view.apply(whole)) for each in found)


def test_the_tensors_of_a_tree_come_in_its_order() -> None:
    a, b, c = (TensorNode(name, View(1, 1, 2)) for name in "abc")
    tree = Node("model", (Node("layer", (c, a)), Node("empty", ()), b))
    assert [node.name for node in tree.tensors] == ["c", "a", "b"]
    assert tree.size == 6


FOUR = TensorNode("w", View(1, 2, 2))
MASK = torch.zeros(2, 2, dtype=torch.bool)


@pytest.mark.parametrize(
    "tree",
    [
        Node("model", (), 0, 0),
        Node("model", (TensorNode("w", View(1, 2, 3)),), 1, 1),
        Node("model", (TensorNode("v", View(1, 2, 2)),), 1, 1),
        Node("model", (replace(FOUR, zeros=MASK[0]),), 1, 1),
        Node("model", (replace(FOUR, fixed=MASK[0]),), 1, 1),
    ],
)
def test_a_tree_over_other_tensors_is_refused(tree: Node) -> None:
    importance, message = {"w": torch.zeros(2, 2)}, r"^model and the scores differ in the tensors"
    with pytest.raises(CardinalityError, match=message):
        pins.decide(importance, tree)
    with pytest.raises(CardinalityError, match=message):
        optimality(importance, {"w": MASK}, tree=tree)


def test_each_node_has_its_own_name() -> None:
    with pytest.raises(CardinalityError, match=r"^2 nodes of a tree are called 'w': give each its"):
        Node("w", (FOUR,))
    with pytest.raises(CardinalityError, match=r"^2 nodes of a tree are called 'w'"):
        Node("model", (FOUR, Node("layer", (FOUR,))))


def test_a_tree_over_the_tensors_of_all_ranks_fits_each() -> None:
    tree = Node("model", (replace(FOUR, runs=(Runs(2),)),))
    together(2, lambda rank: require_over(tree, {"w": 1 + 2 * rank.rank}, rank))
    with pytest.raises(CardinalityError, match=r"differ in the tensors \['w'\]"):
        require_over(tree, {"w": 1})
