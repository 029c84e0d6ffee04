"""Adam's moments: bias-corrected running means of the gradient and of its square.

Adam, AdamW, NAdam and RAdam keep them, with or without `amsgrad`, whose maximum is kept beside the
mean of the squares and is not read. With `maximize` Adam steps along −g and averages that; ĝ is
turned round again, so that it is a mean of what `.grad` held. Weight decay that is coupled (Adam's,
not AdamW's) is part of the gradient that is averaged.
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
    """Whether the optimiser is of Adam's family, which keeps an average of g².

    Adamax has Adam's options and keeps a maximum instead.
    """
    adams = all("betas" in group for group in optimizer.param_groups)
    return adams and not isinstance(optimizer, torch.optim.Adamax)


def adam_first_moment(optimizer: Optimizer, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """ĝ = exp_avg / (1 − β₁ᵗ): Adam's bias-corrected running mean of the gradient, by name.

    It costs no extra state. While the weights hardly move, independent gradients of variance σ²
    make a ĝ of variance σ²(1 − β₁)/(1 + β₁) after many steps: with β₁ = 0.9, that of 19 batches.

    Args:
        optimizer: has taken a step.
        parameters: of the optimiser; as few as one.

    Returns:
        Tensors of their own in the parameters' shapes; float32 for 16-bit ones. Of sharded
        parameters, what this rank holds.

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

    It costs no extra state. g² is of the *batch* gradient, so h is a diagonal empirical Fisher up
    to a factor that is about the batch size and the same for every weight: ranks do not feel it.

    Args:
        optimizer: has taken a step.
        parameters: of the optimiser; as few as one.

    Returns:
        Tensors of their own in the parameters' shapes; float32 for 16-bit ones. Of sharded
        parameters, what this rank holds.

    Raises:
        ObservationError: the optimiser has taken no step yet, or keeps no second moment.
    """
    return _unbiased(optimizer, parameters, "exp_avg_sq", 1, "give an explicit empirical Fisher")


def _unbiased(
    optimizer: Optimizer, parameters: Mapping[str, Tensor], moment: str, beta: int, instead: str
) -> dict[str, Tensor]:
    """The running mean divided by its weights' sum, 1 − βᵗ."""
    groups = _groups(optimizer)
    moments = {}
    for name, parameter in parameters.items():
        state = optimizer.state.get(parameter, {})
        # a fused optimiser that `GradScaler` told to stay has a state already, of step 0
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
    """The options of each parameter, where they have Adam's."""
    return {
        id(parameter): group
        for group in optimizer.param_groups
        if "betas" in group
        for parameter in group["params"]
    }
