"""A training with the Trainer that resumes ends with the bits of one that never stopped."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("transformers")
pytest.importorskip("accelerate")

from transformers import AutoModelForSequenceClassification, Trainer

from pins.distributed.checkpoint import save
from pins.errors import CheckpointError
from pins.importance.trust_region.criterion import TrustRegion
from pins.masks import count
from pins.models.parameters import prunable_parameters
from pins.selection.allocation import Allocation
from pins.trainer import checkpoint as trainer_state
from pins.trainer.checkpoint import FILE
from pins.trainer.pruning_trainer import PruningCallback, PruningTrainer
from pins.utils.io import load_tensors, save_tensors
from tests.pins.trainer.trainers import (
    KINDS,
    STEPS,
    AfterSteps,
    Stop,
    arguments,
    assert_pruned,
    assert_same,
    classifier,
    half_sparse,
    kill_after,
    pruner_of,
    pruning,
    regularizer_of,
    sparse_folder,
    texts,
    trainer_of,
)


@dataclass
class Training:
    """A training with dropout, shuffled rows and a checkpoint after every fourth step."""

    model: Any
    pruned: PruningCallback
    trainer: Trainer

    @classmethod
    def of(
        cls,
        kind: str,
        folder: Path,
        model: Any = None,
        pruned: PruningCallback | None = None,
        **changes: Any,
    ) -> "Training":
        model = model or classifier(hidden_dropout_prob=0.1)
        pruned = pruned or pruning()
        args = arguments(
            folder,
            **{
                "save_strategy": "steps",
                "save_steps": 4,
                "lr_scheduler_type": "linear",
                "train_sampling_strategy": "random",
                "eval_strategy": "steps",
                "eval_steps": 3,
                **changes,
            },
        )
        options: dict[str, Any] = {"args": args, "eval_dataset": texts(8)}
        if kind != "callback":
            options["teacher"] = classifier(initializer_range=0.5)
        return cls(model, pruned, trainer_of(kind, model, pruned, **options))

    def run(self, checkpoint: Any = None) -> "Training":
        self.trainer.train(resume_from_checkpoint=checkpoint)
        return self

    def kill(self, after: int = 7) -> None:
        self.trainer.add_callback(kill_after(after))
        with pytest.raises(Stop):
            self.trainer.train()

    def assert_same(self, other: "Training") -> None:
        assert_same(self.model, other.model, self.pruned.masks, other.pruned.masks)


def other_model() -> nn.Module:
    model: nn.Module = classifier(initializer_range=0.3, hidden_dropout_prob=0.1)
    return model


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Training]:
    """By kind, a training that never stopped."""
    return {kind: Training.of(kind, tmp_path_factory.mktemp(kind)).run() for kind in KINDS}


@pytest.fixture(scope="module")
def _stopped(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """By kind, the folder of a training that was killed after step 7; its checkpoint is of step 4.

    Trainings end with a line in the same folder, so tests take a copy (`stopped`).
    """
    folders = {}
    for kind in KINDS:
        folders[kind] = tmp_path_factory.mktemp(kind)
        Training.of(kind, folders[kind]).kill()
    return folders


@pytest.fixture
def stopped(_stopped: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    """A copy of that folder."""
    return lambda kind: Path(shutil.copytree(_stopped[kind], tmp_path / "stopped"))


def test_a_resumed_training_keeps_the_zeros_that_the_first_one_started_with(
    tmp_path: Path,
) -> None:
    kind = KINDS[0]
    model = half_sparse(hidden_dropout_prob=0.1)
    started = Training.of(kind, tmp_path / "whole", model).run()
    Training.of(kind, tmp_path / "cut", half_sparse(hidden_dropout_prob=0.1)).kill()
    resumed = Training.of(kind, tmp_path / "cut", other_model()).run(True)
    assert pruner_of(resumed.pruned).start.zeros == pruner_of(started.pruned).start.zeros > 0
    started.assert_same(resumed)
    for weight in prunable_parameters(resumed.model).parameters.values():
        assert not weight[:, ::2].any()
    other = Training.of(kind, tmp_path / "cut", other_model(), pruning(revive_zeros=True))
    with pytest.raises(CheckpointError, match="revive_zeros was False and is True now: give the"):
        other.run(str(tmp_path / "cut" / "checkpoint-4"))


@pytest.mark.parametrize(
    ("kind", "how"),
    # the Trainer itself takes no Path
    [*((kind, how) for kind in KINDS for how in ("path", "True")), (KINDS[1], "Path")],
)
def test_a_resumed_training_ends_with_the_same_bits(
    kind: str, how: str, whole: dict[str, Training], stopped: Callable[[str], Path]
) -> None:
    folder = stopped(kind)
    checkpoint = folder / "checkpoint-4"
    given = {"path": str(checkpoint), "Path": checkpoint, "True": True}[how]
    resumed = Training.of(kind, folder, other_model()).run(given)
    assert pruner_of(resumed.pruned).steps == STEPS
    whole[kind].assert_same(resumed)
    both = (whole[kind].pruned, resumed.pruned)
    averages, others = (pruner_of(p).smoothing.state_dict() for p in both)
    assert averages.keys() == others.keys()
    assert all(torch.equal(average, others[name]) for name, average in averages.items())
    if kind == "self-regularised":
        first, second = (regularizer_of(p).state_dict() for p in both)
        assert first[1] == second[1]
        assert all(torch.equal(tensor, second[0][name]) for name, tensor in first[0].items())


@pytest.mark.parametrize(("kind", "after"), list(zip(KINDS, [8, 12], strict=True)))
def test_a_longer_training_is_never_less_sparse(kind: str, after: int, tmp_path: Path) -> None:
    first = Training.of(kind, tmp_path, pruned=pruning(interval=1), eval_strategy="no").run()
    final = first.pruned.current_sparsity
    steps: list[float] = []
    changes = {"max_steps": 24, "eval_strategy": "no", "save_strategy": "no"}
    longer = Training.of(kind, tmp_path, other_model(), pruning(interval=1), **changes)
    stored = trainer_state.load(tmp_path / f"checkpoint-{after}")
    sparse = count(stored.masks).sparsity
    assert 0.5 < sparse <= final

    def look(_: int, model: nn.Module) -> None:
        weights = prunable_parameters(model).parameters
        assert_pruned(model, longer.pruned.masks)
        zeros = sum(int((weight == 0).sum()) for weight in weights.values())
        steps.append(zeros / sum(weight.numel() for weight in weights.values()))

    longer.trainer.add_callback(AfterSteps(look))
    longer.run(str(tmp_path / f"checkpoint-{after}"))
    schedule = pruner_of(longer.pruned).schedule
    assert schedule.sparsity(after + 1) < sparse, "the schedule alone would let them grow back"
    assert steps == sorted(steps)
    assert steps[0] >= sparse
    assert steps[-1] == pytest.approx(final, abs=1e-9)
    assert pruner_of(longer.pruned).steps == 24
    if after == 12:
        masks = longer.pruned.masks
        assert all(torch.equal(mask, masks[name]) for name, mask in first.pruned.masks.items())


@pytest.mark.parametrize(
    ("pruned", "message"),
    [
        (pruning(0.5), r"sparsity was 0\.8 and is 0\.5 now"),
        (pruning(criterion="magnitude"), "criterion was 'abs-pins' and is 'magnitude' now"),
        (pruning(schedule="linear"), "schedule was 'CubicSchedule' and is 'LinearSchedule' now"),
        (pruning(interval=3), "schedule's interval was 2 and is 3 now"),
        (pruning(warmup=1), "schedule's warmup was 2 and is 1 now"),
        (pruning(smoothing="window"), "smoothing was 'uncertainty' and is 'window' now"),
        (
            pruning(allocation=Allocation("tensor")),
            "allocation's scope was 'global' and is 'tensor' now",
        ),
        (PruningCallback(keep_zeros=True), "criterion was 'abs-pins' and is 'keep_zeros' now"),
    ],
)
def test_other_settings_are_refused(
    pruned: PruningCallback, message: str, stopped: Callable[[str], Path]
) -> None:
    training = Training.of("callback", stopped("callback"), other_model(), pruned)
    with pytest.raises(
        CheckpointError, match=rf"checkpoint-4 does not fit this training: {message}: give the same"
    ) as refused:
        training.run(True)
    assert "\n" not in str(refused.value)


def test_a_trust_region_resumes_with_its_radius(tmp_path: Path) -> None:
    def training(out: str) -> Training:
        pruned = pruning(criterion=TrustRegion(radius=20.0))
        return Training.of("self-regularised", tmp_path / out, pruned=pruned)

    run = training("whole").run()
    training("stopped").kill()
    checkpoint = tmp_path / "stopped" / "checkpoint-4"
    assert trainer_state.load(checkpoint).radius_factor != 1.0
    resumed = training("stopped").run(True)
    run.assert_same(resumed)
    first, second = (pruner_of(each.pruned) for each in (run, resumed))
    assert first.radius_factor == second.radius_factor
    assert first.loss_change == second.loss_change


@pytest.mark.parametrize("kind", KINDS)
def test_a_training_resumes_from_another_folder(
    kind: str, whole: dict[str, Training], stopped: Callable[[str], Path], tmp_path: Path
) -> None:
    checkpoint = stopped(kind) / "checkpoint-4"
    resumed = Training.of(kind, tmp_path / "new", other_model())
    if kind == "callback":
        with pytest.raises(
            CheckpointError,
            match=r"new/checkpoint-4/pins.safetensors is missing: .* told by its resume\(folder\)",
        ):
            resumed.run(str(checkpoint))
        resumed.pruned.resume(checkpoint)
    resumed.run(str(checkpoint))
    whole[kind].assert_same(resumed)


@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_that_was_written_without_pruning(kind: str, tmp_path: Path) -> None:
    args = arguments(tmp_path, save_strategy="steps", save_steps=5)
    Trainer(model=classifier(), args=args, train_dataset=texts()).train()
    with pytest.raises(
        CheckpointError,
        match=r"checkpoint-12/pins.safetensors is missing: the checkpoint was not written with a "
        r"PruningCallback, was not finished, or lies elsewhere; name another one",
    ):
        Training.of(kind, tmp_path, classifier(), max_steps=20).run(True)


Contents = tuple[dict[str, Tensor], dict[str, str], dict[str, Any]]  # tensors, metadata, scalars


def _flip(contents: Contents) -> None:
    tensors = contents[0]
    tensors.update({n: t.flip(0) for n, t in tensors.items() if n.startswith("masks/")})


DAMAGES: dict[str, tuple[Callable[[Contents], object], str]] = {
    "other format": (
        lambda c: c[1].update(format="pins-mask"),
        "does not hold the state of a pruning: its metadata names another format",
    ),
    "earlier version": (
        lambda c: c[1].update(version="2"),
        "has version 2 of the format, this PINS reads 4; resume from another",
    ),
    "no radius": (
        lambda c: c[2].pop("radius_factor"),
        "does not hold the state of a pruning: it lacks 'radius_factor'",
    ),
    "no settings": (lambda c: c[2].pop("settings"), "of a pruning: it lacks 'settings'"),
    "no steps": (lambda c: c[2].pop("steps"), "the state of a pruning: it lacks 'steps'"),
    "other step": (
        lambda c: c[2].update(steps=3),
        r"are of step 3 and prune 0 weights .* resumes after step 4: they come",
    ),
    "other masks": (
        _flip,
        r"are of step 4 and prune \d+ weights that are not zero; the Trainer resumes",
    ),
    "other smoothing": (
        lambda c: c[0].update({"smoothing/window/x": torch.zeros(1)}),
        "does not fit this training: the state has 'window/x', which smooth",
    ),
    "no teacher": (
        lambda c: c[2].pop("teacher"),
        "does not fit this training: it was written without self-regularisation",
    ),
    "torn": (
        lambda _: None,
        "does not hold the state of a pruning: .*is not a whole safetensors file",
    ),
    "not JSON": (lambda _: None, "does not hold the state of a pruning: Expecting property name"),
}


def damage(how: str, file: Path) -> None:
    tensors, metadata = load_tensors(file)
    scalars = json.loads(metadata["scalars"])
    DAMAGES[how][0]((tensors, metadata, scalars))
    text = "{" if how == "not JSON" else json.dumps(scalars)
    save_tensors(tensors, file, {**metadata, "scalars": text})
    if how == "torn":
        file.write_bytes(file.read_bytes()[:-7])


@pytest.mark.parametrize(
    ("kind", "how"),
    [(kind, how) for kind in KINDS for how in DAMAGES if (kind, how) != (KINDS[0], "no teacher")],
)
def test_a_checkpoint_that_is_damaged_is_one_clear_error(
    kind: str, how: str, stopped: Callable[[str], Path]
) -> None:
    folder = stopped(kind)
    damage(how, folder / "checkpoint-4" / FILE)
    with pytest.raises(CheckpointError, match=DAMAGES[how][1]) as caught:
        Training.of(kind, folder).run(True)
    assert "\n" not in str(caught.value)
    assert "checkpoint-4" in str(caught.value)


def test_a_sharded_checkpoint_without_settings_is_one_clear_error(tmp_path: Path) -> None:
    scalars = {"steps": 4, "due": False, "radius_factor": 1.0}
    save(tmp_path / trainer_state.FOLDER, {"masks/w": torch.ones(2, dtype=torch.bool)}, scalars)
    message = "does not hold the state of a pruning: it lacks 'settings'; resume from another"
    with pytest.raises(CheckpointError, match=message):
        trainer_state.load(tmp_path)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"hidden_size": 16}, r"the mask of 'bert.encoder.* has shape \(16, 16\): masks are"),
        ({"num_hidden_layers": 3}, r"'bert.encoder.layer.2.* has no mask: masks and tensors must"),
        ({"num_hidden_layers": 1}, r"'bert.encoder.layer.1.* has a mask but no tensor"),
    ],
)
def test_a_checkpoint_of_another_model_is_one_clear_error(
    model: dict[str, int], message: str, stopped: Callable[[str], Path]
) -> None:
    trainer = PruningTrainer(
        model=classifier(**model),
        args=arguments(stopped("self-regularised")),
        train_dataset=texts(),
        pruning=pruning(),
    )
    with pytest.raises(
        CheckpointError, match=rf"checkpoint-4 is of another model: {message}"
    ) as caught:
        trainer.train(resume_from_checkpoint=True)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_with_other_prunable_weights_is_one_clear_error(
    stopped: Callable[[str], Path],
) -> None:
    pruned = pruning(include="attention")
    with pytest.raises(CheckpointError, match=r"checkpoint-4 is of another model: .* no tensor"):
        Training.of("callback", stopped("callback"), classifier(), pruned).run(True)


def test_a_resume_that_was_not_used_leaves_nothing_behind(
    whole: dict[str, Training], stopped: Callable[[str], Path], tmp_path: Path
) -> None:
    fresh = Training.of("callback", tmp_path / "new")
    fresh.pruned.resume(stopped("callback") / "checkpoint-4")
    fresh.run()  # from the start
    whole["callback"].assert_same(fresh)
    again = Training.of("callback", tmp_path / "new", fresh.model, fresh.pruned)
    again.run(str(tmp_path / "new" / "checkpoint-8"))
    whole["callback"].assert_same(again)


def test_kept_zeros_resume_with_the_zeros_of_the_start(tmp_path: Path) -> None:
    folder = sparse_folder(tmp_path / "sparse")
    name = "bert.encoder.layer.0.output.dense.weight"

    def one_more(step: int, model: nn.Module) -> None:
        if step == 4:  # right before the checkpoint, by chance
            weight = model.get_parameter(name).data
            weight[tuple(weight.nonzero()[0])] = 0.0

    def training(out: str) -> Training:
        model = AutoModelForSequenceClassification.from_pretrained(folder)
        made = Training.of("callback", tmp_path / out, model, PruningCallback(keep_zeros=True))
        made.trainer.add_callback(AfterSteps(one_more))
        return made

    run = training("whole").run()
    training("stopped").kill(6)
    run.assert_same(training("stopped").run(True))
