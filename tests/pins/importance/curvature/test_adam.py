"""Adam's two moments, against running means written out."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.optim import Optimizer

from pins.errors import ObservationError
from pins.importance.criteria import CRITERIA
from pins.importance.criterion import Observation
from pins.importance.curvature.adam import adam_first_moment, adam_second_moment, has_second_moment

Moment = Callable[[Optimizer, Mapping[str, Tensor]], dict[str, Tensor]]

FAMILY: dict[str, tuple[Callable[..., Optimizer], dict[str, Any]]] = {
    "adam": (torch.optim.Adam, {}),
    "adamw": (torch.optim.AdamW, {"weight_decay": 0.1}),
    "nadam": (torch.optim.NAdam, {}),
    "radam": (torch.optim.RAdam, {}),
    "amsgrad": (torch.optim.AdamW, {"amsgrad": True}),
    "maximize": (torch.optim.AdamW, {"maximize": True}),
    "foreach": (torch.optim.AdamW, {"foreach": True, "maximize": True}),
    "fused": (torch.optim.AdamW, {"fused": True, "maximize": True}),
    "per weight": (torch.optim.AdamW, {"foreach": False}),
}
BETAS = {"a": (0.5, 0.9), "b": (0.8, 0.75)}


def backward(loss: Tensor) -> None:
    torch.autograd.backward(loss)


def stepped(optimizer: Callable[..., Optimizer], weight: Tensor, **options: Any) -> Optimizer:
    """After a step on the sum of squares."""
    made = optimizer([weight], **options)
    backward(weight.square().sum())
    made.step()
    return made


@pytest.mark.parametrize("family", FAMILY)
def test_moments_are_the_bias_corrected_means_of_the_gradient_and_its_square(family: str) -> None:
    kind, options = FAMILY[family]
    weights = {name: torch.randn(5, dtype=torch.float64, requires_grad=True) for name in BETAS}
    groups = [{"params": [weights[name]], "betas": betas} for name, betas in BETAS.items()]
    optimizer = kind(groups, lr=0.01, **options)
    first = {name: torch.zeros(5, dtype=torch.float64) for name in BETAS}
    second = {name: torch.zeros(5, dtype=torch.float64) for name in BETAS}
    for scale in (1.0, -2.0, 0.1, 0.3):  # the largest square is not the last
        optimizer.zero_grad()
        backward(scale * (weights["a"].sin() * weights["b"].cos()).sum())
        for name, (beta1, beta2) in BETAS.items():
            gradient = weights[name].grad
            assert gradient is not None
            first[name] = beta1 * first[name] + (1 - beta1) * gradient
            second[name] = beta2 * second[name] + (1 - beta2) * gradient.square()
        optimizer.step()
    for name, (beta1, beta2) in BETAS.items():
        # a few roundings a step; the terms of the first have both signs
        expected = first[name] / (1 - beta1**4)
        found = adam_first_moment(optimizer, weights)[name]
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-15)
        assert not torch.allclose(found, first[name])  # the correction is there
        assert not torch.allclose(found, -expected)
        expected = second[name] / (1 - beta2**4)
        found = adam_second_moment(optimizer, weights)[name]
        torch.testing.assert_close(found, expected, rtol=1e-13, atol=0)
        assert not torch.allclose(found, second[name])


@given(
    betas=st.tuples(*[st.floats(0, 0.9999)] * 2),
    steps=st.integers(1, 8),
    slope=st.floats(0.01, 100),
    maximize=st.booleans(),
)
def test_what_does_not_change_is_its_own_running_mean(
    betas: tuple[float, float], steps: int, slope: float, maximize: bool
) -> None:
    weight = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.AdamW([weight], betas=betas, maximize=maximize)
    weight.grad = torch.tensor([slope, -slope], dtype=torch.float64)
    for _ in range(steps):
        optimizer.step()
    # 1 − β holds some 1e-12 of its value when β is near 1
    named = {"w": weight}
    torch.testing.assert_close(
        adam_first_moment(optimizer, named)["w"], weight.grad, rtol=1e-11, atol=0
    )
    torch.testing.assert_close(
        adam_second_moment(optimizer, named)["w"], weight.grad.square(), rtol=1e-11, atol=0
    )


def test_with_maximize_the_state_is_of_the_other_sign() -> None:
    weight = torch.tensor([1.0, -2.0], requires_grad=True)
    optimizer = stepped(torch.optim.AdamW, weight, maximize=True)
    assert weight.grad is not None
    torch.testing.assert_close(adam_first_moment(optimizer, {"w": weight})["w"], weight.grad)
    assert torch.equal(optimizer.state[weight]["exp_avg"].sign(), -weight.grad.sign())


def test_amsgrad_keeps_a_maximum_that_is_not_the_second_moment() -> None:
    weight = torch.ones(1, requires_grad=True)
    optimizer = torch.optim.AdamW([weight], amsgrad=True, betas=(0.9, 0.5))
    for slope in (10.0, 0.1, 0.1):
        weight.grad = torch.tensor([slope])
        optimizer.step()
    moment = adam_second_moment(optimizer, {"w": weight})["w"]
    assert moment.item() == pytest.approx((0.125 * 100 + 0.75 * 0.01) / 0.875, rel=1e-5)
    assert float(optimizer.state[weight]["max_exp_avg_sq"]) > 2 * moment.item()


def test_after_one_step_the_moments_are_the_gradient_and_its_square() -> None:
    weight = torch.tensor([1.0, -2.0, 0.5], requires_grad=True)
    optimizer = stepped(torch.optim.AdamW, weight, lr=0.1)
    assert weight.grad is not None
    named = {"w": weight}
    torch.testing.assert_close(adam_first_moment(optimizer, named)["w"], weight.grad)
    torch.testing.assert_close(adam_second_moment(optimizer, named)["w"], weight.grad.square())


def test_obd_of_adams_moment_is_the_formula_after_several_steps() -> None:
    weight = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.AdamW([weight], lr=0.1)
    moment = torch.zeros(3, dtype=torch.float64)
    for _ in range(5):
        optimizer.zero_grad()
        backward(weight.exp().sum())
        assert weight.grad is not None
        moment = 0.999 * moment + 0.001 * weight.grad.square()
        optimizer.step()
    curvature = adam_second_moment(optimizer, {"w": weight})["w"]
    importance = CRITERIA["obd"].importance(Observation(after=weight, curvature=curvature))
    expected = 0.5 * moment / (1 - 0.999**5) * weight.detach() ** 2
    torch.testing.assert_close(importance, expected, rtol=1e-13, atol=0)


@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.0, 0.0)])  # without memory there is no bias
def test_the_moments_cost_the_optimizer_nothing(betas: tuple[float, float]) -> None:
    weight = torch.ones(3, requires_grad=True)
    optimizer = stepped(torch.optim.AdamW, weight, betas=betas)
    held = {name: value.clone() for name, value in optimizer.state[weight].items()}
    adam_first_moment(optimizer, {"w": weight})["w"].zero_()
    adam_second_moment(optimizer, {"w": weight})["w"].zero_()
    for name, value in held.items():
        assert torch.equal(optimizer.state[weight][name], value)


@pytest.mark.parametrize("moment", [adam_first_moment, adam_second_moment])
def test_one_tensor_at_a_time_is_the_same(moment: Moment) -> None:
    weights = {name: torch.randn(3, requires_grad=True) for name in "abc"}
    optimizer = torch.optim.AdamW(weights.values())
    backward(torch.stack(list(weights.values())).exp().sum())
    optimizer.step()
    at_once = moment(optimizer, weights)
    assert list(at_once) == list(weights)
    for name, weight in weights.items():
        assert torch.equal(moment(optimizer, {name: weight})[name], at_once[name])


def test_moments_of_16_bits_are_divided_in_32() -> None:
    weight = torch.ones(2, dtype=torch.bfloat16, requires_grad=True)
    optimizer = stepped(torch.optim.AdamW, weight)
    state = optimizer.state[weight]
    for moment, name, beta in ((adam_first_moment, "exp_avg", 0.9),
                               (adam_second_moment, "exp_avg_sq", 0.999)):  # fmt: skip
        found = moment(optimizer, {"w": weight})["w"]
        torch.testing.assert_close(found, state[name].float() / (1 - beta), rtol=1e-6, atol=0)


def test_betas_may_be_tensors() -> None:
    weight = torch.tensor([1.0, -2.0], requires_grad=True)
    betas = (torch.tensor(0.5), torch.tensor(0.75))
    optimizer = stepped(torch.optim.AdamW, weight, betas=betas, foreach=False)
    assert weight.grad is not None
    named = {"w": weight}
    torch.testing.assert_close(adam_first_moment(optimizer, named)["w"], weight.grad)
    torch.testing.assert_close(adam_second_moment(optimizer, named)["w"], weight.grad.square())


def test_which_optimizers_keep_a_second_moment() -> None:
    weight = torch.ones(3, requires_grad=True)
    for kind, options in FAMILY.values():
        assert has_second_moment(kind([weight], **options))
    assert not has_second_moment(torch.optim.SGD([weight], lr=0.1, momentum=0.9))


def test_adamax_keeps_the_first_moment_alone() -> None:
    weight = torch.tensor([1.0, -2.0], requires_grad=True)
    optimizer = stepped(torch.optim.Adamax, weight)
    assert weight.grad is not None
    torch.testing.assert_close(adam_first_moment(optimizer, {"w": weight})["w"], weight.grad)
    with pytest.raises(ObservationError, match="Adamax holds no exp_avg_sq for 'w'"):
        adam_second_moment(optimizer, {"w": weight})
    assert not has_second_moment(optimizer)


def test_there_are_no_moments_before_the_first_step() -> None:
    weight = torch.ones(3, requires_grad=True)
    optimizer = torch.optim.AdamW([weight])
    with pytest.raises(
        ObservationError,
        match="AdamW holds no exp_avg_sq for 'w': take a step with Adam or AdamW first, or give",
    ):
        adam_second_moment(optimizer, {"w": weight})
    with pytest.raises(
        ObservationError,
        match="AdamW holds no exp_avg for 'w': take a step with Adam or AdamW first, or read the",
    ):
        adam_first_moment(optimizer, {"w": weight})


def test_a_step_that_an_overflow_kept_the_optimizer_from_makes_no_moments() -> None:
    weight = torch.ones(3, requires_grad=True)
    optimizer: Any = torch.optim.AdamW([weight], fused=True)
    optimizer.grad_scale, optimizer.found_inf = torch.tensor(2.0), torch.tensor(1.0)
    weight.grad = torch.full((3,), torch.inf)
    optimizer.step()
    assert "exp_avg" in optimizer.state[weight]  # all there, and of no gradient
    with pytest.raises(ObservationError, match="AdamW holds no exp_avg for 'w'"):
        adam_first_moment(optimizer, {"w": weight})
    with pytest.raises(ObservationError, match="AdamW holds no exp_avg_sq for 'w'"):
        adam_second_moment(optimizer, {"w": weight})


@pytest.mark.parametrize("moment", [adam_first_moment, adam_second_moment])
def test_sgd_has_no_moments(moment: Moment) -> None:
    weight = torch.ones(3, requires_grad=True)
    optimizer = stepped(torch.optim.SGD, weight, lr=0.1, momentum=0.9)
    with pytest.raises(ObservationError, match="SGD holds no exp_avg"):
        moment(optimizer, {"w": weight})


@pytest.mark.parametrize("moment", [adam_first_moment, adam_second_moment])
def test_a_weight_of_another_optimizer_is_named(moment: Moment) -> None:
    weight, other = (torch.ones(3, requires_grad=True) for _ in range(2))
    optimizer = stepped(torch.optim.AdamW, weight)
    with pytest.raises(ObservationError, match="for 'other'"):
        moment(optimizer, {"w": weight, "other": other})
