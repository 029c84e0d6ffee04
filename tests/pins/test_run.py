"""A whole run: exactly sparse, judged, written, and gone on with bit for bit."""

import json
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from pins import masks
from pins.errors import CheckpointError, FileError, ModelError, ScheduleError, TaskError
from pins.outcome import finish, headline
from pins.run import Run, parts
from pins.schedules import keep_count
from tests.pins.networks import examples
from tests.pins.runs import save_data, save_model, settings

pytest.importorskip("transformers", reason="runs load transformers models")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_data(tmp_path_factory.mktemp("data"))


def weights(run: Run) -> dict[str, torch.Tensor]:
    return {name: t.clone() for name, t in run.pretrained.model.state_dict().items()}


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(
        torch.equal(tensor, second[name]) for name, tensor in first.items()
    )


def take(run: Run, steps: int | None = None) -> Run:
    for _ in islice(run.steps(), steps):
        pass
    return run


VARIANTS: dict[str, dict[str, Any]] = {
    "paper": {"smoothing": "uncertainty"},
    "signed": {"criterion": "pins", "smoothing": "none"},
    "obd": {"criterion": "obd", "smoothing": "none", "schedule": "linear"},
    "sensitivity": {"criterion": "sensitivity", "smoothing": "average"},
    "sgd": {"criterion": "movement", "optimizer": "sgd", "schedule": "one-shot"},
    "by tensor": {"scope": "tensor"},
    "minimum": {"criterion": "magnitude", "minimum_kept": 0.15, "sparsity": 0.84},
    "plain loss": {"self_regularization": False},
    "bfloat16": {"precision": "bfloat16"},
    "parts": {"accumulation": 3},
    "checkpointing": {"gradient_checkpointing": True},
    "authors": {"criterion": "authors"},
    "authors, mended": {"criterion": "authors", "without_quirks": ("dense_between", "biases")},
}


@pytest.mark.parametrize("name", VARIANTS)
def test_a_run_that_stopped_goes_on_bit_for_bit(
    name: str, model: Path, data: Path, tmp_path: Path
) -> None:
    wanted = settings(model, data, **VARIANTS[name])
    whole = take(Run(wanted, tmp_path / "whole"))
    take(Run(wanted, tmp_path / "cut"), 7)
    torch.rand(5)
    going_on = Run(wanted, tmp_path / "cut", resume=True)
    assert going_on.step == 6
    take(going_on)
    assert same(weights(whole), weights(going_on))
    assert same(whole.training.pruner.masks, going_on.training.pruner.masks)
    assert whole.record == going_on.record
    # and what stood in between was not the same already
    assert whole.record.evaluations[0]["loss"] != whole.record.evaluations[-1]["loss"]


@pytest.mark.parametrize("name", [name for name in VARIANTS if "authors" not in name])
def test_a_run_is_exactly_as_sparse_as_asked_for(
    name: str, model: Path, data: Path, tmp_path: Path
) -> None:
    wanted = settings(model, data, **VARIANTS[name])
    run = Run(wanted, tmp_path / "out")
    for moment in run.steps():
        assert moment.sparsity == run.training.pruner.sparsity
    pruner = run.training.pruner
    kept = masks.count(pruner.masks)
    share = [keep_count(wanted.sparsity, p.numel()) for p in pruner.parameters.values()]
    keep = sum(share) if wanted.scope == "tensor" else keep_count(wanted.sparsity, pruner.total)
    assert kept.kept == keep
    for tensor, mask in pruner.masks.items():
        assert not (pruner.parameters[tensor].detach()[~mask] != 0).any()
    if wanted.minimum_kept:
        floors = {n: -(-15 * p.numel() // 100) for n, p in pruner.parameters.items()}
        assert all(int(pruner.masks[n].sum()) >= floor for n, floor in floors.items())
        assert run.record.decisions[-1]["binding"]


@pytest.fixture(scope="module")
def finished(
    model: Path, data: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Run, dict[str, Any]]:
    out = tmp_path_factory.mktemp("finished") / "out"
    run = take(Run(settings(model, data, teacher=str(model)), out))
    return run, finish(run)


def test_transformers_alone_loads_the_result(finished: tuple[Run, dict[str, Any]]) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    run, _ = finished
    loaded = AutoModelForSequenceClassification.from_pretrained(run.out)
    AutoTokenizer.from_pretrained(run.out)
    assert same(weights(run), dict(loaded.state_dict()))
    mask = masks.load(run.out / "masks.safetensors")
    for name, parameter in loaded.named_parameters():
        if name in mask:
            assert not parameter.detach()[~mask[name]].any()


def test_everything_is_written_and_the_checkpoints_are_gone(
    finished: tuple[Run, dict[str, Any]],
) -> None:
    run, facts = finished
    assert json.loads((run.out / "run.json").read_text()) == json.loads(json.dumps(facts))
    names = {each.name for each in run.out.iterdir()}
    assert names >= {"README.md", "masks.safetensors", "packed.safetensors", "scores.safetensors"}
    assert not any(name.startswith(("checkpoints", ".")) for name in names)
    assert facts["scores"]["dense"].keys() == facts["scores"]["sparse"].keys()
    assert facts["settings"]["seed"] == 0
    assert facts["data"]
    assert "command" in facts
    assert any("exactly" in value for _, value in headline(facts))


def test_the_scores_on_file_are_those_of_the_final_decision(
    finished: tuple[Run, dict[str, Any]],
) -> None:
    run, _ = finished
    scores = load_file(run.out / "scores.safetensors")
    decision = run.training.pruner.decision
    assert decision is not None
    kept = torch.cat([scores[n][m] for n, m in decision.masks.items()])
    pruned = torch.cat([scores[n][~m] for n, m in decision.masks.items()])
    assert kept.min() >= pruned.max()
    assert same(masks.load(run.out / "masks.safetensors"), run.training.pruner.masks)


def test_the_teacher_follows_the_sparsity(model: Path, data: Path, tmp_path: Path) -> None:
    run = take(Run(settings(model, data), tmp_path / "out"))
    offered = run.record.evaluations
    sparser = [b for a, b in pairwise(offered) if b["sparsity"] > a["sparsity"]]
    assert sparser
    assert all(each["teacher"] for each in sparser)


def test_a_folder_in_use_is_left_alone(model: Path, data: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileError, match=r"holds files \(notes.txt …\): give another folder"):
        Run(settings(model, data), tmp_path)
    take(Run(settings(model, data), tmp_path / "out"), 3)
    with pytest.raises(FileError, match="holds a run that can go on with --resume"):
        Run(settings(model, data), tmp_path / "out")
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(FileError, match="is a file: give a folder"):
        Run(settings(model, data), file)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_run_without_a_checkpoint_starts_again(model: Path, data: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert Run(settings(model, data), tmp_path / "out", resume=True).step == 0
    assert Run(settings(model, data), tmp_path / "new", resume=True).step == 0


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({"sparsity": 0.5}, "sparsity"),
        ({"seed": 1}, "seed"),
        ({"criterion": "magnitude"}, "criterion"),
        ({"steps": 14}, "steps"),
        ({"self_regularization": False}, "self_regularization"),
    ],
)
def test_a_checkpoint_of_other_settings_is_refused(
    model: Path, data: Path, tmp_path: Path, changed: dict[str, Any], name: str
) -> None:
    take(Run(settings(model, data), tmp_path / "out"), 3)
    with pytest.raises(CheckpointError, match=f"is of another run: its {name} is"):
        Run(settings(model, data, **changed), tmp_path / "out", resume=True)


def test_a_checkpoint_of_another_model_or_other_data_is_refused(
    model: Path, data: Path, tmp_path: Path
) -> None:
    take(Run(settings(model, data), tmp_path / "out"), 3)
    other = save_model(tmp_path / "model", seed=1)
    with pytest.raises(CheckpointError, match="is of another run: its model is"):
        Run(settings(other, data), tmp_path / "out", resume=True)
    fewer = save_data(tmp_path / "data", rows=59)
    with pytest.raises(CheckpointError, match="is of another run: its data is"):
        Run(settings(model, fewer), tmp_path / "out", resume=True)


def test_a_schedule_that_does_not_fit_stops_before_anything_is_written(
    model: Path, data: Path, tmp_path: Path
) -> None:
    with pytest.raises(ScheduleError, match="too many"):
        Run(settings(model, data, warmup=10, cooldown=10), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_loss_that_is_not_finite_is_named(model: Path, data: Path, tmp_path: Path) -> None:
    run = Run(settings(model, data, learning_rate=1e30, warmup=0), tmp_path / "out")
    with pytest.raises(ModelError, match=r"the loss of step \d+ is (nan|inf): lower the learning"):
        take(run)


def test_data_that_is_not_there(model: Path, tmp_path: Path) -> None:
    with pytest.raises(TaskError):
        Run(settings(model, tmp_path / "none"), tmp_path / "out")


def test_a_batch_is_cut_into_parts_that_hold_all_rows() -> None:
    batch = examples().batch(range(10))
    for number in (1, 3, 10, 12):
        cut = parts(batch, number)
        assert len(cut) == min(number, 10)
        for name, tensor in batch.items():
            assert torch.equal(torch.cat([part[name] for part in cut]), tensor)
