from fractions import Fraction
from itertools import combinations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pins.errors import MaskError
from pins.selection.select import select
from verification.certificates.regret import regret


def exact_value(scores: torch.Tensor, mask: torch.Tensor) -> Fraction:
    return sum((Fraction(s) for s in scores[mask].tolist()), Fraction(0))


@given(st.data())
def test_regret_is_the_optimum_less_the_value_in_rational_arithmetic(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 8))
    near_ties = st.integers(-3, 3).map(lambda i: 1 + i * 2.0**-20)
    floats = st.floats(-(2.0**99), 2.0**99, width=32) | near_ties
    scores = torch.tensor(data.draw(st.lists(floats, min_size=size, max_size=size)))
    bits = data.draw(st.lists(st.booleans(), min_size=size, max_size=size))
    mask = torch.tensor(bits)
    keep = sum(bits)
    best = max(
        sum((Fraction(scores[i].item()) for i in kept), Fraction(0))
        for kept in combinations(range(size), keep)
    )
    half = size // 2
    found = regret({"a": scores[:half], "b": scores[half:]}, {"a": mask[:half], "b": mask[half:]})
    assert found.exact == best - exact_value(scores, mask)
    assert found.exact == 0 or found.overlap.first_only > 0


def test_tensors_of_different_precision_are_compared_exactly() -> None:
    # rounded to bfloat16, the threshold 1 + 2⁻²⁰ would tie with 1
    scores = {"a": torch.tensor([1 + 2**-20, 3]), "b": torch.ones(2, dtype=torch.bfloat16)}
    masks = {"a": torch.tensor([False, True]), "b": torch.tensor([True, False])}
    assert regret(scores, masks).exact == Fraction(1, 2**20)


def test_the_violation_is_the_pair_with_the_largest_gap_and_the_lowest_index() -> None:
    scores = {"a": torch.tensor([3.0, -1.0, -1.0]), "b": torch.tensor([[5.0], [5.0]])}
    masks = {"a": torch.tensor([True, True, True]), "b": torch.tensor([[False], [False]])}
    found = regret(scores, masks)
    assert found.kept is not None
    assert found.pruned is not None
    assert (found.kept.tensor, found.kept.index, found.kept.score) == ("a", 1, -1.0)
    assert (found.pruned.tensor, found.pruned.index, found.pruned.score) == ("b", 0, 5.0)
    assert found.exact == 12
    assert found.relative == 12 / 15


def test_the_optimum_has_no_regret_and_a_neighbour_has() -> None:
    scores = {"a": torch.tensor([1.0, 1.0 + 2**-20, 0.5])}
    best = select(scores, 1)
    assert regret(scores, best).exact == 0
    assert regret(scores, {"a": torch.tensor([True, False, False])}).exact == Fraction(1, 2**20)


def test_masks_of_other_tensors_are_refused() -> None:
    with pytest.raises(MaskError, match="'b' has a mask but no tensor"):
        regret({"a": torch.ones(2)}, {"a": torch.ones(2).bool(), "b": torch.ones(2).bool()})
