"""Hutchinson's estimate of the diagonal of the Hessian, from Hessian-vector products.

For z with independent entries of mean 0 and variance 1, E[z ⊙ (H z)]ᵢ = Σⱼ Hᵢⱼ E[zᵢzⱼ] = Hᵢᵢ. Of
all such z random signs have the least variance: one sample has Σ_{j≠i} Hᵢⱼ², none where H is
diagonal. H z is the gradient of g·z: a second backward pass, and H itself is never formed.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.attention import SDPBackend, sdpa_kernel

from pins.errors import ModelError, ObservationError, SettingError, first_line
from pins.utils.tensors import upcast_half

# the code of the wrapper that makes a hand-written gradient one alone
ONCE = once_differentiable(lambda *_: None).__code__


def hutchinson_diagonal(
    parameters: Mapping[str, Tensor],
    losses: Iterable[Tensor],
    *,
    samples: int = 1,
    generator: torch.Generator | None = None,
    absolute: bool = False,
) -> dict[str, Tensor]:
    """h = mean over samples z of z ⊙ (∇²L z), z ∈ {−1, 1}ⁿ: unbiased for diag ∇²L.

    L is the *sum* of the losses; each has samples of its own. The estimate is signed: curvature is
    negative in places, and noise in more. Optimal brain damage and trust regions read h ≥ 0, for
    which `absolute` takes |h| of the mean: ½|hᵢ|θᵢ² bounds the term of second order whatever its
    sign, as `sensitivity` does that of first order (AdaHessian, Yao et al. 2021, takes |h|, too).
    It is biased upwards, by the noise. There is no clamp to max(h, 0): it would tie all weights of
    a negative estimate at 0, where the noise alone puts many, and prune them first.

    Attention is computed by its formula: the fused kernels have no second derivative.

    Args:
        parameters: the tensors to differentiate by, by name.
        losses: scalars with their graphs, differentiable twice, as `step_losses` makes them
            (`pins.models.distillation_loss` does not); a generator keeps one graph alive, and
            computes its losses where attention is set for this.
        samples: z drawn for each loss; each costs about two backward passes.
        generator: where the signs come from; default: torch's own, on the CPU, so that they are the
            same on every device.
        absolute: |h|.

    Returns:
        Tensors in the parameters' shapes; float32 for 16-bit ones. 0 where L is linear.

    Raises:
        ObservationError: no loss came.
        ModelError: a loss has no second derivative.
        SettingError: less than one sample.
    """
    if samples < 1:
        raise SettingError(f"samples is {samples}: it is a number of sign vectors, at least 1")
    tensors = list(parameters.values())
    diagonal = [torch.zeros_like(upcast_half(tensor.detach())) for tensor in tensors]
    given = False
    with sdpa_kernel(SDPBackend.MATH):
        for loss in losses:
            given = True
            _require_differentiable_twice(loss)
            gradients = torch.autograd.grad(
                loss, tensors, create_graph=True, materialize_grads=True
            )
            for _ in range(samples):
                signs = [_signs(tensor, generator) for tensor in tensors]
                products = _hessian_products(gradients, tensors, signs)
                for total, sign, product in zip(diagonal, signs, products, strict=True):
                    total += upcast_half(sign * product)
            # or the graph would stand beside that of the next loss
            del loss, gradients
    if not given:
        raise ObservationError("hutchinson_diagonal was given no loss: give one at least")
    if absolute:
        diagonal = [total.abs_() for total in diagonal]
    return {name: total / samples for name, total in zip(parameters, diagonal, strict=True)}


def _require_differentiable_twice(loss: Tensor) -> None:
    """No gradient in its graph is written by hand for once: torch takes that for a constant."""
    seen, ahead = set(), [loss.grad_fn]
    while ahead:
        node: Any = ahead.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        ahead += [function for function, _ in node.next_functions]
        written = getattr(node, "_forward_cls", None)
        if written is not None and getattr(written.backward, "__code__", None) is ONCE:
            raise ModelError(
                f"hutchinson_diagonal was given a loss through {written.__qualname__}, which is "
                "differentiable once alone: give one in other operations, as step_losses does"
            )


def _signs(tensor: Tensor, generator: torch.Generator | None) -> Tensor:
    """Independent −1 and 1 with even odds, in the tensor's shape and type."""
    device = "cpu" if generator is None else generator.device
    bits = torch.randint(
        0, 2, tensor.shape, generator=generator, device=device, dtype=torch.int8
    ).to(tensor.device)
    return bits.to(tensor.dtype).mul_(2).sub_(1)


def _hessian_products(
    gradients: Sequence[Tensor], tensors: Sequence[Tensor], vectors: Sequence[Tensor]
) -> Sequence[Tensor]:
    """H z = ∇(g·z), by tensor."""
    curved = [
        (gradient, vector)
        for gradient, vector in zip(gradients, vectors, strict=True)
        if gradient.requires_grad  # it is a constant where the loss is linear
    ]
    if not curved:
        return [torch.zeros_like(tensor) for tensor in tensors]
    try:
        return torch.autograd.grad(
            [gradient for gradient, _ in curved],
            tensors,
            grad_outputs=[vector for _, vector in curved],
            retain_graph=True,
            materialize_grads=True,
        )
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise ModelError(
            "hutchinson_diagonal was given a loss without a second derivative "
            f"({first_line(error)}): compute it in operations that have one, and where it comes "
            "from a model, in a generator"
        ) from error
