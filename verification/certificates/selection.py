"""Certificates of kind "selection": the best mask of a tree of bounds, as a claim and its evidence.

`CERTIFICATE.md` specifies the format; `checker.py` checks it and shares no code with this module.
The evidence of an optimum is the mask itself (Theorem 6). Of another mask the exact regret is
claimed, with an optimal mask as evidence; within a trust region the gap to its optimum (Theorem 5).
Transposable N:M is proved, optimal or within a gap, by potentials.
"""

import math
from collections.abc import Mapping
from contextlib import ExitStack
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pins.errors import CertificateError, ImportanceError
from pins.masks import count, require_same_tensors
from pins.selection.constraints import Cardinality, Constraint
from pins.selection.optimality import optimality
from pins.selection.select import select, tree_of
from pins.selection.transposable.constraint import TransposableNofM
from pins.selection.tree import Node, require_over
from pins.utils.io import save_tensors
from pins.utils.lazy_tensors import shapes_of
from verification.certificates.denormals import require_denormals
from verification.certificates.document import (
    beside,
    state_squares,
    stated_block,
    stated_counts,
    stated_file,
    stated_fraction,
    stated_frozen,
    stated_scope,
    stated_tree,
    write_document,
    write_masks,
    write_potentials,
)
from verification.certificates.formula import ComputedFormula
from verification.certificates.gap import removed_cost, trust_region_gap
from verification.certificates.regret import regret
from verification.certificates.squares import gap_of_squares, potentials_of
from verification.certificates.trust_region import TrustRegion, no_tree, paired

KIND = "selection"


def certify(
    importance: Mapping[str, Tensor],
    masks: Mapping[str, Tensor],
    *,
    certificate: Path,
    scores_file: Path,
    mask_file: Path,
    constraint: Constraint | Node | TransposableNofM | None = None,
    region: TrustRegion | None = None,
    criterion: str | None = None,
    formula: ComputedFormula | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write the certificate of a decision whose scores and masks are in files.

    For an optimal mask it claims optimality; for any other its exact regret, or within a trust
    region its gap, with another mask as evidence: `<certificate's stem>.best.safetensors`. For
    transposable N:M a gap is claimed, 0 or more, with potentials as evidence:
    `<certificate's stem>.potentials.safetensors`.

    Args:
        importance: the scores in `scores_file`. The flat order claimed is that of the constraint's
            tensors: this one, unless the constraint is a tree in another order.
        masks: the masks in `mask_file`, True = keep.
        certificate: the file to write; all files must be in its folder or below.
        scores_file: safetensors file of the scores.
        mask_file: safetensors file of the masks.
        constraint: the competing masks; default: all with the same number of ones.
        region: a further condition on them.
        criterion: the origin of the scores; stated without proof.
        formula: instead of a criterion: what gives the scores, and the costs, bit for bit.
        provenance: further facts; stated without proof.

    Returns:
        The certificate, as written.

    Raises:
        CertificateError: a file lies elsewhere, the constraint or the radius does not allow the
            mask, or this process flushes denormals.
        CardinalityError: no mask of these tensors meets the constraint.
        ImportanceError, MaskError: scores that cannot be ranked, masks that do not fit.
    """
    require_denormals()
    require_same_tensors(importance, masks)
    squares = None
    if isinstance(constraint, TransposableNofM):
        if region is not None:
            raise no_tree(constraint)
        tree = constraint.rows(shapes_of(importance))
        squares = constraint if constraint.n < constraint.m else None  # else all are kept
    else:
        tree = tree_of(constraint or Cardinality(count(masks).kept), importance)
    require_over(tree, {name: scores.numel() for name, scores in importance.items()})
    # the format numbers weights through its tree, which may have the tensors in another order
    importance = {node.name: importance[node.name] for node in tree.tensors}
    proof = optimality(importance, masks, tree=tree)
    if not proof.total:
        raise ImportanceError("importance is empty: there is no weight to rank")
    if proof.broken is not None:
        raise CertificateError(
            f"the mask is not allowed: {proof.broken}; certify it under another constraint"
        )
    block = stated_block(tree)
    potentials = {} if squares is None else potentials_of(importance, squares)
    claim: dict[str, Any] = {
        "total": proof.total,
        "keep": proof.keep,
        "block": [*block],
        "scope": stated_scope(importance),
        "tree": stated_tree(tree),
        "criterion": criterion,
        "formula": formula and formula.claim(),
        "tie_rule": "none",
        "unique": None,
        "radius": None,
        "gap": stated_fraction(Fraction(0)),
    }
    evidence: dict[str, Any] = {
        "counts": stated_counts(masks, importance, block),
        "scores": stated_file(scores_file, certificate),
        "mask": stated_file(mask_file, certificate),
        **dict.fromkeys(("best", "potentials", "cost", "multiplier")),
        "inputs": formula and formula.evidence(certificate),
    }
    best: Mapping[str, Tensor] = masks
    if region is not None:
        terms = paired(importance, region.cost)
        removed = removed_cost(terms, masks)
        radius = removed if region.radius is None else region.radius
        if removed > radius:
            raise CertificateError(
                f"the mask removes a cost of {float(removed):g}, {float(removed - radius):g} more "
                f"than the radius {float(radius):g}: allow more, or certify another mask"
            )
        found = trust_region_gap(terms, masks, region.multiplier, tree, radius)
        best = found.best
        claim |= {"radius": stated_fraction(radius), "gap": stated_fraction(found.gap)}
        evidence |= {
            "cost": stated_file(region.cost_file, certificate),
            "multiplier": float(region.multiplier).hex(),
        }
    elif squares is not None and potentials:
        state_squares(claim["tree"], importance, squares)
        gap = gap_of_squares(importance, masks, potentials, squares)
        claim["gap"] = stated_fraction(gap)
    elif proof.holds:
        first = select(importance, tree)
        by_index = all(torch.equal(mask, masks[name].cpu()) for name, mask in first.items())
        claim |= {"tie_rule": "lower-index" if by_index else "none", "unique": proof.unique}
    else:
        shortfall = regret(importance, masks, tree)
        best = shortfall.best
        claim["gap"] = stated_fraction(shortfall.exact)
    with ExitStack() as written:
        if best is not masks:
            file = beside(certificate, "best")
            write_masks(best, file, written)
            evidence["best"] = stated_file(file, certificate)
        if potentials:
            file = beside(certificate, "potentials")
            write_potentials(potentials, file, written)
            evidence["potentials"] = stated_file(file, certificate)
        claim["frozen"] = stated_frozen(tree, importance, certificate, written)
        return write_document(KIND, claim, evidence, provenance, certificate)


def save_scores(importance: Mapping[str, Tensor], path: Path) -> None:
    """Write scores to a safetensors file that preserves their flat order."""
    save_tensors(importance, path, {"format": "pins-scores", "version": "1"})


def summary(document: Mapping[str, Any]) -> str:
    """The claim of a certificate as a sentence."""
    claim = document["claim"]
    rows, columns = claim["block"]
    elements = "weights" if rows == columns == 1 else f"blocks of {rows} × {columns}"
    what = f"keeps {claim['keep']:,} of {claim['total']:,} {elements} and "
    gap, among = _about(claim["gap"]), _among(document)
    if claim["formula"]:
        among += f" (scores by the formula {claim['formula']['name']})"
    if claim["radius"] is not None:
        near = f"is within about {gap:.6g} of the optimum" if gap else "is optimal"
        return f"{what}{near} at a cost of at most about {_about(claim['radius']):.6g}{among}"
    if document["evidence"]["potentials"]:
        near = f"is within about {gap:.6g} of the optimum" if gap else "is optimal"
        return f"{what}{near}{among}"
    if gap:
        return f"{what}falls short of the optimum{among} by about {gap:.6g}"
    if claim["unique"]:
        return f"{what}is the only optimum{among}"
    by_index = claim["tie_rule"] == "lower-index"
    return f"{what}is optimal{among}, {'ties by index' if by_index else 'with other ties'}"


def _about(exact: Mapping[str, str]) -> Decimal:
    return Decimal(exact["numerator"]) / Decimal(exact["denominator"])


def _among(document: Mapping[str, Any]) -> str:
    """A phrase for the bounds that are narrower than what they bound; nothing without any."""
    block = math.prod(document["claim"]["block"])
    sizes = {each["name"]: math.prod(each["shape"]) // block for each in document["claim"]["scope"]}
    said: dict[str, int] = {}

    def visit(part: Mapping[str, Any]) -> int:
        if "parts" in part:
            size, what = sum(map(visit, part["parts"])), "groups of tensors"
        else:
            size, what = sizes[part["tensor"]], "tensors"
        nodes = [(part, size, what, 1)]
        nodes += [
            (runs, runs["length"], f"runs of {runs['length']}", size // runs["length"])
            for runs in part.get("runs", ())
        ]
        for node, most, kind, number in nodes:
            least, largest = node["minimum"], min(node["maximum"], most)
            if least > 0 or largest < most:
                same = "runs" in kind
                bounds = f"{least}" if least == largest else f"{least} to {largest}"
                name = f"{bounds} of each of the {kind}" if same else f"bounds on {kind}"
                said[name] = said.get(name, 0) + number
        if squares := part.get("squares"):
            side = squares["side"]
            name = f"{squares['keep']} of each row and column of {side} × {side} squares"
            said[name] = said.get(name, 0) + size // side**2
        return size

    for part in document["claim"]["tree"]:
        visit(part)
    phrases = [f"{name} ({number:,})" for name, number in said.items()]
    frozen = document["claim"]["frozen"]
    phrases += [f"frozen {each}" for each in ("zeros", "fixed") if frozen[each] is not None]
    return f" among masks with {', '.join(phrases)}" if phrases else ""
