"""The proof of one pruning decision as a file: the claim first, then the evidence.

`CERTIFICATE.md` specifies the format; `checker.py` checks it and shares no code with this module.
"""

from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import pins
from pins import masks as masks_module
from pins.constraints import Cardinality, Constraint, PerTensor, cardinality
from pins.errors import CertificateError
from pins.files import load_tensors, save_tensors, sha256, write_json
from pins.masks import count, count_each
from pins.optimality import (
    ConstrainedOptimality,
    Optimality,
    constrained_optimality,
    optimality,
    require_same_tensors,
)
from pins.scope import Scope
from pins.selection import decide, select
from verification.regret import Violation, regret

FORMAT = "pins-certificate"
VERSION = 1
CONSTRAINED_VERSION = 2  # has the minimums of tensors in its claim
DTYPES = {
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float32: "F32",
    torch.float64: "F64",
}


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
    """Write the certificate of a decision whose scores and masks are on disk already.

    For an optimal mask it claims optimality, with λ as the proof; for any other its exact regret.
    Where a constraint has more rows than Σm = k, it claims optimality among the masks allowed, with
    a threshold for each tensor as the proof, and a mask that is not optimal gets none.

    Args:
        importance: the scores in `scores_file`, in the flat order claimed.
        masks: the masks in `mask_file`, True = keep.
        certificate: where to write; the two files must lie beside or below it.
        scores_file: safetensors file of the scores.
        mask_file: safetensors file of the masks.
        constraint: the masks that compete; default: all with as many ones.
        criterion: how the scores were made; stated, not provable.
        provenance: anything else worth telling; stated, not provable.

    Returns:
        The certificate, as written.

    Raises:
        CertificateError: a file lies elsewhere, or the mask is not the optimum of more rows.
        CardinalityError: no mask of these tensors meets the constraint.
        ImportanceError, MaskError: scores that cannot be ranked, masks that do not fit.
    """
    proof: Optimality | ConstrainedOptimality = optimality(importance, masks)
    keep = proof.keep
    constraint = Cardinality(keep) if constraint is None else constraint
    if constraint.keep != keep:
        raise CertificateError(
            f"the mask keeps {keep} of {proof.total} weights, its constraint asks for "
            f"{constraint.keep}: certify it under its own"
        )
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
        "scope": [
            {"name": name, "shape": list(scores.shape), "dtype": DTYPES[scores.dtype]}
            for name, scores in importance.items()
        ],
        "criterion": criterion,
    }
    counts = [each.kept for each in count_each({n: masks[n] for n in importance}).values()]
    evidence: dict[str, Any]
    if proof.holds:
        by_index = all(torch.equal(mask, masks[name]) for name, mask in best.items())
        claim |= {"tie_rule": "lower-index" if by_index else "none", "unique": proof.unique}
        evidence = {"lambda": proof.dual_multiplier.hex(), "counts": counts} | _ends(proof)
    else:
        shortfall = regret(importance, masks)
        evidence = {"lambda": shortfall.multiplier.hex(), "counts": counts}
        claim["regret"] = {
            "numerator": str(shortfall.exact.numerator),
            "denominator": str(shortfall.exact.denominator),
        }
        evidence["violation"] = {
            "kept": _violation(shortfall.kept),
            "pruned": _violation(shortfall.pruned),
        }
    if isinstance(proof, ConstrainedOptimality):
        claim["constraint"] = _stated(constraint, importance)
        evidence["thresholds"] = [each.hex() for each in proof.thresholds.values()]
    evidence["scores"] = _file(scores_file, certificate)
    evidence["mask"] = _file(mask_file, certificate)
    document = {
        "format": FORMAT,
        "version": VERSION if plain else CONSTRAINED_VERSION,
        "claim": claim,
        "evidence": evidence,
        "provenance": {"made_by": f"pins {pins.__version__}", **(provenance or {})},
    }
    write_json(document, certificate)
    return document


def certify_files(
    scores: Path,
    certificate: Path,
    *,
    keep: int | Constraint,
    scope: Scope | None = None,
    mask: Path | None = None,
    criterion: str | None = None,
) -> dict[str, Any]:
    """Certify scores on disk: the mask given, or without one the optimal one, written beside.

    Args:
        scores: safetensors file of scores.
        certificate: where to write the certificate.
        keep: number of ones claimed, or the constraint.
        scope: with a number: which masks with as many ones compete; default: all. By tensor, a mask
            that is given competes with those that keep as many of each tensor as it does; one that
            is made keeps the ratio keep/n of each, to the nearest integer.
        mask: safetensors file of masks; default: the optimum is made and written as
            `<certificate's stem>.mask.safetensors`.
        criterion: how the scores were made; stated, not provable.

    Raises:
        CertificateError: the mask keeps another number, or something would be overwritten.
        FileError, ImportanceError, CardinalityError, MaskError: as the parts raise them.
    """
    if certificate.is_dir() or not certificate.name:
        raise CertificateError(f"{str(certificate)!r} is a folder: give a file for the certificate")
    mask_file = mask or certificate.with_name(f"{certificate.stem}.mask.safetensors")
    for file in (certificate, *([] if mask else [mask_file])):
        if file.exists():
            raise CertificateError(f"{file} exists: remove it, or write to another file")
    for file in (scores, mask_file):
        _name_beside(file, certificate)
    importance, _ = load_tensors(scores)
    masks = None if mask is None else masks_module.load(mask)
    if masks is not None:
        require_same_tensors(importance, masks)
        kept, said = count(masks), keep.keep if isinstance(keep, Constraint) else keep
        if kept.kept != said:
            raise CertificateError(
                f"{mask} keeps {kept.kept} of {kept.total}, --keep says {said}: no certificate "
                "can be made of a mask with another number of ones"
            )
    constraint = (
        keep if isinstance(keep, Constraint) else _constraint(keep, scope, importance, masks)
    )
    if masks is None:
        masks = decide(importance, constraint).masks
        masks_module.save(masks, mask_file)
    return certify(
        importance,
        masks,
        certificate=certificate,
        scores_file=scores,
        mask_file=mask_file,
        constraint=constraint,
        criterion=criterion,
    )


def _constraint(
    keep: int,
    scope: Scope | None,
    importance: Mapping[str, Tensor],
    masks: Mapping[str, Tensor] | None,
) -> Constraint:
    """What a number of ones and a scope mean for these tensors."""
    sizes = {name: scores.numel() for name, scores in importance.items()}
    total = sum(sizes.values())
    keep = cardinality(keep, total)
    if scope is None or total == 0:
        return Cardinality(keep)
    if scope.by_tensor and masks is not None:
        return PerTensor({name: each.kept for name, each in count_each(masks).items()})
    return scope.constraint(1 - Fraction(keep, total), sizes)


def save_scores(importance: Mapping[str, Tensor], path: Path) -> None:
    """Write scores to a safetensors file that remembers their flat order."""
    save_tensors(importance, path, {"format": "pins-scores", "version": "1"})


def _stated(constraint: Constraint, importance: Mapping[str, Tensor]) -> dict[str, Any]:
    """The constraint as the format states it, one number for each tensor in flat order."""
    numbers = [constraint.minimums.get(name, 0) for name in importance]
    if isinstance(constraint, PerTensor):
        return {"kind": "per-tensor", "keep": numbers}
    return {"kind": "minimum-per-tensor", "minimum": numbers}


def _ends(proof: Optimality | ConstrainedOptimality) -> dict[str, str | None]:
    """The least kept and the largest pruned score; null where nothing is on that side.

    Without more rows than Σm = k they are the dual interval, every λ of which is a proof.
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


def _file(file: Path, certificate: Path) -> dict[str, str]:
    """Name relative to the certificate's folder, and digest."""
    return {"file": _name_beside(file, certificate), "sha256": sha256(file)}


def _name_beside(file: Path, certificate: Path) -> str:
    """The name of a file relative to the certificate's folder, as the format allows it."""
    try:
        # a link is a file of the folder it stands in, so only the folders are resolved
        inside = (file.parent.resolve() / file.name).relative_to(certificate.parent.resolve())
    except ValueError:
        raise CertificateError(
            f"{file} is not beside or below {certificate}: a certificate names its files relative "
            "to its own folder; write it there"
        ) from None
    name = inside.as_posix()
    if ":" in name or "\\" in name:
        raise CertificateError(
            f"{name} has a colon or a backslash, which mean different things on different "
            "systems: rename it"
        )
    return name


def summary(document: Mapping[str, Any]) -> str:
    """The claim of a certificate as a sentence."""
    claim = document["claim"]
    what = f"keeps {claim['keep']:,} of {claim['total']:,} weights and "
    if claim["statement"] == "optimal":
        among = _among(document) if "constraint" in claim else ""
        if claim["unique"]:
            return what + "is the only optimum" + among
        by_index = claim["tie_rule"] == "lower-index"
        return f"{what}is optimal{among}, {'ties by index' if by_index else 'with other ties'}"
    exact = claim["regret"]
    about = Decimal(exact["numerator"]) / Decimal(exact["denominator"])
    return what + f"falls short of the optimum by about {about:.6g}"


def _among(document: Mapping[str, Any]) -> str:
    """The masks that a constrained one competes with, and in how many tensors a minimum binds."""
    if document["claim"]["constraint"]["kind"] == "per-tensor":
        return " among masks that keep as many of each tensor"
    evidence = document["evidence"]
    multiplier = float.fromhex(evidence["lambda"])
    thresholds = [float.fromhex(each) for each in evidence["thresholds"]]
    binding = sum(each < multiplier for each in thresholds)
    where = f"binds in {binding} of {len(thresholds)} tensors" if binding else "binds nowhere"
    return f" among masks with the minimum of each tensor, which {where}"
