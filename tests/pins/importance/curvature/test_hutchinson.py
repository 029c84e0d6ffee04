"""Hutchinson's estimate, against Hessians written out."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.attention import SDPBackend, sdpa_kernel

from pins.errors import ModelError, ObservationError, SettingError
from pins.importance.curvature.hutchinson import hutchinson_diagonal
from pins.models.distillation_loss import mixed_loss
from pins.models.heads import CLASSIFICATION
from pins.models.parameters import prunable_parameters
from pins.models.task_loss import step_losses
from tests.pins.headed import HEADED
from tests.pins.networks import losses as perceptron_losses
from tests.pins.networks import perceptron

SIGMAS = 5  # of a normal estimate, one in 1.7 million lies further off


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def symmetric(size: int, *, seed: int = 0) -> Tensor:
    matrix = torch.randn(size, size, generator=seeded(seed), dtype=torch.float64)
    return matrix + matrix.T


def quadratic(weight: Tensor, hessian: Tensor) -> Tensor:
    """½ wᵀHw."""
    return 0.5 * weight @ hessian @ weight


def off_diagonal(hessian: Tensor) -> Tensor:
    """Σ_{j≠i} Hᵢⱼ², the variance of one sample."""
    return (hessian - hessian.diag().diag()).square().sum(1)


@given(
    entries=st.lists(st.integers(-1000, 1000), min_size=1, max_size=20),
    seed=st.integers(0, 2**32),
)
def test_one_sample_is_exact_where_the_hessian_is_diagonal(entries: list[int], seed: int) -> None:
    diagonal = torch.tensor(entries, dtype=torch.float64)
    weight = torch.randn(len(entries), generator=seeded(), dtype=torch.float64, requires_grad=True)
    loss = (diagonal * weight.square()).sum() / 2
    found = hutchinson_diagonal({"w": weight}, [loss], generator=seeded(seed))["w"]
    assert torch.equal(found, diagonal)


def test_one_sample_of_a_dense_hessian_is_one_of_its_signed_row_sums() -> None:
    hessian = symmetric(4)
    weight = torch.randn(4, dtype=torch.float64, requires_grad=True)
    found = hutchinson_diagonal({"w": weight}, [quadratic(weight, hessian)], generator=seeded(1))
    possible = [
        z * (hessian @ z) for z in torch.cartesian_prod(*[torch.tensor([-1.0, 1])] * 4).double()
    ]
    assert any(torch.allclose(found["w"], each, rtol=1e-12, atol=1e-12) for each in possible)
    assert not torch.allclose(found["w"], hessian.diag())
    # and their mean is the diagonal: the estimate is unbiased
    torch.testing.assert_close(torch.stack(possible).mean(0), hessian.diag())


@pytest.mark.parametrize("seed", range(3))
def test_the_mean_of_samples_is_within_its_standard_error_of_the_diagonal(seed: int) -> None:
    hessian, samples = symmetric(8, seed=seed), 4000
    weight = torch.randn(8, dtype=torch.float64, requires_grad=True)
    found = hutchinson_diagonal(
        {"w": weight}, [quadratic(weight, hessian)], samples=samples, generator=seeded(seed)
    )["w"]
    error = (off_diagonal(hessian) / samples).sqrt()
    assert bool(((found - hessian.diag()).abs() < SIGMAS * error).all())
    assert bool((found < 0).any())  # signed, as the diagonal is
    # the bound is sharp enough to tell the diagonal from its neighbours
    for wrong in (hessian.sum(1), hessian.diag() / 2, hessian.diag().abs(), torch.zeros(8)):
        assert not bool(((found - wrong).abs() < SIGMAS * error).all())


def test_the_variance_of_a_sample_is_what_lies_off_the_diagonal() -> None:
    hessian, samples = symmetric(6), 2000
    weight = torch.randn(6, dtype=torch.float64, requires_grad=True)
    generator = seeded(2)
    drawn = torch.stack(
        [
            hutchinson_diagonal({"w": weight}, [quadratic(weight, hessian)], generator=generator)[
                "w"
            ]
            for _ in range(samples)
        ]
    )
    # a variance of so many samples errs by some 1/√1000 of itself
    torch.testing.assert_close(drawn.var(0), off_diagonal(hessian), rtol=SIGMAS / 1000**0.5, atol=0)


def test_tensors_share_one_hessian() -> None:
    # ab has the Hessian (0 1; 1 0): off the diagonal alone, and between the tensors
    a, b = (torch.ones(1, requires_grad=True) for _ in range(2))
    found = [
        hutchinson_diagonal({"a": a, "b": b}, [a * b], generator=seeded(seed)) for seed in range(20)
    ]
    assert {h["a"].item() for h in found} == {-1.0, 1.0}
    assert all(h["a"].item() == h["b"].item() for h in found)
    # what is not asked for is a constant
    assert hutchinson_diagonal({"a": a}, [a * b])["a"].item() == 0.0


def test_a_network_has_the_diagonal_of_its_hessian() -> None:
    model = perceptron(dtype=torch.float64)
    loss = next(perceptron_losses(model, 1, dtype=torch.float64))
    weights = prunable_parameters(model).parameters
    samples = 600
    found = hutchinson_diagonal(weights, [loss], samples=samples, generator=seeded())

    def of(*tensors: Tensor) -> Tensor:
        named = dict(zip(weights, tensors, strict=True))
        output: Any = lambda data: torch.func.functional_call(model, named, (data,))  # noqa: E731
        return next(perceptron_losses(output, 1, dtype=torch.float64))

    second_derivatives: Any = torch.autograd.functional.hessian
    blocks = second_derivatives(of, tuple(weights.values()))
    sizes = [weight.numel() for weight in weights.values()]
    hessian = torch.cat(
        [
            torch.cat([block.reshape(rows, -1) for block in row], dim=1)
            for rows, row in zip(sizes, blocks, strict=True)
        ]
    )
    estimate = torch.cat([h.flatten() for h in found.values()])
    error = (off_diagonal(hessian) / samples).sqrt()
    assert bool(((estimate - hessian.diag()).abs() < SIGMAS * error + 1e-12).all())
    # another network's is not it
    assert not bool(((estimate.roll(1) - hessian.diag()).abs() < SIGMAS * error + 1e-12).all())


@pytest.mark.parametrize("name", HEADED)
def test_the_attention_of_transformers_has_second_derivatives(name: str) -> None:
    model, batch, samples = HEADED[name].model().double(), HEADED[name].batch(), 100
    key, weight = next(iter(prunable_parameters(model).parameters.items()))
    found = hutchinson_diagonal(
        {key: weight}, step_losses(model, [batch]), samples=samples, generator=seeded()
    )[key]
    with sdpa_kernel(SDPBackend.MATH):
        (loss,) = step_losses(model, [batch])
    (gradient,) = torch.autograd.grad(loss, weight, create_graph=True)
    rows = [torch.autograd.grad(g, weight, retain_graph=True)[0] for g in gradient.flatten()]
    hessian = torch.stack(rows).flatten(1)
    error = (off_diagonal(hessian) / samples).sqrt()
    far = (found.flatten() - hessian.diag()).abs() / error
    assert float(far.max()) < SIGMAS
    assert float(far.square().mean().sqrt()) > 0.5  # and no better than it should be


def test_losses_are_added_up() -> None:
    weight = torch.tensor([2.0, -1.0], requires_grad=True)

    def parts() -> Iterator[Tensor]:
        yield weight.square().sum()
        yield 3 * weight.square().sum()
        yield weight.sum()  # linear: no curvature

    assert hutchinson_diagonal({"w": weight}, parts())["w"].tolist() == [8.0, 8.0]


def test_a_weight_that_no_loss_reads_has_no_curvature() -> None:
    weight, other = (torch.ones(2, requires_grad=True) for _ in range(2))
    found = hutchinson_diagonal({"w": weight, "other": other}, [weight.square().sum()])
    assert found["w"].tolist() == [2.0, 2.0]
    assert found["other"].tolist() == [0.0, 0.0]


def test_a_frozen_weight_has_no_curvature() -> None:
    weight, frozen = torch.ones(2, requires_grad=True), torch.ones(2)
    found = hutchinson_diagonal({"f": frozen, "w": weight}, [(weight * frozen).square().sum()])
    assert found["w"].tolist() == [2.0, 2.0]
    assert found["f"].tolist() == [0.0, 0.0]


def test_absolute_is_of_the_mean_of_all_samples() -> None:
    hessian = symmetric(6)
    weight = torch.randn(6, dtype=torch.float64, requires_grad=True)

    def estimate(*, absolute: bool) -> Tensor:
        loss = quadratic(weight, hessian)
        return hutchinson_diagonal(
            {"w": weight}, [loss], samples=7, generator=seeded(), absolute=absolute
        )["w"]

    signed = estimate(absolute=False)
    assert bool((signed < 0).any())
    assert torch.equal(estimate(absolute=True), signed.abs())


def test_the_signs_come_from_the_generator_or_from_torchs_own() -> None:
    hessian = symmetric(20)
    weight = torch.randn(20, dtype=torch.float64, requires_grad=True)

    def estimate(generator: torch.Generator | None = None) -> Tensor:
        return hutchinson_diagonal(
            {"w": weight}, [quadratic(weight, hessian)], generator=generator
        )["w"]

    assert torch.equal(estimate(seeded(1)), estimate(seeded(1)))
    assert not torch.equal(estimate(seeded(1)), estimate(seeded(2)))
    torch.manual_seed(3)
    first = estimate()
    assert not torch.equal(estimate(), first)  # the generator has gone on
    torch.manual_seed(3)
    assert torch.equal(estimate(), first)


def test_the_gradients_and_the_weights_are_left_alone() -> None:
    weight = torch.tensor([1.0, 2.0], requires_grad=True)
    found = hutchinson_diagonal({"w": weight}, [weight.pow(3).sum()])["w"]
    assert found.tolist() == [6.0, 12.0]
    assert weight.grad is None
    assert weight.tolist() == [1.0, 2.0]
    assert not found.requires_grad


def test_many_samples_in_16_bits_are_still_their_mean() -> None:
    weight = torch.ones(2, dtype=torch.bfloat16, requires_grad=True)
    found = hutchinson_diagonal({"w": weight}, [weight.square().sum()], samples=600)["w"]
    assert found.dtype == torch.float32
    assert found.tolist() == [2.0, 2.0]


def test_a_gradient_written_by_hand_once_is_refused_wherever_it_is() -> None:
    class Square(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, weight: Tensor) -> Tensor:
            ctx.save_for_backward(weight)
            return weight.square()

        @staticmethod
        @once_differentiable
        def backward(ctx: Any, upstream: Tensor) -> Tensor:
            weight: Tensor = ctx.saved_tensors[0]
            return 2 * upstream * weight

    weight = torch.ones(2, requires_grad=True)
    square: Callable[[Tensor], Tensor] = Square.apply
    for loss in (square(weight).sum(), square(weight).exp().sum(), square(weight.exp()).sum()):
        with pytest.raises(ModelError, match=r"a loss through .*Square, which is differentiable"):
            hutchinson_diagonal({"w": weight}, [loss])
        # torch itself says nothing, and takes it for a constant
        (gradient,) = torch.autograd.grad(loss, weight, create_graph=True)
        if gradient.requires_grad:
            torch.autograd.grad(gradient.sum(), weight, materialize_grads=True)


def test_the_mixed_loss_is_refused() -> None:
    model, batch = HEADED["classification"].model(), HEADED["classification"].batch()
    weights = prunable_parameters(model).parameters
    rows = CLASSIFICATION.rows(model(**CLASSIFICATION.inputs(model, batch)), batch)
    with pytest.raises(ModelError, match=r"through _RowLosses, .* as step_losses does"):
        hutchinson_diagonal(weights, [mixed_loss(rows, None)])


def test_attention_by_a_fused_kernel_needs_a_generator() -> None:
    query = torch.randn(1, 2, 4, 8, requires_grad=True)

    def loss() -> Iterator[Tensor]:
        yield nn.functional.scaled_dot_product_attention(query, query, query).square().sum()

    assert bool(hutchinson_diagonal({"q": query}, loss())["q"].any())
    with pytest.raises(ModelError, match="and where it comes from a model, in a generator"):
        hutchinson_diagonal({"q": query}, list(loss()))


def test_no_loss_is_refused() -> None:
    with pytest.raises(ObservationError, match="given no loss: give one at least"):
        hutchinson_diagonal({"w": torch.ones(1, requires_grad=True)}, [])


@pytest.mark.parametrize("samples", [0, -1])
def test_no_sample_is_refused(samples: int) -> None:
    weight = torch.ones(1, requires_grad=True)
    with pytest.raises(SettingError, match=f"samples is {samples}: it is a number of sign vectors"):
        hutchinson_diagonal({"w": weight}, [weight.square().sum()], samples=samples)
