"""Certificates to check: a kind of claim about a set of scores, written by numpy."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

STEP = 2.0**-10  # costs are multiples of it, so that their sum in int64 is exact


@dataclass(frozen=True)
class Claim:
    """What a certificate claims of a set of scores.

    Attributes:
        says: the claim in words.
        length: of the runs, of which each keeps exactly half; 0: a row; None: no runs.
        near: all scores lie close together.
        region: there are costs, and a radius.
    """

    says: str
    length: int | None = None
    near: bool = False
    region: bool = False


PLAIN = "a tree of tensors"
CLAIMS: Mapping[str, Claim] = {
    PLAIN: Claim("the best mask with so many ones, a fifth of all"),
    "scores near the threshold": Claim("the same of scores within 1e-6", near=True),
    "rows": Claim("the best mask that keeps half of each row", length=0),
    "2:4": Claim("the best mask that keeps 2 of each 4", length=4),
    "a radius": Claim("a fifth of all, and the removed cost is the radius", region=True),
}


def write(scores: Mapping[str, Tensor], claim: Claim, folder: Path) -> tuple[Path, list[Path]]:
    """Write the certificate of the best mask, with its files, to an empty folder; return all."""
    if claim.near:
        scores = {name: 0.5 + 1e-7 * values.tanh() for name, values in scores.items()}
    ranks = {name: values.double() for name, values in scores.items()}
    files, costs = {"scores": scores}, {}
    if claim.region:
        costs = {name: (values.abs() / STEP).round() * STEP for name, values in scores.items()}
        ranks = {name: costs[name].double() + ranks[name] for name in ranks}
        files["cost"] = {name: costs[name].to(scores[name].dtype) for name in costs}
    mask = _best(ranks, claim)
    counts = {name: int(kept.sum()) for name, kept in mask.items()}
    for role, tensors in files.items():
        save_file(dict(tensors), folder / f"{role}.safetensors")
    shapes = {name: list(values.shape) for name, values in scores.items()}
    packed = {
        name: torch.from_numpy(np.packbits(kept.reshape(-1), bitorder="little"))
        for name, kept in mask.items()
    }
    about = {"format": "pins-mask", "version": "1", "shapes": json.dumps(shapes)}
    save_file(packed, folder / "mask.safetensors", about)
    removed = sum(
        int((costs[name].double() / STEP).long()[torch.from_numpy(~mask[name])].sum())
        for name in costs
    )
    stated: dict[str, Any] = {"best": None, "cost": None, "multiplier": None}
    for role in (*files, "mask"):
        with (folder / f"{role}.safetensors").open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        stated[role] = {"file": f"{role}.safetensors", "sha256": digest}
    if claim.region:
        stated["multiplier"] = (1.0).hex()
    dtype = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}
    radius = removed * STEP
    top, bottom = radius.as_integer_ratio()
    document = {
        "format": "pins-certificate",
        "version": 4,
        "kind": "selection",
        "claim": {
            "total": sum(values.numel() for values in scores.values()),
            "keep": sum(counts.values()),
            "scope": [
                {"name": name, "shape": shapes[name], "dtype": dtype[values.dtype]}
                for name, values in scores.items()
            ],
            "tree": [_leaf(name, values, claim) for name, values in scores.items()],
            "frozen": {"zeros": None, "fixed": None},
            "criterion": None,
            "tie_rule": "none",
            "unique": None,
            "radius": {"numerator": str(top), "denominator": str(bottom)} if costs else None,
            "gap": {"numerator": "0", "denominator": "1"},
        },
        "evidence": {"counts": list(counts.values()), **stated},
        "provenance": {"made_by": "benchmarks.checker"},
    }
    certificate = folder / "certificate.json"
    certificate.write_text(json.dumps(document), encoding="utf-8")
    return certificate, [folder / f"{role}.safetensors" for role in (*files, "mask")]


def _length(values: Tensor, claim: Claim) -> int | None:
    """The length of the runs of a tensor."""
    return values.shape[-1] if claim.length == 0 else claim.length


def _leaf(name: str, values: Tensor, claim: Claim) -> dict[str, Any]:
    """The tensor's node."""
    length, bounds = _length(values, claim), {"minimum": 0, "maximum": values.numel()}
    runs = []
    if length:
        runs = [{"length": length, "minimum": length // 2, "maximum": length // 2}]
    return {"tensor": name, **bounds, "transposed": False, "runs": runs}


def _best(ranks: Mapping[str, Tensor], claim: Claim) -> dict[str, Any]:
    """Of each tensor which weights the best mask keeps; of equal ones the first."""
    if claim.length is None:
        flat = torch.cat([values.reshape(-1) for values in ranks.values()])
        order = np.argsort(-flat.numpy(), kind="stable")
        kept = np.zeros(flat.numel(), bool)
        kept[order[: flat.numel() // 5]] = True
        sizes = [values.numel() for values in ranks.values()]
        parts = np.split(kept, np.cumsum(sizes)[:-1])
        named = zip(ranks.items(), parts, strict=True)
        return {name: part.reshape(tuple(values.shape)) for (name, values), part in named}
    found = {}
    for name, values in ranks.items():
        length = _length(values, claim) or 1
        runs = values.numpy().reshape(-1, length)
        kept = np.zeros(runs.shape, bool)
        best = np.argsort(-runs, axis=1, kind="stable")[:, : length // 2]
        np.put_along_axis(kept, best, True, axis=1)
        found[name] = kept.reshape(tuple(values.shape))
    return found
