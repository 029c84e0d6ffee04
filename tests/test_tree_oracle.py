"""The two second opinions agree; a few hand-made faults show that either would be seen."""

import torch
from hypothesis import given

from pins.selection.tree import Node, Runs, TensorNode, View
from tests.tree_oracle import Program, enumerate_tree, greedy, judge, regret, verdict
from verification.strategies import Tree, trees


@given(trees())
def test_the_closed_form_and_its_check_agree_with_all_masks(tree: Tree) -> None:
    found = enumerate_tree(*tree)
    solved = greedy(found.program)
    if not found.values:
        assert solved.mask is None
        return
    assert solved.mask == found.first
    assert regret(found.program, found.first, solved.thresholds) == 0
    some = [*found.optima[:4], *list(found.values)[:: 1 + len(found.values) // 8]]
    for mask in some:
        assert verdict(found.program, mask) == judge(found, mask)


def test_a_tree_by_hand() -> None:
    # columns of two, one kept of each: 3 of 3 0, the first 1 of 1 1, and −1 of −2 −1
    importance = {"w": torch.tensor([[3.0, 1.0, -2.0], [0.0, 1.0, -1.0]])}
    node = TensorNode("w", View.of((2, 3), transposed=True), runs=(Runs(2, 1, 1),))
    found = enumerate_tree(importance, Node("model", (node,), 3, 3))
    assert found.program.scores == [3, 0, 1, 1, -2, -1]
    assert len(found.values) == 8
    assert found.best == 3
    assert len(found.optima) == 2
    assert found.first_masks["w"].tolist() == [[True, True, False], [False, False, True]]
    assert found.program.number(found.first_masks) == found.first == 0b101001
    assert judge(found, 0b100101).optimal
    assert not judge(found, 0b100101).tie_rule  # two tied weights exchanged
    assert judge(found, 0b011001).regret == 3  # 3 and 0 exchanged
    assert not judge(found, 0b110001).allowed


def test_a_wrong_bound_and_a_wrong_threshold_are_seen() -> None:
    importance = {"a": torch.tensor([5.0, 4.0]), "b": torch.tensor([1.0])}
    leaves = (TensorNode("a", View(1, 1, 2), 0, 1), TensorNode("b", View(1, 1, 1)))
    program = Program(importance, Node("model", leaves, 2, 2))
    solved = greedy(program)
    assert solved.mask == 0b101
    assert solved.thresholds[1] >= 4 > solved.thresholds[0]
    assert regret(program, 0b101, (solved.thresholds[0],) * 3) > 0
    any_two = Node("model", (TensorNode("a", View(1, 1, 2)), leaves[1]), 2, 2)
    unbounded = Program(importance, any_two)
    assert greedy(unbounded).mask == 0b110
    assert verdict(unbounded, 0b101).regret == 3
