"""Models of the loss change ΔL(m) when a step u is taken and a mask m is applied: θ → m⊙(θ+u).

First order:           ΔL(m) ≈ Σ gᵢ δᵢ              with δᵢ = mᵢ(θᵢ+uᵢ) − θᵢ
Diagonal second order: ΔL(m) ≈ Σ gᵢ δᵢ + ½ hᵢ δᵢ²

Both are separable, so each has a closed-form optimal mask: rank weights by the loss that keeping
them saves (theory §2). A model holds only near θ: report the predicted *and* the measured change.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from pins.masks import require_same_tensors
from pins.utils.tensors import upcast_half


@dataclass(frozen=True)
class FirstOrderModel:
    """ΔL(m) ≈ Σ gᵢ (mᵢ(θᵢ+uᵢ) − θᵢ).

    Attributes:
        gradient: g, the gradient of the loss at θ, by tensor name.
        before: θ.
        after: θ+u, the weights after the optimiser's step; equal to `before` without a step.
    """

    gradient: Mapping[str, Tensor]
    before: Mapping[str, Tensor]
    after: Mapping[str, Tensor]

    def importance(self) -> dict[str, Tensor]:
        """sᵢ = −gᵢ(θᵢ+uᵢ): the mask of largest s·m minimises the model."""
        return {
            name: -upcast_half(g) * upcast_half(self.after[name])
            for name, g in self.gradient.items()
        }

    def predicted_change(self, masks: Mapping[str, Tensor]) -> float:
        """ΔL(m), summed in float64.

        Args:
            masks: bool masks by tensor name, True = keep.

        Raises:
            MaskError: names or shapes differ.
        """
        require_same_tensors(self.gradient, masks)
        return float(sum(self._term(name, mask).sum().item() for name, mask in masks.items()))

    def _term(self, name: str, mask: Tensor) -> Tensor:
        """The terms of the sum for one tensor, in float64."""
        return self.gradient[name].double() * self._displacement(name, mask)

    def _displacement(self, name: str, mask: Tensor) -> Tensor:
        """δ = m⊙(θ+u) − θ of one tensor, in float64."""
        after = self.after[name].double()
        return torch.where(mask, after, torch.zeros_like(after)) - self.before[name].double()


@dataclass(frozen=True)
class DiagonalSecondOrderModel(FirstOrderModel):
    """ΔL(m) ≈ Σ gᵢ δᵢ + ½ hᵢ δᵢ², δᵢ = mᵢ(θᵢ+uᵢ) − θᵢ.

    Attributes:
        curvature: h, a diagonal approximation of the Hessian at θ, by tensor name.
    """

    curvature: Mapping[str, Tensor]

    def importance(self) -> dict[str, Tensor]:
        """sᵢ = −gᵢ(θᵢ+uᵢ) + ½ hᵢ (θᵢ² − uᵢ²): ΔL of pruning weight i minus ΔL of keeping it.

        θ² − u² is computed as (θ−u)(θ+u), which avoids cancellation.
        """
        scores = {}
        for name, g in self.gradient.items():
            before, after = upcast_half(self.before[name]), upcast_half(self.after[name])
            step = after - before
            curvature = 0.5 * upcast_half(self.curvature[name]) * (before - step) * after
            scores[name] = -upcast_half(g) * after + curvature
        return scores

    def _term(self, name: str, mask: Tensor) -> Tensor:
        displacement = self._displacement(name, mask)
        slope = self.gradient[name].double() + 0.5 * self.curvature[name].double() * displacement
        return slope * displacement
