"""A real language model pruned from end to end, where its package is installed."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pins.models import smollm2
from verification.checker import Outcome, check

pytestmark = [pytest.mark.model, pytest.mark.slow]


def test_smollm2_is_pruned_in_less_memory_than_its_weights_take_and_loads(tmp_path: Path) -> None:
    if importlib.util.find_spec(smollm2.PACKAGE) is None:
        pytest.skip("the model smollm2 is not installed: make model")
    transformers = pytest.importorskip("transformers")
    out = tmp_path / "pruned"
    command = [
        sys.executable, "-m", "pins", "oneshot", f"--model={smollm2.NAME}", "--pattern=2:4",
        "--length=64", "--calibration=2", "--test-windows=2", f"--out={out}", "--device=cpu",
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    facts = json.loads((out / "run.json").read_text())
    assert facts["weights"] == {"kept": 53_084_160, "prunable": 106_168_320}
    assert facts["perplexity"]["dense"] < facts["perplexity"]["sparse"]
    assert len(facts["certificates"]) == 30
    for certificate in [*facts["certificates"].values()][::15]:
        assert check(out / certificate).outcome is Outcome.PROVED
    assert "Q4_1" in (out / "README.md").read_text()
    model = transformers.AutoModelForCausalLM.from_pretrained(out)
    pruned = [
        p for p in model.parameters() if p.dim() == 2 and float((p == 0).float().mean()) > 0.4
    ]
    assert len(pruned) == 7 * 30
    assert all(bool((p.view(len(p), -1, 4) == 0).sum(2).ge(2).all()) for p in pruned)
    with torch.no_grad():
        assert model(torch.tensor([[1, 2, 3]])).logits.isfinite().all()
