"""The certificate document: the parts that all versions share.

`CERTIFICATE.md` specifies the format.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import pins
from pins import masks as masks_module
from pins.errors import CertificateError, PinsError
from pins.masks import count, count_each, require_same_tensors
from pins.selection.allocation import Allocation
from pins.selection.constraints import Cardinality, Constraint, PerTensor, cardinality
from pins.utils.io import removed_on_failure, sha256, write_json

FORMAT = "pins-certificate"
DTYPES = {
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float32: "F32",
    torch.float64: "F64",
}


def write_document(
    version: int,
    claim: Mapping[str, Any],
    evidence: Mapping[str, Any],
    provenance: Mapping[str, Any] | None,
    certificate: Path,
) -> dict[str, Any]:
    """Write the certificate, and return it."""
    document = {
        "format": FORMAT,
        "version": version,
        "claim": claim,
        "evidence": evidence,
        "provenance": {"made_by": f"pins {pins.__version__}", **(provenance or {})},
    }
    write_json(document, certificate)
    return document


def stated_scope(importance: Mapping[str, Tensor]) -> list[dict[str, Any]]:
    """The tensors in flat order with shape and dtype."""
    return [
        {"name": name, "shape": list(scores.shape), "dtype": DTYPES[scores.dtype]}
        for name, scores in importance.items()
    ]


def stated_counts(masks: Mapping[str, Tensor], importance: Mapping[str, Tensor]) -> list[int]:
    """The number of ones of each tensor, in flat order."""
    return [each.kept for each in count_each({name: masks[name] for name in importance}).values()]


def stated_constraint(constraint: Constraint, importance: Mapping[str, Tensor]) -> dict[str, Any]:
    """The constraint in the format, with one number for each tensor in flat order."""
    numbers = [constraint.minimums.get(name, 0) for name in importance]
    if isinstance(constraint, PerTensor):
        return {"kind": "per-tensor", "keep": numbers}
    return {"kind": "minimum-per-tensor", "minimum": numbers}


def stated_fraction(number: Fraction) -> dict[str, str]:
    """Numerator and denominator in decimal digits."""
    return {"numerator": str(number.numerator), "denominator": str(number.denominator)}


def stated_file(file: Path, certificate: Path) -> dict[str, str]:
    """The name relative to the certificate's folder, and the digest."""
    return {"file": name_beside(file, certificate), "sha256": sha256(file)}


def name_beside(file: Path, certificate: Path) -> str:
    """The name of a file relative to the certificate's folder.

    Raises:
        CertificateError: the file is elsewhere, or its name depends on the operating system.
    """
    try:
        # a link belongs to its own folder, so only the folders are resolved
        inside = (file.parent.resolve() / file.name).relative_to(certificate.parent.resolve())
    except ValueError:
        raise CertificateError(
            f"{file} is not beside or below {certificate}: a certificate names its files relative "
            "to its own folder; write it there"
        ) from None
    name = inside.as_posix()
    try:
        name.encode()
    except UnicodeEncodeError:
        raise CertificateError(f"{name} is not UTF-8, as a certificate is: rename it") from None
    if ":" in name or "\\" in name:
        raise CertificateError(
            f"{name} has a colon or a backslash, which mean different things on different "
            "systems: rename it"
        )
    return name


def mask_beside(certificate: Path, mask: Path | None, *files: Path) -> Path:
    """The file of the given mask, or of the mask that will be written beside the certificate.

    Raises:
        CertificateError: the certificate exists, or one of `files` is elsewhere.
    """
    if certificate.is_dir() or not certificate.name:
        raise CertificateError(f"{str(certificate)!r} is a folder: give a file for the certificate")
    mask_file = mask or certificate.with_name(f"{certificate.stem}.mask.safetensors")
    if certificate.exists():
        raise _exists(certificate)
    for file in (*files, mask_file):
        name_beside(file, certificate)
    return mask_file


@contextmanager
def written_masks(masks: Mapping[str, Tensor], file: Path, given: Path | None) -> Iterator[None]:
    """Write masks that were not given, for a certificate that the block makes; remove them if not.

    A process that was killed before its certificate leaves its masks; the same masks may stay.

    Args:
        masks: by name.
        file: where the certificate names them.
        given: the file that they come from; None: they were computed.

    Raises:
        CertificateError: something else is at `file`.
    """
    if given is not None or _holds(file, masks):
        yield
        return
    if file.exists():
        raise _exists(file)
    with removed_on_failure(file):
        masks_module.save(masks, file)
        yield


def _exists(file: Path) -> CertificateError:
    return CertificateError(f"{file} exists: remove it, or write to another file")


def _holds(file: Path, masks: Mapping[str, Tensor]) -> bool:
    """Whether a file holds exactly these masks, in this order."""
    try:
        found = masks_module.load(file)
    except PinsError:
        return False
    return list(found) == list(masks) and all(
        torch.equal(found[n], m.cpu()) for n, m in masks.items()
    )


def load_masks(
    mask: Path, importance: Mapping[str, Tensor], keep: int | Constraint
) -> dict[str, Tensor]:
    """Read masks of these tensors with this number of ones.

    Raises:
        CertificateError: the masks keep another number.
        FileError, MaskError: the mask file is damaged, or has other tensors.
    """
    masks = masks_module.load(mask)
    require_same_tensors(importance, masks)
    kept, said = count(masks), keep.keep if isinstance(keep, Constraint) else keep
    if kept.kept != said:
        raise CertificateError(
            f"{mask} keeps {kept.kept} of {kept.total}, --keep says {said}: no certificate "
            "can be made of a mask with another number of ones"
        )
    return masks


def constraint_of(
    keep: int | Constraint,
    scope: Allocation | None,
    importance: Mapping[str, Tensor],
    masks: Mapping[str, Tensor] | None,
) -> Constraint:
    """The constraint for a number of ones and a scope; a constraint is returned unchanged.

    By tensor, given masks compete with the masks that have their number of ones in each tensor.

    Raises:
        CardinalityError: no mask of these tensors keeps this number.
    """
    if isinstance(keep, Constraint):
        return keep
    sizes = {name: scores.numel() for name, scores in importance.items()}
    total = sum(sizes.values())
    keep = cardinality(keep, total)
    if scope is None or total == 0:
        return Cardinality(keep)
    if scope.by_tensor and masks is not None:
        return PerTensor({name: each.kept for name, each in count_each(masks).items()})
    return scope.constraint(1 - Fraction(keep, total), sizes)


def require_own(constraint: Constraint, masks: Mapping[str, Tensor]) -> None:
    """Require that the masks keep the number of ones of their constraint.

    Raises:
        CertificateError: they keep another number.
    """
    kept = count(masks)
    if constraint.keep != kept.kept:
        raise CertificateError(
            f"the mask keeps {kept.kept} of {kept.total} weights, its constraint asks for "
            f"{constraint.keep}: certify it under its own"
        )
