"""Blocks are decided by their exact sums: all masks of whole blocks, tried in rational numbers."""

from fractions import Fraction
from itertools import product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import pins
from pins.distributed.process_group import SINGLE_PROCESS
from pins.errors import CardinalityError, ImportanceError, MaskError
from pins.selection.blocks import Blocks, block_masks, block_scores, elements
from pins.selection.constraints import AtMostNofM, Cardinality, LayerBounds, NofM, PerTensor
from pins.selection.optimality import optimality
from pins.selection.tree import View
from tests.flushing import flushing
from verification.testing.threaded_group import shards, together

FEW = [0.0, 1.0, -1.0, 2.0**-60, -(2.0**-60), 1.0 + 2.0**-52, 0.1, 1e300, 2.0**1023]
CASES = (
    ((2, 2), (4, 4), Cardinality(2)),
    ((1, 4), (4, 8), NofM(1, 2)),
    ((2, 1), (2, 6), AtMostNofM(1, 2) & Cardinality(2)),
    ((1, 1), (2, 4), Cardinality(3)),
    ((2, 2), (2, 2, 4), Cardinality(1)),
)


def drawn(shape: tuple[int, ...], data: st.DataObject) -> Tensor:
    size = torch.Size(shape).numel()
    few = data.draw(st.lists(st.sampled_from(FEW), min_size=1, max_size=3))
    values = data.draw(st.lists(st.sampled_from(few), min_size=size, max_size=size))
    return torch.tensor(values, dtype=torch.float64).reshape(shape)


def by_hand(view: View, block: tuple[int, int]) -> list[list[int]]:
    """The flat places of each block as stored, block by block in the order of the view."""
    rows, columns = block
    places = torch.arange(view.size).reshape(view.shape)
    if view.transposed:
        places = places.transpose(-1, -2)
    return [
        places[g, i : i + rows, j : j + columns].reshape(-1).tolist()
        for g in range(view.groups)
        for i in range(0, view.outputs, rows)
        for j in range(0, view.inputs, columns)
    ]


@pytest.mark.parametrize(("block", "shape", "constraint"), CASES)
@pytest.mark.parametrize("transposed", [False, True])
@given(data=st.data())
def test_no_allowed_mask_of_whole_blocks_is_better_and_the_lower_index_wins(
    block: tuple[int, int],
    shape: tuple[int, ...],
    constraint: Cardinality,
    transposed: bool,
    data: st.DataObject,
) -> None:
    stored = (*shape[:-2], shape[-1], shape[-2]) if transposed else shape
    scores = drawn(stored, data)
    view = View.of(stored, transposed=transposed)
    tree = Blocks(block, constraint).tree({"w": view})
    places = by_hand(view, block)
    flat = scores.reshape(-1).tolist()
    sums = [sum((Fraction(flat[i]) for i in each), Fraction(0)) for each in places]
    (leaf,) = tree.tensors
    values = {}
    for bits in product((1, 0), repeat=len(sums)):
        runs = all(
            run.minimum <= sum(bits[i : i + run.length]) <= (run.maximum or 0)
            for run in leaf.runs
            for i in range(0, len(bits), run.length)
        )
        if runs and (tree.maximum is None or sum(bits) == tree.maximum):
            values[bits] = sum((s for s, bit in zip(sums, bits, strict=True) if bit), Fraction(0))
    best = max(values.values())
    decision = pins.decide({"w": scores}, tree)
    kept = decision.masks["w"].reshape(-1).tolist()
    found = tuple(int(kept[each[0]]) for each in places)
    assert all(kept[i] == bool(bit) for each, bit in zip(places, found, strict=True) for i in each)
    assert found == max(bits for bits, value in values.items() if value == best)
    assert decision.proof.holds
    assert decision.proof.unique == (list(values.values()).count(best) == 1)
    # the negative control: the proof of another mask holds only if that is as good
    other = data.draw(st.sampled_from([*values]))
    mask = torch.zeros(len(kept), dtype=torch.bool)
    for each, bit in zip(places, other, strict=True):
        mask[each] = bool(bit)
    proof = optimality({"w": scores}, {"w": mask.reshape(stored)}, tree=tree)
    assert proof.holds == (values[other] == best)


def test_ranks_stand_for_sums_that_are_no_floats() -> None:
    tree = Blocks((1, 2), Cardinality(1)).tree({"a": View.of((1, 4)), "b": View.of((2,))})
    exact = {"a": torch.tensor([[1.0, 2.0, 4.0, 8.0]]), "b": torch.tensor([0.5, 0.25])}
    found = block_scores(exact, tree, SINGLE_PROCESS)
    assert {name: each.tolist() for name, each in found.items()} == {"a": [3.0, 12.0], "b": [0.75]}
    inexact = {name: each.double() for name, each in exact.items()}
    inexact["a"][0, 1] = 2.0**-60
    found = block_scores(inexact, tree, SINGLE_PROCESS)
    assert {name: each.tolist() for name, each in found.items()} == {"a": [1, 2], "b": [0]}


def test_sums_that_rounding_would_tie_are_told_apart() -> None:
    """The negative control: the sums of floats are equal, and the first block would be kept."""
    scores = torch.tensor([[1.0, 0.0, 1.0, 2.0**-60]], dtype=torch.float64)
    mask = pins.select({"w": scores}, Blocks((1, 2), Cardinality(1)))["w"]
    assert mask.tolist() == [[False, False, True, True]]
    first, second = scores.view(2, 2).sum(1).tolist()
    assert first == second


@given(st.lists(st.floats(0.01, 0.99), min_size=1, max_size=3), st.data())
def test_the_ranks_decide_what_one_process_decides(cuts: list[float], data: st.DataObject) -> None:
    """Wherever the tensors are cut, also within a block."""
    named = {"a": drawn((4, 4), data), "b": drawn((2, 6), data)}
    views = {name: View.of(each.shape) for name, each in named.items()}
    tree = Blocks((2, 2), Cardinality(3) & LayerBounds(minimum={"b": 1})).tree(views)
    whole = pins.decide(named, tree)
    parts, masks = shards(named, cuts), shards(whole.masks, cuts)
    found = together(len(cuts) + 1, lambda rank: pins.decide(parts[rank.rank], tree, rank))
    for rank, own in enumerate(found):
        assert all(torch.equal(own.masks[name], masks[rank][name]) for name in named)
        assert own.proof == whole.proof


def test_a_part_of_a_block_is_no_mask() -> None:
    tree = Blocks((1, 2), Cardinality(1)).tree({"w": View.of((2, 2))})
    mask = {"w": torch.tensor([[False, False], [True, False]])}
    with pytest.raises(MaskError, match="the mask of 'w' keeps a part of block 1: a block is kept"):
        block_masks(mask, tree, SINGLE_PROCESS)
    whole = {"w": torch.tensor([[False, False], [True, True]])}
    assert block_masks(whole, tree, SINGLE_PROCESS)["w"].tolist() == [False, True]
    assert [node.view.block for node in elements(tree).tensors] == [(1, 1)]


def test_blocks_divide_every_tensor() -> None:
    with pytest.raises(CardinalityError, match=r"a block is \(0, 4\): both sides are at least 1"):
        Blocks((0, 4), Cardinality(1))
    views = {"w": View.of((4, 6))}
    with pytest.raises(CardinalityError, match="'w' has 4 outputs and 6 inputs, which blocks of 1"):
        Blocks((1, 4), Cardinality(1)).tree(views)
    tree = Blocks((2, 3), PerTensor({"w": 2})).tree(views)
    assert (tree.size, [node.maximum for node in tree.tensors]) == (4, [2])
    with pytest.raises(CardinalityError, match="from 0 to 4"):
        Blocks((2, 3), Cardinality(5)).tree(views)


def test_scores_that_cannot_be_summed_are_refused() -> None:
    scores = {"w": torch.tensor([[1.0, float("nan")]])}
    with pytest.raises(ImportanceError, match=r"importance\['w'\] at index \(0, 1\) is nan"):
        pins.select(scores, Blocks((1, 2), Cardinality(1)))


def test_blocks_are_not_summed_where_denormals_are_flushed() -> None:
    """Their sums would be 0, and the first block would be kept."""
    scores = {"w": torch.tensor([[1e-310, 0.0, 1e-310, 1e-310]], dtype=torch.float64)}
    blocks = Blocks((1, 2), Cardinality(1))
    with (
        flushing(),
        pytest.raises(ImportanceError, match="blocks cannot be summed exactly"),
    ):
        pins.select(scores, blocks)
    assert pins.select(scores, blocks)["w"].tolist() == [[False, False, True, True]]
