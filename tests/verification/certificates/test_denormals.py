"""No proof is made in a process that flushes denormals."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from pins.errors import CertificateError
from pins.importance.trust_region.program import Terms
from pins.selection.constraints import Cardinality
from pins.selection.select import tree_of
from tests.flushing import flushing
from verification.certificates.from_files import certify_files
from verification.certificates.gap import trust_region_gap
from verification.certificates.regret import regret
from verification.certificates.selection import certify
from verification.certificates.trust_region import TrustRegion

SCORES = torch.tensor([1e-310, 2e-310], dtype=torch.float64)
MASK = torch.tensor([True, False])


def test_no_proof_is_made_where_denormals_are_flushed(tmp_path: Path) -> None:
    scores, out = tmp_path / "scores.safetensors", tmp_path / "certificate.json"
    save_file({"w": SCORES}, scores)
    terms, tree = {"w": Terms(SCORES, SCORES)}, tree_of(Cardinality(1), {"w": SCORES})
    region = TrustRegion({"w": SCORES}, scores, 1.0)
    files: Any = {"certificate": out, "scores_file": scores, "mask_file": scores}
    calls: list[Callable[[], object]] = [
        lambda: certify_files(scores, out, keep=1),
        lambda: certify_files(scores, out, keep=2),
        lambda: certify_files(scores, out, keep=1, cost=scores, multiplier=1.0),
        lambda: certify({"w": SCORES}, {"w": MASK}, **files),
        lambda: certify({"w": SCORES}, {"w": MASK}, region=region, **files),
        lambda: regret({"w": SCORES}, {"w": MASK}),
        lambda: trust_region_gap(terms, {"w": MASK}, 1.0, tree),
    ]
    with flushing():
        for call in calls:
            with pytest.raises(CertificateError, match=r"could not be decided: .* in another proc"):
                call()
    assert [file.name for file in tmp_path.iterdir()] == ["scores.safetensors"]
    # The negative control: elsewhere the same calls are right.
    loss = Fraction(2e-310) - Fraction(1e-310)
    assert regret({"w": SCORES}, {"w": MASK}).exact == loss
    assert trust_region_gap(terms, {"w": MASK}, 1.0, tree).gap == 2 * loss
    assert certify_files(scores, out, keep=1)["claim"]["unique"] is True
