"""A certificate is accepted iff its claim is true: the checker against tampering."""

import tempfile
from pathlib import Path

import torch

from pins import masks as masks_module
from pins.selection import select
from verification import checker
from verification.certificate import certify, save_scores
from verification.claims.claim import Claim, Finding, Setting, search
from verification.score_families import FAMILIES


def accepted_iff_true(setting: Setting, *, expect_tampered: checker.Outcome) -> Finding:
    """Certify the optimum, then exchange one kept weight for a pruned one of lower score."""
    rng, wrong, cases = setting.rng(), [], 0
    for name, family in FAMILIES.items():
        for _ in range(setting.pick(2, 20)):
            scores = {"a": family(rng, 60).reshape(6, 10), "b": family(rng, 17)}
            masks = select(scores, 30)
            with tempfile.TemporaryDirectory() as folder:
                file = Path(folder) / "cert.json"
                scores_file, mask_file = (
                    file.with_name("s.safetensors"),
                    file.with_name("m.safetensors"),
                )
                save_scores(scores, scores_file)
                masks_module.save(masks, mask_file)
                certify(
                    scores, masks, certificate=file, scores_file=scores_file, mask_file=mask_file
                )
                honest = checker.check(file)
                masks["a"].view(-1)[_first(masks["a"], kept=True)] = False
                masks["b"][_first(masks["b"], kept=False)] = True
                masks_module.save(masks, mask_file)
                tampered = checker.check(file)
            cases += 2
            if honest.outcome is not checker.Outcome.PROVED:
                wrong.append(f"{name}: a true claim was {honest.message}")
            if tampered.outcome is not expect_tampered:
                wrong.append(f"{name}: an exchanged pair gave {tampered.message}")
    return search(f"{cases} certificates, half of them tampered with", wrong, certificates=cases)


def _first(mask: torch.Tensor, *, kept: bool) -> int:
    return int((mask.reshape(-1) == kept).nonzero()[0])


CLAIMS = (
    Claim(
        id="certificate-sound",
        statement="The standalone checker accepts a true certificate and refutes a tampered one.",
        scope="two tensors, 77 weights, five families of scores; one pair exchanged in the mask",
        source="Theorems 1 and 2; verification/CERTIFICATE.md",
        check=lambda setting: accepted_iff_true(setting, expect_tampered=checker.Outcome.REFUTED),
        control_statement="it accepts the tampered ones as well",
        control=lambda setting: accepted_iff_true(setting, expect_tampered=checker.Outcome.PROVED),
    ),
)
