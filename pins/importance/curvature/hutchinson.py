"""Hutchinson's estimate of the diagonal of the Hessian, from Hessian-vector products.

For z with independent entries of mean 0 and variance 1, E[z ⊙ (H z)]ᵢ = Σⱼ Hᵢⱼ E[zᵢzⱼ] = Hᵢᵢ.
Random signs have the least variance among all such z: Σ_{j≠i} Hᵢⱼ² for one sample, 0 if H is
diagonal. H z is the gradient of g·z, a second backward pass; H itself is never computed.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.attention import SDPBackend, sdpa_kernel

from pins.errors import ModelError, ObservationError, SettingError
from pins.utils.tensors import upcast_half

# the code object of the wrapper that forbids a second derivative of a hand-written gradient
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

    L is the *sum* of the losses; each loss has its own samples. The estimate has a sign: some
    curvatures are negative, and noise makes more of them negative. Optimal brain damage and trust
    regions need h ≥ 0; for them `absolute` returns |h| of the mean: ½|hᵢ|θᵢ² bounds the
    second-order term whatever its sign, as `sensitivity` bounds the first-order term (AdaHessian,
    Yao et al. 2021, also uses |h|). Noise biases it upwards. A clamp to max(h, 0) would tie all
    weights with a negative estimate at 0, many of them by noise alone, and prune them first.

    Attention is computed by its formula, because the fused kernels have no second derivative.

    Args:
        parameters: the tensors to differentiate by, by name.
        losses: scalars with their graphs, twice differentiable, as `step_losses` returns them
            (`pins.models.distillation_loss` does not). With a generator only one graph exists at a
            time, and the losses are computed with the attention formula.
        samples: number of z per loss; each costs about two backward passes.
        generator: the source of the signs; default: torch's generator on the CPU, so the signs are
            the same on every device.
        absolute: whether to return |h|.

    Returns:
        Tensors in the parameters' shapes, float32 for 16-bit parameters; 0 where L is linear,
        and where the weight is frozen.

    Raises:
        ObservationError: there is no loss.
        ModelError: a loss has no second derivative.
        SettingError: `samples` is less than 1.
    """
    if samples < 1:
        raise SettingError(f"samples is {samples}: it is a number of sign vectors, at least 1")
    diagonal = {n: torch.zeros_like(upcast_half(p.detach())) for n, p in parameters.items()}
    trained = [name for name, p in parameters.items() if p.requires_grad]
    tensors = [parameters[name] for name in trained]
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
                for name, sign, product in zip(trained, signs, products, strict=True):
                    diagonal[name] += upcast_half(sign * product)
            # free the graph before the next loss is computed
            del loss, gradients
    if not given:
        raise ObservationError("hutchinson_diagonal was given no loss: give one at least")
    if absolute:
        diagonal = {name: total.abs_() for name, total in diagonal.items()}
    return {name: total / samples for name, total in diagonal.items()}


def _require_differentiable_twice(loss: Tensor) -> None:
    """Reject hand-written gradients without a derivative: torch treats them as constants."""
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
    """Independent −1 and 1 with probability ½, in the tensor's shape and dtype."""
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
        if gradient.requires_grad  # it is constant if the loss is linear
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
        line = str(error).strip().partition("\n")[0]
        raise ModelError(
            f"hutchinson_diagonal was given a loss without a second derivative ({line}): compute "
            "it in operations that have one, and where it comes from a model, in a generator"
        ) from error
