"""Regret: the exact loss of a mask against the optimum, R(m) = s·best − s·m ≥ 0.

Only the weights count in which the two masks differ, so the sum has few terms.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from pins.masks import Overlap, compare, count, require_same_tensors
from pins.selection.constraints import Cardinality, Constraint
from pins.selection.select import decide
from pins.selection.tree import Node
from solvers.exact import exact_sum
from verification.certificates.denormals import require_denormals


@dataclass(frozen=True)
class Regret:
    """The regret of a mask among the masks of a constraint.

    Attributes:
        exact: R, a rational number; 0 iff the mask is optimal.
        scale: Σ|sᵢ| over all weights, the unit of `relative`; a float64 sum.
        multiplier: λ, an optimal dual multiplier of Σm = k.
        best: an optimal mask.
        overlap: of the optimal mask (first) with the given one (second).
    """

    exact: Fraction
    scale: float
    multiplier: float
    best: Mapping[str, Tensor]
    overlap: Overlap

    @property
    def relative(self) -> float:
        """R / Σ|sᵢ|."""
        return float(self.exact) / self.scale if self.scale else 0.0


def regret(
    importance: Mapping[str, Tensor],
    masks: Mapping[str, Tensor],
    constraint: Constraint | Node | None = None,
) -> Regret:
    """The exact regret of `masks`, which the constraint allows.

    Args:
        importance: finite scores by tensor name, larger = keep.
        masks: bool masks of the same names and shapes, True = keep.
        constraint: default: all masks with the same number of ones.

    Raises:
        CertificateError: this process flushes denormals.
        ImportanceError: a score cannot be ranked.
        MaskError: names or shapes differ.
    """
    require_denormals()
    require_same_tensors(importance, masks)
    best = decide(importance, constraint or Cardinality(count(masks).kept))
    return Regret(
        shortfall(importance, best.masks, masks),
        sum(float(scores.detach().double().abs().sum()) for scores in importance.values()),
        best.proof.dual_multiplier,
        best.masks,
        compare(best.masks, masks),
    )


def shortfall(
    importance: Mapping[str, Tensor], best: Mapping[str, Tensor], masks: Mapping[str, Tensor]
) -> Fraction:
    """s·best − s·m, without rounding."""
    total = Fraction(0)
    for name, scores in importance.items():
        flat, first, second = (
            each.detach().cpu().reshape(-1) for each in (scores, best[name], masks[name])
        )
        for sign, which in ((1, first & ~second), (-1, second & ~first)):
            total += sign * exact_sum(flat[which].to(torch.float64).numpy())
    return total
