"""What the nodes of a tree can keep, and which trees allow no mask."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given

from pins.errors import CardinalityError
from pins.selection.reach import Reach, keep_of, reaches, total_reach
from pins.selection.tree import Node, Runs, TensorNode, View
from tests.tree_oracle import enumerate_tree
from verification.strategies import Tree, trees


def ends(found: Reach) -> list[int]:
    """The least and the largest number of a single node."""
    return [int(each.item()) for each in found]


REFUSED = r"no mask meets both$|are frozen as zero and as kept$"


@given(trees())
def test_a_tree_is_refused_iff_no_mask_is_allowed(tree: Tree) -> None:
    if enumerate_tree(*tree).values:
        kept = tree[1].minimum
        assert ends(total_reach(tree[1])) == [kept, kept]
    else:
        with pytest.raises(CardinalityError, match=REFUSED):
            total_reach(tree[1])


def test_an_empty_node_and_an_empty_tensor_with_frozen_weights_keep_nothing() -> None:
    assert ends(total_reach(Node("empty", ()))) == [0, 0]
    nothing = torch.zeros(2, 0, dtype=torch.bool)
    node = TensorNode("w", View.of((2, 0)), runs=(Runs(2),), zeros=nothing)
    assert ends(reaches(node)[-1]) == [0, 0]


def tree(*runs: Runs, size: int = 12, minimum: int = 0, maximum: int | None = None) -> TensorNode:
    return TensorNode("w", View(1, 1, size), minimum, maximum, runs)


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        (tree(), [(0, 12)]),
        (tree(minimum=-2, maximum=99), [(0, 12)]),
        (tree(Runs(4, 1, 3)), [(1, 3), (3, 9)]),
        (tree(Runs(4, 1, 3), minimum=5, maximum=7), [(1, 3), (5, 7)]),
        (tree(Runs(6, 0, 3), Runs(2, 1, 1)), [(1, 1), (3, 3), (6, 6)]),
        (tree(Runs(6, 4), Runs(2, 0, 2), maximum=11), [(0, 2), (4, 6), (8, 11)]),
    ],
)
def test_what_a_node_can_keep_is_what_its_parts_and_its_bounds_allow(
    node: TensorNode, expected: list[tuple[int, int]]
) -> None:
    found = reaches(node)[1:]
    assert [tuple(ends(each)) for each in found] == expected


def test_frozen_weights_are_counted_run_by_run() -> None:
    zeros = torch.tensor([True, True, False, False, False, False])
    node = TensorNode("w", View(1, 1, 6), runs=(Runs(3, 0, 2),), zeros=zeros, fixed=~zeros)
    with pytest.raises(CardinalityError, match=r"^run 1 of 'w' is to keep 0 to 2 of its 3 weights"):
        reaches(node)
    (low, high) = reaches(replace(node, fixed=None))[1]
    assert (low.tolist(), high.tolist()) == ([0, 0], [1, 2])
    (low, high) = reaches(replace(node, fixed=zeros.roll(2)))[1]
    assert (low.tolist(), high.tolist()) == ([1, 1], [1, 2])


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (tree(Runs(5)), "'w' has 12 weights in a tensor, which is no multiple of 5: choose a"),
        (tree(Runs(6, name="row"), Runs(4)), "'w' has 6 weights in a row, which is no multiple of"),
        (tree(Runs(4), Runs(6)), "'w' has 4 weights in a run, which is no multiple of 6"),
        (tree(Runs(0)), "'w' has 12 weights in a tensor, which is no multiple of 0"),
        (tree(Runs(24)), "'w' has 12 weights in a tensor, which is no multiple of 24"),
        (tree(Runs(4, 3, 2)), "run 0 of 'w' is to keep 3 to 2 of its 4 weights, and the bounds"),
        (tree(minimum=13), "'w' is to keep 13 to 12 of its 12 weights, and the bounds inside it"),
        (
            Node("block", (tree(Runs(4, 0, 1)),), 4),
            "block is to keep 4 to 12 of its 12 weights, and the bounds inside it allow 0 to 3: no",
        ),
    ],
)
def test_the_node_that_can_keep_no_number_is_named(node: Node | TensorNode, message: str) -> None:
    with pytest.raises(CardinalityError, match=f"^{message}") as refused:
        total_reach(node)
    assert "\n" not in str(refused.value)


def test_the_number_kept_has_to_follow_from_the_bounds() -> None:
    assert keep_of(Node("model", (tree(Runs(4, 2, 2)),))) == 6
    with pytest.raises(
        CardinalityError, match=r"^model may keep 3 to 9 of 12 weights: say how many, as by &"
    ):
        keep_of(Node("model", (tree(Runs(4, 1, 3)),)))
