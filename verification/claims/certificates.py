"""The checker accepts a certificate iff its claim is true: true and forged certificates."""

import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from pins import masks as masks_module
from pins.masks import count, count_each
from pins.selection.tree import Node
from pins.utils.io import sha256, write_json
from verification import checker
from verification.certificates.from_files import certify_files
from verification.certificates.selection import save_scores
from verification.claims.claim import Claim, Finding, Setting, search
from verification.laws import flat
from verification.testing.random_trees import random_trees
from verification.testing.synthetic_scores import FAMILIES

KEEP = 30
Judge = Callable[[Path], bool]


def by_the_checker(certificate: Path) -> bool:
    """True if the standalone checker proves the claim."""
    return checker.check(certificate).outcome is checker.Outcome.PROVED


def by_digests_and_counts(certificate: Path) -> bool:
    """The rival of the control: checks the digests and the number of ones only."""
    document = json.loads(certificate.read_text(encoding="utf-8"))
    evidence = document["evidence"]
    files = {role: certificate.parent / evidence[role]["file"] for role in ("scores", "mask")}
    kept = count(masks_module.load(files["mask"])).kept
    return kept == document["claim"]["keep"] and all(
        sha256(file) == evidence[role]["sha256"] for role, file in files.items()
    )


def accepted_iff_true(setting: Setting, judge: Judge) -> Finding:
    """Certify the optimum; then exchange two weights of the mask and forge the evidence."""
    rng, wrong, cases = setting.rng(), [], 0
    for name, family in FAMILIES.items():
        for _ in range(setting.pick(2, 20)):
            scores = {"a": family(rng, 60).reshape(6, 10), "b": family(rng, 17)}
            allowed: list[int | Node] = [KEEP, *random_trees(rng, scores)]
            for keep in allowed:
                with tempfile.TemporaryDirectory() as folder:
                    certificate = Path(folder) / "cert.json"
                    save_scores(scores, scores_file := certificate.with_name("scores.safetensors"))
                    certify_files(scores_file, certificate, keep=keep)
                    if not judge(certificate):
                        wrong.append(f"{name}: a true claim is not accepted")
                    forge(certificate, scores)
                    if judge(certificate):
                        wrong.append(f"{name}: a forged claim is accepted")
                cases += 2
    return search(f"{cases} certificates, half of them forged", wrong, certificates=cases)


def exchange_extremes(scores: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> None:
    """Prune the largest kept score and keep the smallest pruned one, in place."""
    values, mask = flat(scores), flat(masks)
    largest = torch.where(mask, values, -torch.inf).argmax()
    smallest = torch.where(mask, torch.inf, values).argmin()
    mask[largest], mask[smallest] = False, True
    parts = torch.split(mask, [m.numel() for m in masks.values()])
    for old, new in zip(masks.values(), parts, strict=True):
        old.copy_(new.reshape(old.shape))


def forge(certificate: Path, scores: Mapping[str, Tensor]) -> None:
    """Exchange two weights in the mask, and state its new digest and counts."""
    document = json.loads(certificate.read_text(encoding="utf-8"))
    evidence = document["evidence"]
    mask_file = certificate.parent / evidence["mask"]["file"]
    masks = masks_module.load(mask_file)
    exchange_extremes(scores, masks)
    masks_module.save(masks, mask_file)
    evidence["mask"]["sha256"] = sha256(mask_file)
    kept = count_each(masks)
    evidence["counts"] = [kept[tensor["name"]].kept for tensor in document["claim"]["scope"]]
    write_json(document, certificate)


CLAIMS = (
    Claim(
        id="certificate-sound",
        statement="The standalone checker accepts a true certificate and refutes a forged one.",
        scope="77 weights, five families of scores, with and without bounds inside the model; one "
        "pair exchanged, digest and counts forged",
        source="Theorem 6; verification/CERTIFICATE.md",
        check=lambda setting: accepted_iff_true(setting, by_the_checker),
        control_statement="so does a checker of digests and counts alone",
        control=lambda setting: accepted_iff_true(setting, by_digests_and_counts),
    ),
)
