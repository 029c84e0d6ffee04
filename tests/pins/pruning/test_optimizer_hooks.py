"""The hooks on an optimiser record its steps."""

import pytest
import torch
from torch import nn

from pins.errors import ObservationError
from pins.pruning.optimizer_hooks import OptimizerHooks
from tests.pins.networks import losses, perceptron


def stepping() -> tuple[nn.Sequential, torch.optim.Optimizer]:
    model = perceptron()
    return model, torch.optim.SGD(model.parameters(), lr=0.5)


def test_a_step_is_told_once() -> None:
    model, optimizer = stepping()
    hooks = OptimizerHooks(optimizer, dict(model.named_parameters()))
    assert not hooks.step_taken()
    torch.autograd.backward(next(losses(model, 1)))
    optimizer.step()
    optimizer.step()
    assert hooks.step_taken()
    assert not hooks.step_taken()
    assert not hooks.before  # nobody wanted them


def test_weights_are_those_before_the_last_step_that_was_wanted() -> None:
    model, optimizer = stepping()
    parameters = dict(model.named_parameters())
    wanted = iter([False, True])
    hooks = OptimizerHooks(optimizer, parameters, lambda: next(wanted))
    torch.autograd.backward(next(losses(model, 1)))
    optimizer.step()
    assert not hooks.before
    between = {name: p.detach().clone() for name, p in parameters.items()}
    optimizer.step()
    assert hooks.before.keys() == parameters.keys()
    for name, parameter in parameters.items():
        assert torch.equal(hooks.before[name], between[name])
        assert not torch.equal(hooks.before[name], parameter)
        assert not hooks.before[name].requires_grad
    hooks.clear()
    assert not hooks.before


@pytest.mark.parametrize(("overflow", "taken"), [(0.0, True), (1.0, False)])
def test_a_fused_optimiser_that_was_told_to_stay_took_no_step(overflow: float, taken: bool) -> None:
    model = perceptron()
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    hooks = OptimizerHooks(optimizer, dict(model.named_parameters()))
    torch.autograd.backward(next(losses(model, 1)))
    before = model.get_parameter("0.weight").detach().clone()
    optimizer.found_inf = torch.tensor(overflow)  # type: ignore[attr-defined] # as GradScaler does
    optimizer.step()
    assert torch.equal(model.get_parameter("0.weight"), before) is not taken
    assert hooks.step_taken() is taken


def test_no_step_needs_an_overflow_for_a_reason() -> None:
    model, optimizer = stepping()
    hooks = OptimizerHooks(optimizer, dict(model.named_parameters()))
    torch.autograd.backward(next(losses(model, 1)))
    with pytest.raises(ObservationError, match="SGD has taken no step since the last time: call"):
        hooks.require_overflow()
    gradient = model.get_parameter("2.bias").grad
    assert gradient is not None
    gradient[0] = float("inf")
    hooks.require_overflow()
