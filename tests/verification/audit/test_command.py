"""`pins audit`: 0 audited, 1 a claim is false, 2 the models cannot be read or do not fit."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from pins.models.sparse_bitmask import described
from pins.models.weight_files import WEIGHTS
from tests.commands import Command
from tests.verification.audit.models import largest_of_rows, llama, prunable, save_model

CLAIMED = {"targets": ["Linear"], "ignore": ["lm_head"]}


@pytest.fixture
def models(tmp_path: Path) -> tuple[Path, Path]:
    """A dense model, and one with half of each row."""
    dense = llama(layers=1)
    sparse = {
        n: t * largest_of_rows(t, t.shape[1] // 2) if prunable(n, t) else t
        for n, t in dense.items()
    }
    return save_model(tmp_path / "dense", dense), save_model(tmp_path / "sparse", sparse)


def claim(folder: Path, **said: Any) -> None:
    config = described({"model_type": "llama"}, [])
    config["quantization_config"]["sparsity_config"] |= CLAIMED | said
    (folder / "config.json").write_text(json.dumps(config))


def test_an_audit_prints_what_it_found(
    pins: Command, models: tuple[Path, Path], tmp_path: Path
) -> None:
    dense, sparse = models
    claim(sparse, global_sparsity=0.5)
    arguments = ("audit", "--dense", dense, "--sparse", sparse, "--out", tmp_path / "out")
    code, out, _ = pins(*arguments)
    assert code == 0
    for words in (
        "100.00% of the weights, 9 matrices",
        "7 matrices: 960 of 1,920 weights are kept",
        "8 of 16 in each row, in 6 matrices",
        "12 of 24 in each row, in 1 matrices",
        "magnitude by row: an optimum, in 7 matrices",
        "sparsity_config.global_sparsity is 0.5: true, found 0.5",
        "no kept weight is changed",
        str(tmp_path / "out" / "audit.json"),
    ):
        assert words in out, words
    code, out, _ = pins(*arguments, "--json")  # goes on after the last tensor
    document = json.loads(out)
    assert code == 0
    assert document.pop("folder") == str(tmp_path / "out")
    assert document == json.loads((tmp_path / "out" / "audit.json").read_text())


def test_a_false_claim_is_exit_code_1(
    pins: Command, models: tuple[Path, Path], tmp_path: Path
) -> None:
    dense, sparse = models
    claim(sparse, global_sparsity=0.7)
    code, out, _ = pins("audit", "--dense", dense, "--sparse", sparse, "--out", tmp_path / "out")
    assert code == 1
    assert "sparsity_config.global_sparsity is 0.7: FALSE, found 0.5" in out


def test_what_cannot_be_audited_is_exit_code_2_and_one_line(
    pins: Command, models: tuple[Path, Path], tmp_path: Path
) -> None:
    dense, sparse = models
    other = save_model(tmp_path / "other", {"x.weight": torch.ones(4, 4)})
    for model, message in (
        (other, "only 0.0% of the weights have a partner"),
        (tmp_path, "holds no model.safetensors"),
    ):
        code, out, err = pins("audit", "--dense", dense, "--sparse", model, "--out", tmp_path / "o")
        assert (code, out) == (2, "")
        assert message in err
        assert err.count("\n") == 1
        assert not (tmp_path / "o").exists()
    broken = (sparse / WEIGHTS).read_bytes()
    (sparse / WEIGHTS).write_bytes(broken[:-3])
    code, _, err = pins("audit", "--dense", dense, "--sparse", sparse, "--out", tmp_path / "o")
    assert code == 2
    assert "is not a whole safetensors file" in err
