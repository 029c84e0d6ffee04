"""The two sources of a diagonal curvature, against their formulas written out."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from pins.criteria import CRITERIA, Observation
from pins.curvature import adam_second_moment, empirical_fisher, has_second_moment
from pins.errors import ObservationError


def quadratic_losses(weight: Tensor, data: Tensor, target: Tensor) -> Iterator[Tensor]:
    """(w·x − y)² of each example; its gradient is 2(w·x − y) x."""
    for x, y in zip(data, target, strict=True):
        yield (weight @ x - y).square()


def regression(rows: int = 6) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    data = torch.randn(rows, 4, generator=generator, dtype=torch.float64)
    target = torch.randn(rows, generator=generator, dtype=torch.float64)
    weight = torch.randn(4, generator=generator, dtype=torch.float64, requires_grad=True)
    return weight, data, target


def gradients_by_hand(weight: Tensor, data: Tensor, target: Tensor) -> Tensor:
    return 2 * (data @ weight.detach() - target)[:, None] * data


@pytest.mark.parametrize("family", [torch.optim.Adam, torch.optim.AdamW])
def test_adam_second_moment_is_the_bias_corrected_average_of_squared_gradients(
    family: type[torch.optim.Adam],
) -> None:
    weights = {name: torch.randn(5, dtype=torch.float64, requires_grad=True) for name in "ab"}
    beta2 = {"a": 0.9, "b": 0.75}
    optimizer = family(
        [{"params": [weights[name]], "betas": (0.5, beta2[name])} for name in "ab"], lr=0.01
    )
    moment = {name: torch.zeros(5, dtype=torch.float64) for name in "ab"}
    steps = 4
    for _ in range(steps):
        optimizer.zero_grad()
        torch.autograd.backward((weights["a"].sin() * weights["b"].cos()).sum())
        for name, weight in weights.items():
            assert weight.grad is not None
            moment[name] = beta2[name] * moment[name] + (1 - beta2[name]) * weight.grad.square()
        optimizer.step()
    curvature = adam_second_moment(optimizer, weights)
    for name in "ab":
        expected = moment[name] / (1 - beta2[name] ** steps)
        # a few roundings a step, of numbers of one sign
        torch.testing.assert_close(curvature[name], expected, rtol=1e-13, atol=0)
        assert not torch.allclose(curvature[name], moment[name])  # the correction is there


def test_after_one_step_the_second_moment_is_the_squared_gradient() -> None:
    weight = torch.tensor([1.0, -2.0, 0.5], requires_grad=True)
    optimizer = torch.optim.AdamW([weight], lr=0.1)
    torch.autograd.backward(weight.square().sum())
    optimizer.step()
    assert weight.grad is not None
    torch.testing.assert_close(
        adam_second_moment(optimizer, {"w": weight})["w"], weight.grad.square()
    )


def test_obd_of_adams_moment_is_the_formula_after_several_steps() -> None:
    weight = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.AdamW([weight], lr=0.1)
    moment = torch.zeros(3, dtype=torch.float64)
    for _ in range(5):
        optimizer.zero_grad()
        torch.autograd.backward(weight.exp().sum())
        assert weight.grad is not None
        moment = 0.999 * moment + 0.001 * weight.grad.square()
        optimizer.step()
    curvature = adam_second_moment(optimizer, {"w": weight})["w"]
    importance = CRITERIA["obd"].importance(Observation(after=weight, curvature=curvature))
    expected = 0.5 * moment / (1 - 0.999**5) * weight.detach() ** 2
    torch.testing.assert_close(importance, expected, rtol=1e-13, atol=0)


def test_the_second_moment_costs_the_optimizer_nothing() -> None:
    weight = torch.ones(3, requires_grad=True)
    optimizer = torch.optim.AdamW([weight])
    torch.autograd.backward(weight.sum())
    optimizer.step()
    held = optimizer.state[weight]["exp_avg_sq"].clone()
    adam_second_moment(optimizer, {"w": weight})["w"].zero_()
    assert torch.equal(optimizer.state[weight]["exp_avg_sq"], held)


def test_which_optimizers_keep_a_second_moment() -> None:
    weight = torch.ones(3, requires_grad=True)
    assert has_second_moment(torch.optim.Adam([weight]))
    assert has_second_moment(torch.optim.AdamW([weight]))
    assert not has_second_moment(torch.optim.SGD([weight], lr=0.1, momentum=0.9))


def test_there_is_no_second_moment_before_the_first_step() -> None:
    weight = torch.ones(3, requires_grad=True)
    with pytest.raises(
        ObservationError, match="AdamW holds no exp_avg_sq for 'w': take a step with Adam"
    ):
        adam_second_moment(torch.optim.AdamW([weight]), {"w": weight})


def test_sgd_has_no_second_moment() -> None:
    weight = torch.ones(3, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=0.1)
    torch.autograd.backward(weight.sum())
    optimizer.step()
    with pytest.raises(ObservationError, match="SGD holds no exp_avg_sq for 'w'"):
        adam_second_moment(optimizer, {"w": weight})


def test_a_weight_of_another_optimizer_is_named() -> None:
    weight, other = (torch.ones(3, requires_grad=True) for _ in range(2))
    optimizer = torch.optim.AdamW([weight])
    torch.autograd.backward(weight.sum())
    optimizer.step()
    with pytest.raises(ObservationError, match="no exp_avg_sq for 'other'"):
        adam_second_moment(optimizer, {"w": weight, "other": other})


def test_empirical_fisher_is_the_mean_of_squared_gradients_per_example() -> None:
    weight, data, target = regression()
    fisher = empirical_fisher({"w": weight}, quadratic_losses(weight, data, target))["w"]
    by_hand = gradients_by_hand(weight, data, target)
    torch.testing.assert_close(fisher, by_hand.square().mean(0), rtol=1e-13, atol=0)
    # the square of the mean gradient is another thing
    assert not torch.allclose(fisher, by_hand.mean(0).square(), rtol=0.1)


def test_empirical_fisher_leaves_the_gradients_alone() -> None:
    weight, data, target = regression()
    empirical_fisher({"w": weight}, quadratic_losses(weight, data, target))
    assert weight.grad is None


def test_empirical_fisher_of_no_example_is_refused() -> None:
    with pytest.raises(ObservationError, match="given no loss: give one per example"):
        empirical_fisher({"w": torch.ones(1, requires_grad=True)}, [])


def test_empirical_fisher_of_many_examples_in_16_bits_is_still_their_mean() -> None:
    # every per-example gradient is 1, and so is the mean of their squares
    weight = torch.ones(2, dtype=torch.bfloat16, requires_grad=True)
    fisher = empirical_fisher({"w": weight}, (weight.sum() for _ in range(600)))["w"]
    assert fisher.tolist() == [1.0, 1.0]


def test_empirical_fisher_of_small_gradients_in_16_bits_is_not_zero() -> None:
    weight = torch.ones(2, dtype=torch.float16, requires_grad=True)
    fisher = empirical_fisher({"w": weight}, [weight.sum() * 1e-4])["w"]
    assert fisher.tolist() == pytest.approx([1e-8, 1e-8], rel=1e-2)
