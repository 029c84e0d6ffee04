from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pins.errors import MaskError
from pins.selection.constraints import NofM
from pins.selection.select import select
from tests.pins.selection.constrained import solvable
from tests.tree_oracle import enumerate_tree, judge
from verification.certificates.regret import regret, shortfall
from verification.strategies import Tree, trees


@given(trees(allowed=True, max_total=9).filter(lambda tree: solvable(tree[0])), st.data())
def test_regret_is_the_optimum_less_the_value_in_rational_arithmetic(
    tree: Tree, data: st.DataObject
) -> None:
    """Under the tree; and without one, among all masks with as many ones, where it is larger."""
    importance, root = tree
    found = enumerate_tree(importance, root)
    mask = data.draw(st.sampled_from([*found.values]))
    masks = found.program.masks(mask)
    answer = regret(importance, masks, root)
    assert answer.exact == judge(found, mask).regret
    assert found.program.number(answer.best) == found.first
    assert answer.exact == 0 or answer.overlap.first_only > 0
    value = sum(sorted(found.program.scores, reverse=True)[: mask.bit_count()], Fraction(0))
    assert regret(importance, masks).exact == value - found.values[mask] >= answer.exact
    other = data.draw(st.sampled_from([*found.values]))
    less = shortfall(importance, found.program.masks(other), masks)
    assert less == found.values[other] - found.values[mask]


def test_tensors_of_different_precision_are_compared_exactly() -> None:
    # rounded to bfloat16, the threshold 1 + 2⁻²⁰ would tie with 1
    scores = {"a": torch.tensor([1 + 2**-20, 3]), "b": torch.ones(2, dtype=torch.bfloat16)}
    masks = {"a": torch.tensor([False, True]), "b": torch.tensor([True, False])}
    assert regret(scores, masks).exact == Fraction(1, 2**20)


def test_by_hand() -> None:
    scores = {"a": torch.tensor([3.0, -1.0, -1.0]), "b": torch.tensor([[5.0], [5.0]])}
    masks = {"a": torch.tensor([True, True, True]), "b": torch.tensor([[False], [False]])}
    found = regret(scores, masks)
    assert found.exact == 12
    assert found.relative == 12 / 15
    assert found.multiplier == 3.0
    assert (found.overlap.first_only, found.overlap.second_only) == (2, 2)
    zero = {"a": torch.zeros(3), "b": torch.zeros(2, 1)}
    assert regret(zero, masks).relative == 0.0


def test_the_optimum_has_no_regret_and_a_neighbour_has() -> None:
    scores = {"a": torch.tensor([1.0, 1.0 + 2**-20, 0.5, 4.0])}
    best = select(scores, NofM(1, 2))
    assert regret(scores, best, NofM(1, 2)).exact == 0
    assert regret(scores, best).exact == 0
    other = {"a": torch.tensor([True, False, False, True])}
    assert regret(scores, other, NofM(1, 2)).exact == Fraction(1, 2**20)


def test_masks_of_other_tensors_are_refused() -> None:
    with pytest.raises(MaskError, match="'b' has a mask but no tensor"):
        regret({"a": torch.ones(2)}, {"a": torch.ones(2).bool(), "b": torch.ones(2).bool()})
