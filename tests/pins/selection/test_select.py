"""The selection's structure and refusals; its laws are in `tests.laws`."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

import pins
from pins.errors import CardinalityError, ImportanceError, OptimalityError
from pins.masks import count_each
from pins.selection import closed_form
from pins.selection.constraints import Cardinality, Constraint, LayerBounds, PerTensor
from pins.selection.kth_largest import KthLargest, kth_largest
from pins.selection.optimality import optimality
from pins.selection.reach import keep_of
from pins.selection.scan import float_keys, numpy_backend, reference
from pins.selection.select import tree_of
from tests.pins.selection.constrained import (
    Program,
    constrained,
    flat,
    least,
    ones,
    optima,
    solvable,
)
from verification.strategies import DTYPES, score_mappings, selections

NAN, INF = float("nan"), float("inf")


def test_the_structure_that_came_is_given_back() -> None:
    first, second = torch.tensor([3.0, 1.0]), torch.tensor([[2.0]])
    masks = [[True, False], [[True]]]
    assert pins.select(first, 1).tolist() == [True, False]
    from_list = pins.select([first, second], 2)
    assert isinstance(from_list, list)
    assert [mask.tolist() for mask in from_list] == masks
    from_tuple = pins.select((first, second), 2)
    assert isinstance(from_tuple, tuple)
    assert [mask.tolist() for mask in from_tuple] == masks
    from_mapping = pins.select({"z": first, "a": second}, 2)
    assert [(name, mask.tolist()) for name, mask in from_mapping.items()] == [
        ("z", [True, False]),
        ("a", [[True]]),
    ]


@pytest.mark.parametrize("keep", [0, 1, 2])
def test_masks_have_the_shapes_of_the_scores(keep: int) -> None:
    scores = [torch.zeros(0, 3), torch.tensor(1.0), torch.ones(1, 1, 1), torch.zeros(2, 0)]
    masks = pins.select(scores, keep)
    assert [mask.shape for mask in masks] == [tensor.shape for tensor in scores]
    assert all(mask.dtype == torch.bool for mask in masks)
    assert sum(int(mask.sum()) for mask in masks) == keep


def test_scores_with_a_graph_are_ranked_without_it() -> None:
    scores = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    for keep in range(4):
        assert not pins.select(scores * 2, keep).requires_grad


@pytest.mark.parametrize("dtype", DTYPES)
def test_neighbouring_floats_are_told_apart_in_every_dtype(dtype: torch.dtype) -> None:
    integer = {2: torch.int16, 4: torch.int32, 8: torch.int64}[dtype.itemsize]
    one = torch.ones(1, dtype=dtype)
    above = (one.view(integer) + 1).view(dtype)
    scores = torch.cat([one, above, -above, -one])
    assert pins.select(scores, 1).tolist() == [False, True, False, False]
    assert pins.select(scores, 3).tolist() == [True, True, False, True]


def test_mixed_dtypes_are_compared_by_value() -> None:
    third = 1 / 3
    scores = [torch.tensor([third], dtype=dtype) for dtype in DTYPES]
    # as exact numbers: float32 0.33333334, float64 0.333…, float16 0.33325, bfloat16 0.33398
    assert [int(mask) for mask in pins.select(scores, 1)] == [0, 0, 0, 1]
    assert [int(mask) for mask in pins.select(scores, 2)] == [1, 0, 0, 1]
    assert [int(mask) for mask in pins.select(scores, 3)] == [1, 1, 0, 1]


@settings(max_examples=20)
@given(selections(zero_size=True))
def test_the_proof_of_a_decision_is_read_from_its_masks(
    instance: tuple[dict[str, Tensor], int],
) -> None:
    importance, keep = instance
    proof = pins.decide(importance, keep).proof
    plain = optimality(importance, pins.select(importance, keep))
    for name in ("keep", "total", "kept_min", "pruned_max", "holds", "unique", "dual_multiplier"):
        assert getattr(proof, name) == getattr(plain, name)
    assert proof.keep == keep
    assert proof.holds


def test_more_scores_than_a_block_holds_are_cut_in_blocks() -> None:
    size = numpy_backend.BLOCK + 3
    scores = torch.arange(size, dtype=torch.float32).flip(0)
    mask = pins.select(scores, size - 2)
    assert bool(mask[:-2].all())
    assert not mask[-2:].any()


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (torch.tensor([1.0, NAN]), r"^importance at index \(1\) is nan: importance must be finite"),
        (torch.tensor(INF), r"^importance at index \(\) is inf"),
        (
            [torch.zeros(2), torch.tensor([[0.0, 1.0], [-INF, NAN]])],
            r"^importance\[1\] at index \(1, 0\) is -inf",
        ),
        ((torch.zeros(1), torch.tensor([NAN])), r"^importance\[1\] at index \(0\) is nan"),
        (
            {"layer.weight": torch.tensor([[NAN]])},
            r"^importance\['layer\.weight'\] at index \(0, 0\) is nan",
        ),
        (torch.tensor([1, 2]), r"^importance is torch\.int64: importance is a tensor of float16"),
        (torch.tensor([True]), r"^importance is torch\.bool"),
        (torch.zeros(1, dtype=torch.complex64), r"^importance is torch\.complex64"),
        ({"a": [1.0]}, r"^importance\['a'\] is list: importance is a tensor"),
        ([1.0], r"^importance\[0\] is float"),
        (torch.zeros(0), "importance is empty: there is no weight to rank"),
        ([], "importance is empty"),
        ({}, "importance is empty"),
        ([torch.zeros(0), torch.zeros(2, 0)], "importance is empty"),
    ],
)
def test_scores_that_cannot_be_ranked_are_named(scores: Any, message: str) -> None:
    for keep in (0, 1):
        with pytest.raises(ImportanceError, match=message):
            pins.select(scores, keep)


def test_a_score_that_is_not_finite_is_found_in_a_later_block(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reference, "BLOCK", 8)
    scores = torch.zeros(3, 5)
    scores[2, 1] = NAN
    with pytest.raises(ImportanceError, match=r"importance at index \(2, 1\) is nan"):
        pins.select(scores, 1)


@pytest.mark.parametrize("keep", [-1, 4, 1.0, "1", None, True, NAN])
def test_a_cardinality_that_no_mask_can_have_is_refused(keep: Any) -> None:
    message = r"keep is .*: it is the number of weights to keep, an int from 0 to 3"
    with pytest.raises(CardinalityError, match=message):
        pins.select(torch.zeros(3), keep)
    with pytest.raises(CardinalityError, match=message):
        pins.decide({"w": torch.zeros(3)}, keep)


def test_integers_of_other_libraries_are_integers() -> None:
    keeps: list[Any] = [np.int64(2), torch.tensor(2)]
    for keep in keeps:
        assert pins.select(torch.zeros(3), keep).tolist() == [True, True, False]


# ---- Bounds of tensors; trees of any kind are in `test_closed_form` ------------------------------


@given(constrained(max_size=8))
def test_each_tensor_keeps_what_its_constraint_says(program: Program) -> None:
    importance, constraint = program
    decision = pins.decide(importance, constraint)
    counts = {name: each.kept for name, each in count_each(decision.masks).items()}
    assert sum(counts.values()) == keep_of(decision.tree) == decision.proof.keep
    assert all(counts[name] >= number for name, number in least(importance, constraint).items())
    if isinstance(constraint, PerTensor):
        assert counts == constraint.keeps
        for name, scores in importance.items():
            if scores.numel():
                assert torch.equal(decision.masks[name], pins.select(scores, counts[name]))


@given(constrained(max_size=8))
def test_where_plain_selection_has_every_minimum_it_is_the_decision(program: Program) -> None:
    importance, constraint = program
    minimums, keep = least(importance, constraint), keep_of(tree_of(constraint, importance))
    plain = pins.select(importance, keep)
    decision = pins.decide(importance, Cardinality(keep) & LayerBounds(minimums))
    kept = {name: each.kept for name, each in count_each(plain).items()}
    enough = all(kept[name] >= number for name, number in minimums.items())
    assert (ones(decision.masks) == ones(plain)) == enough
    without = pins.decide(importance, Cardinality(keep) & LayerBounds(0))
    assert ones(without.masks) == ones(plain)
    assert without.binding == ()
    assert without.proof.dual_multiplier == optimality(importance, plain).dual_multiplier


@st.composite
def bounded(draw: st.DrawFn) -> tuple[dict[str, Tensor], int, LayerBounds]:
    """Tensors that may keep more than one number, around the numbers that a mask keeps."""
    importance = draw(score_mappings(max_tensors=3, max_size=4))
    assume(solvable(importance))
    least, most, keep = {}, {}, 0
    for name, scores in importance.items():
        kept = draw(st.integers(0, scores.numel()))
        least[name] = draw(st.integers(0, min(kept, scores.numel() - 1)))
        most[name] = draw(st.integers(max(kept, least[name] + 1), scores.numel()))
        keep += kept
    return importance, keep, LayerBounds(least, most)


@given(bounded())
def test_no_bound_binds_iff_the_mask_is_an_optimum_without_bounds(
    program: tuple[dict[str, Tensor], int, LayerBounds],
) -> None:
    importance, keep, bounds = program
    decision = pins.decide(importance, Cardinality(keep) & bounds)
    plain = optima(importance, Cardinality(keep))
    assert (decision.binding == ()) == (ones(decision.masks) in plain)


@given(bounded(), st.sampled_from(("minimum", "maximum")))
def test_a_bound_of_one_kind_binds_iff_the_optimum_without_it_is_larger(
    program: tuple[dict[str, Tensor], int, LayerBounds], kind: str
) -> None:
    importance, keep, bounds = program
    scores = flat(importance)
    numbers = dict(getattr(bounds, kind))
    decision = pins.decide(importance, Cardinality(keep) & LayerBounds(**{kind: numbers}))
    value = sum(scores[i] for i in ones(decision.masks))
    for name in importance:
        rest = {other: number for other, number in numbers.items() if other != name}
        without = Cardinality(keep) & LayerBounds(**{kind: rest})
        larger = sum(scores[i] for i in optima(importance, without)[0]) > value
        assert larger == (name in decision.binding)


THREE_TWO = {"a": torch.tensor([5.0, 4.0, 3.0]), "b": torch.tensor([2.0, 1.0])}


@pytest.mark.parametrize(
    ("bounds", "kept", "binding"),
    [
        (LayerBounds(minimum={"b": 1}), (0, 1, 3), ("b",)),
        (LayerBounds(maximum={"a": 2}), (0, 1, 3), ("a",)),
        (LayerBounds(minimum=0.5), (0, 1, 3), ("b",)),
        (LayerBounds(minimum={"a": 3}), (0, 1, 2), ()),
        (LayerBounds(maximum={"a": 1}), (0, 3, 4), ("a",)),
        (LayerBounds(minimum={"b": 1}, maximum={"a": 2}), (0, 1, 3), ("a",)),
    ],
)
def test_a_bound_moves_a_weight_to_the_best_that_may_have_it(
    bounds: LayerBounds, kept: tuple[int, ...], binding: tuple[str, ...]
) -> None:
    decision = pins.decide(THREE_TWO, Cardinality(3) & bounds)
    assert ones(decision.masks) == kept
    assert decision.binding == binding


def test_one_minimum_may_make_another_bind() -> None:
    """Without b's minimum a keeps two of its own accord; with it a's second has to be protected."""
    importance = {
        "a": torch.tensor([9.0, 3.0, 0.0]),
        "b": torch.tensor([1.0, 0.0]),
        "c": torch.tensor([8.0, 4.0]),
    }
    alone = pins.decide(importance, Cardinality(4) & LayerBounds({"a": 2}))
    assert alone.binding == ()
    both = pins.decide(importance, Cardinality(4) & LayerBounds({"a": 2, "b": 1}))
    assert both.binding == ("a", "b")
    assert ones(both.masks) == (0, 1, 3, 5)


@given(constrained(max_size=8))
def test_with_the_same_minimums_what_k_keeps_is_kept_by_k_plus_1(program: Program) -> None:
    importance, constraint = program
    minimums, keep = least(importance, constraint), keep_of(tree_of(constraint, importance))
    if keep == len(flat(importance)):
        return
    fewer, more = (
        ones(pins.decide(importance, Cardinality(k) & LayerBounds(minimums)).masks)
        for k in (keep, keep + 1)
    )
    assert set(fewer) < set(more)


def test_with_other_minimums_nesting_is_not_promised() -> None:
    importance = {"a": torch.tensor([5.0, 4.0]), "b": torch.tensor([1.0])}
    assert ones(pins.decide(importance, Cardinality(1) & LayerBounds({"b": 1})).masks) == (2,)
    assert ones(pins.decide(importance, Cardinality(2) & LayerBounds({"b": 0})).masks) == (0, 1)


@pytest.mark.parametrize(
    ("constraint", "message"),
    [
        (Cardinality(4), "keep is 4: .*an int from 0 to 3"),
        (PerTensor({"w": 1}), "PerTensor says nothing of 'v'"),
        (LayerBounds({"v": 2}), r"minimum\['v'\] is 2, and 'v' has 1 weights"),
        (LayerBounds({"v": 1}), "the model may keep 1 to 3 of 3 weights: say how many"),
    ],
)
def test_a_constraint_that_no_mask_meets_is_refused(constraint: Constraint, message: str) -> None:
    for call in (pins.decide, pins.select):
        with pytest.raises(CardinalityError, match=message):
            call({"w": torch.zeros(2), "v": torch.zeros(1)}, constraint)


def test_a_decision_needs_names() -> None:
    with pytest.raises(ImportanceError, match=r"decide\(\) was given a Tensor"):
        pins.decide(torch.zeros(2), Cardinality(0))  # type: ignore[arg-type]


def swapped(found: KthLargest) -> KthLargest:
    mask = found.masks["w"].clone()
    mask[[0, 3]] = mask[[3, 0]]
    return replace(found, masks={**found.masks, "w": mask})


def one_too_many(found: KthLargest) -> KthLargest:
    return replace(found, masks={**found.masks, "w": torch.ones_like(found.masks["w"])})


def with_scores(found: KthLargest, **scores: float) -> KthLargest:
    """Other scores beside the border of every segment."""
    changed: dict[str, Any] = {
        name: np.full_like(found.kept_min, int(float_keys.keys(torch.tensor([score]))))
        for name, score in scores.items()
    }
    return replace(found, **changed)


WRONG: dict[str, Callable[[KthLargest], KthLargest]] = {
    "a swapped pair": swapped,
    "one too many": one_too_many,
    "λ too large": lambda found: with_scores(found, kept_min=3.0),
    "λ too small": lambda found: with_scores(found, kept_min=-1.0),
    "λ between them": lambda found: with_scores(found, kept_min=1.0, pruned_max=0.0),
    "a tie that is none": lambda found: replace(found, pruned_max=found.kept_min),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_selection_that_is_wrong_is_not_passed_on(
    wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    importance = {"w": torch.tensor([3.0, 2.0, 2.0, 1.0]), "v": torch.tensor([5.0])}
    pins.decide(importance, 4)
    monkeypatch.setattr(
        closed_form, "kth_largest", lambda *arguments: WRONG[wrong](kth_largest(*arguments))
    )
    for constraint, keep in ((Cardinality(4), "[45] of 4"), (PerTensor({"w": 3, "v": 1}), "[34]")):
        with pytest.raises(OptimalityError, match=rf"the selection kept {keep}.*; of λ = "):
            pins.decide(importance, constraint)


def test_a_tie_that_is_hidden_is_not_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    importance = {"w": torch.tensor([3.0, 2.0, 2.0, 1.0])}
    assert not pins.decide(importance, 2).proof.unique

    def hidden(*arguments: Any) -> KthLargest:
        return with_scores(kth_largest(*arguments), pruned_max=1.0)

    monkeypatch.setattr(closed_form, "kth_largest", hidden)
    with pytest.raises(OptimalityError, match="0 pruned ones above and 1 equal to it"):
        pins.decide(importance, 2)


def test_a_view_that_negates_its_numbers_is_ranked_by_them() -> None:
    scores = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    negated = torch.complex(torch.zeros_like(scores), scores).conj().imag
    assert negated.is_neg()
    assert torch.equal(negated, -scores)
    assert torch.equal(pins.select(negated, 9), pins.select(-scores, 9))
    assert not torch.equal(pins.select(negated, 9), pins.select(scores, 9))  # what stands in memory


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
def test_nested_tensors_are_refused() -> None:
    nested = torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])
    with pytest.raises(ImportanceError, match=r"^importance is a nested tensor: importance is a "):
        pins.select(nested, 1)
    with pytest.raises(ImportanceError, match=r"^importance\['w'\] is a nested tensor"):
        pins.select({"v": torch.ones(2), "w": nested}, 1)


@pytest.mark.parametrize("transform", [torch.vmap, torch.func.grad])
def test_tensors_inside_a_transformation_of_functions_are_refused(transform: Any) -> None:
    selected = transform(lambda scores: (pins.select(scores, 1) * scores).sum())
    with pytest.raises(ImportanceError, match=r"^importance has no values in memory, as inside"):
        selected(torch.ones(3, 4) if transform is torch.vmap else torch.ones(4))
