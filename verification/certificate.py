"""The proof of one pruning decision as a file: the claim first, then the evidence.

`CERTIFICATE.md` specifies the format; `checker.py` checks it and shares no code with this module.
"""

from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import pins
from pins import masks as masks_module
from pins.errors import CertificateError
from pins.files import load_tensors, save_tensors, sha256, write_json
from pins.masks import count, count_each
from pins.optimality import Optimality, optimality
from pins.selection import decide, select
from verification.regret import Violation, regret

FORMAT = "pins-certificate"
VERSION = 1
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
    criterion: str | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write the certificate of a decision whose scores and masks are on disk already.

    For an optimal mask it claims optimality, with λ as the proof; for any other its exact regret.

    Args:
        importance: the scores in `scores_file`, in the flat order claimed.
        masks: the masks in `mask_file`, True = keep.
        certificate: where to write; the two files must lie beside or below it.
        scores_file: safetensors file of the scores.
        mask_file: safetensors file of the masks.
        criterion: how the scores were made; stated, not provable.
        provenance: anything else worth telling; stated, not provable.

    Returns:
        The certificate, as written.

    Raises:
        CertificateError: a file lies elsewhere.
        ImportanceError, MaskError: scores that cannot be ranked, masks that do not fit.
    """
    keep, total = count(masks).kept, count(masks).total
    proof = optimality(importance, masks)
    claim: dict[str, Any] = {
        "statement": "optimal" if proof.holds else "regret",
        "total": total,
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
        best = select(importance, keep)
        by_index = all(torch.equal(mask, masks[name]) for name, mask in best.items())
        claim |= {"tie_rule": "lower-index" if by_index else "none", "unique": proof.unique}
        evidence = {"lambda": proof.dual_multiplier.hex(), "counts": counts}
        evidence |= _dual_interval(proof)
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
    evidence["scores"] = _file(scores_file, certificate)
    evidence["mask"] = _file(mask_file, certificate)
    document = {
        "format": FORMAT,
        "version": VERSION,
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
    keep: int,
    mask: Path | None = None,
    criterion: str | None = None,
) -> dict[str, Any]:
    """Certify scores on disk: the mask given, or without one the optimal one, written beside.

    Args:
        scores: safetensors file of scores.
        certificate: where to write the certificate.
        keep: number of ones claimed.
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
    if mask is None:
        masks = decide(importance, keep).masks
        masks_module.save(masks, mask_file)
    else:
        masks = masks_module.load(mask)
        kept = count(masks)
        if kept.kept != keep:
            raise CertificateError(
                f"{mask} keeps {kept.kept} of {kept.total}, --keep says {keep}: no certificate "
                "can be made of a mask with another number of ones"
            )
    return certify(
        importance,
        masks,
        certificate=certificate,
        scores_file=scores,
        mask_file=mask_file,
        criterion=criterion,
    )


def save_scores(importance: Mapping[str, Tensor], path: Path) -> None:
    """Write scores to a safetensors file that remembers their flat order."""
    save_tensors(importance, path, {"format": "pins-scores", "version": "1"})


def _dual_interval(proof: Optimality) -> dict[str, str | None]:
    """[s₍ₖ₊₁₎, s₍ₖ₎], every λ of which is a proof; an end is null where nothing is on that side."""
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
        if claim["unique"]:
            return what + "is the only optimum"
        by_index = claim["tie_rule"] == "lower-index"
        return what + ("is optimal, ties by index" if by_index else "is optimal, with other ties")
    exact = claim["regret"]
    about = Decimal(exact["numerator"]) / Decimal(exact["denominator"])
    return what + f"falls short of the optimum by about {about:.6g}"
