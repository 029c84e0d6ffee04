"""Zeros that are kept: where they are, how long, and what is told where there are none."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.optim import Optimizer

from pins.errors import MaskError, ParameterError
from pins.masks import apply, nonzero_masks
from pins.models.parameters import prunable_parameters
from pins.pruning.keep_zeros import keep_zeros
from tests.pins.networks import losses, perceptron

OPTIMIZERS: dict[str, Callable[[nn.Module], Optimizer]] = {
    "sgd": lambda model: torch.optim.SGD(model.parameters(), lr=0.05),
    "momentum": lambda model: torch.optim.SGD(
        model.parameters(), lr=0.05, momentum=0.9, nesterov=True
    ),
    "adamw": lambda model: torch.optim.AdamW(model.parameters(), lr=0.05, weight_decay=0.1),
    "fused": lambda model: torch.optim.AdamW(model.parameters(), lr=0.05, fused=True),
    "foreach": lambda model: torch.optim.AdamW(model.parameters(), lr=0.05, foreach=True),
}
NUMBERS = st.sampled_from([0.0, -0.0, 1e-45, -1.0, float("inf"), float("nan")])


def sparse(seed: int = 1) -> nn.Sequential:
    """About half of the weights are zero; one bias is, too."""
    model = perceptron()
    generator = torch.Generator().manual_seed(seed)
    weights = prunable_parameters(model).parameters
    apply({n: torch.rand(w.shape, generator=generator) < 0.5 for n, w in weights.items()}, weights)
    with torch.no_grad():
        model.get_parameter("0.bias")[0] = 0.0
    return model


def train(model: nn.Module, optimizer: Optimizer, steps: int = 6) -> None:
    for loss in losses(model, steps):
        torch.autograd.backward(loss)
        optimizer.step()
        optimizer.zero_grad()


@given(st.lists(NUMBERS, min_size=1, max_size=9))
def test_a_mask_is_1_where_a_weight_is_not_zero(numbers: list[float]) -> None:
    masks = nonzero_masks({"w": torch.tensor(numbers)})
    assert masks["w"].dtype == torch.bool
    assert masks["w"].tolist() == [not number == 0 for number in numbers]  # noqa: SIM201 (NaN ≠ 0)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_zeros_stay_and_the_others_learn(name: str) -> None:
    model = sparse()
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    optimizer = OPTIMIZERS[name](model)
    masks = keep_zeros(model, optimizer)
    assert masks.keys() == prunable_parameters(model).parameters.keys()
    for loss in losses(model, 6):
        torch.autograd.backward(loss)
        optimizer.step()
        for weight, mask in masks.items():
            zeros = model.get_parameter(weight).detach()[~mask]
            assert not zeros.any()
            assert not zeros.signbit().any()
        optimizer.zero_grad()
    for weight, mask in masks.items():
        assert torch.equal(mask, before[weight] != 0)
        assert bool((model.get_parameter(weight) != before[weight])[mask].all())
    # a bias that happens to be zero is not one that was pruned
    assert model.get_parameter("0.bias")[0] != 0


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_without_it_they_do_not_stay(name: str) -> None:
    model = sparse()
    zeros = {n: w.detach() == 0 for n, w in prunable_parameters(model).parameters.items()}
    train(model, OPTIMIZERS[name](model))
    assert all(bool(model.get_parameter(n).detach()[zero].any()) for n, zero in zeros.items())


def test_removed_masks_let_all_weights_learn() -> None:
    model = sparse()
    optimizer = OPTIMIZERS["adamw"](model)
    masks = keep_zeros(model, optimizer)
    assert 0 < masks.sparsity < 1
    train(model, optimizer, 1)
    zeros = {name: ~mask for name, mask in masks.items()}
    assert not any(model.get_parameter(name).detach()[zero].any() for name, zero in zeros.items())
    masks.remove()
    train(model, optimizer, 1)
    assert all(bool(model.get_parameter(n).detach()[zero].any()) for n, zero in zeros.items())


def test_an_optimiser_that_accelerate_prepared_is_opened() -> None:
    accelerate = pytest.importorskip("accelerate")
    model = sparse()
    prepared = accelerate.Accelerator(cpu=True).prepare(OPTIMIZERS["adamw"](model))
    masks = keep_zeros(model, prepared)
    train(model, prepared)
    assert all(not model.get_parameter(name).detach()[~mask].any() for name, mask in masks.items())


def test_zeros_of_the_weights_that_are_named_alone() -> None:
    model = sparse()
    optimizer = OPTIMIZERS["sgd"](model)
    masks = keep_zeros(model, optimizer, parameters=prunable_parameters(model, include=r"^0\."))
    assert list(masks) == ["0.weight"]
    second = model.get_parameter("2.weight").detach() == 0
    train(model, optimizer)
    assert not model.get_parameter("0.weight").detach()[~masks["0.weight"]].any()
    assert bool(model.get_parameter("2.weight").detach()[second].any())


def test_masks_that_are_given_are_applied_at_once() -> None:
    model = sparse()
    weights = prunable_parameters(model).parameters
    wanted = nonzero_masks(weights)
    with torch.no_grad():  # one more zero by chance, and one that came back
        weights["2.weight"][wanted["2.weight"].nonzero()[0].unbind()] = 0.0
        weights["0.weight"][(~wanted["0.weight"]).nonzero()[0].unbind()] = 3.0
    optimizer = OPTIMIZERS["adamw"](model)
    masks = keep_zeros(model, optimizer, masks=wanted)
    assert all(torch.equal(masks[name], mask) for name, mask in wanted.items())
    assert not weights["0.weight"].detach()[~wanted["0.weight"]].any()
    train(model, optimizer)
    assert all(bool((weights[name] != 0)[mask].all()) for name, mask in masks.items())


def test_an_overflow_leaves_the_zeros() -> None:
    model = sparse()
    optimizer = OPTIMIZERS["fused"](model)
    masks = keep_zeros(model, optimizer)
    scaler = torch.amp.GradScaler("cpu")
    for factor in (1.0, float("inf"), 1.0):
        scaled: torch.Tensor = scaler.scale(next(losses(model, 1)) * factor)
        torch.autograd.backward(scaled)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        for name, mask in masks.items():
            weight = model.get_parameter(name).detach()
            assert bool(weight.isfinite().all())
            assert not weight[~mask].any()


def test_a_dense_model_has_none() -> None:
    model = perceptron()
    with pytest.raises(
        ParameterError,
        match="found no zero among 80 weights: the model is dense; load a pruned one, or name",
    ):
        keep_zeros(model, OPTIMIZERS["sgd"](model))


def test_masks_of_another_model_are_refused() -> None:
    model = sparse()
    with pytest.raises(MaskError, match="masks and tensors must have the same names"):
        keep_zeros(model, OPTIMIZERS["sgd"](model), masks={"w": torch.zeros(2, dtype=torch.bool)})
