"""Certificates of scores and masks that are in files: what `pins certify` does."""

from collections.abc import Mapping
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import Any

from torch import Tensor

from pins.errors import CertificateError
from pins.selection.allocation import Allocation
from pins.selection.constraints import Constraint
from pins.selection.select import select
from pins.selection.tree import Node, View
from pins.utils.io import load_tensors
from verification.certificates.denormals import require_denormals
from verification.certificates.document import (
    allowed_masks,
    beside,
    load_masks,
    require_new,
    write_masks,
)
from verification.certificates.selection import certify
from verification.certificates.trust_region import (
    TrustRegion,
    decided,
    paired,
    require_numbers,
)


def certify_files(
    scores: Path,
    certificate: Path,
    *,
    keep: int | Constraint | Node,
    allocation: Allocation | None = None,
    transposed: bool = False,
    mask: Path | None = None,
    criterion: str | None = None,
    cost: Path | None = None,
    multiplier: float | None = None,
    radius: float | None = None,
) -> dict[str, Any]:
    """Certify scores in files with a given mask, or with an optimum, which is written too.

    Args:
        scores: safetensors file of scores s.
        certificate: the file to write.
        keep: the claimed number of ones, or the constraint.
        allocation: for a number `keep`: the competing masks with the same number of ones; default:
            all. By tensor, a given mask competes with the masks that have its number of ones in
            each tensor; without a mask, each tensor keeps the ratio keep/n, to the nearest integer.
        transposed: the matrices are stored (inputs, outputs), as in GPT-2.
        mask: safetensors file of masks; default: the optimum is computed and written to
            `<certificate's stem>.mask.safetensors`.
        criterion: the origin of the scores; stated without proof.
        cost: safetensors file of c, of the same tensors, for a trust region.
        multiplier: its μ; default, without a mask: computed from the radius.
        radius: its ρ, read as a decimal; default: the cost of the mask.

    Raises:
        CertificateError: the mask keeps another number, μ or ρ is missing or invalid, the files
            have different tensors, or something would be overwritten.
        FileError, ImportanceError, CardinalityError, MaskError: as the parts raise them.
    """
    require_denormals()
    if cost is None and not (multiplier is radius is None):
        raise CertificateError("a radius and a multiplier are of a trust region: give its costs")
    if cost is not None and multiplier is None and (radius is None or mask is not None):
        what = "of a mask that is given" if mask else "without a radius"
        raise CertificateError(f"a certificate {what} needs the multiplier: give the μ of c + μs")
    require_numbers(multiplier, radius)
    require_new(certificate, *(file for file in (scores, mask, cost) if file is not None))
    mask_file = mask or beside(certificate, "mask")
    importance, _ = load_tensors(scores)
    masks: Mapping[str, Tensor] | None
    masks = None if mask is None else load_masks(mask, importance, keep)
    views = {name: View.of(s.shape, transposed=transposed) for name, s in importance.items()}
    tree = allowed_masks(keep, allocation, views, masks)
    costs = None
    if cost is not None:
        costs = load_tensors(cost)[0]
        terms = paired(importance, costs)
        if masks is None:
            masks, multiplier = decided(terms, tree, multiplier, radius, cost)
    elif masks is None:
        masks = select(importance, tree)
    assert masks is not None, "given, or selected"
    region = None
    if costs is not None and cost is not None:
        assert multiplier is not None, "a mask that is given comes with it"
        exact = None if radius is None else Fraction(repr(radius))
        region = TrustRegion(costs, cost, multiplier, exact)
    with ExitStack() as written:
        if mask is None:
            write_masks(masks, mask_file, written)
        return certify(
            importance,
            masks,
            certificate=certificate,
            scores_file=scores,
            mask_file=mask_file,
            constraint=tree,
            region=region,
            criterion=criterion,
        )
