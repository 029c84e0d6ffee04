"""Certificates to check: a kind of claim about a set of scores."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from pins.selection.blocks import Blocks
from pins.selection.constraints import Constraint, NofM, Rows
from pins.selection.transposable.constraint import TransposableNofM
from verification.certificates.document import beside
from verification.certificates.from_files import certify_files
from verification.certificates.selection import save_scores

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
    constraint: Callable[[], Constraint | TransposableNofM] | None = None
    near: bool = False
    region: bool = False


PLAIN = "a tree of tensors"
CLAIMS: Mapping[str, Claim] = {
    PLAIN: Claim("the best mask with so many ones, a fifth of all"),
    "scores near the threshold": Claim("the same of scores within 1e-6", near=True),
    "rows": Claim("the best mask that keeps half of each row", lambda: Rows(0.5)),
    "2:4": Claim("the best mask that keeps 2 of each 4", lambda: NofM(2, 4)),
    "blocks": Claim(
        "the best mask of half of the 1 × 4 blocks of each row", lambda: Blocks((1, 4), Rows(0.5))
    ),
    "squares": Claim(
        "the best mask that is 8:16 in rows and columns",
        lambda: TransposableNofM(8, 16, skip_indivisible=True),
    ),
    "a radius": Claim("a fifth of all, and the removed cost is the radius", region=True),
}


def write(scores: Mapping[str, Tensor], claim: Claim, folder: Path) -> tuple[Path, list[Path]]:
    """Write the certificate of the best mask, with its files, to an empty folder; return all."""
    if claim.near:
        scores = {name: 0.5 + 1e-7 * values.tanh() for name, values in scores.items()}
    certificate, file = folder / "certificate.json", folder / "scores.safetensors"
    save_scores(scores, file)
    cost = folder / "cost.safetensors" if claim.region else None
    if cost is not None:
        save_scores({name: values.abs() for name, values in scores.items()}, cost)
    total = sum(values.numel() for values in scores.values())
    certify_files(
        file,
        certificate,
        keep=claim.constraint() if claim.constraint else total // KEPT_ONE_IN,
        cost=cost,
        multiplier=1.0 if claim.region else None,
    )
    others = (beside(certificate, "potentials"), cost)
    named = [each for each in others if each is not None and each.is_file()]
    return certificate, [file, beside(certificate, "mask"), *named]
