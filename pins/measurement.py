"""Predicted against measured: what a decision does to the loss of the rows that its step was on."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pins.radius import Promise


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
        """JSON values by name."""
        promise = self.promise
        return {
            "predicted": self.predicted,
            "measured": self.measured,
            "multiplier": self.multiplier,
            "promised": None if promise is None else promise.promised,
            "kept": None if promise is None else promise.kept,
        }


@torch.no_grad()
def first_order_change(parameters: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> float:
    """Σ_{mᵢ=0} −gᵢθᵢ with g = `.grad` and θ as the weights stand, summed in float64."""
    change = 0.0
    for name, parameter in parameters.items():
        if parameter.grad is not None:
            removed = torch.where(masks[name], 0, parameter.grad * parameter)
            # a device without float64 adds up in float32
            dtype = torch.float32 if parameter.device.type == "mps" else torch.float64
            change -= float(removed.sum(dtype=dtype))
    return change
