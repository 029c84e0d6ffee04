"""Criteria that need no data: of which of them a mask is an exact optimum, else its exact regret.

    magnitude          Σ|w| of the kept, over single weights or over blocks
    squared magnitude  Σw² of the kept blocks; of single weights it has the order of Σ|w|

The mask competes with all masks of its own pattern that keep as many weights in each row, group,
column or block, or in the matrix where it has none. w are the dense weights as they are stored; if
the mask is no optimum of these, and one of what they are in the dtype of the sparse model, the
latter.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from torch import Tensor

from pins import masks as mask_files
from pins.selection.optimality import optimality
from pins.selection.tree import Node
from pins.utils.io import save_tensors
from verification.audit.comparison import wide
from verification.audit.pattern import Pattern
from verification.audit.rounding import rounding
from verification.certificates.document import beside
from verification.certificates.formula import Formula
from verification.certificates.from_files import certify_files, certify_formula
from verification.certificates.selection import save_scores

MAGNITUDE, SQUARES = "magnitude", "squared magnitude"
NO_TIES, LOWER = "none between kept and pruned", "the lower index is kept"
SCOPES = {"N:M": "N:M", "rows": "row", "columns": "column", "blocks": "block"}


@dataclass(frozen=True)
class Judgement:
    """How good a mask is for a criterion, exactly.

    Attributes:
        criterion: its name.
        scope: what the competing masks have in common: "row", "N:M", "column", "block", "tensor" or
            "global".
        weights: the dtype of the dense weights w.
        regret: s·best − s·m; 0 iff the mask is an optimum.
        scale: Σ|sᵢ|, a float64 sum.
        exchanged: number of kept weights that the best mask prunes.
        ties: what happened to equal scores; None for a mask that is no optimum.
        count: how the number of pruned weights was rounded; None: not known, or no optimum.
        certificate: the file that proves it; None: there is none.
    """

    criterion: str
    scope: str
    weights: str
    regret: Fraction
    scale: float
    exchanged: int
    ties: str | None
    count: str | None
    certificate: Path | None

    @property
    def optimal(self) -> bool:
        """No mask of the pattern has a larger sum of scores."""
        return self.regret == 0

    def as_json(self, folder: Path) -> dict[str, Any]:
        """As audit.json has it; `folder` is that of audit.json."""
        return {
            "criterion": self.criterion,
            "scope": self.scope,
            "weights": self.weights,
            "optimal": self.optimal,
            "regret": {
                "numerator": str(self.regret.numerator),
                "denominator": str(self.regret.denominator),
                "value": float(self.regret),
                "relative": float(self.regret) / self.scale if self.scale else 0.0,
            },
            "exchanged": self.exchanged,
            "ties": self.ties,
            "count": self.count,
            "certificate": self.certificate and str(self.certificate.relative_to(folder)),
        }


def judge_layer(
    name: str,
    dense: Tensor,
    rounded: Tensor,
    mask: Tensor,
    pattern: Pattern,
    place: Path,
    ratio: Fraction | None = None,
) -> list[Judgement]:
    """Judge the mask of a matrix, which has its pattern without a break.

    Args:
        name: of the tensor.
        dense: its weights w (…, outputs, inputs) as stored.
        rounded: the same in the dtype of the sparse model.
        mask: bool, likewise, True = keep.
        pattern: of the mask.
        place: what the paths of the files begin with.
        ratio: the sparsity that is claimed.
    """
    tree = pattern.tree(name, mask)
    scope = SCOPES.get(pattern.kind, "tensor")
    found = []
    for criterion in (MAGNITUDE, *([SQUARES] if pattern.kind == "blocks" else [])):
        ways = [wide(dense), wide(rounded)] if dense.dtype != rounded.dtype else [wide(dense)]
        best = next((w for w in ways if _optimal(criterion, name, w, mask, tree)), ways[0])
        certificate = place.with_name(f"{place.name}.{criterion.replace(' ', '-')}.json")
        judged = judge(criterion, {name: best}, {name: mask}, tree, scope, certificate)
        if judged.optimal and scope != "block":
            judged = _counted(judged, best.abs(), mask, pattern, ratio)
        found.append(judged)
    return found


def judge(
    criterion: str,
    weights: Mapping[str, Tensor],
    masks: Mapping[str, Tensor],
    tree: Node,
    scope: str,
    certificate: Path,
) -> Judgement:
    """Judge masks, and write the certificate.

    Args:
        criterion: its name.
        weights: w by name of the tensor.
        masks: bool by name, True = keep.
        tree: the masks that compete.
        scope: its name.
        certificate: the file to write; its files lie beside it.
    """
    files = {role: beside(certificate, role) for role in ("weights", "scores", "mask")}
    scores = {name: _scores(criterion, w) for name, w in weights.items()}
    mask_files.save(masks, files["mask"])
    if criterion == MAGNITUDE:
        save_tensors(weights, files["weights"], {"format": "pt"})
        formula = Formula(MAGNITUDE, {"weights": files["weights"]})
        document = certify_formula(formula, certificate, keep=tree, mask=files["mask"])
    else:
        save_scores(scores, files["scores"])
        document = certify_files(
            files["scores"], certificate, keep=tree, mask=files["mask"], criterion=criterion
        )
    claim, evidence = document["claim"], document["evidence"]
    exchanged = 0
    if evidence["best"] is not None:
        best = mask_files.load(certificate.with_name(evidence["best"]["file"]))
        exchanged = sum(int((m & ~best[n]).count_nonzero()) for n, m in masks.items())
    regret = Fraction(int(claim["gap"]["numerator"]), int(claim["gap"]["denominator"]))
    ties = None
    if not regret:
        ties = LOWER if claim["tie_rule"] == "lower-index" else "kept in another order"
        ties = NO_TIES if claim["unique"] else ties
    return Judgement(
        criterion,
        scope,
        " and ".join(sorted({str(w.dtype).removeprefix("torch.") for w in weights.values()})),
        regret,
        sum(float(each.double().sum()) for each in scores.values()),
        exchanged,
        ties,
        None,
        certificate,
    )


def _optimal(criterion: str, name: str, weights: Tensor, mask: Tensor, tree: Node) -> bool:
    return optimality({name: _scores(criterion, weights)}, {name: mask}, tree=tree).holds


def _scores(criterion: str, weights: Tensor) -> Tensor:
    if criterion == MAGNITUDE:
        return weights.abs()
    return weights.double() ** 2  # exact for weights of up to 32 bits


def _counted(
    judged: Judgement, scores: Tensor, mask: Tensor, pattern: Pattern, ratio: Fraction | None
) -> Judgement:
    """The judgement with a phrase of how the number of pruned weights was rounded."""
    ties, total, kept = 0, mask.numel(), int(mask.count_nonzero())
    if pattern.keep and not pattern.kind.startswith("at most"):
        total, kept = pattern.length, pattern.keep
    elif judged.ties == NO_TIES:
        ties = int((scores[~mask] == scores[~mask].max()).count_nonzero())
    return replace(judged, count=rounding(total - kept, total, ties, ratio))
