"""The trust region of a certificate: only masks with c·(1−m) ≤ ρ compete (Theorem 5)."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import torch
from torch import Tensor

from pins.errors import CertificateError
from pins.importance.trust_region.multiplier import within
from pins.importance.trust_region.program import Terms, TrustRegionProgram
from pins.selection.select import select
from pins.selection.transposable.constraint import TransposableNofM
from pins.selection.tree import Node
from verification.certificates.document import DTYPES
from verification.certificates.gap import exact_scores

DIGITS = 1000  # of numerator and denominator of a radius, as the format allows


@dataclass(frozen=True)
class TrustRegion:
    """Only masks with c·(1−m) ≤ ρ compete.

    Attributes:
        cost: c ≥ 0 by tensor name, in the shapes and dtypes of the scores.
        cost_file: safetensors file of c.
        multiplier: μ > 0 of the ranking by c + μs; any proves a gap.
        radius: ρ; None: c·(1−m), the mask's own cost.
    """

    cost: Mapping[str, Tensor]
    cost_file: Path
    multiplier: float
    radius: Fraction | None = None

    def __post_init__(self) -> None:
        require_numbers(self.multiplier, self.radius)


def paired(importance: Mapping[str, Tensor], cost: Mapping[str, Tensor]) -> dict[str, Terms]:
    """s and c by tensor name, in the order of s.

    Raises:
        CertificateError: the tensors differ in name, shape or dtype, or a cost is not in [0, ∞).
    """
    for name in [*importance, *cost]:
        if name not in importance or name not in cost:
            absent = "scores" if name in cost else "costs"
            raise CertificateError(f"{name!r} has no {absent}: give both for the same tensors")
    terms = {name: Terms(scores, cost[name]) for name, scores in importance.items()}
    for name, (scores, costs) in terms.items():
        if scores.dtype not in DTYPES:
            raise CertificateError(
                f"{name!r} has scores of {scores.dtype}: give float16, bfloat16, float32 or float64"
            )
        if scores.shape != costs.shape or scores.dtype != costs.dtype:
            raise CertificateError(
                f"{name!r} has scores of {scores.dtype} in shape {tuple(scores.shape)} and "
                f"costs of {costs.dtype} in shape {tuple(costs.shape)}: give both in one"
            )
        wrong = ~((costs >= 0) & costs.isfinite())
        if wrong.any():
            raise CertificateError(
                f"{name!r} has the cost {costs[wrong][0].item()}: a cost is at least 0, and finite"
            )
    return terms


def decided(
    terms: Mapping[str, Terms],
    tree: Node,
    multiplier: float | None,
    radius: float | None,
    cost: Path,
) -> tuple[Mapping[str, Tensor], float]:
    """The optimum for μ, and μ; without μ, for the largest μ that the search finds for the radius.

    Raises:
        CertificateError: μ would be 0.
    """
    if multiplier is not None:
        return select(exact_scores(terms, multiplier, tree), tree), multiplier
    assert radius is not None, "one of the two is given"
    # in float64, to reduce the rounding of c + μs
    double = {
        name: Terms(*(part.detach().cpu().to(torch.float64) for part in both))
        for name, both in terms.items()
    }
    decision = within(TrustRegionProgram(double, tree), radius)
    if not decision.multiplier:
        raise CertificateError(
            f"the radius {radius} leaves the choice to the costs alone, multiplier 0: give another "
            f"radius or a multiplier, or certify {cost} by itself, as scores"
        )
    return decision.masks, decision.multiplier


def no_tree(pattern: TransposableNofM) -> CertificateError:
    """The error for a trust region over a constraint that is no tree."""
    return CertificateError(
        f"transposable {pattern.n}:{pattern.m} is no tree of bounds, as a trust region needs: "
        "leave the costs out, or choose another pattern"
    )


def require_numbers(multiplier: float | None, radius: float | Fraction | None) -> None:
    """Require 0 < μ < ∞, 0 ≤ ρ < ∞, and no more digits of ρ than the format allows."""
    if multiplier is not None and not 0 < multiplier < math.inf:
        raise CertificateError(
            f"the multiplier is {multiplier}: it is above 0, and finite; at 0 the costs decide "
            "alone, and are certified as scores"
        )
    if radius is not None and not 0 <= radius < math.inf:
        raise CertificateError(f"the radius is {radius}: it is at least 0, and finite")
    if isinstance(radius, Fraction) and max(radius.as_integer_ratio()) >= 10**DIGITS:
        raise CertificateError(f"the radius is a fraction of more than {DIGITS} digits: round it")
