"""The gap of Theorem 5, in rational arithmetic over all masks of a tree."""

from fractions import Fraction
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pins.errors import CriterionError, ImportanceError, MaskError
from pins.importance.trust_region.program import Terms, TrustRegionProgram
from pins.selection.constraints import Bounds, Cardinality, LayerBounds, NofM, PerTensor
from pins.selection.select import tree_of
from tests.pins.selection.constrained import solvable
from tests.tree_oracle import enumerate_tree
from verification.certificates.gap import (
    TrustRegionGap,
    decision_gap,
    exact_scores,
    removed_cost,
    trust_region_gap,
)
from verification.strategies import Tree, scores, trees

Named = dict[str, Terms]
TREES = trees(max_total=8, allowed=True).filter(lambda tree: solvable(tree[0]))
POSITIVE = st.floats(1e-30, 1e30) | st.sampled_from([0.1, 1.0, 3.0])


@given(TREES, POSITIVE, st.data())
def test_best_slack_and_gap_are_those_of_the_definition(
    tree: Tree, multiplier: float, data: st.DataObject
) -> None:
    importance, root = tree
    named = {}
    for name, s in importance.items():
        c = data.draw(scores(min_size=s.numel(), max_size=s.numel(), dtypes=[s.dtype]))
        named[name] = Terms(s, c.abs().reshape(s.shape))
    found = enumerate_tree(importance, root)
    saved = enumerate_tree({name: both.cost for name, both in named.items()}, root)
    ranks = {m: saved.values[m] + Fraction(multiplier) * v for m, v in found.values.items()}
    mask = data.draw(st.sampled_from([*ranks]))
    masks = found.program.masks(mask)
    own = sum(saved.program.scores, Fraction(0)) - saved.values[mask]
    radius = data.draw(st.none() | st.just(own + Fraction(1, 3)))
    answer = trust_region_gap(named, masks, multiplier, root, radius)
    slack = Fraction(0) if radius is None else radius - own
    assert removed_cost(named, masks) == own
    assert answer.gap == (max(ranks.values()) - ranks[mask] + slack) / Fraction(multiplier)
    assert answer.slack == (own if radius is None else radius) - removed_cost(named, answer.best)
    assert ranks[found.program.number(answer.best)] == max(ranks.values())
    assert (answer.best is masks) == (ranks[mask] == max(ranks.values()))


def worked() -> tuple[Named, dict[str, Tensor], Any]:
    named = {"w": Terms(torch.tensor([4.0, 1.0, -2.0]), torch.tensor([0.0, 3.0, 1.0]))}
    masks = {"w": torch.tensor([True, False, True])}
    return named, masks, tree_of(Cardinality(2), masks)


def test_by_hand() -> None:
    named, masks, tree = worked()
    # r = c + s/2 = 2, 3.5, 0: the second is better than the third, by 3.5, and removes 1
    found = trust_region_gap(named, masks, 0.5, tree, Fraction(5))
    assert found.best["w"].tolist() == [True, True, False]
    assert [found.slack, found.gap] == [4, 3 + 8]
    own = trust_region_gap(named, masks, 0.5, tree)
    assert [own.slack, own.gap] == [2, 3 + 4]
    assert trust_region_gap(named, masks, 0.5, tree, Fraction(1, 3)).slack == Fraction(-2, 3)


def test_what_rounding_to_float32_misplaces_is_counted() -> None:
    # c + μs = 1 and 1 + 2⁻³⁰: equal as float32, so that the first index is kept
    named = {"w": Terms(torch.tensor([0.0, 2.0**-30]), torch.ones(2))}
    decision = TrustRegionProgram(named, Cardinality(1)).solve(1.0)
    assert decision.masks["w"].tolist() == [True, False]
    found = decision_gap(named, decision)
    assert found.gap == Fraction(1, 2**30)
    assert found.best["w"].tolist() == [False, True]
    assert trust_region_gap(named, found.best, 1.0, decision.tree).gap == 0


SMALL, S, C = 1 + 2.0**-26, -1 - 2.0**-27, 1 + 2.0**-26 + 2.0**-27


@pytest.mark.parametrize(
    ("multiplier", "s", "c"),
    [
        (1.0, [0.0, 2.0**-60], [1.0, 1.0]),  # 1 and 1 + 2⁻⁶⁰ are equal floats
        (SMALL, [S, -(2.0**-54)], [C, 0.0]),  # −2⁻⁵³, which a product and a sum round to 0
    ],
)
def test_what_rounding_to_float64_misplaces_is_ranked_without_it(
    multiplier: float, s: list[float], c: list[float]
) -> None:
    rounded = [multiplier * a + b for a, b in zip(s, c, strict=True)]
    assert rounded[0] >= rounded[1]
    named = {"w": Terms(*(torch.tensor(x, dtype=torch.float64) for x in (s, c)))}
    assert exact_scores(named, multiplier)["w"].tolist() == [0, 1]
    tree = tree_of(Cardinality(1), exact_scores(named, multiplier))
    first = {"w": torch.tensor([True, False])}
    assert trust_region_gap(named, first, multiplier, tree).gap > 0
    assert trust_region_gap(named, {"w": ~first["w"]}, multiplier, tree).gap == 0


@pytest.mark.parametrize(
    "constraint",
    [
        Cardinality(2),
        Cardinality(3) & LayerBounds(minimum={"a": 2}),
        PerTensor({"a": 2, "b": 2}),
        NofM(1, 2),
    ],
)
def test_a_decision_has_no_gap_at_its_own_radius(constraint: Bounds) -> None:
    named = {
        "a": Terms(torch.tensor([0.25, -1.0, 0.5, 1.0]), torch.tensor([0.0, 0.5, 0.125, 1.0])),
        "b": Terms(torch.tensor([2.0, 4.0, 1.0, 0.0]), torch.tensor([1.0, 3.0, 2.0, 0.5])),
    }
    decision = TrustRegionProgram(named, constraint).solve(0.5)
    assert decision_gap(named, decision) == TrustRegionGap(decision.masks, Fraction(0), Fraction(0))
    # the negative control: a kept and a pruned weight of one group exchanged
    wrong = {name: mask.clone() for name, mask in decision.masks.items()}
    wrong["b"] = ~wrong["b"] if int(wrong["b"].sum()) == 2 else wrong["b"].roll(2)
    assert trust_region_gap(named, wrong, 0.5, decision.tree).gap > 0


@pytest.mark.parametrize("multiplier", [0.0, -1.0, float("inf"), float("nan")])
def test_a_multiplier_that_gives_no_gap_is_refused(multiplier: float) -> None:
    named, masks, tree = worked()
    with pytest.raises(CriterionError, match=r"multiplier is .*: a gap needs one > 0, and finite"):
        trust_region_gap(named, masks, multiplier, tree)


def test_terms_and_masks_that_do_not_fit_are_refused() -> None:
    named, masks, tree = worked()
    both = named["w"]
    for value, wrong, message in (
        (float("nan"), 0, r"importance\['w'\] at index \(0\) is nan"),
        (float("inf"), 1, r"the cost of 'w' at index \(0\) is inf"),
    ):
        bad = [part.clone() for part in both]
        bad[wrong][0] = value
        with pytest.raises(ImportanceError, match=message):
            trust_region_gap({"w": Terms(*bad)}, masks, 1.0, tree)
    with pytest.raises(MaskError, match="'b' has a mask but no tensor"):
        trust_region_gap(named, {**masks, "b": torch.ones(1).bool()}, 1.0, tree)
    with pytest.raises(MaskError, match="'w' has no mask"):
        trust_region_gap(named, {}, 1.0, tree)
    with pytest.raises(ImportanceError, match=r"s of shape \(3,\) and c of shape \(1, 3\)"):
        trust_region_gap({"w": Terms(both.importance, both.cost[None])}, masks, 1.0, tree)
