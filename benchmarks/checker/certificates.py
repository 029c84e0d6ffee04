"""Certificates to check: a kind of claim about a set of scores."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from pins import masks
from pins.importance.trust_region.program import Terms
from pins.selection.constraints import Cardinality, Constraint, NofM, Rows
from pins.selection.select import select, tree_of
from verification.certificates.gap import exact_scores
from verification.certificates.selection import certify, save_scores
from verification.certificates.trust_region import TrustRegion

KEPT_ONE_IN = 5


@dataclass(frozen=True)
class Claim:
    """What a certificate claims of a set of scores.

    Attributes:
        says: the claim in words.
        constraint: the competing masks; None: all with a fifth of the weights.
        near: all scores lie close together.
        region: there are costs, and a radius.
    """

    says: str
    constraint: Callable[[], Constraint] | None = None
    near: bool = False
    region: bool = False


PLAIN = "a tree of tensors"
CLAIMS: Mapping[str, Claim] = {
    PLAIN: Claim("the best mask with so many ones, a fifth of all"),
    "scores near the threshold": Claim("the same of scores within 1e-6", near=True),
    "rows": Claim("the best mask that keeps half of each row", lambda: Rows(0.5)),
    "2:4": Claim("the best mask that keeps 2 of each 4", lambda: NofM(2, 4)),
    "a radius": Claim("a fifth of all, and the removed cost is the radius", region=True),
}


def write(scores: Mapping[str, Tensor], claim: Claim, folder: Path) -> tuple[Path, list[Path]]:
    """Write the certificate of the best mask, with its files, to an empty folder; return all."""
    if claim.near:
        scores = {name: 0.5 + 1e-7 * values.tanh() for name, values in scores.items()}
    files = {role: folder / f"{role}.safetensors" for role in ("scores", "mask")}
    total = sum(values.numel() for values in scores.values())
    asked = claim.constraint() if claim.constraint else Cardinality(total // KEPT_ONE_IN)
    tree, ranks, region = tree_of(asked, scores), scores, None
    if claim.region:
        files["cost"] = folder / "cost.safetensors"
        costs = {name: values.abs() for name, values in scores.items()}
        save_scores(costs, files["cost"])
        region = TrustRegion(costs, files["cost"], 1.0)
        ranks = exact_scores({name: Terms(s, costs[name]) for name, s in scores.items()}, 1.0)
    best = select(ranks, tree)
    save_scores(scores, files["scores"])
    masks.save(best, files["mask"])
    certify(
        scores,
        best,
        certificate=folder / "certificate.json",
        scores_file=files["scores"],
        mask_file=files["mask"],
        constraint=tree,
        region=region,
    )
    return folder / "certificate.json", [*files.values()]
