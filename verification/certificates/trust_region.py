"""Certificates of the gap within a trust region, version 3.

The claim bounds the distance to the best mask with cost ≤ ρ (Theorem 5,
`pins.importance.trust_region.program`): for all masks m′ that the constraint allows with
c·(1−m′) ≤ ρ,

    s·m′  ≤  s·m + gap,      gap = (V + ρ − c·(1−m)) / μ

with μ and the thresholds as the proof. At ρ = c·(1−m), the mask's own cost, the gap is V/μ. It is 0
unless rounding of the scores c + μs changed the mask.
"""

import math
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pins.errors import CertificateError
from pins.importance.trust_region.multiplier import within
from pins.importance.trust_region.program import Terms, TrustRegionDecision, TrustRegionProgram
from pins.masks import count, count_each, require_same_tensors
from pins.selection.allocation import Allocation
from pins.selection.constraints import Cardinality, Constraint
from pins.selection.optimality import ConstrainedOptimality
from pins.selection.select import decide
from pins.utils.io import load_tensors
from verification.certificates.denormals import require_denormals
from verification.certificates.document import (
    DTYPES,
    constraint_of,
    load_masks,
    mask_beside,
    require_own,
    stated_constraint,
    stated_counts,
    stated_file,
    stated_fraction,
    stated_scope,
    write_document,
    written_masks,
)
from verification.certificates.gap import trust_region_gap

VERSION = 3
DIGITS = 1000  # of numerator and denominator of a radius, as the format allows


def certify_trust_region(
    terms: Mapping[str, Terms],
    masks: Mapping[str, Tensor],
    multiplier: float,
    *,
    certificate: Path,
    scores_file: Path,
    cost_file: Path,
    mask_file: Path,
    radius: Fraction | None = None,
    constraint: Constraint | None = None,
    criterion: str | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write the certificate of a decision whose scores, costs and masks are in files.

    Args:
        terms: s and c of the files by tensor name, in the claimed flat order.
        masks: the masks in `mask_file`, True = keep.
        multiplier: the μ of the masks; any μ > 0 proves a gap.
        certificate: the file to write; the three files must be in its folder or below.
        scores_file: safetensors file of s.
        cost_file: safetensors file of c.
        mask_file: safetensors file of the masks.
        radius: ρ; default: c·(1−m), the mask's own cost.
        constraint: the competing masks; default: all with the same number of ones.
        criterion: the origin of s and c; stated without proof.
        provenance: further facts; stated without proof.

    Returns:
        The certificate, as written.

    Raises:
        CertificateError: a file is elsewhere, μ is not > 0, a cost is < 0, the mask violates its
            constraint or its radius, or this process flushes denormals.
        CardinalityError: no mask of these tensors meets the constraint.
        ImportanceError, MaskError: terms that cannot be ranked, masks that do not fit.
    """
    require_denormals()
    importance = {name: term.importance for name, term in terms.items()}
    require_same_tensors(importance, masks)
    _require(multiplier, radius)
    _require_terms(terms)
    constraint = Cardinality(count(masks).kept) if constraint is None else constraint
    constraint.validate({name: scores.shape for name, scores in importance.items()})
    require_own(constraint, masks)
    spare = _spare(constraint, masks)
    proof = decide(
        TrustRegionProgram(_double(terms), constraint).scores(multiplier), constraint
    ).proof
    threshold = _between(proof.pruned_max, proof.dual_multiplier)
    thresholds = dict.fromkeys(terms, threshold)
    if isinstance(proof, ConstrainedOptimality):
        tensors = {name: proof.tensors[name] for name in proof.binding}
        thresholds |= {n: _between(each.pruned_max, each.kept_min) for n, each in tensors.items()}

    found = trust_region_gap(terms, masks, multiplier, thresholds, radius=0)
    cost = -found.slack
    radius = cost if radius is None else radius
    if cost > radius:
        raise CertificateError(
            f"the mask removes a cost of {float(cost):g}, {float(cost - radius):g} more than the "
            f"radius {float(radius):g}: allow more, or certify another mask"
        )
    violation = found.violation
    for name, number in spare.items():
        violation += number * (Fraction(threshold) - Fraction(thresholds[name]))
    claim = {
        "statement": "region",
        "total": proof.total,
        "keep": constraint.keep,
        "scope": stated_scope(importance),
        "criterion": criterion,
        "constraint": stated_constraint(constraint, importance),
        "radius": stated_fraction(radius),
        "gap": stated_fraction((violation + radius - cost) / Fraction(multiplier)),
    }
    evidence = {
        "lambda": threshold.hex(),
        "thresholds": [thresholds[name].hex() for name in importance],
        "multiplier": float(multiplier).hex(),
        "counts": stated_counts(masks, importance),
        "scores": stated_file(scores_file, certificate),
        "cost": stated_file(cost_file, certificate),
        "mask": stated_file(mask_file, certificate),
    }
    return write_document(VERSION, claim, evidence, provenance, certificate)


def certify_region_files(
    scores: Path,
    cost: Path,
    certificate: Path,
    *,
    keep: int | Constraint,
    multiplier: float | None = None,
    radius: float | None = None,
    scope: Allocation | None = None,
    mask: Path | None = None,
    criterion: str | None = None,
) -> dict[str, Any]:
    """Certify scores and costs in files with a given mask, or with an optimum, which it writes.

    Args:
        scores: safetensors file of s.
        cost: safetensors file of c, of the same tensors.
        certificate: the file to write.
        keep: the claimed number of ones, or the constraint.
        multiplier: μ; default, without a mask: computed from the radius.
        radius: ρ, read as a decimal; default: the cost of the mask.
        scope: for a number `keep`: the competing masks, as in `certify_files`.
        mask: safetensors file of masks; default: the optimum for μ is computed and written to
            `<certificate's stem>.mask.safetensors`.
        criterion: the origin of s and c; stated without proof.

    Raises:
        CertificateError: μ or ρ is missing or invalid, the files have different tensors, the mask
            keeps another number, or a file would be overwritten.
        FileError, ImportanceError, CardinalityError, MaskError: as the parts raise them.
    """
    require_denormals()
    if multiplier is None and (radius is None or mask is not None):
        what = "of a mask that is given" if mask else "without a radius"
        raise CertificateError(f"a certificate {what} needs the multiplier: give the μ of c + μs")
    _require(multiplier, radius)
    mask_file = mask_beside(certificate, mask, scores, cost)
    terms = _load_terms(scores, cost)
    importance = {name: term.importance for name, term in terms.items()}
    masks: Mapping[str, Tensor] | None
    masks = None if mask is None else load_masks(mask, importance, keep)
    constraint = constraint_of(keep, scope, importance, masks)
    if masks is None:
        decision = _decide(TrustRegionProgram(_double(terms), constraint), multiplier, radius, cost)
        masks, multiplier = decision.masks, decision.multiplier
    assert multiplier is not None, "a mask that is given comes with it"
    with written_masks(masks, mask_file, mask):
        return certify_trust_region(
            terms,
            masks,
            multiplier,
            certificate=certificate,
            scores_file=scores,
            cost_file=cost,
            mask_file=mask_file,
            radius=None if radius is None else Fraction(repr(radius)),
            constraint=constraint,
            criterion=criterion,
        )


def _decide(
    program: TrustRegionProgram, multiplier: float | None, radius: float | None, cost: Path
) -> TrustRegionDecision:
    """The optimum for μ; without μ, for the largest μ that the search finds within the radius."""
    if multiplier is not None:
        return program.solve(multiplier)
    assert radius is not None, "one of the two is given"
    decision = within(program, radius)
    if not decision.multiplier:
        raise CertificateError(
            f"the radius {radius} leaves the choice to the costs alone, multiplier 0: give another "
            f"radius or a multiplier, or certify {cost} by itself, as scores"
        )
    return decision


def _require(multiplier: float | None, radius: float | Fraction | None) -> None:
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


def _require_terms(terms: Mapping[str, Terms]) -> None:
    """Require that each c has the shape and dtype of its s, and is ≥ 0 everywhere."""
    for name, (importance, cost) in terms.items():
        if importance.dtype not in DTYPES:
            raise CertificateError(
                f"{name!r} has scores of {importance.dtype}: give float16, bfloat16, float32 or "
                "float64"
            )
        if importance.shape != cost.shape or importance.dtype != cost.dtype:
            raise CertificateError(
                f"{name!r} has scores of {importance.dtype} in shape {tuple(importance.shape)} and "
                f"costs of {cost.dtype} in shape {tuple(cost.shape)}: give both in one"
            )
        if not bool((cost >= 0).all()):
            worst = cost[~(cost >= 0)].reshape(-1)[0].item()
            raise CertificateError(f"{name!r} has the cost {worst}: a cost is at least 0")


def _between(pruned_max: float | None, kept_min: float | None) -> float:
    """The middle of the dual interval.

    Rounding may move an exact r across an end of the interval, but not across its middle.
    """
    low, high = (
        other if end is None else end
        for end, other in ((pruned_max, kept_min), (kept_min, pruned_max))
    )
    assert low is not None
    assert high is not None, "there is a weight"
    return min(max(low, low / 2 + high / 2), high)


def _spare(constraint: Constraint, masks: Mapping[str, Tensor]) -> dict[str, int]:
    """The number of ones of each tensor above its minimum."""
    spare = {}
    for name, each in count_each(masks).items():
        spare[name] = each.kept - (least := constraint.minimums.get(name, 0))
        if spare[name] < 0:
            raise CertificateError(
                f"{name!r} keeps {each.kept} weights, its constraint asks for {least}: certify the "
                "mask under its own"
            )
    return spare


def _double(terms: Mapping[str, Terms]) -> dict[str, Terms]:
    """The terms in float64, to reduce the rounding of c + μs."""
    return {
        name: Terms(*(part.detach().cpu().to(torch.float64) for part in term))
        for name, term in terms.items()
    }


def _load_terms(scores: Path, cost: Path) -> dict[str, Terms]:
    """s and c from two files with the same tensors, in the order of the first."""
    importance, costs = load_tensors(scores)[0], load_tensors(cost)[0]
    for name in [*importance, *costs]:
        if name not in importance or name not in costs:
            absent = scores if name in costs else cost
            raise CertificateError(f"{absent} has no tensor {name!r}: both files have the same")
    terms = {name: Terms(importance[name], costs[name]) for name in importance}
    _require_terms(terms)
    return terms
