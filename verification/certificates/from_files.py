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
from pins.selection.select import decide
from pins.selection.transposable.constraint import TransposableNofM
from pins.selection.tree import Node, View
from pins.utils.io import load_tensors, removed_on_failure
from verification.certificates.denormals import require_denormals
from verification.certificates.document import (
    allowed_masks,
    beside,
    load_masks,
    require_absent,
    require_new,
    write_masks,
)
from verification.certificates.formula import ComputedFormula, Formula, same_bits
from verification.certificates.selection import certify, save_scores
from verification.certificates.trust_region import (
    TrustRegion,
    decided,
    no_tree,
    paired,
    require_numbers,
)


def certify_formula(formula: Formula, certificate: Path, **how: Any) -> dict[str, Any]:
    """Compute scores from files, write them beside the certificate, and certify them.

    Args:
        formula: gives the scores, and the costs of a trust region.
        certificate: the file to write; the scores are in `<its stem>.scores.safetensors`, the
            costs in `….cost.safetensors`.
        how: as in `certify_files`.

    Raises:
        CertificateError: the files do not fit, or as `certify_files`.
        FileError, ImportanceError, CardinalityError, MaskError: as the parts raise them.
    """
    require_denormals()
    require_new(certificate, *formula.inputs.values())
    computed = formula.computed()
    roles = {"scores": computed.scores, "cost": computed.costs}
    files = {r: beside(certificate, r) for r, made in roles.items() if made is not None}
    with ExitStack() as written:
        for role, file in files.items():
            require_absent(file)
            written.enter_context(removed_on_failure(file))
            save_scores(roles[role] or {}, file)
        how |= {"cost": files.get("cost"), "formula": computed}
        return certify_files(files["scores"], certificate, **how)


def certify_files(
    scores: Path,
    certificate: Path,
    *,
    keep: int | Constraint | Node | TransposableNofM | None,
    allocation: Allocation | None = None,
    transposed: bool = False,
    mask: Path | None = None,
    criterion: str | None = None,
    formula: ComputedFormula | None = None,
    cost: Path | None = None,
    multiplier: float | None = None,
    radius: float | None = None,
) -> dict[str, Any]:
    """Certify scores in files with a given mask, or with an optimum, which is written too.

    Args:
        scores: safetensors file of scores s.
        certificate: the file to write.
        keep: the claimed number of ones, of kept blocks if the allocation has them, or the
            constraint; None if the allocation says it: exactly N of each M, or by row with a mask.
        allocation: for a number `keep`: the competing masks with the same number of ones; default:
            all. By tensor or row, a given mask competes with the masks that have its number of ones
            in each; without a mask, each keeps the ratio keep/n, to the nearest integer.
        transposed: the matrices are stored (inputs, outputs), as in GPT-2.
        mask: safetensors file of masks; default: the optimum is computed and written to
            `<certificate's stem>.mask.safetensors`.
        criterion: the origin of the scores; stated without proof.
        formula: instead of a criterion: what gives the scores, and the costs, bit for bit; the
            checker computes them too.
        cost: safetensors file of c, of the same tensors, for a trust region.
        multiplier: its μ; default, without a mask: computed from the radius.
        radius: its ρ, read as a decimal; default: the cost of the mask.

    Raises:
        CertificateError: the mask keeps another number, μ or ρ is missing or invalid, the files
            have different tensors, the formula gives other scores, or something would be
            overwritten.
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
    allocation = allocation or Allocation()
    masks = None if mask is None else load_masks(mask, importance, keep, allocation)
    views = {name: View.of(s.shape, transposed=transposed) for name, s in importance.items()}
    tree = allowed_masks(keep, allocation, views, masks)
    costs = None
    if cost is not None:
        costs = load_tensors(cost)[0]
        terms = paired(importance, costs)
        if isinstance(tree, TransposableNofM):
            raise no_tree(tree)
        if masks is None:
            masks, multiplier = decided(terms, tree, multiplier, radius, cost)
    elif masks is None:
        masks = decide(importance, tree).masks
    assert masks is not None, "given, or selected"
    if formula is not None:
        for file, given, made in (
            (scores, importance, formula.scores),
            (cost, costs, formula.costs),
        ):
            if not same_bits(given or {}, made or {}):
                raise CertificateError(
                    f"{file} does not hold what {formula.formula.name} gives, bit for bit, of "
                    f"{' and '.join(map(str, formula.formula.inputs.values()))}: certify it as "
                    "scores, without the formula"
                )
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
            formula=formula,
        )
