"""Predicted is the exact first-order sum; what was measured is told as JSON that all can read."""

import json
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from pins.masks import apply
from pins.pruning.acceptance import Reduction
from pins.pruning.loss_change import LossChange, first_order_change
from tests.pins.networks import loss_on_rows, losses, perceptron

SIZE = 6
EIGHTHS = st.lists(st.integers(-128, 128).map(lambda n: n / 8), min_size=SIZE, max_size=SIZE)
BITS = st.lists(st.booleans(), min_size=SIZE, max_size=SIZE)


def weight(values: list[float], gradient: list[float] | None, dtype: torch.dtype) -> nn.Parameter:
    parameter = nn.Parameter(torch.tensor(values, dtype=dtype))
    parameter.grad = None if gradient is None else torch.tensor(gradient, dtype=dtype)
    return parameter


@given(EIGHTHS, EIGHTHS, BITS, st.sampled_from([torch.bfloat16, torch.float16, torch.float32]))
def test_predicted_is_the_exact_sum_over_what_is_pruned(
    values: list[float], gradient: list[float], bits: list[bool], dtype: torch.dtype
) -> None:
    parameter = weight(values, gradient, dtype)
    masks = {"w": torch.tensor(bits)}
    pruned = [at for at in range(SIZE) if not bits[at]]
    exact = -sum(Fraction(values[at]) * Fraction(gradient[at]) for at in pruned)
    assert first_order_change({"w": parameter}, masks) == exact


def test_16_bit_products_do_not_overflow() -> None:
    parameter = weight([2.0**10], [2.0**10], torch.float16)
    assert not parameter.detach().square().isfinite()
    assert first_order_change({"w": parameter}, {"w": torch.tensor([False])}) == -(2.0**20)


def test_a_kept_weight_may_be_anything_and_one_without_a_gradient_predicts_nothing() -> None:
    strange = weight([1.0, 2.0], [float("nan"), 3.0], torch.float32)
    silent = weight([5.0], None, torch.float32)
    masks = {"strange": torch.tensor([True, False]), "silent": torch.tensor([False])}
    assert first_order_change({"strange": strange, "silent": silent}, masks) == -6.0


def test_on_a_linear_loss_the_prediction_is_the_change_and_on_a_curved_one_it_is_not() -> None:
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(5, 6, generator=generator, dtype=torch.float64)
    layer = nn.Linear(6, 1, bias=False).double()
    masks = {"weight": torch.tensor([[True, False, True, False, False, True]])}

    def linear() -> Tensor:
        loss: Tensor = layer(rows).mean()
        return loss

    def curved() -> Tensor:
        loss: Tensor = layer(rows).square().mean()
        return loss

    dense = layer.weight.detach().clone()
    for loss, is_true in ((linear, True), (curved, False)):
        with torch.no_grad():
            layer.weight.copy_(dense)
        layer.zero_grad()
        before = loss()
        torch.autograd.backward(before)
        predicted = first_order_change({"weight": layer.weight}, masks)
        apply(masks, {"weight": layer.weight})
        found = LossChange(predicted, loss().item() - before.item())
        assert (found.measured == pytest.approx(found.predicted, rel=1e-9)) is is_true


def test_a_gradient_that_is_read_is_left_as_it_is() -> None:
    model = perceptron()
    torch.autograd.backward(next(losses(model, 1)))
    parameters = dict(model.named_parameters())
    before = {name: p.grad.clone() for name, p in parameters.items() if p.grad is not None}
    first_order_change(parameters, {n: torch.zeros_like(p).bool() for n, p in parameters.items()})
    loss_on_rows(model)()
    for name, parameter in parameters.items():
        assert parameter.grad is not None
        assert torch.equal(parameter.grad, before[name])


def test_a_measurement_is_json() -> None:
    plain = LossChange(0.5, -0.25)
    assert json.loads(json.dumps(plain.as_json())) == {
        "predicted": 0.5,
        "measured": -0.25,
        "multiplier": None,
        "promised": None,
        "kept": None,
    }
    region = LossChange(0.0, 1.0, 0.0, Reduction(2.0, 3.0))
    assert region.as_json() == {
        "predicted": 0.0,
        "measured": 1.0,
        "multiplier": 0.0,
        "promised": 2.0,
        "kept": 3.0,
    }


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_what_json_has_no_number_for_is_none(bad: float) -> None:
    found = LossChange(1.0, bad, 2.0, Reduction(1.0, bad)).as_json()
    assert json.loads(json.dumps(found, allow_nan=False))["measured"] is None
    assert (found["kept"], found["promised"], found["multiplier"]) == (None, 1.0, 2.0)
