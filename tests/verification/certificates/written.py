"""Certificates as the writer makes them, in one folder in memory, and what both checkers say."""

import json
from collections.abc import Mapping, Sequence
from fractions import Fraction
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pins import masks as masks_module
from pins.masks import count_each
from pins.selection.constraints import Constraint
from pins.selection.transposable.constraint import TransposableNofM
from pins.selection.tree import Node
from pins.utils.io import sha256, write_json
from tests.verification.certificate_cases import scratch_folder
from verification import checker
from verification.certificates import fast_checker
from verification.certificates.selection import certify, save_scores
from verification.certificates.trust_region import TrustRegion
from verification.checker import Outcome

Named = Mapping[str, Tensor]


def write(
    scores: Named,
    masks: Named,
    constraint: Constraint | Node | TransposableNofM | None = None,
    *,
    costs: Named | None = None,
    multiplier: float = 1.0,
    radius: Fraction | None = None,
) -> dict[str, Any]:
    """The certificate of a mask, with its files in a folder that is otherwise empty."""
    folder = cleared()
    files = {role: folder / f"{role}.safetensors" for role in ("scores", "mask", "cost")}
    save_scores(scores, files["scores"])
    masks_module.save(masks, files["mask"])
    region = None
    if costs is not None:
        save_scores(costs, files["cost"])
        region = TrustRegion(costs, files["cost"], multiplier, radius)
    return certify(
        scores,
        masks,
        certificate=folder / "certificate.json",
        scores_file=files["scores"],
        mask_file=files["mask"],
        constraint=constraint,
        region=region,
    )


def cleared() -> Path:
    """The folder, empty."""
    folder = scratch_folder() / "written"
    folder.mkdir(exist_ok=True)
    for file in folder.iterdir():
        file.unlink()
    return folder


def outcome(certificate: Path | None = None) -> Outcome:
    """The verdict on a certificate, in which both checkers agree word by word."""
    path = certificate or scratch_folder() / "written" / "certificate.json"
    verdict = checker.check(path)
    assert fast_checker.check(path) == verdict
    assert verdict.outcome is not Outcome.UNREADABLE, verdict.message
    return verdict.outcome


def proved(certificate: Path | None = None) -> bool:
    """Whether both checkers prove it."""
    return outcome(certificate) is Outcome.PROVED


def replace_mask(document: dict[str, Any], masks: Named) -> None:
    """Forge: another mask, with its true digest and numbers of ones."""
    folder = scratch_folder() / "written"
    masks_module.save(masks, folder / "mask.safetensors")
    document["evidence"]["mask"]["sha256"] = sha256(folder / "mask.safetensors")
    kept = count_each(masks)
    scope = [tensor["name"] for tensor in document["claim"]["scope"]]
    each = prod(document["claim"]["block"])
    document["evidence"]["counts"] = [kept[name].kept // each for name in scope]
    write_json(document, folder / "certificate.json")


def rational(parts: Mapping[str, str]) -> Fraction:
    """A fraction as a certificate states it."""
    return Fraction(int(parts["numerator"]), int(parts["denominator"]))


def names(folder: Path) -> list[str]:
    """The files of a folder."""
    return sorted(file.name for file in folder.iterdir())


def read(path: Path) -> Any:
    """A certificate."""
    return json.loads(path.read_text(encoding="utf-8"))


def mask_of(scores: Named, kept: Sequence[int]) -> dict[str, Tensor]:
    """The mask that keeps these flat indices."""
    bits = torch.zeros(sum(s.numel() for s in scores.values()), dtype=torch.bool)
    bits[list(kept)] = True
    parts = torch.split(bits, [s.numel() for s in scores.values()])
    return {n: part.reshape(scores[n].shape) for n, part in zip(scores, parts, strict=True)}
