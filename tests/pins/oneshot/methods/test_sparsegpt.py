"""SparseGPT against what it is without correlations, and against Wanda with them."""

from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pins.oneshot.layer import Layer
from pins.oneshot.methods import sparsegpt
from pins.oneshot.methods.registry import METHODS
from pins.selection.allocation import Allocation
from pins.selection.constraints import Cardinality, NofM, PerRow, keep_count
from pins.selection.select import select
from tests.pins.oneshot.layers import correlated, integer_layers

ALLOCATIONS = [
    Allocation(scope="row"),
    Allocation(scope="tensor"),
    Allocation(pattern="2:4", exactly=True),
]
EACH = pytest.mark.parametrize("allocation", ALLOCATIONS, ids=["row", "tensor", "2:4"])
HALF = Fraction(1, 2)


@EACH
@pytest.mark.parametrize("inputs", [8, 128])
def test_without_correlations_and_damping_it_is_wanda(
    allocation: Allocation, inputs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sparsegpt, "DAMPING", 0.0)
    layer = correlated(2, outputs=6, inputs=inputs)
    layer = Layer("w", layer.weight, layer.gram.diagonal().diag(), layer.vectors)
    ours, other = (METHODS[name].prune(layer, allocation, HALF) for name in ("sparsegpt", "wanda"))
    assert torch.equal(ours.mask, other.mask)
    assert torch.equal(ours.weight, other.weight)


@EACH
@pytest.mark.parametrize("inputs", [64, 160])
def test_with_correlations_its_error_is_below_that_of_wanda(
    allocation: Allocation, inputs: int
) -> None:
    for seed in range(5):
        layer = correlated(seed, inputs=inputs)
        found = {
            name: layer.relative_error(METHODS[name].prune(layer, allocation, HALF).weight)
            for name in ("sparsegpt", "wanda", "magnitude")
        }
        assert found["sparsegpt"] < 0.7 * found["wanda"], found


def test_columns_updated_later_get_the_same_updates(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, found = correlated(4, outputs=5, inputs=32), []
    for block in (4, 12, 128):  # each group of 2:4 is chosen by itself, whatever the block
        monkeypatch.setattr(sparsegpt, "BLOCK", block)
        found.append(METHODS["sparsegpt"].prune(layer, ALLOCATIONS[2], HALF))
    for other in found[1:]:
        assert torch.equal(other.mask, found[0].mask)
        assert torch.allclose(other.weight, found[0].weight, rtol=1e-5)


def test_one_pruned_weight_is_made_up_for_as_by_optimal_brain_surgery(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sparsegpt, "DAMPING", 0.0)
    layer = correlated(3, outputs=4, inputs=6)
    weight = layer.weight.clone()
    weight[:, 0] = 1e-3  # the first column goes: all others can make up for it
    layer = Layer("w", weight, layer.gram, layer.vectors)
    pruned = METHODS["sparsegpt"].prune(layer, Allocation(scope="row"), Fraction(1, 6))
    assert not pruned.mask[:, 0].any()
    inverse = layer.gram.inverse()
    surgery = weight.double() - weight[:, :1].double() / inverse[0, 0] * inverse[0]
    assert torch.allclose(pruned.weight[:, 1:].double(), surgery[:, 1:], rtol=1e-5)


@EACH
@given(layer=integer_layers(by=4), blocks=st.integers(0, 3))
def test_the_mask_of_some_columns_is_the_exact_selection(
    allocation: Allocation, layer: Layer, blocks: int
) -> None:
    scores, sparsity = layer.weight.abs(), Fraction(1, 3)
    (rows, width), first = scores.shape, 4 * blocks
    by_row = keep_count(sparsity, first + width) - keep_count(sparsity, first)
    keep = keep_count(sparsity, rows * (first + width)) - keep_count(sparsity, rows * first)
    constraint = {
        "row": PerRow({"w": by_row}),
        "tensor": Cardinality(keep),
        "global": NofM(2, 4),
    }[allocation.scope]
    mask = sparsegpt._largest(scores.T, first, allocation, sparsity).T
    assert torch.equal(mask, select({"w": scores}, constraint)["w"])


@EACH
def test_of_equal_scores_the_first_are_kept(allocation: Allocation) -> None:
    scores = torch.ones(8, 2)
    mask = sparsegpt._largest(scores, 0, allocation, HALF).T
    first = {"row": mask[:, :4], "tensor": mask[0], "global": mask.view(2, 2, 4)[..., :2]}
    assert first[allocation.scope].all()
    assert mask.count_nonzero() == 8
