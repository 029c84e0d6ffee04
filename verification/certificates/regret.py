"""Regret: the exact loss of a mask against the optimum, R(m′) = s·m* − s·m′ ≥ 0.

With λ of the dual interval and Σm′ = k,

    R(m′) = Σ_{m′ᵢ=0, sᵢ>λ} (sᵢ − λ) + Σ_{m′ᵢ=1, sᵢ<λ} (λ − sᵢ)

so the sum has only the misplaced weights, not all terms of the dual value kλ + Σ max(0, sᵢ−λ).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from pins.masks import Overlap, compare, count, require_same_tensors
from pins.selection.select import decide
from solvers.exact import FloatArray, exact_sum
from verification.certificates.denormals import require_denormals


@dataclass(frozen=True)
class Violation:
    """A weight on the wrong side of λ: its tensor, its flat index in the tensor, its score."""

    tensor: str
    index: int
    score: float


@dataclass(frozen=True)
class Regret:
    """The regret of a mask among all masks with the same number of ones.

    Attributes:
        exact: R, a rational number; 0 iff the mask is optimal.
        scale: Σ|sᵢ| over all weights, the unit of `relative`; a float64 sum.
        multiplier: λ, an optimal dual multiplier.
        overlap: of the optimal mask (first) with the given one (second).
        kept: the kept weight of least score, the lowest flat index among equals; None without one.
        pruned: the pruned weight of largest score, likewise. No other pair has a larger gap.
    """

    exact: Fraction
    scale: float
    multiplier: float
    overlap: Overlap
    kept: Violation | None
    pruned: Violation | None

    @property
    def relative(self) -> float:
        """R / Σ|sᵢ|."""
        return float(self.exact) / self.scale if self.scale else 0.0


def regret(importance: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> Regret:
    """The exact regret of `masks` among all masks with the same number of ones.

    Args:
        importance: finite scores by tensor name, larger = keep.
        masks: bool masks of the same names and shapes, True = keep.

    Raises:
        CertificateError: this process flushes denormals.
        ImportanceError: a score cannot be ranked.
        MaskError: names or shapes differ.
    """
    require_denormals()
    require_same_tensors(importance, masks)
    keep = count(masks).kept
    best = decide(importance, keep)
    multiplier = best.proof.dual_multiplier
    exact, scale = Fraction(0), 0.0
    kept: Violation | None = None
    pruned: Violation | None = None
    for name, scores in importance.items():
        # in float64, because λ may come from another tensor and be rounded in this tensor's dtype
        flat = scores.detach().cpu().double().reshape(-1)
        mask = masks[name].cpu().reshape(-1)
        lost = flat[~mask & (flat > multiplier)]
        gained = flat[mask & (flat < multiplier)]
        exact += _exact(lost) - _exact(gained)
        exact += (gained.numel() - lost.numel()) * Fraction(multiplier)
        scale += float(flat.abs().sum())
        kept = _extreme(name, flat, mask, kept, sign=1)
        pruned = _extreme(name, flat, ~mask, pruned, sign=-1)
    return Regret(exact, scale, multiplier, compare(best.masks, masks), kept, pruned)


def _exact(scores: Tensor) -> Fraction:
    values: FloatArray = scores.numpy()
    return exact_sum(values)


def _extreme(
    name: str, flat: Tensor, where: Tensor, best: Violation | None, *, sign: int
) -> Violation | None:
    """The least of sign·score where `where` holds, first among equals, or `best` if not beaten."""
    if not where.any():
        return best
    candidates = torch.where(where, sign * flat, torch.inf)
    index = int((candidates == candidates.min()).nonzero()[0])
    score = flat[index].item()
    if best is not None and sign * best.score <= sign * score:
        return best
    return Violation(name, index, score)
