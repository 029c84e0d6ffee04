"""Swaps: each lowers the error exactly as predicted, and none is left at the end."""

from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pins.oneshot import swaps as module
from pins.oneshot.layer import Layer, damped
from pins.oneshot.methods.registry import METHODS
from pins.oneshot.refit import DAMPING
from pins.oneshot.row_bounds import RowBounds
from pins.oneshot.swaps import swapped
from pins.selection.allocation import Allocation
from tests.pins.oneshot.exhaustive import error_of
from tests.pins.oneshot.layers import correlated, integer_layers

ALLOCATIONS = {
    "row": Allocation(scope="row"),
    "2:4": Allocation(pattern="2:4", exactly=True),
    "at most 3:4": Allocation(scope="row", pattern="3:4"),
}
HALF = Fraction(1, 2)


def neighbours(mask: Tensor, bounds: RowBounds) -> list[Tensor]:
    """All masks of a row that a swap makes, within the bounds."""
    found = []
    for i in mask.nonzero()[:, 0].tolist():
        for j in (~mask).nonzero()[:, 0].tolist():
            other = mask.clone()
            other[i], other[j] = False, True
            numbers = bounds.numbers(other[None])
            if bool(((numbers >= bounds.minimum) & (numbers <= bounds.maximum)).all()):
                found.append(other)
    return found


@pytest.mark.parametrize("kind", ALLOCATIONS)
@pytest.mark.parametrize("start", ["magnitude", "alps"])
@given(seed=st.integers(0, 10**6))
def test_no_swap_is_left_that_lowers_the_error(kind: str, start: str, seed: int) -> None:
    layer, allocation = correlated(seed, outputs=2, inputs=8, vectors=9), ALLOCATIONS[kind]
    bounds = RowBounds.of(allocation, HALF, 8)
    before = METHODS[start].prune(layer, allocation, HALF).mask
    after, _ = swapped(layer, before, bounds)
    assert torch.equal(after.sum(1), before.sum(1))
    for row in range(2):
        error = error_of(layer, row, after[row])
        assert error <= error_of(layer, row, before[row]) * (1 + 1e-9)
        for other in neighbours(after[row], bounds):
            assert error_of(layer, row, other) >= error * (1 - 1e-6)


def test_masks_of_magnitude_are_no_local_optimum() -> None:
    layer, allocation = correlated(0), ALLOCATIONS["row"]
    mask = METHODS["magnitude"].prune(layer, allocation, HALF).mask
    assert swapped(layer, mask, RowBounds.of(allocation, HALF, 64))[1] > 24


@given(seed=st.integers(0, 10**6), kept=st.integers(1, 7))
def test_every_change_is_that_of_the_refitted_masks(seed: int, kept: int) -> None:
    layer = correlated(seed, outputs=1, inputs=8, vectors=9)
    gram = damped(layer.gram, DAMPING)
    mask = torch.zeros(8, dtype=torch.bool)
    mask[torch.randperm(8, generator=torch.Generator().manual_seed(seed))[:kept]] = True
    rows = module._Rows(gram, layer.weight.double() @ gram, mask[None])
    for _ in range(3):  # the state stays right after a swap
        before = error_of(layer, 0, mask)
        found = module.changes(
            rows.q[0],
            rows.sigma[0, :, None],
            rows.r[0, :, None],
            rows.weight[0],
            rows.own[0],
        )
        for j, into in enumerate(rows.pruned[0].tolist()):
            for i, out in enumerate(rows.kept[0].tolist()):
                other = mask.clone()
                other[out], other[into] = False, True
                right = error_of(layer, 0, other) - before
                assert float(found[j, i]) == pytest.approx(right, rel=1e-6, abs=1e-6 * before)
        _, into, out, change = rows.swaps(RowBounds(None, 8, 0, 8))
        least, known = float(found.min()), float(change.min())
        if least >= 0:
            assert known >= 0
            break
        assert known == pytest.approx(least, rel=1e-9)
        best = change.argmin(keepdim=True)
        rows.exchange(out[best], into[best])
        mask = rows.mask[0].clone()


@given(seed=st.integers(0, 10**6))
def test_rows_together_get_the_masks_that_they_get_alone(seed: int) -> None:
    layer, bounds = correlated(seed, outputs=6, inputs=12, vectors=14), RowBounds(6, 12, 0, 12)
    mask = METHODS["magnitude"].prune(layer, ALLOCATIONS["row"], HALF).mask
    together, number = swapped(layer, mask, bounds)
    alone = []
    for row in range(6):
        one = Layer("w", layer.weight[row, None], layer.gram, layer.vectors)
        found, swaps = swapped(one, mask[row, None], bounds)
        alone.append(found)
        number -= swaps
    assert torch.equal(together, torch.cat(alone))
    assert not number


@pytest.mark.parametrize("kind", ALLOCATIONS)
@given(layer=integer_layers(by=4))
def test_bounds_stay_kept_with_ties_and_dead_inputs(kind: str, layer: Layer) -> None:
    allocation = ALLOCATIONS[kind]
    bounds = RowBounds.of(allocation, HALF, layer.weight.shape[1])
    before = METHODS["wanda"].prune(layer, allocation, HALF).mask
    after, _ = swapped(layer, before, bounds)
    numbers = bounds.numbers(after)
    assert torch.equal(after.sum(1), before.sum(1))
    assert bool(((numbers >= bounds.minimum) & (numbers <= bounds.maximum)).all())


def test_rows_of_other_numbers_are_swapped_too() -> None:
    layer = correlated(1, outputs=3, inputs=16)
    mask = METHODS["magnitude"].prune(layer, Allocation(scope="tensor"), HALF).mask
    mask[0], mask[1] = True, False
    after, number = swapped(layer, mask, RowBounds.of(Allocation(scope="tensor"), HALF, 16))
    assert torch.equal(after.sum(1), mask.sum(1))
    assert number > 0
