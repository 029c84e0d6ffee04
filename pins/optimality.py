"""When a mask is optimal: min{sᵢ : mᵢ = 1} ≥ max{sᵢ : mᵢ = 0} (Theorem 1), and what follows."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from pins.errors import MaskError, OptimalityError


@dataclass(frozen=True)
class Optimality:
    """The two numbers that decide whether a mask solves max s·m s.t. 1·m = keep.

    Attributes:
        keep: number of ones of the mask.
        total: number of weights n.
        kept_min: min{sᵢ : mᵢ = 1}; None when nothing is kept.
        pruned_max: max{sᵢ : mᵢ = 0}; None when nothing is pruned.
    """

    keep: int
    total: int
    kept_min: float | None
    pruned_max: float | None

    @property
    def holds(self) -> bool:
        """Theorem 1: the mask is optimal among those with `keep` ones."""
        return self.kept_min is None or self.pruned_max is None or self.kept_min >= self.pruned_max

    @property
    def unique(self) -> bool:
        """Theorem 3: no other mask is as good, s₍ₖ₎ > s₍ₖ₊₁₎."""
        return self.kept_min is None or self.pruned_max is None or self.kept_min > self.pruned_max

    @property
    def dual_multiplier(self) -> float:
        """A λ of the dual interval [s₍ₖ₊₁₎, s₍ₖ₎] (Theorem 2): with the mask, the proof."""
        multiplier = self.kept_min if self.kept_min is not None else self.pruned_max
        if multiplier is None or not self.holds:
            raise OptimalityError(
                f"no dual multiplier: least kept score {self.kept_min}, "
                f"largest pruned score {self.pruned_max}"
            )
        return multiplier


def optimality(importance: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> Optimality:
    """Read the least kept and the largest pruned score: O(n), comparisons only, hence exact.

    Args:
        importance: finite scores s by tensor name.
        masks: bool masks of the same names and shapes, True = keep.

    Raises:
        MaskError: names or shapes differ.
    """
    require_same_tensors(importance, masks)
    keep = total = 0
    kept_min: float | None = None
    pruned_max: float | None = None
    for name, scores in importance.items():
        mask = masks[name]
        kept, pruned = scores[mask], scores[~mask]
        keep += kept.numel()
        total += scores.numel()
        if kept.numel():
            least = kept.min().item()
            kept_min = least if kept_min is None else min(kept_min, least)
        if pruned.numel():
            largest = pruned.max().item()
            pruned_max = largest if pruned_max is None else max(pruned_max, largest)
    return Optimality(keep, total, kept_min, pruned_max)


def require_same_tensors(tensors: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> None:
    """Check that `masks` holds one bool mask of the same shape for each of `tensors`.

    Raises:
        MaskError: says which tensor has no mask, or which shapes differ.
    """
    for name in [*tensors, *masks]:
        if name in tensors and name in masks:
            continue
        where = "no mask" if name in tensors else "a mask but no tensor"
        raise MaskError(f"{name!r} has {where}: masks and tensors must have the same names")
    for name, tensor in tensors.items():
        mask = masks[name]
        if mask.shape != tensor.shape or mask.dtype != torch.bool:
            raise MaskError(
                f"the mask of {name!r} is {mask.dtype} of shape {tuple(mask.shape)}, "
                f"the tensor has shape {tuple(tensor.shape)}: masks are torch.bool of equal shape"
            )
