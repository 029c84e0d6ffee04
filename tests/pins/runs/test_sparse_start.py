"""`pins prune` from a model that is sparse: its zeros stay, resumed or not, and are proved."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

pytest.importorskip("transformers", reason="runs load transformers models")

from transformers import BertModel

from pins import masks
from pins.errors import CardinalityError, CheckpointError, SettingError
from pins.models.parameters import prunable_parameters
from pins.runs.export import finish
from pins.runs.run import Run
from pins.runs.settings import Settings
from pins.selection.constraints import keep_count
from tests.pins.runs.tiny_runs import same, save_model, settings, take, weights
from verification.certificates.run import certify_run
from verification.checker import Outcome, check
from verification.experiments.run_reader import RunData

VARIANTS: dict[str, dict[str, Any]] = {
    "averages": {"smoothing": "uncertainty"},
    "trust region": {"criterion": "trust-region", "smoothing": None, "radius": 4.0},
}
FAST = {"evaluate_every": 12, "checkpoint_every": 6}


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose weights to prune are half zero."""
    folder = save_model(tmp_path_factory.mktemp("half"))
    model = BertModel.from_pretrained(folder)
    found = prunable_parameters(model).parameters
    generator = torch.Generator().manual_seed(2)
    drawn = {n: torch.rand(w.shape, generator=generator) < 0.5 for n, w in found.items()}
    masks.apply(drawn, found)
    model.save_pretrained(folder)
    return folder


def zeros(folder: Path) -> dict[str, torch.Tensor]:
    """Where the weights to prune are zero, by a name without the model's prefix."""
    found = load_file(folder / "model.safetensors")
    linear = {name: weight for name, weight in found.items() if "layer." in name}
    return {n.removeprefix("bert."): w == 0 for n, w in linear.items() if w.dim() == 2}


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_zeros_stay_are_proved_and_a_resumed_run_is_the_same(
    variant: str, half: Path, data: Path, tmp_path: Path
) -> None:
    wanted = settings(half, data, **FAST, **VARIANTS[variant])
    run = take(Run(wanted, tmp_path / "whole"))
    take(Run(wanted, tmp_path / "cut"), 7)
    resumed = take(Run(wanted, tmp_path / "cut", resume=True))
    assert same(weights(run), weights(resumed))
    assert run.history == resumed.history
    pruner, total = run.training.pruner, run.training.pruner.total
    first = run.history.decisions[0]
    assert total - pruner.start.zeros >= first["keep"] > keep_count(0.8, total)
    assert (first["revived"], first["pruned"]) == (0, total - pruner.start.zeros - first["keep"])

    facts = finish(run, certify_run)
    assert facts["start"] == {"zeros": pruner.start.zeros, "total": total}
    assert pruner.start.zeros > 0.4 * total
    assert facts["costs"]["weights"]["kept"] == keep_count(0.8, total)
    found, before = zeros(tmp_path / "whole"), zeros(half)
    assert all(bool(found[name].ge(before[name]).all()) for name in before)
    verdict = check(tmp_path / "whole" / "certificate.json")
    assert verdict.outcome is Outcome.PROVED, verdict
    card = (tmp_path / "whole" / "README.md").read_text()
    assert f"{pruner.start.zeros:,} prunable weights were zero at the start and stayed" in card
    read = RunData(tmp_path / "whole")
    assert read.start == pruner.start.sparsity
    assert min(read.curve["scores"]) > -1e9  # the lowest number is no score of a weight
    assert read.curve["total"] == total - pruner.start.zeros


def test_a_sparser_result_is_a_start_too_and_zeros_come_back_only_if_asked_for(
    half: Path, data: Path, tmp_path: Path
) -> None:
    below = settings(half, data, sparsity=0.3, warmup=0)
    with pytest.raises(CardinalityError, match=r"give a sparsity of at least 0\.\d{6}, or rev"):
        Run(below, tmp_path / "below")
    revived = Run(
        settings(half, data, **FAST, sparsity=0.3, revive_zeros=True), tmp_path / "revived"
    )
    facts = finish(take(revived))
    assert facts["start"]["zeros"] == 0
    assert facts["costs"]["weights"]["kept"] == keep_count(0.3, revived.training.pruner.total)
    card = (tmp_path / "revived" / "README.md").read_text()
    assert "- revive zeros: yes\n" in card
    assert "zero at the start" not in card
    sparser = settings(tmp_path / "revived", data, **FAST, sparsity=0.6)
    with pytest.warns(UserWarning, match="stay so"):  # pruning has left whole tensors of zeros
        again = Run(sparser, tmp_path / "again")
    finish(take(again))
    first, second = zeros(tmp_path / "revived"), zeros(tmp_path / "again")
    assert all(bool(second[name].ge(zero).all()) for name, zero in first.items())
    decisions = json.loads((tmp_path / "again" / "run.json").read_text())["decisions"]
    assert decisions[0]["sparsity"] >= 0.3
    assert decisions[-1]["sparsity"] == pytest.approx(0.6, abs=1e-3)


def test_the_choice_is_one_of_the_run(half: Path, data: Path, tmp_path: Path) -> None:
    take(Run(settings(half, data), tmp_path / "out"), 3)
    with pytest.raises(CheckpointError, match="its revive_zeros is false, this run's is true"):
        Run(settings(half, data, revive_zeros=True), tmp_path / "out", resume=True)
    with pytest.raises(SettingError, match="revives zeros by its quirk 'dense_start': leave reviv"):
        Settings(criterion="authors", revive_zeros=True)
