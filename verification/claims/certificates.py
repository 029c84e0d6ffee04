"""A certificate is accepted iff its claim is true: the checker against a forger."""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from pins import masks as masks_module
from pins.masks import count, count_each
from pins.selection.select import select
from pins.utils.io import sha256, write_json
from verification import checker
from verification.certificates.certificate import certify, save_scores
from verification.claims.claim import Claim, Finding, Setting, search
from verification.testing.synthetic_scores import FAMILIES

KEEP = 30
Judge = Callable[[Path], bool]


def by_the_checker(certificate: Path) -> bool:
    """Whether the standalone checker calls the claim proved."""
    return checker.check(certificate).outcome is checker.Outcome.PROVED


def by_digests_and_counts(certificate: Path) -> bool:
    """The rival of the control: believes what has the right digests and the right count."""
    document = json.loads(certificate.read_text(encoding="utf-8"))
    evidence = document["evidence"]
    files = {role: certificate.parent / evidence[role]["file"] for role in ("scores", "mask")}
    kept = count(masks_module.load(files["mask"])).kept
    return kept == document["claim"]["keep"] and all(
        sha256(file) == evidence[role]["sha256"] for role, file in files.items()
    )


def accepted_iff_true(setting: Setting, judge: Judge) -> Finding:
    """Certify the optimum; then exchange a kept weight for a pruned one and forge the evidence."""
    rng, wrong, cases = setting.rng(), [], 0
    for name, family in FAMILIES.items():
        for _ in range(setting.pick(2, 20)):
            scores = {"a": family(rng, 60).reshape(6, 10), "b": family(rng, 17)}
            masks = select(scores, KEEP)
            with tempfile.TemporaryDirectory() as folder:
                certificate = Path(folder) / "cert.json"
                scores_file = certificate.with_name("scores.safetensors")
                mask_file = certificate.with_name("mask.safetensors")
                save_scores(scores, scores_file)
                masks_module.save(masks, mask_file)
                certify(
                    scores,
                    masks,
                    certificate=certificate,
                    scores_file=scores_file,
                    mask_file=mask_file,
                )
                if not judge(certificate):
                    wrong.append(f"{name}: a true claim is not accepted")
                exchange_extremes(scores, masks)
                masks_module.save(masks, mask_file)
                forge(certificate, mask_file, masks)
                if judge(certificate):
                    wrong.append(f"{name}: a forged claim is accepted")
            cases += 2
    return search(f"{cases} certificates, half of them forged", wrong, certificates=cases)


def exchange_extremes(scores: dict[str, Tensor], masks: dict[str, Tensor]) -> None:
    """Prune the largest kept score and keep the smallest pruned one, in place."""
    flat = torch.cat([s.reshape(-1) for s in scores.values()])
    mask = torch.cat([m.reshape(-1) for m in masks.values()])
    largest = torch.where(mask, flat, -torch.inf).argmax()
    smallest = torch.where(mask, torch.inf, flat).argmin()
    mask[largest], mask[smallest] = False, True
    parts = torch.split(mask, [m.numel() for m in masks.values()])
    for name, part in zip(list(masks), parts, strict=True):
        masks[name] = part.reshape(masks[name].shape)


def forge(certificate: Path, mask_file: Path, masks: dict[str, Tensor]) -> None:
    """Give the certificate the digest and the counts of the mask that now lies beside it."""
    document = json.loads(certificate.read_text(encoding="utf-8"))
    document["evidence"]["mask"]["sha256"] = sha256(mask_file)
    document["evidence"]["counts"] = [each.kept for each in count_each(masks).values()]
    write_json(document, certificate)


CLAIMS = (
    Claim(
        id="certificate-sound",
        statement="The standalone checker accepts a true certificate and refutes a forged one.",
        scope="77 weights, five families of scores; one pair exchanged, digest and counts forged",
        source="Theorems 1 and 2; verification/CERTIFICATE.md",
        check=lambda setting: accepted_iff_true(setting, by_the_checker),
        control_statement="so does a checker of digests and counts alone",
        control=lambda setting: accepted_iff_true(setting, by_digests_and_counts),
    ),
)
