"""Diagonal curvature h ≈ diag ∇²L: AdamW's second moment, or an explicit empirical Fisher."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor
from torch.optim import Optimizer

from pins.errors import ObservationError
from pins.precision import widened


def has_second_moment(optimizer: Optimizer) -> bool:
    """Whether the optimiser is of Adam's family, which keeps an average of g².

    Adamax has Adam's options and keeps a maximum instead.
    """
    adams = all("betas" in group for group in optimizer.param_groups)
    return adams and not isinstance(optimizer, torch.optim.Adamax)


def adam_second_moment(optimizer: Optimizer, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """h = exp_avg_sq / (1 − β₂ᵗ): Adam's bias-corrected running mean of the squared gradient.

    It costs no extra state. g² is of the *batch* gradient, so h is a diagonal empirical Fisher up
    to a factor that is about the batch size and the same for every weight: ranks do not feel it.

    Raises:
        ObservationError: the optimiser has taken no step yet, or keeps no second moment.
    """
    beta2 = {
        id(parameter): group["betas"][1]
        for group in optimizer.param_groups
        if "betas" in group
        for parameter in group["params"]
    }
    curvature = {}
    for name, parameter in parameters.items():
        state = optimizer.state.get(parameter, {})
        if id(parameter) not in beta2 or "exp_avg_sq" not in state:
            raise ObservationError(
                f"{type(optimizer).__name__} holds no exp_avg_sq for {name!r}: take a step with "
                "Adam or AdamW first, or give an explicit empirical Fisher"
            )
        correction = 1 - beta2[id(parameter)] ** float(state["step"])
        curvature[name] = state["exp_avg_sq"] / correction
    return curvature


def empirical_fisher(
    parameters: Mapping[str, Tensor], losses: Iterable[Tensor]
) -> dict[str, Tensor]:
    """h = mean over examples b of g_b², the diagonal of the empirical Fisher information.

    Args:
        parameters: the tensors to differentiate by, by name.
        losses: one scalar loss per example, each with its own graph; a generator keeps one alive.

    Raises:
        ObservationError: no loss came.
    """
    # a sum of small squares needs more digits and range than 16-bit weights have
    fisher = {name: torch.zeros_like(widened(p.detach())) for name, p in parameters.items()}
    examples = 0
    for loss in losses:
        gradients = torch.autograd.grad(loss, list(parameters.values()))
        for total, gradient in zip(fisher.values(), gradients, strict=True):
            total += widened(gradient).square()
        examples += 1
    if not examples:
        raise ObservationError("empirical_fisher was given no loss: give one per example")
    return {name: total / examples for name, total in fisher.items()}
