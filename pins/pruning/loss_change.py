"""Predicted against measured: what a decision does to the loss of the rows that its step was on."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pins.distributed.collectives import sum_over_ranks
from pins.distributed.sharding import group_of, local
from pins.pruning.acceptance import Promise
from pins.utils.tensors import total, upcast_half


@dataclass(frozen=True)
class Measurement:
    """The change of the loss by one mask, θ+u → m⊙(θ+u), on the rows of the step.

    Attributes:
        predicted: Σ_{mᵢ=0} −gᵢ(θᵢ+uᵢ), first order, with the gradient of the step.
        measured: L(m⊙(θ+u)) − L(θ+u), without dropout.
        multiplier: μ of a trust region; 0 where it fell back on optimal brain damage, None without.
        promise: of a trust region, and what was kept of it.
    """

    predicted: float
    measured: float
    multiplier: float | None = None
    promise: Promise | None = None

    @property
    def ratio(self) -> float | None:
        """measured / predicted; None where nothing was predicted."""
        return self.measured / self.predicted if self.predicted else None

    def as_json(self) -> dict[str, Any]:
        """JSON values by name; None for what there is none of, or is not finite."""
        promise = self.promise
        values = {
            "predicted": self.predicted,
            "measured": self.measured,
            "multiplier": self.multiplier,
            "promised": None if promise is None else promise.promised,
            "kept": None if promise is None else promise.kept,
        }
        return {
            name: value if value is not None and math.isfinite(value) else None
            for name, value in values.items()
        }


@torch.no_grad()
def first_order_change(parameters: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> float:
    """Σ_{mᵢ=0} −gᵢθᵢ with g = `.grad` and θ as the weights stand, summed in float64.

    Of sharded parameters over all ranks, together.
    """
    change = 0.0
    for name, parameter in parameters.items():
        if parameter.grad is not None:
            product = upcast_half(local(parameter.grad)) * upcast_half(local(parameter))
            change -= total(torch.where(local(masks[name]), 0, product))
    return sum_over_ranks(change, group_of(parameters))
