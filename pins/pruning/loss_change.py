"""The predicted and the measured loss change of a decision, on the rows of its step."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pins.distributed.collectives import sum_over_ranks
from pins.distributed.sharding import group_of, local
from pins.pruning.acceptance import Reduction
from pins.utils.tensors import total, upcast_half


@dataclass(frozen=True)
class LossChange:
    """The loss change of one mask, θ+u → m⊙(θ+u), on the rows of the step.

    Attributes:
        predicted: Σ_{mᵢ=0} −gᵢ(θᵢ+uᵢ), first order, with the gradient of the step.
        measured: L(m⊙(θ+u)) − L(θ+u), without dropout.
        multiplier: μ of a trust region, 0 for its fallback optimal brain damage; else None.
        reduction: predicted and actual reduction of a trust region; else None.
    """

    predicted: float
    measured: float
    multiplier: float | None = None
    reduction: Reduction | None = None

    def as_json(self) -> dict[str, Any]:
        """JSON values by name; None for a value that is missing or not finite."""
        values = {
            "predicted": self.predicted,
            "measured": self.measured,
            "multiplier": self.multiplier,
            "promised": None if self.reduction is None else self.reduction.predicted,
            "kept": None if self.reduction is None else self.reduction.actual,
        }
        return {
            name: value if value is not None and math.isfinite(value) else None
            for name, value in values.items()
        }


@torch.no_grad()
def first_order_change(parameters: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> float:
    """Σ_{mᵢ=0} −gᵢθᵢ with g = `.grad` and the current θ, summed in float64 over all ranks."""
    change = 0.0
    for name, parameter in parameters.items():
        if parameter.grad is not None:
            product = upcast_half(local(parameter.grad)) * upcast_half(local(parameter))
            change -= total(torch.where(local(masks[name]), 0, product))
    return sum_over_ranks(change, group_of(parameters))
