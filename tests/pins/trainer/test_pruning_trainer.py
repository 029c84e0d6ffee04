"""Pruning with the Trainer: what a plain loop gives, bit for bit, and everything around it."""

import gc
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("transformers")
pytest.importorskip("accelerate")

from transformers import (
    AutoModelForSequenceClassification,
    EarlyStoppingCallback,
    EvalPrediction,
    Trainer,
)
from transformers.integrations.integration_utils import TensorBoardCallback

from pins.errors import (
    CheckpointError,
    CriterionError,
    ModelError,
    ParameterError,
    ScheduleError,
    SettingError,
)
from pins.importance.criteria import CRITERIA
from pins.importance.trust_region.criterion import TrustRegion
from pins.masks import apply, count
from pins.masks import load as load_masks
from pins.models import teacher as teacher_module
from pins.models.batches import Batch
from pins.models.parameters import prunable_parameters
from pins.models.self_distillation import SelfRegularizer
from pins.pruning.pruner import Pruner
from pins.pruning.schedules import CubicSchedule, OneShotSchedule
from pins.selection.constraints import keep_count
from pins.trainer import checkpoint as trainer_state
from pins.trainer.checkpoint import FILE
from pins.trainer.pruning_trainer import PruningCallback, PruningTrainer
from pins.utils.io import load_tensors, save_tensors
from tests.pins.headed import HEADED, head_of
from tests.pins.trainer.trainers import (
    DECISIONS,
    STEPS,
    AfterSteps,
    Stop,
    arguments,
    assert_pruned,
    assert_same,
    classifier,
    default_pruner,
    headed,
    kill_after,
    plain_loop,
    pruning,
    region_pruner,
    remembered,
    rows_of,
    steps_of,
    texts,
)


@pytest.fixture(autouse=True, scope="module")
def _only_new_garbage() -> Iterator[None]:
    """Each training begins with a garbage collection; that of all imports takes 0.2 seconds."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


SCHEDULE = CubicSchedule(steps=STEPS, final_sparsity=0.8, warmup=2, cooldown=3, interval=2)
TOTAL = 2 * (4 * 8 * 8 + 2 * 8 * 16)  # prunable weights of the tiny BERT
KINDS = ("callback", "self-regularised")


def sparsity_after(step: int) -> float:
    """That of the latest decision, counted."""
    latest = max(decision for decision in (0, *DECISIONS) if decision <= step)
    return 1 - keep_count(SCHEDULE.sparsity(latest), TOTAL) / TOTAL


def trainer_of(kind: str, model: nn.Module, pruned: PruningCallback, **options: Any) -> Trainer:
    options = {"train_dataset": texts(), **options}
    if kind == "callback":
        callbacks = [pruned, *options.pop("callbacks", ())]
        return Trainer(model=model, callbacks=callbacks, **options)
    return PruningTrainer(model=model, pruning=pruned, **options)


def pruner_of(pruned: PruningCallback) -> Pruner:
    assert pruned.pruner is not None
    return pruned.pruner


def regularizer_of(pruned: PruningCallback) -> SelfRegularizer:
    assert pruned.regularizer is not None
    return pruned.regularizer


# exact counts, exact zeros


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "changes",
    [
        {"optim": "adamw_torch"},
        {"optim": "adamw_torch_fused"},
        {"optim": "sgd"},
        {"optim": "adafactor"},
        {"gradient_accumulation_steps": 2, "max_grad_norm": 1e-3},
        {"bf16": True},
        {"activation_checkpointing": True},
        {"torch_compile": True, "torch_compile_backend": "eager"},
        {"max_steps": -1, "num_train_epochs": 3},
    ],
    ids=lambda changes: next(f"{name}={value}" for name, value in changes.items()),
)
def test_masks_are_exact_and_zeros_stay_at_every_step(
    kind: str, changes: dict[str, Any], tmp_path: Path
) -> None:
    model, pruned = classifier(), pruning()
    sparsities = []

    def look(_: int, model: nn.Module) -> None:
        assert_pruned(model, pruned.masks)
        sparsities.append(pruned.current_sparsity)

    trainer = trainer_of(kind, model, pruned, args=arguments(tmp_path, **changes))
    trainer.add_callback(AfterSteps(look))
    dense = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    trainer.train()
    pruner = pruner_of(pruned)
    assert pruner.total == TOTAL
    assert pruner.steps == trainer.state.max_steps == STEPS
    kept = count(pruned.masks)
    assert (kept.kept, kept.total) == (keep_count(0.8, TOTAL), TOTAL)
    assert sparsities[:-1] == [sparsity_after(step) for step in range(1, STEPS + 1)]
    for name, weight in model.named_parameters():
        assert not torch.equal(weight, dense[name]) or "key.bias" in name
        if name not in pruned.masks:
            assert int((weight == 0).sum()) <= int((dense[name] == 0).sum())


def test_what_is_saved_holds_the_zeros_and_loads_without_pins(tmp_path: Path) -> None:
    model, pruned = classifier(), pruning()
    trainer = PruningTrainer(
        model=model,
        args=arguments(tmp_path / "out", save_strategy="steps", save_steps=7),
        train_dataset=texts(),
        pruning=pruned,
    )
    trainer.train()
    trainer.save_model(str(tmp_path / "saved"))
    last = tmp_path / "out" / "checkpoint-12"
    for folder in (tmp_path / "saved", last):
        loaded = AutoModelForSequenceClassification.from_pretrained(folder)
        assert_pruned(loaded, pruned.masks)
        assert_same(model, loaded, {}, {})
    earlier = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out" / "checkpoint-7")
    zeros = sum(
        int((weight == 0).sum()) for weight in prunable_parameters(earlier).parameters.values()
    )
    assert zeros == TOTAL - keep_count(SCHEDULE.sparsity(6), TOTAL)


# the same as a plain loop


@pytest.mark.parametrize("changes", [{}, {"bf16": True}, {"activation_checkpointing": True}])
@pytest.mark.parametrize("optimizer", ["adamw_torch", "adamw_torch_fused", "sgd"])
def test_the_callback_prunes_as_a_plain_loop(
    optimizer: str, changes: dict[str, Any], tmp_path: Path
) -> None:
    model, pruned = classifier(), pruning()
    args = arguments(tmp_path, optim=optimizer, **changes)
    trainer_of("callback", model, pruned, args=args).train()
    by_hand = classifier()
    pruner = plain_loop(
        by_hand,
        steps_of(texts(), 4, 1, STEPS),
        default_pruner(by_hand, SCHEDULE),
        optimizer=optimizer,
        half="bf16" in changes,
    )
    assert_same(model, by_hand, pruned.masks, pruner.masks)


@pytest.mark.parametrize(
    ("name", "parts", "half", "counted"),
    [
        *((name, 3, half, True) for name in HEADED for half in (False, True)),
        ("classification", 1, False, True),
        ("tokens", 3, False, False),
    ],
)
def test_self_regularisation_is_that_of_a_plain_loop_however_a_step_is_cut(
    name: str, parts: int, half: bool, counted: bool, tmp_path: Path
) -> None:
    # a batch of one row: those of a step have unequal numbers of predictions
    rows, head = rows_of(name), head_of(name)
    model, pruned = headed(name), pruning()
    if not counted:  # the Trainer divides the losses of such a model by the parts
        model.accepts_loss_kwargs = False  # type: ignore[assignment]
    PruningTrainer(
        model=model,
        args=arguments(
            tmp_path, per_device_train_batch_size=1, gradient_accumulation_steps=parts, bf16=half
        ),
        train_dataset=rows,
        pruning=pruned,
    ).train()
    by_hand = headed(name)
    pruner = plain_loop(
        by_hand,
        steps_of(rows, 1, parts, STEPS),
        default_pruner(by_hand, SCHEDULE),
        head=head,
        regularizer=SelfRegularizer(by_hand, head=head),
        half=half,
    )
    assert pruner.sparsity == pruned.current_sparsity > 0.79
    assert_same(model, by_hand, pruned.masks, pruner.masks)


def test_the_plain_loop_sees_how_the_loss_is_divided(tmp_path: Path) -> None:
    """The control: means of each batch alone, averaged, are another loss."""
    rows, head = rows_of("tokens"), head_of("tokens")
    model, pruned = headed("tokens"), pruning()
    args = arguments(tmp_path, per_device_train_batch_size=1, gradient_accumulation_steps=3)
    PruningTrainer(model=model, args=args, train_dataset=rows, pruning=pruned).train()

    class MeanOfMeans(type(head)):  # type: ignore[misc]
        def count(self, batch: dict[str, Tensor]) -> int:
            return len(batch["labels"])

    by_hand = headed("tokens")
    plain_loop(
        by_hand,
        steps_of(rows, 1, 3, STEPS),
        default_pruner(by_hand, SCHEDULE),
        head=MeanOfMeans(),
        regularizer=SelfRegularizer(by_hand, head=head),
    )
    with pytest.raises(AssertionError):
        assert_same(model, by_hand, {}, {})


@pytest.mark.parametrize(
    ("name", "parts", "regularized"),
    [("classification", 1, False), ("classification", 1, True), ("tokens", 3, True)],
)
def test_a_trust_region_is_that_of_a_plain_loop(
    name: str, parts: int, regularized: bool, tmp_path: Path
) -> None:
    rows, head, criterion = rows_of(name), head_of(name), TrustRegion(radius=20.0)
    model, pruned = headed(name), pruning(criterion=criterion)
    PruningTrainer(
        model=model,
        args=arguments(tmp_path, per_device_train_batch_size=1, gradient_accumulation_steps=parts),
        train_dataset=rows,
        pruning=pruned,
        self_regularization=regularized,
    ).train()
    by_hand = headed(name)
    step: list[Batch] = []
    pruner = plain_loop(
        by_hand,
        remembered(steps_of(rows, 1, parts, STEPS), step),
        region_pruner(by_hand, SCHEDULE, criterion, head, step),
        head=head,
        regularizer=SelfRegularizer(by_hand, head=head) if regularized else None,
    )
    assert pruner.sparsity == pruned.current_sparsity > 0.79
    assert_same(model, by_hand, pruned.masks, pruner.masks)
    assert pruner.loss_change == pruner_of(pruned).loss_change
    assert pruner.radius_factor == pruner_of(pruned).radius_factor != 1.0


def test_a_plain_trainer_cannot_say_the_loss_that_a_trust_region_reads(tmp_path: Path) -> None:
    pruned = pruning(criterion="trust-region")
    trainer = trainer_of("callback", classifier(), pruned, args=arguments(tmp_path))
    with pytest.raises(
        SettingError,
        match=r"'trust-region' reads the loss of each step's rows, which a plain Trainer does not "
        r"give its callbacks: use PruningTrainer\(pruning=\.\.\.\)",
    ):
        trainer.train()


def test_the_smoothing_is_that_of_the_criterion() -> None:
    for name, criterion in CRITERIA.items():
        found = PruningCallback(0.5, name).smoothing().name
        assert found == ("none" if criterion.adaptive else "uncertainty")
    assert PruningCallback(0.5, smoothing="window").smoothing().name == "window"


def test_averages_of_a_trust_region_are_refused_before_the_first_step(tmp_path: Path) -> None:
    pruned = pruning(criterion="trust-region", smoothing="window")
    trainer = trainer_of("self-regularised", classifier(), pruned, args=arguments(tmp_path))
    with pytest.raises(CriterionError, match="'trust-region' was given smoothing 'window'"):
        trainer.train()


@pytest.mark.parametrize("name", HEADED)
def test_the_loss_that_is_logged_is_the_mixed_loss(name: str, tmp_path: Path) -> None:
    rows, head, model = rows_of(name, 3), head_of(name), headed(name)
    (parts,) = steps_of(rows, 1, 3, 1)
    regularizer = SelfRegularizer(model, head=head)
    total = sum(head.count(part) for part in parts)
    with torch.no_grad():
        wanted = sum(float(regularizer.loss(model(**p), p, num_items=total)) for p in parts)
    trainer = PruningTrainer(
        model=model,
        args=arguments(
            tmp_path, max_steps=1, per_device_train_batch_size=1, gradient_accumulation_steps=3
        ),
        train_dataset=rows,
        pruning=pruning(schedule="one-shot", warmup=0, cooldown=0),
    )
    trainer.train()
    assert trainer.state.log_history[0]["loss"] == pytest.approx(wanted, rel=1e-6)


TWO_PROCESSES = """
import os, sys
from pathlib import Path
from pins.masks import save
from pins.trainer import PruningTrainer
from pins.importance.trust_region.criterion import TrustRegion
from tests.pins.trainer.trainers import arguments, headed, pruning, rows_of

out, rank = Path(sys.argv[1]), os.environ.get("RANK", "alone")
size = 1 if "RANK" in os.environ else 2
given = {"criterion": TrustRegion(radius=20.0)} if sys.argv[2] == "trust-region" else {}
pruned = pruning(**given)
trainer = PruningTrainer(
    model=headed("tokens"),
    args=arguments(out, per_device_train_batch_size=size, gradient_accumulation_steps=3),
    train_dataset=rows_of("tokens", 36),
    pruning=pruned,
)
trainer.train()
save(pruned.masks, out / f"{rank}.safetensors")
(out / f"{rank}.txt").write_text(" ".join(
    str(entry["loss"]) for entry in trainer.state.log_history if "loss" in entry
))
(out / f"{rank}.factor").write_text(str(pruned.pruner.radius_factor))
"""


@pytest.mark.slow
@pytest.mark.parametrize("criterion", ["abs-pins", "trust-region"])
def test_two_processes_prune_alike_and_divide_the_loss_as_one(
    criterion: str, tmp_path: Path
) -> None:
    script = tmp_path / "train.py"
    script.write_text(TWO_PROCESSES)
    root = Path(__file__).parents[3]
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    alone = [sys.executable, str(script), str(tmp_path), criterion]
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    for command in (alone, [*launch, *alone[1:]]):
        subprocess.run(command, env=environment, check=True, capture_output=True)
    found = {rank: load_masks(tmp_path / f"{rank}.safetensors") for rank in ("alone", "0", "1")}
    assert all(torch.equal(mask, found["1"][name]) for name, mask in found["0"].items())
    assert count(found["0"]) == count(found["alone"])
    losses = {rank: (tmp_path / f"{rank}.txt").read_text().split() for rank in ("alone", "0")}
    factors = {rank: (tmp_path / f"{rank}.factor").read_text() for rank in ("0", "1")}
    assert factors["0"] == factors["1"]
    assert (factors["0"] != "1.0") == (criterion == "trust-region")
    # sums of other order: equal at first, and never far apart
    assert [float(each) for each in losses["0"]] == pytest.approx(
        [float(each) for each in losses["alone"]], rel=0.05
    )
    assert float(losses["0"][0]) == pytest.approx(float(losses["alone"][0]), rel=1e-5)


def test_without_self_regularisation_it_is_the_trainer_with_the_callback(tmp_path: Path) -> None:
    models = []
    for kind in KINDS:
        model, pruned = classifier(), pruning()
        options = {} if kind == "callback" else {"self_regularization": False}
        trainer = trainer_of(kind, model, pruned, args=arguments(tmp_path), **options)
        trainer.train()
        models.append((model, pruned.masks))
        assert pruned.regularizer is None
    assert_same(models[0][0], models[1][0], models[0][1], models[1][1])


# the teacher


@pytest.mark.parametrize("half", [False, True])
def test_the_teacher_computes_as_precisely_as_the_model(
    half: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # where bfloat16 is fast, the teacher would take it in any case
    monkeypatch.setattr(teacher_module, "fast_dtype", lambda _: torch.float32)
    seen: dict[str, set[torch.dtype]] = {"teacher": set(), "student": set()}

    def listen(_: int, model: nn.Module) -> None:
        for who, module in (("teacher", regularizer_of(pruned).teacher), ("student", model)):
            layer = module.get_submodule("bert.encoder.layer.0.intermediate.dense")
            layer.register_forward_hook(partial(hear, who))

    def hear(who: str, _: nn.Module, __: Any, output: Tensor) -> None:
        seen[who].add(output.dtype)

    pruned = pruning()
    trainer = PruningTrainer(
        model=classifier(),
        args=arguments(tmp_path, bf16=half),
        train_dataset=texts(),
        pruning=pruned,
        callbacks=[AfterSteps(listen)],
    )
    trainer.train()
    dtype = torch.bfloat16 if half else torch.float32
    assert seen == {"teacher": {dtype}, "student": {dtype}}


def test_a_teacher_of_ones_own_is_copied(tmp_path: Path) -> None:
    model, pruned = classifier(), pruning()
    other = classifier()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(0.5)
    kept = {name: parameter.clone() for name, parameter in other.named_parameters()}
    trainer = PruningTrainer(
        model=model, args=arguments(tmp_path), train_dataset=texts(), pruning=pruned, teacher=other
    )
    trainer.train()
    teacher = dict(regularizer_of(pruned).teacher.named_parameters())
    for name, parameter in other.named_parameters():
        assert torch.equal(parameter, kept[name])
        assert torch.equal(teacher[name], parameter.to(teacher[name]))


def test_frozen_weights_are_shared_with_the_teacher(tmp_path: Path) -> None:
    model, pruned = classifier(), pruning()
    model.bert.embeddings.requires_grad_(False)
    trainer = PruningTrainer(
        model=model, args=arguments(tmp_path), train_dataset=texts(), pruning=pruned
    )
    trainer.train()
    name = "bert.embeddings.word_embeddings.weight"
    teacher = regularizer_of(pruned).teacher
    assert teacher.get_parameter(name).data_ptr() == model.get_parameter(name).data_ptr()


def test_a_model_that_the_trainer_casts_before_training_is_taught_as_it_is_then(
    tmp_path: Path,
) -> None:
    model, pruned = classifier(), pruning()
    trainer = PruningTrainer(
        model=model,
        args=arguments(tmp_path, bf16_full_eval=True),
        train_dataset=texts(),
        eval_dataset=texts(),
        pruning=pruned,
    )
    trainer.evaluate()  # leaves the model in bfloat16
    assert model.dtype == torch.bfloat16
    trainer.train()
    dtypes = {parameter.dtype for parameter in regularizer_of(pruned).teacher.parameters()}
    assert dtypes == {torch.bfloat16}
    assert_pruned(model, pruned.masks)


def test_a_model_made_when_training_begins_is_the_one_that_is_pruned_and_taught(
    tmp_path: Path,
) -> None:
    made: list[nn.Module] = []

    def make() -> nn.Module:
        made.append(classifier())
        return made[-1]

    pruned = pruning()
    trainer = PruningTrainer(
        model_init=make,
        args=arguments(tmp_path, eval_strategy="steps", eval_steps=12),
        train_dataset=texts(),
        eval_dataset=texts(),
        pruning=pruned,
    )
    trainer.train()
    assert len(made) == 2
    assert trainer.model is made[-1]
    assert_pruned(made[-1], pruned.masks)
    teacher = dict(regularizer_of(pruned).teacher.named_parameters())
    for name, parameter in made[-1].named_parameters():
        assert torch.equal(teacher[name], parameter.to(teacher[name]))


SCORES = [0.9, 0.5, 0.7, 0.7, 0.6, 0.7]  # of a scripted metric, after every second step


class Scripted:
    """A metric that says what it was told to, one evaluation after the other."""

    def __init__(self, scores: Iterable[float]) -> None:
        self._scores = iter(scores)

    def __call__(self, _: EvalPrediction) -> dict[str, float]:
        return {"score": next(self._scores)}


@pytest.mark.parametrize(
    ("metric", "greater", "chosen"),
    # sparsities: dense at 2, then those of 4, 6, 8, and of 9 at 10 and 12
    [
        ("score", True, [2, 4, 6, 8, 10, 12]),
        ("eval_score", True, [2, 4, 6, 8, 10, 12]),
        ("score", False, [2, 4, 6, 8, 10]),
        ("score", None, [2, 4, 6, 8, 10, 12]),
    ],
)
def test_each_evaluation_offers_a_teacher(
    metric: str, greater: bool | None, chosen: list[int], tmp_path: Path
) -> None:
    pruned = pruning()
    teachers: list[int] = []
    weights: list[Tensor] = []

    def look(step: int, _: nn.Module) -> None:
        # an evaluation comes after its step: it is seen at the next one, or at the end
        found = regularizer_of(pruned).teacher.get_parameter("classifier.weight")
        weights.append(found.detach().clone())
        if len(weights) > 1 and not torch.equal(weights[-1], weights[-2]):
            teachers.append(step if len(weights) > STEPS else step - 1)

    trainer = PruningTrainer(
        model=classifier(),
        args=arguments(
            tmp_path,
            eval_strategy="steps",
            eval_steps=2,
            metric_for_best_model=metric,
            greater_is_better=greater,
        ),
        train_dataset=texts(),
        eval_dataset=texts(8),
        compute_metrics=Scripted([*SCORES, 0.0 if greater is False else 1.0]),
        pruning=pruned,
    )
    trainer.add_callback(AfterSteps(look))
    trainer.train()
    assert teachers == chosen
    best = regularizer_of(pruned).state_dict()[1]["best"]
    assert best[-1][0] == str(Fraction(repr(pruned.current_sparsity)))
    trainer.evaluate()  # better than all before, and not in training
    assert regularizer_of(pruned).state_dict()[1]["best"] == best


def test_the_models_own_loss_chooses_by_default(tmp_path: Path) -> None:
    model, pruned = classifier(), pruning()
    trainer = PruningTrainer(
        model=model,
        args=arguments(tmp_path, eval_strategy="steps", eval_steps=12),
        train_dataset=texts(),
        eval_dataset=texts(8),
        pruning=pruned,
    )
    trainer.train()
    (logged,) = [entry for entry in trainer.state.log_history if "eval_loss" in entry]
    best = regularizer_of(pruned).state_dict()[1]["best"]
    assert best == [[str(Fraction(repr(pruned.current_sparsity))), logged["eval_loss"]]]
    model.eval()
    with torch.no_grad():
        (batches,) = steps_of(texts(8), 8, 1, 1)
        assert logged["eval_loss"] == pytest.approx(float(model(**batches[0]).loss), rel=1e-6)


def test_of_several_datasets_the_named_one_chooses(tmp_path: Path) -> None:
    def train(**changes: Any) -> PruningCallback:
        pruned = pruning()
        PruningTrainer(
            model=classifier(),
            args=arguments(tmp_path, eval_strategy="steps", eval_steps=12, **changes),
            train_dataset=texts(),
            eval_dataset={"first": texts(8), "second": texts(4)},
            pruning=pruned,
        ).train()
        return pruned

    pruned = train(metric_for_best_model="second_loss")
    assert len(regularizer_of(pruned).state_dict()[1]["best"]) == 1
    with pytest.raises(
        SettingError,
        match=r"has no 'eval_loss' to choose the teacher by, but .*eval_first_loss.*: set metric_f",
    ):
        train()


# the best checkpoint


def test_the_best_model_at_the_end_is_one_with_the_final_masks(tmp_path: Path) -> None:
    model, pruned = classifier(), pruning()
    trainer = trainer_of(
        "callback",
        model,
        pruned,
        args=arguments(
            tmp_path,
            eval_strategy="steps",
            eval_steps=1,
            save_strategy="steps",
            save_steps=1,
            save_total_limit=2,
            load_best_model_at_end=True,
            metric_for_best_model="score",
        ),
        eval_dataset=texts(8),
        # the best of all is dense; of those with the final masks, that of step 10
        compute_metrics=Scripted([1.0] * 8 + [0.2, 0.4, 0.3, 0.1]),
    )
    trainer.train()
    best = tmp_path / "checkpoint-10"
    assert trainer.state.best_model_checkpoint == str(best)
    assert_pruned(model, pruned.masks)
    assert count(pruned.masks).kept == keep_count(0.8, TOTAL)
    loaded = AutoModelForSequenceClassification.from_pretrained(best)
    assert_same(model, loaded, {}, {})


def test_a_training_that_stops_early_says_what_is_missing(tmp_path: Path) -> None:
    pruned = pruning(schedule="linear", interval=1)
    trainer = trainer_of(
        "callback",
        classifier(),
        pruned,
        args=arguments(
            tmp_path,
            eval_strategy="steps",
            eval_steps=1,
            metric_for_best_model="score",
            load_best_model_at_end=True,
            save_strategy="steps",
            save_steps=1,
        ),
        eval_dataset=texts(8),
        compute_metrics=Scripted([0.5, 0.4]),
        callbacks=[EarlyStoppingCallback(1)],
    )
    with pytest.warns(
        UserWarning,
        match=r"training ended after step 2, and the last pruning decision is due after step 9: "
        r"the model is 0.0 sparse, less than requested",
    ):
        trainer.train()


# resuming


def whole(kind: str, folder: Path, **changes: Any) -> tuple[Any, PruningCallback]:
    model, pruned = classifier(hidden_dropout_prob=0.1), pruning()
    make(kind, folder, model, pruned, **changes).train()
    return model, pruned


def make(
    kind: str, folder: Path, model: nn.Module, pruned: PruningCallback, **changes: Any
) -> Trainer:
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
    return trainer_of(kind, model, pruned, **options)


def interrupted(kind: str, folder: Path, after: int = 7, **changes: Any) -> None:
    """A training that was killed after so many steps; its checkpoint is of step 4."""
    model, pruned = classifier(hidden_dropout_prob=0.1), pruning()
    trainer = make(kind, folder, model, pruned, **changes)
    trainer.add_callback(kill_after(after))
    with pytest.raises(Stop):
        trainer.train()


@pytest.mark.parametrize(
    ("kind", "how"),
    # the Trainer itself takes no Path
    [*((kind, how) for kind in KINDS for how in ("path", "True")), (KINDS[1], "Path")],
)
def test_a_training_that_resumes_ends_as_if_it_had_never_stopped(
    kind: str, how: str, tmp_path: Path
) -> None:
    model, pruned = whole(kind, tmp_path / "whole")
    interrupted(kind, tmp_path / "stopped")
    checkpoint = tmp_path / "stopped" / "checkpoint-4"
    resumed, going_on = classifier(initializer_range=0.3, hidden_dropout_prob=0.1), pruning()
    trainer: Any = make(kind, tmp_path / "stopped", resumed, going_on)
    given = {"path": str(checkpoint), "Path": checkpoint, "True": True}[how]
    trainer.train(resume_from_checkpoint=given)
    assert pruner_of(going_on).steps == STEPS
    assert_same(model, resumed, pruned.masks, going_on.masks)
    averages, others = (pruner_of(p).smoothing.state_dict() for p in (pruned, going_on))
    assert averages.keys() == others.keys()
    assert all(torch.equal(average, others[name]) for name, average in averages.items())
    if kind == "self-regularised":
        first, second = (regularizer_of(p).state_dict() for p in (pruned, going_on))
        assert first[1] == second[1]
        assert all(torch.equal(tensor, second[0][name]) for name, tensor in first[0].items())


def test_a_trust_region_resumes_with_its_radius(tmp_path: Path) -> None:
    def made() -> tuple[Any, PruningCallback]:
        criterion = TrustRegion(radius=20.0)
        return classifier(hidden_dropout_prob=0.1), pruning(criterion=criterion)

    kind = "self-regularised"
    model, pruned = made()
    make(kind, tmp_path / "whole", model, pruned).train()
    stopped, cut = made()
    trainer = make(kind, tmp_path / "stopped", stopped, cut)
    trainer.add_callback(kill_after(7))
    with pytest.raises(Stop):
        trainer.train()
    checkpoint = tmp_path / "stopped" / "checkpoint-4"
    assert trainer_state.load(checkpoint).radius_factor != 1.0
    resumed, going_on = made()
    make(kind, tmp_path / "stopped", resumed, going_on).train(resume_from_checkpoint=True)
    assert_same(model, resumed, pruned.masks, going_on.masks)
    assert pruner_of(pruned).radius_factor == pruner_of(going_on).radius_factor
    assert pruner_of(pruned).loss_change == pruner_of(going_on).loss_change


@pytest.mark.parametrize("kind", KINDS)
def test_a_training_resumes_from_elsewhere(kind: str, tmp_path: Path) -> None:
    model, pruned = whole(kind, tmp_path / "whole")
    interrupted(kind, tmp_path / "stopped")
    checkpoint = tmp_path / "stopped" / "checkpoint-4"
    resumed, going_on = classifier(initializer_range=0.3, hidden_dropout_prob=0.1), pruning()
    trainer = make(kind, tmp_path / "new", resumed, going_on)
    if kind == "callback":
        with pytest.raises(
            CheckpointError,
            match=r"new/checkpoint-4/pins.safetensors is missing: .* told by its resume\(folder\)",
        ):
            trainer.train(resume_from_checkpoint=str(checkpoint))
        going_on.resume(checkpoint)
    trainer.train(resume_from_checkpoint=str(checkpoint))
    assert_same(model, resumed, pruned.masks, going_on.masks)


@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_that_was_written_without_pruning(kind: str, tmp_path: Path) -> None:
    args = arguments(tmp_path, save_strategy="steps", save_steps=5)
    Trainer(model=classifier(), args=args, train_dataset=texts()).train()
    trainer = make(kind, tmp_path, classifier(), pruning(), max_steps=20)
    with pytest.raises(
        CheckpointError,
        match=r"checkpoint-12/pins.safetensors is missing: the checkpoint was not written with a "
        r"PruningCallback, was not finished, or lies elsewhere; name another one",
    ):
        trainer.train(resume_from_checkpoint=True)


def damaged(how: str, file: Path) -> None:
    tensors, metadata = load_tensors(file)
    scalars = json.loads(metadata["scalars"])
    if how == "torn":
        file.write_bytes(file.read_bytes()[:-7])
    elif how == "other format":
        save_tensors(tensors, file, {**metadata, "format": "pins-mask"})
    elif how == "earlier version":
        save_tensors(tensors, file, {**metadata, "version": "1"})
    elif how == "no radius":
        del scalars["radius_factor"]
        save_tensors(tensors, file, {**metadata, "scalars": json.dumps(scalars)})
    elif how == "no steps":
        del scalars["steps"]
        save_tensors(tensors, file, {**metadata, "scalars": json.dumps(scalars)})
    elif how == "not JSON":
        save_tensors(tensors, file, {**metadata, "scalars": "{"})
    elif how == "other step":
        scalars["steps"] = 3
        save_tensors(tensors, file, {**metadata, "scalars": json.dumps(scalars)})
    elif how == "other masks":
        for name in tensors:
            if name.startswith("masks/"):
                tensors[name] = tensors[name].flip(0)
        save_tensors(tensors, file, metadata)
    elif how == "other smoothing":
        tensors["smoothing/window/x"] = torch.zeros(1)
        save_tensors(tensors, file, metadata)
    else:
        del scalars["teacher"]
        save_tensors(tensors, file, {**metadata, "scalars": json.dumps(scalars)})


DAMAGES = [
    ("torn", r"is not where a pruning stood: .*is not a whole safetensors file"),
    ("other format", "is not where a pruning stood: its metadata names another format"),
    ("earlier version", "has version 1 of the format, this PINS reads 2; resume from another"),
    ("no radius", "is not where a pruning stood: 'radius_factor'"),
    ("no steps", "is not where a pruning stood: 'steps'"),
    ("not JSON", "is not where a pruning stood: Expecting property name"),
    ("other step", r"are of step 3 and prune 0 weights .* goes on after step 4: they come"),
    ("other masks", r"are of step 4 and prune \d+ weights that are not zero; the Trainer goes"),
    ("other smoothing", "does not fit this training: the state has 'window/x', which smooth"),
]
NO_TEACHER = "does not fit this training: it was written without self-regularisation"


@pytest.mark.parametrize(
    ("kind", "how", "message"),
    [*((kind, *damage) for kind in KINDS for damage in DAMAGES), (KINDS[1], "none", NO_TEACHER)],
)
def test_a_checkpoint_that_is_damaged_is_one_clear_error(
    kind: str, how: str, message: str, tmp_path: Path
) -> None:
    interrupted(kind, tmp_path, after=5)
    damaged(how, tmp_path / "checkpoint-4" / FILE)
    with pytest.raises(CheckpointError, match=message) as caught:
        make(kind, tmp_path, classifier(hidden_dropout_prob=0.1), pruning()).train(
            resume_from_checkpoint=True
        )
    assert "\n" not in str(caught.value)
    assert "checkpoint-4" in str(caught.value)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"hidden_size": 16}, r"the mask of 'bert.encoder.* has shape \(16, 16\): masks are"),
        ({"num_hidden_layers": 3}, r"'bert.encoder.layer.2.* has no mask: masks and tensors must"),
        ({"num_hidden_layers": 1}, r"'bert.encoder.layer.1.* has a mask but no tensor"),
    ],
)
def test_a_checkpoint_of_another_model_is_one_clear_error(
    model: dict[str, int], message: str, tmp_path: Path
) -> None:
    interrupted("self-regularised", tmp_path, after=6)
    trainer = PruningTrainer(
        model=classifier(**model),
        args=arguments(tmp_path),
        train_dataset=texts(),
        pruning=pruning(),
    )
    with pytest.raises(
        CheckpointError, match=rf"checkpoint-4 is of another model: {message}"
    ) as caught:
        trainer.train(resume_from_checkpoint=True)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_with_other_prunable_weights_is_one_clear_error(tmp_path: Path) -> None:
    interrupted("callback", tmp_path, after=6)
    trainer = make("callback", tmp_path, classifier(), pruning(include="attention"))
    with pytest.raises(CheckpointError, match=r"checkpoint-4 is of another model: .* no tensor"):
        trainer.train(resume_from_checkpoint=True)


def test_a_resume_that_came_to_nothing_leaves_nothing_behind(tmp_path: Path) -> None:
    interrupted("callback", tmp_path / "stopped")
    model, pruned = whole("callback", tmp_path / "whole")
    other, fresh = classifier(hidden_dropout_prob=0.1), pruning()
    trainer = make("callback", tmp_path / "new", other, fresh)
    fresh.resume(tmp_path / "stopped" / "checkpoint-4")
    trainer.train()  # from the start
    assert_same(model, other, pruned.masks, fresh.masks)
    trainer = make("callback", tmp_path / "new", other, fresh)
    trainer.train(resume_from_checkpoint=str(tmp_path / "new" / "checkpoint-8"))
    assert_same(model, other, pruned.masks, fresh.masks)


def test_training_once_more_prunes_anew(tmp_path: Path) -> None:
    model, pruned = classifier(), pruning()
    trainer = trainer_of("self-regularised", model, pruned, args=arguments(tmp_path, bf16=True))
    for _ in range(2):
        trainer.train()
        assert pruner_of(pruned).steps == STEPS
        assert count(pruned.masks).kept == keep_count(0.8, TOTAL)
        assert_pruned(model, pruned.masks)


# zeros that are kept


def sparse_folder(folder: Path) -> Path:
    """A saved model, half of the encoder's weights zero."""
    model = classifier()
    weights = prunable_parameters(model).parameters
    generator = torch.Generator().manual_seed(3)
    apply({n: torch.rand(w.shape, generator=generator) < 0.5 for n, w in weights.items()}, weights)
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("optim", ["adamw_torch_fused", "sgd"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_sparse_model_keeps_every_zero(kind: str, optim: str, tmp_path: Path) -> None:
    folder = sparse_folder(tmp_path / "sparse")
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    pruned = PruningCallback(keep_zeros=True)
    trainer = trainer_of(
        kind, model, pruned, args=arguments(tmp_path / "out", optim=optim, weight_decay=0.1)
    )
    trainer.add_callback(AfterSteps(lambda _, model: assert_pruned(model, pruned.masks)))
    trainer.train()
    assert pruned.pruner is None
    assert pruned.masks.keys() == prunable_parameters(model).parameters.keys()
    for name, mask in pruned.masks.items():
        assert torch.equal(mask, before[name] != 0)
        assert bool((model.get_parameter(name) != before[name])[mask].any())
    assert history(trainer) == [count(pruned.masks).sparsity] * STEPS


def test_kept_zeros_resume_with_the_zeros_of_the_start(tmp_path: Path) -> None:
    folder = sparse_folder(tmp_path / "sparse")

    name = "bert.encoder.layer.0.output.dense.weight"

    def one_more(step: int, model: nn.Module) -> None:
        if step == 4:  # right before the checkpoint, by chance
            weight = model.get_parameter(name).data
            weight[tuple(weight.nonzero()[0])] = 0.0

    def training(out: str) -> tuple[nn.Module, PruningCallback, Trainer]:
        model = AutoModelForSequenceClassification.from_pretrained(folder)
        pruned = PruningCallback(keep_zeros=True)
        trainer = make("callback", tmp_path / out, model, pruned)
        trainer.add_callback(AfterSteps(one_more))
        return model, pruned, trainer

    model, pruned, trainer = training("whole")
    trainer.train()
    *_, trainer = training("stopped")
    trainer.add_callback(kill_after(6))
    with pytest.raises(Stop):
        trainer.train()
    resumed, going_on, trainer = training("stopped")
    trainer.train(resume_from_checkpoint=True)
    assert_same(model, resumed, pruned.masks, going_on.masks)


def test_a_dense_model_has_no_zeros_to_keep(tmp_path: Path) -> None:
    trainer = trainer_of(
        "callback", classifier(), PruningCallback(keep_zeros=True), args=arguments(tmp_path)
    )
    with pytest.raises(ParameterError, match="found no zero among 1,024 weights: the model is den"):
        trainer.train()


# reports


def reported(folder: Path) -> dict[str, list[float]]:
    """What the event files of TensorBoard say, by tag."""
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    values: dict[str, list[float]] = {}
    for file in sorted(folder.rglob("events.out.tfevents*")):
        events = accumulators.EventAccumulator(str(file)).Reload()
        for tag in events.Tags()["scalars"]:
            values.setdefault(tag, []).extend(event.value for event in events.Scalars(tag))
    return values


def history(trainer: Trainer) -> list[float]:
    return [entry["sparsity"] for entry in trainer.state.log_history if "loss" in entry]


EXPECTED = [sparsity_after(step) for step in range(2, STEPS + 1, 2)]


@pytest.mark.parametrize("self_regularization", [True, False])
def test_the_sparsity_is_reported_like_any_other_metric(
    self_regularization: bool, tmp_path: Path
) -> None:
    trainer = PruningTrainer(
        model=classifier(),
        args=arguments(tmp_path, report_to="tensorboard", logging_steps=2),
        train_dataset=texts(),
        pruning=pruning(),
        self_regularization=self_regularization,
    )
    trainer.train()
    assert history(trainer) == EXPECTED
    values = reported(tmp_path)
    assert len(values["train/loss"]) == len(values["train/sparsity"]) == STEPS // 2
    assert values["train/sparsity"] == [float(np.float32(each)) for each in EXPECTED]


def test_the_callback_reports_to_the_history_and_to_callbacks_after_it(tmp_path: Path) -> None:
    args = arguments(tmp_path, logging_steps=2)
    reporting = TensorBoardCallback()  # type: ignore[no-untyped-call]
    trainer = trainer_of("callback", classifier(), pruning(), args=args, callbacks=[reporting])
    trainer.train()
    assert history(trainer) == EXPECTED
    assert reported(tmp_path)["train/sparsity"] == [float(np.float32(each)) for each in EXPECTED]


def test_before_a_callback_that_reports_the_trainer_has_reported(tmp_path: Path) -> None:
    """The limit that the docstring states: `report_to` comes before the callbacks given."""
    args = arguments(tmp_path, report_to="tensorboard", logging_steps=2)
    trainer = trainer_of("callback", classifier(), pruning(), args=args)
    trainer.train()
    assert history(trainer) == EXPECTED
    assert "train/loss" in reported(tmp_path)
    assert "train/sparsity" not in reported(tmp_path)


# schedules and settings


@pytest.mark.parametrize(
    ("pruned", "message"),
    [
        (
            PruningCallback(schedule=CubicSchedule(steps=20, final_sparsity=0.8, cooldown=3)),
            "is due after step 17, and the Trainer takes 12: 5 too few; train longer, or prune",
        ),
        (
            PruningCallback(schedule=OneShotSchedule(0.5, at=13)),
            "is due after step 13, and the Trainer takes 12: 1 too few",
        ),
        (PruningCallback(0.5, schedule="one-shot", warmup=12), "after step 13.*: 1 too few"),
        (
            PruningCallback(0.5, warmup=9, cooldown=8),
            r"warm-up 9 \+ cool-down 8 leave no step to prune in 12: 6 too many",
        ),
    ],
)
def test_a_schedule_that_does_not_fit_says_by_how_much_before_the_first_step(
    pruned: PruningCallback, message: str, tmp_path: Path
) -> None:
    model = classifier()
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    trainer = trainer_of("callback", model, pruned, args=arguments(tmp_path))
    with pytest.raises(ScheduleError, match=message):
        trainer.train()
    assert all(torch.equal(weight, before[name]) for name, weight in model.named_parameters())


def test_a_schedule_that_fits_exactly_is_taken(tmp_path: Path) -> None:
    pruned = PruningCallback(schedule=OneShotSchedule(Fraction(1, 2), at=STEPS))
    trainer_of("callback", classifier(), pruned, args=arguments(tmp_path)).train()
    assert pruned.current_sparsity == 0.5


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({}, SettingError, "a schedule object or keep_zeros=True, one of them: it was given 0"),
        ({"sparsity": 0.5, "keep_zeros": True}, SettingError, "it was given 2"),
        ({"sparsity": 0.5, "schedule": OneShotSchedule(0.5)}, SettingError, "it was given 2"),
        ({"keep_zeros": True, "warmup": 1}, SettingError, "a warm-up or a cool-down: they go with"),
        ({"sparsity": 1.5}, ScheduleError, "sparsity is 1.5: it is a ratio"),
        ({"sparsity": 0.5, "schedule": "square"}, ScheduleError, "there is no schedule 'square'"),
        ({"sparsity": 0.5, "criterion": "best"}, CriterionError, "there is no criterion 'best'"),
        ({"sparsity": 0.5, "smoothing": "much"}, CriterionError, "there is no smoothing 'much'"),
    ],
)
def test_what_makes_no_sense_is_refused_at_once(
    given: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        PruningCallback(**given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"callbacks": [pruning()]}, "a PruningCallback among its callbacks: give it as pruning="),
        ({"compute_loss_func": lambda *_, **__: None}, "compute_loss_func or label_smoothing_fac"),
        (
            {"self_regularization": False, "teacher": nn.Linear(1, 1)},
            "a teacher and self_regularization=False: a teacher needs the mixed loss",
        ),
    ],
)
def test_what_excludes_each_other_is_refused(
    given: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(SettingError, match=message):
        PruningTrainer(model=classifier(), args=arguments(tmp_path), pruning=pruning(), **given)


def test_label_smoothing_and_self_regularisation_exclude_each_other(tmp_path: Path) -> None:
    args = arguments(tmp_path, label_smoothing_factor=0.1)
    with pytest.raises(SettingError, match="which has a loss of its own: leave one of them out"):
        PruningTrainer(model=classifier(), args=args, pruning=pruning())
    PruningTrainer(model=classifier(), args=args, pruning=pruning(), self_regularization=False)


def test_a_teacher_that_is_another_network_is_refused_before_the_first_step(
    tmp_path: Path,
) -> None:
    trainer = PruningTrainer(
        model=classifier(),
        args=arguments(tmp_path),
        train_dataset=texts(),
        pruning=pruning(),
        teacher=classifier(num_hidden_layers=1),
    )
    with pytest.raises(ModelError, match=r"the teacher has no 'bert.encoder.layer.1"):
        trainer.train()
    assert trainer.state.global_step == 0


def test_sharded_training_is_refused(tmp_path: Path) -> None:
    args = arguments(tmp_path)
    args.deepspeed = "config.json"
    trainer = trainer_of("callback", classifier(), pruning(), args=arguments(tmp_path))
    model = classifier()
    with pytest.raises(SettingError, match="AdamW, of DeepSpeed or another library"):
        pruning().on_train_begin(
            args,
            trainer.state,
            trainer.control,
            model=model,
            optimizer=torch.optim.AdamW(model.parameters()),
        )
