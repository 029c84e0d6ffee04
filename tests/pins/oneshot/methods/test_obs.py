"""Greedy removals: each is the best single one, its increase is exact, their sum is no optimum."""

from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pins.oneshot.layer import damped
from pins.oneshot.methods import obs as module
from pins.oneshot.methods.obs import Obs, removed
from pins.oneshot.refit import DAMPING
from pins.oneshot.row_bounds import RowBounds
from pins.selection.allocation import Allocation
from tests.pins.oneshot.exhaustive import error_of, masks_of
from tests.pins.oneshot.layers import correlated

KINDS = ["row", "2:4", "at most 3:4"]
HALF = Fraction(1, 2)


def bounds_of(kind: str, keep: int) -> RowBounds:
    """Of a row with 8 inputs."""
    if kind == "2:4":
        return RowBounds(4, 4, 2, 2)
    return RowBounds(keep, 8, 0, 8) if kind == "row" else RowBounds(min(keep, 6), 4, 0, 3)


@pytest.mark.parametrize("kind", KINDS)
@given(seed=st.integers(0, 10**6), keep=st.integers(1, 8))
def test_each_removal_is_the_best_and_its_increase_is_exact(
    kind: str, seed: int, keep: int
) -> None:
    layer = correlated(seed, outputs=2, inputs=8, vectors=9)
    inverse = torch.linalg.inv(damped(layer.gram, DAMPING))
    bounds = bounds_of(kind, keep)
    masks, increases = removed(layer.weight, inverse, bounds)
    for row, (mask, increase) in enumerate(zip(masks, increases.tolist(), strict=True)):
        error = error_of(layer, row, mask)
        assert increase == pytest.approx(error, rel=1e-6, abs=1e-12)
        every = [error_of(layer, row, other) for other in masks_of(bounds, 8, bounds.keep or 0)]
        assert error >= min(every) * (1 - 1e-9)
        if bounds.keep == 7:
            assert error == pytest.approx(min(every), rel=1e-9)


def test_greedy_is_not_always_the_optimum_and_updates_matter() -> None:
    bounds = RowBounds(4, 8, 0, 8)
    worse = [0, 0]
    for seed in range(20):
        layer = correlated(seed, outputs=1, inputs=8, vectors=9)
        gram = damped(layer.gram, DAMPING)
        best = min(error_of(layer, 0, mask) for mask in masks_of(bounds, 8, 4))
        mask, increase = removed(layer.weight, torch.linalg.inv(gram), bounds)
        worse[0] += error_of(layer, 0, mask[0]) > best * (1 + 1e-9)
        alone = layer.weight.double().square() / torch.linalg.inv(gram).diagonal()
        without = alone[0].topk(4).indices  # the first step's costs for all removals
        other = torch.zeros(8, dtype=torch.bool)
        other[without] = True
        sums = float(alone[0][~other].sum())
        worse[1] += abs(sums - error_of(layer, 0, other)) > 1e-3 * sums
        assert float(increase[0]) == pytest.approx(error_of(layer, 0, mask[0]), rel=1e-9)
    assert worse[0] > 0  # the greedy is a heuristic
    assert worse[1] == 20  # without the updates the costs do not add up


def test_stages_and_batches_do_not_change_a_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = correlated(3, outputs=5, inputs=40)
    inverse = torch.linalg.inv(damped(layer.gram, DAMPING))
    bounds = RowBounds.of(Allocation(scope="row"), HALF, 40)
    right, increase = removed(layer.weight, inverse, bounds)
    for stages, room in ((1, 1 << 25), (40, 1 << 25), (5, 1)):
        monkeypatch.setattr(module, "STAGES", stages)
        monkeypatch.setattr(module, "ROOM", room)
        mask, other = removed(layer.weight, inverse, bounds)
        assert torch.equal(mask, right)
        assert torch.allclose(other, increase, rtol=1e-9)


def test_rows_that_float32_rounds_too_much_are_done_in_float64() -> None:
    layer = correlated(0, outputs=6, inputs=24, vectors=200)
    scale = torch.logspace(0, 5, 24, dtype=torch.float64)
    hard = type(layer)("w", layer.weight, layer.gram * scale * scale[:, None], layer.vectors)
    easy, rounded = (Obs().prune(each, Allocation(scope="row"), HALF) for each in (layer, hard))
    assert easy.report["float64_rows"] == 0
    bounds = RowBounds.of(Allocation(scope="row"), HALF, 24)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped(hard.gram, DAMPING)))
    exact, _ = removed(hard.weight, inverse, bounds)
    assert 0 <= rounded.report["float64_rows"] <= 6
    assert torch.equal(rounded.mask, exact)
