"""Certificates of optimality and of regret, versions 1 and 2: a claim and its evidence as a file.

`CERTIFICATE.md` specifies the format; `checker.py` checks it and shares no code with this module.
"""

from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pins.errors import CertificateError
from pins.selection.allocation import Allocation
from pins.selection.constraints import Cardinality, Constraint
from pins.selection.optimality import (
    ConstrainedOptimality,
    Optimality,
    constrained_optimality,
    optimality,
)
from pins.selection.select import decide, select
from pins.utils.io import load_tensors, save_tensors
from verification.certificates.denormals import require_denormals
from verification.certificates.document import (
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
from verification.certificates.regret import Violation, regret

VERSION = 1
CONSTRAINED_VERSION = 2  # its claim has a constraint


def certify(
    importance: Mapping[str, Tensor],
    masks: Mapping[str, Tensor],
    *,
    certificate: Path,
    scores_file: Path,
    mask_file: Path,
    constraint: Constraint | None = None,
    criterion: str | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write the certificate of a decision whose scores and masks are in files.

    For an optimal mask it claims optimality, with λ as the proof; for any other its exact regret.
    Under a constraint with more rows than Σm = k it claims optimality among the allowed masks, with
    a threshold for each tensor as the proof; a mask that is not optimal is an error.

    Args:
        importance: the scores in `scores_file`, in the flat order claimed.
        masks: the masks in `mask_file`, True = keep.
        certificate: the file to write; the two files must be in its folder or below.
        scores_file: safetensors file of the scores.
        mask_file: safetensors file of the masks.
        constraint: the competing masks; default: all with the same number of ones.
        criterion: the origin of the scores; stated without proof.
        provenance: further facts; stated without proof.

    Returns:
        The certificate, as written.

    Raises:
        CertificateError: a file lies elsewhere, the mask is not the optimum of more rows, or this
            process flushes denormals.
        CardinalityError: no mask of these tensors meets the constraint.
        ImportanceError, MaskError: scores that cannot be ranked, masks that do not fit.
    """
    require_denormals()
    proof: Optimality | ConstrainedOptimality = optimality(importance, masks)
    keep = proof.keep
    constraint = Cardinality(keep) if constraint is None else constraint
    require_own(constraint, masks)
    plain = isinstance(constraint, Cardinality)
    best = select(importance, keep) if plain else decide(importance, constraint).masks
    if not plain:
        proof = constrained_optimality(importance, masks, constraint.minimums)
    if isinstance(proof, ConstrainedOptimality) and proof.fault is not None:
        raise CertificateError(
            f"the mask is not the optimum of its constraint: {proof.fault}; without the constraint "
            "it gets a certificate of its regret"
        )
    claim: dict[str, Any] = {
        "statement": "optimal" if proof.holds else "regret",
        "total": proof.total,
        "keep": keep,
        "scope": stated_scope(importance),
        "criterion": criterion,
    }
    counts = stated_counts(masks, importance)
    evidence: dict[str, Any]
    if proof.holds:
        by_index = all(torch.equal(mask, masks[name]) for name, mask in best.items())
        claim |= {"tie_rule": "lower-index" if by_index else "none", "unique": proof.unique}
        evidence = {"lambda": proof.dual_multiplier.hex(), "counts": counts} | _ends(proof)
    else:
        shortfall = regret(importance, masks)
        evidence = {"lambda": shortfall.multiplier.hex(), "counts": counts}
        claim["regret"] = stated_fraction(shortfall.exact)
        evidence["violation"] = {
            "kept": _violation(shortfall.kept),
            "pruned": _violation(shortfall.pruned),
        }
    if isinstance(proof, ConstrainedOptimality):
        claim["constraint"] = stated_constraint(constraint, importance)
        evidence["thresholds"] = [each.hex() for each in proof.thresholds.values()]
    evidence["scores"] = stated_file(scores_file, certificate)
    evidence["mask"] = stated_file(mask_file, certificate)
    version = VERSION if plain else CONSTRAINED_VERSION
    return write_document(version, claim, evidence, provenance, certificate)


def certify_files(
    scores: Path,
    certificate: Path,
    *,
    keep: int | Constraint,
    scope: Allocation | None = None,
    mask: Path | None = None,
    criterion: str | None = None,
) -> dict[str, Any]:
    """Certify scores in a file with a given mask, or with the optimal mask, which is written too.

    Args:
        scores: safetensors file of scores.
        certificate: the file to write.
        keep: the claimed number of ones, or the constraint.
        scope: for a number `keep`: the competing masks with the same number of ones; default: all.
            By tensor, a given mask competes with the masks that have its number of ones in each
            tensor; without a mask, each tensor keeps the ratio keep/n, to the nearest integer.
        mask: safetensors file of masks; default: the optimum is computed and written to
            `<certificate's stem>.mask.safetensors`.
        criterion: the origin of the scores; stated without proof.

    Raises:
        CertificateError: the mask keeps another number, or something would be overwritten.
        FileError, ImportanceError, CardinalityError, MaskError: as the parts raise them.
    """
    require_denormals()
    mask_file = mask_beside(certificate, mask, scores)
    importance, _ = load_tensors(scores)
    masks: Mapping[str, Tensor] | None
    masks = None if mask is None else load_masks(mask, importance, keep)
    constraint = constraint_of(keep, scope, importance, masks)
    if masks is None:
        masks = decide(importance, constraint).masks
    with written_masks(masks, mask_file, mask):
        return certify(
            importance,
            masks,
            certificate=certificate,
            scores_file=scores,
            mask_file=mask_file,
            constraint=constraint,
            criterion=criterion,
        )


def save_scores(importance: Mapping[str, Tensor], path: Path) -> None:
    """Write scores to a safetensors file that preserves their flat order."""
    save_tensors(importance, path, {"format": "pins-scores", "version": "1"})


def _ends(proof: Optimality | ConstrainedOptimality) -> dict[str, str | None]:
    """The least kept and the largest pruned score; null if nothing is kept or pruned.

    If Σm = k is the only row they are the dual interval, and every λ in it is a proof.
    """
    return {
        "kept_min": None if proof.kept_min is None else proof.kept_min.hex(),
        "pruned_max": None if proof.pruned_max is None else proof.pruned_max.hex(),
    }


def _violation(violation: Violation | None) -> dict[str, Any]:
    assert violation is not None, "a mask with regret keeps a weight and prunes another"
    return {
        "tensor": violation.tensor,
        "index": violation.index,
        "score": violation.score.hex(),
    }


def summary(document: Mapping[str, Any]) -> str:
    """The claim of a certificate as a sentence."""
    claim = document["claim"]
    what = f"keeps {claim['keep']:,} of {claim['total']:,} weights and "
    if claim["statement"] == "region":
        return what + _near(document)
    if claim["statement"] == "optimal":
        among = _among(document) if "constraint" in claim else ""
        if claim["unique"]:
            return what + "is the only optimum" + among
        by_index = claim["tie_rule"] == "lower-index"
        return f"{what}is optimal{among}, {'ties by index' if by_index else 'with other ties'}"
    return what + f"falls short of the optimum by about {_about(claim['regret']):.6g}"


def _near(document: Mapping[str, Any]) -> str:
    """The gap of the mask to the optimum of its trust region, as a phrase."""
    claim = document["claim"]
    constraint = claim["constraint"]
    rows = constraint["kind"] == "per-tensor" or any(constraint["minimum"])
    radius, gap = _about(claim["radius"]), _about(claim["gap"])
    near = f"is within about {gap:.6g} of the optimum" if gap else "is optimal"
    within = f" at a cost of at most about {radius:.6g}"
    return near + within + (_among(document) if rows else "")


def _about(exact: Mapping[str, str]) -> Decimal:
    return Decimal(exact["numerator"]) / Decimal(exact["denominator"])


def _among(document: Mapping[str, Any]) -> str:
    """A phrase for the competing masks and the number of tensors whose minimum binds."""
    if document["claim"]["constraint"]["kind"] == "per-tensor":
        return " among masks that keep as many of each tensor"
    evidence = document["evidence"]
    multiplier = float.fromhex(evidence["lambda"])
    thresholds = [float.fromhex(each) for each in evidence["thresholds"]]
    binding = sum(each < multiplier for each in thresholds)
    where = f"binds in {binding} of {len(thresholds)} tensors" if binding else "binds nowhere"
    return f" among masks with the minimum of each tensor, which {where}"
