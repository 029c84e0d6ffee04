"""Adam's moments: bias-corrected running means of the gradient and of its square.

Adam, AdamW, NAdam and RAdam keep them. The maximum that `amsgrad` keeps in addition is not read.
With `maximize` Adam averages −g; then the sign of ĝ is reversed, so it is a mean of `.grad`.
Coupled weight decay (in Adam, not in AdamW) is part of the averaged gradient. A weight that had a
gradient in no step so far has the moments 0; in a step without a gradient its moments stay.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from pins.distributed.sharding import local
from pins.errors import ObservationError
from pins.utils.tensors import upcast_half


def has_second_moment(optimizer: Optimizer) -> bool:
    """Whether the optimiser belongs to Adam's family, which keeps an average of g².

    Adamax has the same options but keeps a maximum instead; torch's ZeroRedundancyOptimizer has the
    average of each weight on one rank alone.
    """
    adams = all("betas" in group for group in optimizer.param_groups)
    divided = type(optimizer).__name__ == "ZeroRedundancyOptimizer"
    return adams and not divided and not isinstance(optimizer, torch.optim.Adamax)


def adam_first_moment(optimizer: Optimizer, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """ĝ = exp_avg / (1 − β₁ᵗ): Adam's bias-corrected running mean of the gradient, by name.

    It needs no extra state. While the weights hardly move, independent gradients of variance σ²
    give ĝ the variance σ²(1 − β₁)/(1 + β₁) after many steps: the mean of 19 batches for β₁ = 0.9.

    Args:
        optimizer: an optimiser that has taken a step.
        parameters: some of its parameters by name.

    Returns:
        New tensors in the parameters' shapes, float32 for 16-bit parameters; the local part of a
        sharded parameter.

    Raises:
        ObservationError: the optimiser has taken no step yet, or keeps no first moment.
    """
    moments = _unbiased(optimizer, parameters, "exp_avg", 0, "read the gradient itself")
    groups = _groups(optimizer)
    for name, parameter in parameters.items():
        if groups[id(parameter)].get("maximize", False):
            moments[name].neg_()
    return moments


def adam_second_moment(optimizer: Optimizer, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """h = exp_avg_sq / (1 − β₂ᵗ): Adam's bias-corrected running mean of the squared gradient.

    It needs no extra state. g is the *batch* gradient, so h is a diagonal empirical Fisher up to a
    factor, about the batch size, which is the same for every weight and does not change ranks.

    Args:
        optimizer: an optimiser that has taken a step.
        parameters: some of its parameters by name.

    Returns:
        New tensors in the parameters' shapes, float32 for 16-bit parameters; the local part of a
        sharded parameter.

    Raises:
        ObservationError: the optimiser has taken no step yet, or keeps no second moment.
    """
    return _unbiased(optimizer, parameters, "exp_avg_sq", 1, "give an explicit empirical Fisher")


def _unbiased(
    optimizer: Optimizer, parameters: Mapping[str, Tensor], moment: str, beta: int, instead: str
) -> dict[str, Tensor]:
    """The running mean divided by the sum of its weights, 1 − βᵗ."""
    groups = _groups(optimizer)
    kept = any(moment in state for state in optimizer.state.values())
    moments = {}
    for name, parameter in parameters.items():
        state = optimizer.state.get(parameter, {})
        if kept and not state and id(parameter) in groups:
            moments[name] = torch.zeros_like(upcast_half(local(parameter.detach())))
            continue
        # a fused optimiser that `GradScaler` stopped has a state of step 0
        steps = float(local(torch.as_tensor(state.get("step", 0))))
        if id(parameter) not in groups or moment not in state or not steps:
            raise ObservationError(
                f"{type(optimizer).__name__} holds no {moment} for {name!r}: take a step with "
                f"Adam or AdamW first, or {instead}"
            )
        decay = float(groups[id(parameter)]["betas"][beta])  # also where it is a tensor
        moments[name] = upcast_half(local(state[moment])) / (1 - decay**steps)
    return moments


def _groups(optimizer: Optimizer) -> dict[int, dict[str, Any]]:
    """The options of each parameter whose group has Adam's options."""
    return {
        id(parameter): group
        for group in optimizer.param_groups
        if "betas" in group
        for parameter in group["params"]
    }
