"""An upper bound of the gap to the optimum of a trust region, in rational arithmetic.

Theorem 5 (`pins.importance.trust_region.program`): for any μ > 0 and λ, each mask m′ with as many
ones as m and c·(1−m′) ≤ ρ satisfies

    s·m′  ≤  s·m + (V + ρ − c·(1−m)) / μ,      V = Σ_{mᵢ=0} max(0, rᵢ−λ) + Σ_{mᵢ=1} max(0, λ−rᵢ)

with r = c + μs. Here r is exact: c, s, μ and λ are floats, hence rational, and nothing is rounded.
V is a sum over the *misplaced* weights only, and linear in r: it needs the sums of c and of s over
them. Float64 decides which weights are misplaced, and rational arithmetic where float64 cannot.

With a threshold λ_t for each tensor t (minimums, `pins.selection.constraints`) the bound holds for
each m′ that keeps at least as many weights as m in the tensors whose λ_t is below the largest, λ.
Proof:

    r·m′ − r·m  =  Σᵢ (rᵢ−λ_t)(m′ᵢ−mᵢ) − Σ_t (λ−λ_t) Σ_{i∈t} (m′ᵢ−mᵢ)  ≤  V,

because the first sum is ≤ V and the second is ≥ 0.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from pins.errors import CriterionError, ImportanceError
from pins.importance.trust_region.program import Terms, TrustRegionDecision
from pins.masks import require_same_tensors
from pins.selection.optimality import ConstrainedOptimality
from solvers.exact import BoolArray, FloatArray, exact_sum
from verification.certificates.denormals import require_denormals

BLOCK = 1 << 20  # weights in a block: bounds the memory apart from terms and masks
ROUNDING = 2.0**-51  # relative to c + μ|s|: twice the error of the two float64 roundings of r
SMALLEST = 2.0**-1070  # absolute, for subnormal products: sixteen times their spacing


@dataclass(frozen=True)
class TrustRegionGap:
    """The numbers of Theorem 5, exactly.

    Attributes:
        violation: V ≥ 0; 0 iff every kept r is ≥ λ and every pruned r is ≤ λ.
        slack: ρ − c·(1−m), the unused part of the radius; negative if m exceeds it.
        gap: (V + slack)/μ, an upper bound of s·m′ − s·m for all masks m′ within the radius.
    """

    violation: Fraction
    slack: Fraction
    gap: Fraction


def trust_region_gap(
    terms: Mapping[str, Terms],
    masks: Mapping[str, Tensor],
    multiplier: float,
    threshold: float | Mapping[str, float],
    radius: float | Fraction | None = None,
) -> TrustRegionGap:
    """V, slack and gap of a mask at (μ, λ) for the radius ρ.

    Args:
        terms: s and c by tensor name, finite; each tensor is read once.
        masks: bool masks of the same names and shapes, True = keep.
        multiplier: μ, finite and > 0.
        threshold: λ, or λ_t by tensor name.
        radius: ρ; None for c·(1−m), the mask's own cost, with slack 0.

    Raises:
        CriterionError: μ is not > 0, a number is not finite, or a tensor has no threshold.
        CertificateError: this process flushes denormals.
        ImportanceError: a term is not finite.
        MaskError: names or shapes differ.
    """
    require_denormals()
    if not 0 < multiplier < float("inf"):
        raise CriterionError(
            f"trust_region_gap: the multiplier is {multiplier}: a gap needs one > 0, and finite"
        )
    price, violation, spent = Fraction(multiplier), Fraction(0), Fraction(0)
    require_same_tensors({}, {name: mask for name, mask in masks.items() if name not in terms})
    for name, (importance, cost) in terms.items():
        require_same_tensors({name: cost}, {n: masks[n] for n in masks if n == name})
        limit = _threshold(threshold, name)
        for s, c, kept in _blocks(name, importance, cost, masks[name]):
            spent += exact_sum(c[~kept])
            above, below = _sides(s, c, multiplier, limit)
            for wrong, sign in ((above & ~kept, 1), (below & kept, -1)):
                if wrong.any():
                    lost = exact_sum(c[wrong]) + price * exact_sum(s[wrong])
                    violation += sign * (lost - int(wrong.sum()) * Fraction(limit))
    slack = Fraction(0) if radius is None else _rational(radius) - spent
    return TrustRegionGap(violation, slack, (violation + slack) / price)


def decision_gap(
    terms: Mapping[str, Terms],
    decision: TrustRegionDecision,
    radius: float | Fraction | None = None,
) -> TrustRegionGap:
    """The gap of a decision with μ > 0, at its own thresholds.

    Raises:
        CriterionError: μ is 0: the decision is optimal brain damage, without a gap.
    """
    proof = decision.proof
    return trust_region_gap(
        terms,
        decision.masks,
        decision.multiplier,
        proof.thresholds if isinstance(proof, ConstrainedOptimality) else proof.dual_multiplier,
        radius,
    )


def _sides(
    s: FloatArray, c: FloatArray, multiplier: float, limit: float
) -> tuple[BoolArray, BoolArray]:
    """(r > λ, r < λ) for r = c + μs, exactly."""
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        product = multiplier * s
        difference = (c + product) - limit
        error = ROUNDING * (np.abs(c) + np.abs(product)) + SMALLEST
        sure = np.abs(difference) > error  # False if not finite
    above, below = sure & (difference > 0), sure & (difference < 0)
    open_ones = np.flatnonzero(~sure)
    if open_ones.size:
        # equal terms are decided once: a model that is pruned already has many zeros
        pairs, which = np.unique(c[open_ones] + 1j * s[open_ones], return_inverse=True)
        price, level = Fraction(multiplier), Fraction(limit)
        signs = np.array(
            [_sign(Fraction(p.real) + price * Fraction(p.imag) - level) for p in pairs.tolist()]
        )[which]
        above[open_ones], below[open_ones] = signs > 0, signs < 0
    return above, below


def _sign(number: Fraction) -> int:
    return (number > 0) - (number < 0)


def _blocks(
    name: str, importance: Tensor, cost: Tensor, mask: Tensor
) -> Iterator[tuple[FloatArray, FloatArray, BoolArray]]:
    """s, c and m of one tensor in blocks, as float64, which represents every score exactly."""
    if importance.shape != cost.shape:
        raise ImportanceError(
            f"trust_region_gap: {name!r} has s of shape {tuple(importance.shape)} and c of shape "
            f"{tuple(cost.shape)}: both have the shape of the tensor"
        )
    flat = (torch.split(each.detach().reshape(-1), BLOCK) for each in (importance, cost, mask))
    for s, c, kept in zip(*flat, strict=True):
        numbers = [part.cpu().to(torch.float64).numpy() for part in (s, c)]
        if not all(np.isfinite(part).all() for part in numbers):
            raise ImportanceError(f"trust_region_gap: {name!r} has a term that is not finite")
        yield numbers[0], numbers[1], kept.cpu().numpy()


def _threshold(threshold: float | Mapping[str, float], name: str) -> float:
    """The threshold of one tensor."""
    if isinstance(threshold, Mapping):
        if name not in threshold:
            raise CriterionError(
                f"trust_region_gap: there is no threshold for {name!r}: give one for each tensor"
            )
        threshold = threshold[name]
    if not np.isfinite(threshold):
        raise CriterionError(f"trust_region_gap: the threshold of {name!r} is {threshold}")
    return float(threshold)


def _rational(radius: float | Fraction) -> Fraction:
    if isinstance(radius, float) and not np.isfinite(radius):
        raise CriterionError(
            f"trust_region_gap: the radius is {radius}: pass a finite one, or None"
        )
    return Fraction(radius)
