"""The refit is the least-squares solution of each row over its kept inputs."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pins.oneshot import refit as module
from pins.oneshot.layer import Layer, damped, quadratic
from pins.oneshot.refit import DAMPING, refit
from tests.pins.oneshot.layers import correlated, integer_layers


def random_mask(layer: Layer, seed: int, share: float = 0.5) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(layer.weight.shape, generator=generator) < share


def damped_error(layer: Layer, pruned: Tensor) -> float:
    return quadratic(layer.weight.double() - pruned.double(), damped(layer.gram, DAMPING))


def residual(layer: Layer, pruned: Tensor, mask: Tensor) -> float:
    """The largest entry of (W′ − W)(G + δI) on the mask, relative to W(G + δI)."""
    gram = damped(layer.gram, DAMPING)
    rest = (pruned.double() - layer.weight.double()) @ gram
    return float(rest[mask].abs().max() / (layer.weight.double() @ gram).abs().max())


def test_the_normal_equations_hold_and_do_not_without_a_refit() -> None:
    for seed in range(5):
        layer = correlated(seed)
        mask = random_mask(layer, seed)
        mask[0], mask[1] = False, True  # rows without and with all weights
        found = refit(layer, mask)
        assert not found[~mask].any()
        assert torch.allclose(found[1], layer.weight[1], rtol=1e-5)
        assert residual(layer, found, mask) < 1e-6
        assert residual(layer, layer.weight.where(mask, 0.0), mask) > 1e-2
        moved = found.where(~mask, found + 1e-4)
        assert residual(layer, moved, mask) > 1e-5


@given(seed=st.integers(0, 10**6), size=st.sampled_from([1e-4, 1e-2, 1.0]))
def test_no_other_weights_of_the_mask_are_better(seed: int, size: float) -> None:
    layer = correlated(seed % 7, outputs=4, inputs=16)
    mask = random_mask(layer, seed, 0.6)
    best = refit(layer, mask)
    noise = torch.randn(best.shape, generator=torch.Generator().manual_seed(seed)) * size
    assert damped_error(layer, best) <= damped_error(layer, best + noise.where(mask, 0.0))


@given(layer=integer_layers(), seed=st.integers(0, 10**6))
def test_it_never_makes_the_damped_error_larger(layer: Layer, seed: int) -> None:
    mask = random_mask(layer, seed)
    found = refit(layer, mask)
    assert found.isfinite().all()
    before = damped_error(layer, layer.weight.where(mask, 0.0))
    assert damped_error(layer, found) <= before * (1 + 1e-6) + 1e-9


def test_rows_are_solved_alike_in_batches_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = correlated(0)
    mask = random_mask(layer, 0)
    whole = refit(layer, mask)
    monkeypatch.setattr(module, "ROOM", 1)
    assert torch.allclose(refit(layer, mask), whole, rtol=1e-6)
