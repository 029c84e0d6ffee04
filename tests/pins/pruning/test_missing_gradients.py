"""Weights that a step leaves out (LayerDrop, experts without tokens, frozen layers) have g = 0."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pins.errors import ObservationError
from pins.importance.criteria import CRITERIA, find_criterion
from pins.importance.curvature.fisher import empirical_fisher
from pins.importance.smoothing import WindowMean, default_smoothing, find_smoothing
from pins.pruning.loss_change import first_order_change
from pins.pruning.pruner import Pruner
from pins.pruning.schedules import CubicSchedule, OneShotSchedule
from tests.pins.networks import losses, perceptron

LAYERS = (0, 2)


class Layers(nn.Module):
    """A perceptron of two layers, one of which may be left out of a step, as LayerDrop does."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = perceptron()
        self.left_out: tuple[int, ...] = ()

    def forward(self, data: Tensor) -> Tensor:
        for number, layer in enumerate(self.layers):
            if number not in self.left_out:
                data = layer(data)
            elif number == 0:
                data = torch.nn.functional.pad(data, (0, 2))
            elif number == 2:
                data = data[:, :4]
        return data


def step(model: Layers, optimizer: Any, pruner: Pruner, number: int, *left_out: int) -> Any:
    model.left_out = left_out
    torch.autograd.backward(next(losses(model, 1, seed=number)))
    for layer in LAYERS:
        assert (model.get_parameter(f"layers.{layer}.weight").grad is None) == (layer in left_out)
    optimizer.step()
    decision = pruner.step()
    optimizer.zero_grad()
    return decision


@pytest.mark.parametrize("optimizer", [torch.optim.AdamW, torch.optim.SGD])
@pytest.mark.parametrize("name", CRITERIA)
def test_every_criterion_prunes_exactly_with_layers_left_out(name: str, optimizer: Any) -> None:
    model = Layers()
    made = optimizer(model.parameters(), lr=0.01)
    curvature: Callable[[], dict[str, Tensor]] = lambda: {  # noqa: E731
        n: torch.ones_like(p) for n, p in model.named_parameters()
    }
    pruner = Pruner(
        model,
        made,
        name,
        CubicSchedule(steps=12, final_sparsity=0.8, interval=1),
        smoothing=find_smoothing(default_smoothing(find_criterion(name)))(),
        curvature=curvature if optimizer is torch.optim.SGD else None,
        loss=lambda: 1.0,
    )
    for number, left_out in enumerate([(2,), (0,), (), (2,), (0,), (0,)] * 2):
        decision = step(model, made, pruner, number, *left_out)
        assert decision.proof.keep == sum(int(m.sum()) for m in pruner.masks.values())
    assert pruner.sparsity == 0.8


def test_an_average_skips_the_steps_without_a_gradient() -> None:
    model = Layers()
    given: dict[str, Tensor] = {}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    pruner = Pruner(
        model,
        optimizer,
        "abs-pins",
        OneShotSchedule(0.5, at=4),
        smoothing=WindowMean(),
        on_decision=lambda _, importance, __: given.update(importance),
    )
    weight = model.get_parameter("layers.2.weight")
    scores: list[Tensor] = []
    optimizer.register_step_post_hook(
        lambda *_: None if weight.grad is None else scores.append((weight.grad * weight).abs())
    )
    for number, left_out in enumerate([(), (2,), (), (2,)]):
        step(model, optimizer, pruner, number, *left_out)
    assert len(scores) == 2
    mean = (scores[0] + scores[1]) / 2
    torch.testing.assert_close(given["layers.2.weight"], mean.detach())
    assert not torch.allclose(given["layers.2.weight"], mean / 2), "zeros were averaged"


def test_a_tensor_that_no_step_of_the_average_reached_scores_0() -> None:
    model = Layers()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    schedule = OneShotSchedule(32 / 80, at=3)  # as many as the second layer has
    pruner = Pruner(model, optimizer, "abs-pins", schedule, smoothing=WindowMean())
    for number in range(3):
        step(model, optimizer, pruner, number, 2)
    assert not model.get_parameter("layers.2.weight").any()
    assert model.get_parameter("layers.0.weight").all()


def test_a_layer_frozen_midway_has_no_curvature_and_pruning_goes_on() -> None:
    model = perceptron()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)

    def fisher() -> dict[str, Tensor]:
        return empirical_fisher(dict(model.named_parameters()), losses(model, 2))

    schedule = CubicSchedule(steps=4, final_sparsity=0.25, interval=1)
    pruner = Pruner(model, optimizer, "obd", schedule, curvature=fisher)
    for number, loss in enumerate(losses(model, 4)):
        if number == 2:
            model.get_parameter("0.weight").requires_grad_(False)
            assert not fisher()["0.weight"].any()
            assert fisher()["2.weight"].all()
        optimizer.zero_grad()
        torch.autograd.backward(next(losses(model, 1)) if number >= 2 else loss)
        optimizer.step()
        pruner.step()
    assert pruner.sparsity == 0.25
    assert model.get_parameter("2.weight").all(), "what is frozen has the least cost"


def test_a_step_without_any_gradient_is_an_error() -> None:
    model = Layers()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    pruner = Pruner(model, optimizer, "abs-pins", OneShotSchedule(0.5))
    optimizer.step()
    with pytest.raises(ObservationError, match="found no gradient of any weight: call it after"):
        pruner.step()


def test_the_predicted_loss_change_leaves_out_weights_without_a_gradient() -> None:
    weights = {"a": torch.ones(2, requires_grad=True), "b": torch.ones(2, requires_grad=True)}
    torch.autograd.backward((3 * weights["a"]).sum())
    masks = {name: torch.tensor([True, False]) for name in weights}
    assert first_order_change(weights, masks) == -3.0
