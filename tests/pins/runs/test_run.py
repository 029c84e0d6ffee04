"""A whole run: exactly sparse, judged, written, and gone on with bit for bit."""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from pins import masks
from pins.errors import (
    CheckpointError,
    FileError,
    ModelError,
    ScheduleError,
    SettingError,
    TaskError,
)
from pins.runs import checkpoints, weight_sample
from pins.runs.export import finish, headline
from pins.runs.microbatches import evaluation_rows, microbatches
from pins.runs.run import Run
from pins.runs.settings import Settings
from pins.selection.constraints import keep_count
from pins.tasks import Recipe
from tests.pins.networks import examples
from tests.pins.runs.tiny_runs import (
    names,
    same,
    save_classifier,
    save_data,
    save_decoder,
    save_model,
    save_text,
    settings,
    take,
    weights,
)

pytest.importorskip("transformers", reason="runs load transformers models")


VARIANTS: dict[str, dict[str, Any]] = {
    "paper": {"smoothing": "uncertainty"},
    "signed": {"criterion": "pins", "smoothing": "none"},
    "obd": {"criterion": "obd", "smoothing": "none", "schedule": "linear"},
    "sensitivity": {"criterion": "sensitivity", "smoothing": "average"},
    "platon": {"criterion": "sensitivity", "smoothing": "uncertainty", "window": True},
    "sgd": {"criterion": "movement", "optimizer": "sgd", "schedule": "one-shot"},
    "fisher": {"criterion": "obd", "optimizer": "sgd", "smoothing": "window", "accumulation": 2},
    "trust region": {"criterion": "trust-region", "smoothing": None, "radius": 4.0},
    "hutchinson": {
        "criterion": "trust-region",
        "smoothing": None,
        "curvature": "hutchinson",
        "layer_minimum": 0.15,
        "sparsity": 0.84,
    },
    "by tensor": {"scope": "tensor"},
    "by row": {"scope": "row"},
    "minimum": {"criterion": "magnitude", "layer_minimum": 0.15, "sparsity": 0.84},
    "plain loss": {"self_regularization": False},
    "bfloat16": {"precision": "bfloat16"},
    "parts": {"accumulation": 3},
    "checkpointing": {"gradient_checkpointing": True},
    "authors": {"criterion": "authors"},
    "authors, mended": {"criterion": "authors", "without_quirks": ("dense_between", "biases")},
}


@pytest.fixture(scope="module")
def whole(
    model: Path, data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], tuple[Settings, Run]]:
    """The run of a variant after its last step; the same one for all tests, which only read it."""

    @cache
    def made(name: str) -> tuple[Settings, Run]:
        wanted = settings(model, data, **VARIANTS[name])
        run = Run(wanted, tmp_path_factory.mktemp("whole") / "out")
        for step in run.steps():
            assert step.sparsity == run.training.pruner.sparsity
        return wanted, run

    return made


@pytest.mark.parametrize("name", VARIANTS)
def test_a_run_that_stopped_goes_on_bit_for_bit(
    name: str, whole: Callable[[str], tuple[Settings, Run]], tmp_path: Path
) -> None:
    wanted, uncut = whole(name)
    take(Run(wanted, tmp_path / "cut"), 7)
    torch.rand(5)
    going_on = Run(wanted, tmp_path / "cut", resume=True)
    assert going_on.step == 6
    take(going_on)
    assert same(weights(uncut), weights(going_on))
    assert same(uncut.training.pruner.masks, going_on.training.pruner.masks)
    assert uncut.history == going_on.history
    assert uncut.training.pruner.radius_factor == going_on.training.pruner.radius_factor
    # and what stood in between was not the same already
    assert uncut.history.evaluations[0]["loss"] != uncut.history.evaluations[-1]["loss"]


@pytest.mark.parametrize("name", [name for name in VARIANTS if "authors" not in name])
def test_a_run_is_exactly_as_sparse_as_asked_for(
    name: str, whole: Callable[[str], tuple[Settings, Run]]
) -> None:
    wanted, run = whole(name)
    pruner = run.training.pruner
    kept = masks.count(pruner.masks)
    share = {
        "global": [keep_count(wanted.final_sparsity(), pruner.total)],
        "tensor": [
            keep_count(wanted.final_sparsity(), p.numel()) for p in pruner.parameters.values()
        ],
        "row": [
            len(p) * keep_count(wanted.final_sparsity(), p[0].numel())
            for p in pruner.parameters.values()
        ],
    }
    keep = sum(share[wanted.scope])
    assert kept.kept == keep
    for tensor, mask in pruner.masks.items():
        assert not (pruner.parameters[tensor].detach()[~mask] != 0).any()
    if wanted.layer_minimum:
        floors = {n: -(-15 * p.numel() // 100) for n, p in pruner.parameters.items()}
        assert all(int(pruner.masks[n].sum()) >= floor for n, floor in floors.items())
        assert run.history.decisions[-1]["binding"]


@pytest.mark.parametrize("name", ["paper", "trust region"])
def test_what_each_decision_does_to_the_loss_is_recorded(
    name: str, whole: Callable[[str], tuple[Settings, Run]], model: Path, data: Path, tmp_path: Path
) -> None:
    _, run = whole(name)
    decisions = run.history.decisions
    assert [each["step"] for each in decisions] == [4, 6, 8, 9]
    assert len({each["measured"] for each in decisions}) == 4
    assert all(isinstance(each["predicted"], float) for each in decisions)
    measurement = run.training.pruner.loss_change
    assert measurement is not None
    assert decisions[-1].items() >= measurement.as_json().items()
    region = name == "trust region"
    assert all((each["multiplier"] is not None) == region for each in decisions)
    assert any(each["promised"] for each in decisions) == region
    assert finish(run)["decisions"] == decisions
    quiet = Run(settings(model, data, measure=False), tmp_path / "quiet")
    assert "measured" not in take(quiet).history.decisions[-1]


@pytest.fixture(scope="module")
def finished(
    model: Path, data: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Run, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("finished")
    teacher = save_classifier(folder / "teacher")
    run = take(Run(settings(model, data, teacher=str(teacher)), folder / "out"))
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
    assert facts["scores"]["split"] == "validation"  # dev.tsv: GLUE's test labels are not public
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


def test_decisions_are_counted_tensor_by_tensor(finished: tuple[Run, dict[str, Any]]) -> None:
    _, facts = finished
    decisions, layers = facts["decisions"], facts["costs"]["weights"]["layers"]
    assert [layer["kept"] for layer in layers] == decisions[-1]["each"]
    kept = [decisions[0]["total"], *(each["keep"] for each in decisions)]
    for before, row in zip(kept, decisions, strict=False):
        assert row["keep"] == before - row["pruned"] + row["revived"] == sum(row["each"])
    assert decisions[0]["revived"] == 0


def test_a_sample_of_weights_is_as_the_first_decision_saw_them(
    model: Path, data: Path, tmp_path: Path
) -> None:
    wanted = settings(model, data, criterion="pins", smoothing="none")
    run = Run(wanted, tmp_path / "out")
    for moment in run.steps():
        if moment.step == 4:
            break
    assert [each["step"] for each in run.history.decisions] == [4]
    sample = weight_sample.load(tmp_path / "out" / "sample.safetensors")
    decision = run.training.pruner.decision
    assert decision is not None
    assert sample.learning_rate == 0
    for name, weight in run.training.pruner.parameters.items():
        # so small a model is its own sample; the scores that were decided on are those of pins
        scores, mask = sample.importance("pins")[name], decision.masks[name].reshape(-1)
        assert len(scores) == weight.numel()
        assert torch.equal(sample.weights[name][mask], weight.detach().reshape(-1)[mask])
        least = decision.proof.kept_min
        assert least is not None
        assert torch.equal(scores.float() >= least, mask)
        assert sample.curvature is not None
        assert (sample.curvature[name] >= 0).all()
    (tmp_path / "first").write_bytes((tmp_path / "out" / "sample.safetensors").read_bytes())
    take(Run(wanted, tmp_path / "out", resume=True))
    assert (tmp_path / "first").read_bytes() == (
        tmp_path / "out" / "sample.safetensors"
    ).read_bytes()


def test_without_adam_a_sample_has_no_curvature(model: Path, data: Path, tmp_path: Path) -> None:
    take(Run(settings(model, data, criterion="pins", optimizer="sgd"), tmp_path / "out"), 5)
    assert weight_sample.load(tmp_path / "out" / "sample.safetensors").curvature is None


def test_evaluations_tell_how_far_the_teacher_is(
    whole: Callable[[str], tuple[Settings, Run]],
) -> None:
    _, run = whole("paper")
    told = [each["divergence"] for each in run.history.evaluations]
    assert all(isinstance(each, float) and each > 0 for each in told)
    assert len(set(told)) == len(told)
    _, plain = whole("plain loss")
    assert all(each["divergence"] is None for each in plain.history.evaluations)


def test_the_teacher_follows_the_sparsity(whole: Callable[[str], tuple[Settings, Run]]) -> None:
    _, run = whole("paper")
    offered = run.history.evaluations
    sparser = [b for a, b in pairwise(offered) if b["sparsity"] > a["sparsity"]]
    assert sparser
    assert all(each["teacher"] for each in sparser)


@pytest.mark.parametrize("criterion", ["authors", "abs-pins"])
def test_an_evaluation_sees_the_decision_of_its_step(
    criterion: str, model: Path, data: Path, tmp_path: Path
) -> None:
    wanted = settings(model, data, criterion=criterion, smoothing=None, evaluate_every=2)
    run = take(Run(wanted, tmp_path / "out"))
    found = {each["step"]: each["sparsity"] for each in run.history.evaluations}
    offset = int(criterion == "authors")  # their calendar counts from 0
    assert all((step - offset) % 2 == 0 for step in found if step != run.step)
    schedule = run.training.pruner.schedule
    decided = [step for step in found if schedule.decides(step)]
    assert len(decided) > 2
    for step in decided:
        assert found[step] == pytest.approx(float(schedule.sparsity(step)), abs=0.02), step


@pytest.mark.parametrize("window", [True, False])
def test_with_a_window_averages_count_decisions_not_steps(
    window: bool, model: Path, data: Path, tmp_path: Path
) -> None:
    wanted = settings(model, data, smoothing="average", window=window)
    pruner = take(Run(wanted, tmp_path / "out"), 8).training.pruner
    counts = {v.item() for k, v in pruner.state_dict()["smoothing"].items() if ".count/" in k}
    decisions = sum(pruner.schedule.decides(step) for step in range(1, 9))
    assert 1 < decisions < 8
    assert counts == {decisions if window else 8}


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
    for number in (1, 3, 10, 12, 2**63 - 1):
        cut = microbatches(batch, number)
        assert len(cut) == min(number, 10)
        for name, tensor in batch.items():
            assert torch.equal(torch.cat([part[name] for part in cut]), tensor)


def test_evaluations_and_checkpoints_change_nothing_of_the_training(
    model: Path, data: Path, tmp_path: Path
) -> None:
    often = {"evaluate_every": 1, "checkpoint_every": 1}
    seldom = {"evaluate_every": 100, "checkpoint_every": 100}

    def trained(name: str, **given: Any) -> Run:
        return take(Run(settings(model, data, **given), tmp_path / name))

    first = trained("often", self_regularization=False, **often)
    second = trained("seldom", self_regularization=False, **seldom)
    assert [len(run.history.evaluations) for run in (first, second)] == [12, 1]
    assert same(weights(first), weights(second))
    # with self-regularisation they do: teachers are chosen at evaluations
    assert not same(weights(trained("taught", **often)), weights(trained("hardly", **seldom)))


def test_resuming_leaves_a_folder_that_is_no_run_alone(data: Path, tmp_path: Path) -> None:
    model = save_model(tmp_path / "model")
    before = {each.name: each.read_bytes() for each in model.iterdir()}
    with pytest.raises(FileError, match=r"holds files \(config.json …\) and no checkpoint"):
        Run(settings(model, data), model, resume=True)
    (model / "checkpoints").mkdir()
    with pytest.raises(FileError, match="and no checkpoint to resume from: give another folder"):
        Run(settings(model, data), model, resume=True)
    (model / "checkpoints").rmdir()
    assert {each.name: each.read_bytes() for each in model.iterdir()} == before


def test_what_a_run_leaves_before_its_first_checkpoint_can_be_resumed(
    model: Path, data: Path, tmp_path: Path
) -> None:
    wanted = settings(model, data, checkpoint_every=100)
    take(Run(wanted, tmp_path / "out"), 10)
    (tmp_path / "out" / ".scores.safetensors.x1").write_text("torn")
    assert names(tmp_path / "out") == [
        ".scores.safetensors.x1",
        "sample.safetensors",
        "scores.safetensors",
    ]
    whole = take(Run(wanted, tmp_path / "whole"))
    assert same(weights(take(Run(wanted, tmp_path / "out", resume=True))), weights(whole))


def test_a_folder_that_cannot_be_written_is_told_before_the_first_step(
    model: Path, data: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="file/out cannot be written: Not a directory"):
        Run(settings(model, data), tmp_path / "file" / "out")


def test_a_teacher_is_the_first_candidate_and_a_checkpoint_knows_it(
    model: Path, data: Path, tmp_path: Path
) -> None:
    wanted = settings(model, data, teacher=str(save_classifier(tmp_path / "teacher")))

    def candidates(run: Run) -> list[list[Any]]:
        assert run.training.regularizer is not None
        return list(run.training.regularizer.state_dict()[1]["best"])

    run = Run(wanted, tmp_path / "out")
    ((sparsity, score),) = candidates(run)
    assert sparsity == "0"
    assert 0 <= score <= 1
    take(run, 4)
    assert candidates(Run(wanted, tmp_path / "out", resume=True)) == candidates(run)


def test_a_teacher_of_another_task_is_refused(model: Path, data: Path, tmp_path: Path) -> None:
    teacher = save_classifier(tmp_path / "teacher")
    config = json.loads((teacher / "config.json").read_text())
    for labels, fits in ((("NEGATIVE", "POSITIVE"), True), (("positive", "negative"), False)):
        config |= {
            "id2label": dict(enumerate(labels)),
            "label2id": {label: number for number, label in enumerate(labels)},
        }
        (teacher / "config.json").write_text(json.dumps(config))
        wanted = settings(model, data, teacher=str(teacher))
        if fits:
            Run(wanted, tmp_path / "out")
        else:
            with pytest.raises(
                ModelError, match="has the classes positive, negative, and sst2 has"
            ):
                Run(wanted, tmp_path / "out")


def test_a_teacher_is_fine_tuned_and_of_the_same_network(data: Path, tmp_path: Path) -> None:
    model = save_classifier(tmp_path / "model")
    Run(settings(model, data, teacher=str(model)), tmp_path / "itself")
    for name, changes, message in (
        ("labels", {"labels": 3}, "has no 'classifier.bias' for sst2: give a model that was fine-"),
        ("wide", {"hidden_size": 32}, r"of shape \(19, 32\), the model of shape \(19, 16\)"),
        ("deep", {"num_hidden_layers": 3}, "which the model has not: give a fine-tuned copy"),
        ("other", {"kind": "Roberta"}, "the teacher has no 'bert.embeddings.word_embeddings"),
    ):
        teacher: Any = save_classifier(tmp_path / name, **changes)
        with pytest.raises(ModelError, match=message):
            Run(settings(model, data, teacher=str(teacher)), tmp_path / "out")
    headless = save_model(tmp_path / "headless")
    with pytest.raises(ModelError, match=r"has no 'classifier\.bias' for sst2"):
        Run(settings(model, data, teacher=str(headless)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_weights_to_prune_are_never_drawn(model: Path, data: Path, tmp_path: Path) -> None:
    other = save_model(tmp_path / "model")
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "intermediate_size": 64}))
    with pytest.raises(ModelError, match=r"holds no 'bert.encoder.layer.0.intermediate.dense.weig"):
        Run(settings(other, data), tmp_path / "out")
    # the head may be: it is what fine-tuning is for
    assert Run(settings(model, data), tmp_path / "out").pretrained.drawn


def test_rows_are_as_long_as_the_model_has_positions(
    model: Path, data: Path, tmp_path: Path
) -> None:
    with pytest.raises(SettingError, match="max_length is 65, and the model has positions for 64"):
        Run(settings(model, data, max_length=65), tmp_path / "out")
    assert Run(settings(model, data, max_length=64), tmp_path / "a").settings.max_length == 64
    short = save_classifier(tmp_path / "short", max_position_embeddings=8)
    run = Run(settings(short, data, max_length=None), tmp_path / "b")
    assert run.settings.max_length == 8  # the task's own are more
    take(run, 2)


def test_fewer_rows_than_a_batch_and_fewer_than_to_hold_out(model: Path, tmp_path: Path) -> None:
    data = save_data(tmp_path / "data", rows=5)
    for name, given in (
        ("one", {"train_rows": 1, "test_rows": 1}),
        ("two", {"train_rows": 2, "accumulation": 3}),
        ("all", {"batch_size": 100}),
    ):
        run = take(Run(settings(model, data, **given), tmp_path / name))
        assert run.training.pruner.finished
        assert len(run.held_out) == 1
        assert finish(run)["scores"]["rows"] == given.get("test_rows", 5)


def test_evaluation_takes_no_more_memory_than_training() -> None:
    resolved = Settings(steps=1).resolved(Recipe(1, 8, 1e-3, 512), 100)
    assert evaluation_rows(resolved) == 16
    assert evaluation_rows(replace(resolved, max_length=128)) == 64
    assert evaluation_rows(replace(resolved, max_length=16)) == 64
    assert evaluation_rows(replace(resolved, max_length=100_000)) == 8
    assert evaluation_rows(replace(resolved, max_length=100_000, accumulation=3)) == 3
    assert evaluation_rows(replace(resolved, max_length=16, batch_size=999)) == 999


def strictly(text: str) -> Any:
    """JSON, and nothing that only Python takes for it."""

    def refuse(name: str) -> None:
        raise ValueError(name)

    return json.loads(text, parse_constant=refuse)


@pytest.fixture(scope="module")
def tied(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A language model whose perplexity is too large for a float, and a text."""
    folder = tmp_path_factory.mktemp("tied")
    return save_decoder(folder / "model", factor=4e3), save_text(folder / "text")


def test_a_score_that_is_not_finite_stays_json(tied: tuple[Path, Path], tmp_path: Path) -> None:
    wanted = settings(*tied, task="text", learning_rate=1e-6)
    run = take(Run(wanted, tmp_path / "out"))
    assert run.score is None
    place = checkpoints.latest(run.out / "checkpoints")
    assert place is not None
    assert strictly((place / "state.json").read_text())
    scores = run.test()
    assert scores["perplexity"] == float("inf")
    facts = finish(run)
    assert strictly((run.out / "run.json").read_text()) == facts
    assert facts["scores"]["sparse"]["perplexity"] is None
    assert facts["scores"]["sparse"]["loss"] > 709
    assert ("perplexity", "not finite (headline)") in headline(facts)
    with pytest.raises(ValueError, match="Infinity"):
        strictly(json.dumps(scores))


def test_a_tied_weight_is_saved_once_and_stays_tied(
    tied: tuple[Path, Path], tmp_path: Path
) -> None:
    wanted = settings(*tied, task="text", learning_rate=1e-6, sparsity=0.5)
    whole = take(Run(wanted, tmp_path / "whole"))
    take(Run(wanted, tmp_path / "out"), 7)
    place = checkpoints.latest(tmp_path / "out" / "checkpoints")
    assert place is not None
    saved = load_file(place / checkpoints.TENSORS)
    assert "model/transformer.wte.weight" in saved
    assert not [name for name in saved if "lm_head" in name]
    run = take(Run(wanted, tmp_path / "out", resume=True))
    network: Any = run.pretrained.model
    assert network.lm_head.weight is network.transformer.wte.weight
    assert same(weights(run), weights(whole))
