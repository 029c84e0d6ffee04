"""Sparse decoders as tools leave them: torch.nn.utils.prune, and our own engine in both forms."""

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch.nn.utils.prune as torch_prune
from torch import nn

from pins.oneshot.settings import Settings
from tests.pins.oneshot.runs import run
from tests.pins.oneshot.tiny_decoders import network, save_decoder, save_text
from tests.verification.audit.models import audited

pytest.importorskip("transformers")


@cache
def decoder(folder: Path) -> Path:
    return save_decoder(folder)


@pytest.fixture
def dense(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return decoder(tmp_path_factory.getbasetemp() / "audited-decoder")


@pytest.mark.parametrize("removed", [False, True])
@pytest.mark.parametrize("method", ["l1_unstructured", "global_unstructured"])
def test_masks_of_torch_are_recognised_before_and_after_remove(
    dense: Path, tmp_path: Path, removed: bool, method: str
) -> None:
    model = network("Llama")
    layers = [
        m for n, m in model.named_modules() if isinstance(m, nn.Linear) and "lm_head" not in n
    ]
    if method == "l1_unstructured":
        for layer in layers:
            torch_prune.l1_unstructured(layer, "weight", amount=0.3)  # type: ignore[no-untyped-call]
    else:
        torch_prune.global_unstructured(
            [(layer, "weight") for layer in layers], torch_prune.L1Unstructured, amount=0.3
        )
    if removed:
        for layer in layers:
            torch_prune.remove(layer, "weight")  # type: ignore[no-untyped-call]
    model.save_pretrained(tmp_path / "sparse")
    document = audited(dense, tmp_path / "sparse")
    pruned = [each for each in document["layers"] if each["pruned"]]
    assert len(pruned) == len(layers)
    assert {each["form"] for each in pruned} == {"dense" if removed else "torch.nn.utils.prune"}
    assert document["unmatched"]["sparse"] == []
    for each in pruned:
        [criterion] = each["criteria"]
        assert (criterion["scope"], criterion["optimal"]) == ("tensor", True)
    [whole] = document["criteria"]
    assert whole["optimal"] == (method == "global_unstructured")
    if method == "l1_unstructured":
        assert "30 % of 384, to the nearest number" in {e["criteria"][0]["count"] for e in pruned}


HALF = "8 of 16 in each row"
PAIRS = "2:4 along the inputs"


@pytest.mark.parametrize(
    ("asked", "pattern", "optimal"),
    [
        ({"method": "magnitude", "sparsity": 0.5}, HALF, True),
        ({"method": "wanda", "sparsity": 0.5, "format": "sparse-bitmask"}, HALF, False),
        ({"method": "sparsegpt", "pattern": "2:4", "sparsity": None}, PAIRS, False),
    ],
)
def test_runs_of_our_own_engine_are_what_they_claim(
    dense: Path, tmp_path: Path, asked: dict[str, Any], pattern: str, optimal: bool
) -> None:
    text = save_text(tmp_path / "text.txt")
    settings = Settings(
        model=str(dense), task="text", data=text, length=12, calibration=4, test_windows=2, **asked
    )
    run(settings, tmp_path / "sparse")
    document = audited(dense, tmp_path / "sparse")
    pruned = [each for each in document["layers"] if each["pruned"]]
    assert len(pruned) == 14
    assert pattern in {each["pattern"]["name"] for each in pruned}
    assert all(each["pattern"]["holds"] for each in pruned)
    assert all(each["criteria"][0]["optimal"] for each in pruned) == optimal
    assert [claim["true"] for claim in document["claims"]] == [True, True]
    updated = asked["method"] == "sparsegpt"
    assert any(each["changed"] for each in pruned) == updated
    assert ("no kept weight is changed" in document["sentences"]) == (not updated)
