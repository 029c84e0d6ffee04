"""PruningCallback in a Trainer: exact masks, kept zeros, reports, and clear errors."""

import copy
from contextlib import nullcontext
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip("transformers")
pytest.importorskip("accelerate")

from transformers import (
    AutoModelForSequenceClassification,
    EarlyStoppingCallback,
    Trainer,
)
from transformers.integrations.integration_utils import TensorBoardCallback

from pins.errors import (
    CardinalityError,
    CriterionError,
    ParameterError,
    ScheduleError,
    SettingError,
)
from pins.importance.criteria import CRITERIA
from pins.masks import count
from pins.models.parameters import prunable_parameters
from pins.pruning.optimizer_hooks import unwrapped_optimizer
from pins.pruning.schedules import CubicSchedule, OneShotSchedule
from pins.selection.constraints import keep_count
from pins.trainer.pruning_trainer import PruningCallback, PruningTrainer
from tests.pins.trainer.trainers import (
    KINDS,
    SCHEDULE,
    STEPS,
    TOTAL,
    AfterSteps,
    Scripted,
    arguments,
    assert_pruned,
    assert_same,
    classifier,
    default_pruner,
    half_sparse,
    plain_loop,
    pruner_of,
    pruning,
    sparse_folder,
    sparsity_after,
    steps_of,
    texts,
    trainer_of,
)


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


def zeros_of(model: nn.Module) -> int:
    return sum(int((w == 0).sum()) for w in prunable_parameters(model).parameters.values())


@pytest.mark.parametrize("optimizer_of", ["each training", "both trainings"])
def test_training_once_more_keeps_the_zeros(optimizer_of: str, tmp_path: Path) -> None:
    model, pruned = classifier(), pruning()
    trainer = trainer_of("self-regularised", model, pruned, args=arguments(tmp_path, bf16=True))
    trainer.train()
    masks = dict(pruned.masks)
    if optimizer_of == "each training":
        trainer.optimizer = None
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    zeros: list[int] = []
    trainer.add_callback(AfterSteps(lambda _, model: zeros.append(zeros_of(model))))
    trainer.train()
    assert zeros == [TOTAL - keep_count(0.8, TOTAL)] * (STEPS + 1)
    assert pruner_of(pruned).steps == STEPS
    assert all(torch.equal(mask, masks[name]) for name, mask in pruned.masks.items())
    for name, mask in masks.items():  # what is kept has learnt
        assert bool((model.get_parameter(name) != before[name])[mask].all())


def test_a_new_model_is_pruned_anew_and_a_new_callback_starts_with_the_zeros(
    tmp_path: Path,
) -> None:
    model, pruned = classifier(), pruning()
    trainer_of("callback", model, pruned, args=arguments(tmp_path)).train()
    final = TOTAL - keep_count(0.8, TOTAL)
    revived = copy.deepcopy(model)
    for again, given, stay in (
        (classifier(), pruned, False),
        (model, pruning(), True),
        (revived, pruning(revive_zeros=True), False),
    ):
        zeros: list[int] = []
        trainer = trainer_of("callback", again, given, args=arguments(tmp_path))
        trainer.add_callback(AfterSteps(lambda _, model: zeros.append(zeros_of(model))))  # noqa: B023
        # pruning has left whole tensors of zeros
        with pytest.warns(UserWarning, match="stay so") if stay else nullcontext():
            trainer.train()
        assert zeros[-1] == final
        assert (zeros[0] == final) == stay


def test_a_target_below_the_zeros_of_the_model_is_refused(tmp_path: Path) -> None:
    trainer = trainer_of("callback", half_sparse(), pruning(0.4), args=arguments(tmp_path))
    with pytest.raises(CardinalityError, match=r"give a sparsity of at least 0\.5, or revive"):
        trainer.train()
    with pytest.raises(SettingError, match="keep_zeros and revive_zeros: leave one of them out"):
        PruningCallback(keep_zeros=True, revive_zeros=True)


def test_hooks_end_with_the_training(tmp_path: Path) -> None:
    model = half_sparse()
    for pruned in (pruning(), PruningCallback(keep_zeros=True)):
        trainer = trainer_of("callback", model, pruned, args=arguments(tmp_path, weight_decay=0.1))
        trainer.train()
        optimizer = unwrapped_optimizer(trainer.optimizer, "the test")
        assert not optimizer._optimizer_step_post_hooks
        assert not optimizer._optimizer_step_pre_hooks


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


def test_a_dense_model_has_no_zeros_to_keep(tmp_path: Path) -> None:
    trainer = trainer_of(
        "callback", classifier(), PruningCallback(keep_zeros=True), args=arguments(tmp_path)
    )
    with pytest.raises(ParameterError, match="found no zero among 1,024 weights: the model is den"):
        trainer.train()


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


def test_sharded_training_is_refused(tmp_path: Path) -> None:
    args = arguments(tmp_path)
    args.deepspeed = "config.json"
    trainer = trainer_of("callback", classifier(), pruning(), args=arguments(tmp_path))
    model = classifier()
    with pytest.raises(SettingError, match="a Trainer with DeepSpeed, which keeps weights and g"):
        pruning().on_train_begin(
            args,
            trainer.state,
            trainer.control,
            model=model,
            optimizer=torch.optim.AdamW(model.parameters()),
        )
