"""The hooks on an optimiser record its steps."""

from collections import OrderedDict
from typing import Any

import pytest
import torch
from torch import nn

from pins.errors import ObservationError, SettingError
from pins.pruning.keep_zeros import keep_zeros
from pins.pruning.optimizer_hooks import OptimizerHooks, unwrapped_optimizer
from pins.pruning.pruner import Pruner
from pins.pruning.schedules import OneShotSchedule
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


class Wrapper(torch.optim.Optimizer):
    """As Lookahead and SWA are written: without the constructor of Optimizer, and so no hooks."""

    def __init__(self, inner: torch.optim.Optimizer, name: str = "optimizer") -> None:
        setattr(self, name, inner)
        self.param_groups, self.state = inner.param_groups, inner.state

    def step(self, closure: Any = None) -> Any:
        return self.optimizer.step(closure)  # type: ignore[attr-defined]


class Lookahead(torch.optim.Optimizer):
    """As timm has it: with tables of hooks, which nothing calls; weights move after the step."""

    def __init__(self, inner: torch.optim.Optimizer) -> None:
        self._base_optimizer, self.param_groups, self.state = inner, inner.param_groups, inner.state
        self._optimizer_step_post_hooks = OrderedDict()
        self._optimizer_step_pre_hooks = OrderedDict()
        self.slow = [p.detach() + 1 for group in inner.param_groups for p in group["params"]]

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        self._base_optimizer.step(closure)
        for parameter, slow in zip(self.param_groups[0]["params"], self.slow, strict=True):
            parameter.lerp_(slow, 0.5)


class Endless(Wrapper):
    @property
    def optimizer(self) -> Any:
        return self

    @optimizer.setter
    def optimizer(self, _: object) -> None:
        pass


class DeepSpeedOptimizer:
    __module__ = "deepspeed.runtime"


def test_the_optimiser_inside_its_wrappers_is_hooked() -> None:
    accelerate = pytest.importorskip("accelerate")
    for wrap in (Wrapper, accelerate.Accelerator(cpu=True).prepare, lambda o: Wrapper(Wrapper(o))):
        model, optimizer = stepping()
        wrapped = wrap(optimizer)
        assert unwrapped_optimizer(wrapped, "Pruner") is optimizer
        pruner = Pruner(model, wrapped, "abs-pins", OneShotSchedule(0.5))
        torch.autograd.backward(next(losses(model, 1)))
        wrapped.step()
        assert pruner.step() is not None
        assert sum(int((p == 0).sum()) for p in pruner.parameters.values()) == 40


def test_weights_that_a_wrapper_moves_after_the_step_stay_zero() -> None:
    model, optimizer = stepping()
    with torch.no_grad():
        model.get_parameter("0.weight")[0] = 0
    outer = Lookahead(optimizer)
    assert unwrapped_optimizer(outer, "Pruner") is optimizer
    kept = keep_zeros(model, outer)
    for expected in (True, False):
        torch.autograd.backward(next(losses(model, 1)))
        outer.step()
        assert bool((model.get_parameter("0.weight")[0] == 0).all()) is expected
        kept.remove()


def test_an_optimiser_that_takes_hooks_is_not_opened() -> None:
    class Outer(torch.optim.SGD):
        optimizer = torch.optim.SGD([torch.ones(1)])

    outer = Outer([torch.ones(1)])
    assert unwrapped_optimizer(outer, "Pruner") is outer


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (
            lambda inner: Wrapper(inner, "inner"),
            "given a Wrapper as its optimiser, which takes no hooks: give the torch optimiser that",
        ),
        (lambda inner: [inner, inner], "given a list .*: give one, whose groups hold every weight"),
        (lambda _: DeepSpeedOptimizer(), "DeepSpeed keeps weights and gradients to itself; use FS"),
        (lambda _: None, "given a NoneType"),
        (lambda inner: Endless(inner), "given a Endless as its optimiser, which takes no hooks"),
    ],
)
def test_what_cannot_be_hooked_is_one_clear_error(made: Any, message: str) -> None:
    model, optimizer = stepping()
    with pytest.raises(SettingError, match=message) as refused:
        Pruner(model, made(optimizer), "abs-pins", OneShotSchedule(0.5))
    assert "\n" not in str(refused.value)


def test_removed_hooks_see_no_step() -> None:
    model, optimizer = stepping()
    hooks = OptimizerHooks(optimizer, dict(model.named_parameters()), lambda: True)
    hooks.remove()
    torch.autograd.backward(next(losses(model, 1)))
    optimizer.step()
    assert not hooks.step_taken()
    assert not hooks.before
