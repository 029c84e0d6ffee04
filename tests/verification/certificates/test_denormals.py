"""No proof is made in a process that flushes denormals."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from verification.certificates.certificate import certify, certify_files

from pins.errors import CertificateError
from pins.importance.trust_region.program import Terms
from tests.flushing import flushing
from verification.certificates.gap import trust_region_gap
from verification.certificates.regret import regret
from verification.certificates.trust_region import certify_region_files, certify_trust_region

SCORES = torch.tensor([1e-310, 2e-310], dtype=torch.float64)
MASK = torch.tensor([True, False])


def test_no_proof_is_made_where_denormals_are_flushed(tmp_path: Path) -> None:
    scores, out = tmp_path / "scores.safetensors", tmp_path / "certificate.json"
    save_file({"w": SCORES}, scores)
    terms = {"w": Terms(SCORES, SCORES)}
    files: Any = {"certificate": out, "scores_file": scores, "mask_file": scores}
    calls: list[Callable[[], object]] = [
        lambda: certify_files(scores, out, keep=1),
        lambda: certify_files(scores, out, keep=2),
        lambda: certify_region_files(scores, scores, out, keep=1, multiplier=1.0),
        lambda: certify({"w": SCORES}, {"w": MASK}, **files),
        lambda: certify_trust_region(terms, {"w": MASK}, 1.0, cost_file=scores, **files),
        lambda: regret({"w": SCORES}, {"w": MASK}),
        lambda: trust_region_gap(terms, {"w": MASK}, 1.0, 0.0),
    ]
    with flushing():
        for call in calls:
            with pytest.raises(CertificateError, match=r"could not be decided: .* in another proc"):
                call()
    assert [file.name for file in tmp_path.iterdir()] == ["scores.safetensors"]
    # The negative control: elsewhere the same calls are right.
    assert regret({"w": SCORES}, {"w": MASK}).exact == Fraction(2e-310) - Fraction(1e-310)
    assert certify_files(scores, out, keep=1)["evidence"]["lambda"] == (2e-310).hex()
