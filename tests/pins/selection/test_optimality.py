"""Theorem 1 as code: a mask is called optimal iff enumeration calls it so."""

from collections.abc import Mapping
from fractions import Fraction
from itertools import combinations, product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pins.errors import MaskError, OptimalityError
from pins.selection.constraints import Cardinality, LayerBounds
from pins.selection.optimality import Optimality, optimality
from pins.selection.select import decide, select, tree_of
from tests.flushing import flushing
from tests.pins.selection.constrained import Program, constrained
from verification.strategies import masks_for, score_mappings, selections


def exact(importance: dict[str, Tensor]) -> list[Fraction]:
    return [Fraction(s) for scores in importance.values() for s in scores.reshape(-1).tolist()]


def bits(masks: Mapping[str, Tensor]) -> list[bool]:
    return [bit for mask in masks.values() for bit in mask.reshape(-1).tolist()]


@given(st.data())
def test_a_mask_is_optimal_iff_no_other_with_as_many_ones_is_better(data: st.DataObject) -> None:
    importance = data.draw(score_mappings(max_tensors=2, max_size=4, zero_size=True))
    masks = data.draw(masks_for(importance))
    scores = exact(importance)
    mine = [i for i, kept in enumerate(bits(masks)) if kept]
    values = [
        sum(scores[i] for i in chosen) for chosen in combinations(range(len(scores)), len(mine))
    ]
    value = sum(scores[i] for i in mine)
    found = optimality(importance, masks)
    assert found.holds == (value == max(values))
    assert found.unique == (value == max(values) and values.count(value) == 1)
    assert (found.keep, found.total) == (len(mine), len(scores))


@given(selections(zero_size=True))
def test_mask_and_multiplier_are_a_proof(selection: tuple[dict[str, Tensor], int]) -> None:
    importance, keep = selection
    masks = select(importance, keep)
    multiplier = Fraction(optimality(importance, masks).dual_multiplier)
    scores = exact(importance)
    dual = keep * multiplier + sum(max(Fraction(0), s - multiplier) for s in scores)
    primal = sum((s for s, kept in zip(scores, bits(masks), strict=True) if kept), Fraction(0))
    assert dual == primal


def test_the_two_numbers_are_read_over_all_tensors() -> None:
    found = optimality(
        {"a": torch.tensor([[5.0, 1.0]]), "b": torch.tensor(2.0), "c": torch.zeros(0)},
        {
            "a": torch.tensor([[True, False]]),
            "b": torch.tensor(True),
            "c": torch.zeros(0, dtype=torch.bool),
        },
    )
    assert (found.keep, found.total, found.kept_min, found.pruned_max) == (2, 3, 2.0, 1.0)
    assert found.holds
    assert found.unique
    assert found.dual_multiplier == 2.0


@pytest.mark.parametrize(("kept", "multiplier"), [(True, 1.0), (False, 3.0)])
def test_a_mask_of_all_or_nothing_is_optimal_and_unique(kept: bool, multiplier: float) -> None:
    mask = torch.full((2,), kept)
    found = optimality({"w": torch.tensor([3.0, 1.0])}, {"w": mask})
    assert found.holds
    assert found.unique
    assert found.dual_multiplier == multiplier


def test_a_tie_at_the_threshold_is_optimal_and_not_unique() -> None:
    found = optimality({"w": torch.tensor([0.0, -0.0])}, {"w": torch.tensor([False, True])})
    assert found.holds
    assert not found.unique


def test_scores_one_float_apart_decide() -> None:
    one = torch.tensor(1.0, dtype=torch.float64)
    scores = torch.stack([one, one.nextafter(one + 1)])
    assert not optimality({"w": scores}, {"w": torch.tensor([True, False])}).holds
    assert optimality({"w": scores}, {"w": torch.tensor([False, True])}).unique


def test_a_mask_that_is_not_optimal_has_no_multiplier() -> None:
    found = optimality({"w": torch.tensor([1.0, 2.0])}, {"w": torch.tensor([True, False])})
    with pytest.raises(OptimalityError, match=r"the model keeps 1\.0 and prunes 2\.0"):
        _ = found.dual_multiplier


def test_nothing_at_all_has_no_multiplier() -> None:
    with pytest.raises(OptimalityError, match="no dual multiplier"):
        _ = optimality({}, {}).dual_multiplier


@given(constrained())
def test_mask_multiplier_and_thresholds_are_a_proof(program: Program) -> None:
    """The dual is feasible, and its value is that of the mask."""
    importance, constraint = program
    decision = decide(importance, constraint)
    proof = optimality(importance, decision.masks, tree=decision.tree)
    multiplier = Fraction(proof.dual_multiplier)
    dual = proof.keep * multiplier
    for node in decision.tree.tensors:
        threshold = Fraction(proof.thresholds[node.name])
        if node.maximum is None:
            assert threshold <= multiplier
        if node.minimum < node.size and node.maximum is None:
            assert (threshold < multiplier) == (node.name in proof.binding)
        dual -= (multiplier - threshold) * node.minimum
        scores = exact({node.name: importance[node.name]})
        dual += sum(max(Fraction(0), s - threshold) for s in scores)
    kept = zip(exact(importance), bits(decision.masks), strict=True)
    assert dual == sum((s for s, bit in kept if bit), Fraction(0))


FOUR = {"a": torch.tensor([4.0, 2.0]), "b": torch.tensor([3.0, 1.0])}


def both(first: list[bool], second: list[bool], **minimums: int) -> Optimality:
    masks = {"a": torch.tensor(first), "b": torch.tensor(second)}
    tree = tree_of(Cardinality(2) & LayerBounds(minimums), FOUR)
    return optimality(FOUR, masks, tree=tree)


@pytest.mark.parametrize(
    ("found", "fault"),
    [
        (both([True, False], [False, True]), "the model keeps 1.0 and prunes 3.0"),
        (both([True, True], [False, False], b=1), "b keeps 0 weights, its bounds are 1 and 2"),
        (both([True, True], [False, False], a=1), "the model keeps 2.0 and prunes 3.0"),
        (both([True, True], [True, False]), "the model keeps 3 weights, its bounds are 2 and 2"),
        (both([False, True], [True, False], a=1, b=1), "a keeps 2.0 and prunes 4.0"),
    ],
)
def test_why_a_mask_is_not_optimal_is_said(found: Optimality, fault: str) -> None:
    assert found.fault == fault
    assert not found.holds
    assert not found.unique
    with pytest.raises(OptimalityError, match=fault):
        _ = found.dual_multiplier
    with pytest.raises(OptimalityError, match=fault):
        _ = found.thresholds


def test_a_minimum_makes_another_mask_optimal() -> None:
    importance = {"a": torch.tensor([4.0, 2.0, 0.0]), "b": torch.tensor([3.0, 1.0])}
    masks = {"a": torch.tensor([True, True, False]), "b": torch.tensor([False, False])}
    bound = optimality(
        importance, masks, tree=tree_of(Cardinality(2) & LayerBounds({"a": 2}), importance)
    )
    assert bound.holds
    assert bound.unique
    assert bound.dual_multiplier == 3.0
    assert bound.thresholds == {"the model": 3.0, "a": 2.0, "b": 3.0}
    assert bound.binding == ("a",)
    assert both([True, False], [True, False], a=1).binding == ()


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        ({}, "'w' has no mask"),
        (
            {"w": torch.ones(2, dtype=torch.bool), "v": torch.ones(2, dtype=torch.bool)},
            "'v' has a mask but no tensor: masks and tensors must have the same names",
        ),
        ({"w": torch.ones(2, 1, dtype=torch.bool)}, r"shape \(2, 1\), the tensor has shape \(2,\)"),
        ({"w": torch.ones(2)}, r"the mask of 'w' is torch\.float32"),
    ],
)
def test_masks_that_do_not_fit_are_refused(masks: dict[str, Tensor], message: str) -> None:
    with pytest.raises(MaskError, match=message):
        optimality({"w": torch.zeros(2)}, masks)


DENORMALS = {torch.float64: 2.0**-1060, torch.float32: 2.0**-140, torch.bfloat16: 2.0**-130}


@pytest.mark.parametrize("dtype", DENORMALS)
def test_denormals_are_compared_exactly_where_they_are_flushed(dtype: torch.dtype) -> None:
    steps = torch.tensor([3.0, -1.0, 1.0, 2.0], dtype=torch.float64)
    scores = {"a": (steps * DENORMALS[dtype]).to(dtype), "b": (-steps * DENORMALS[dtype]).to(dtype)}
    tree = tree_of(Cardinality(4) & LayerBounds({"b": 2}), scores)
    kept = list(product((False, True), repeat=4))
    decisions = [
        {"a": torch.tensor(a), "b": torch.tensor(b)} for a in kept for b in (kept[0], kept[9])
    ]

    def facts() -> list[object]:
        found: list[object] = []
        for masks in decisions:
            for proof in (optimality(scores, masks), optimality(scores, masks, tree=tree)):
                found += [proof.holds, proof.unique, proof.kept_min, proof.pruned_max]
                if proof.holds:
                    found += [proof.dual_multiplier, proof.thresholds, proof.binding]
        return found

    expected = facts()
    with flushing():
        found = facts()
    assert repr(found) == repr(expected)  # floats compare again here, and every digit shows
