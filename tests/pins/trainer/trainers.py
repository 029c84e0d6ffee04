"""Small trainings with the Trainer of transformers, and the same ones as plain loops."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from transformers import (
    EvalPrediction,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from pins.importance.criterion import Criterion
from pins.importance.smoothing import Uncertainty
from pins.masks import apply
from pins.models.batches import Batch
from pins.models.heads import Head
from pins.models.parameters import prunable_parameters
from pins.models.self_distillation import SelfRegularizer
from pins.models.task_loss import step_loss
from pins.pruning.pruner import Pruner
from pins.pruning.schedules import CubicSchedule
from pins.selection.constraints import keep_count
from pins.trainer.pruning_trainer import PruningCallback, PruningTrainer
from tests.pins.headed import HEADED
from tests.pins.networks import tiny

Rows = list[Batch]
OPTIMIZERS: Mapping[str, Callable[..., Optimizer]] = {  # as the Trainer makes them by default
    "adamw_torch": partial(torch.optim.AdamW, weight_decay=0.0),
    "adamw_torch_fused": partial(torch.optim.AdamW, weight_decay=0.0, fused=True),
    "sgd": torch.optim.SGD,
}
STEPS = 12
SCHEDULE = CubicSchedule(steps=STEPS, final_sparsity=0.8, warmup=2, cooldown=3, interval=2)
PHASES: dict[str, Any] = {"warmup": 2, "cooldown": 3, "interval": 2}
DECISIONS = (4, 6, 8, 9)
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def texts(count: int = 16) -> Rows:
    """Rows of 4 to 6 words and padding; the class is that of the first word."""
    generator = torch.Generator().manual_seed(0)
    rows = []
    for row in range(count):
        words = torch.randint(3, 10, (6,), generator=generator)
        mask = (torch.arange(6) < 6 - row % 3).long()
        rows.append({"input_ids": words * mask, "attention_mask": mask, "labels": words[0] % 3})
    return rows


def classifier(**changes: Any) -> Any:
    """A tiny BERT for three classes, without dropout."""
    return tiny("Bert", "ForSequenceClassification", num_labels=3, **{**NO_DROPOUT, **changes})


def half_sparse(**changes: Any) -> Any:
    """The same, with every second column of the weights to prune zero."""
    model = classifier(**changes)
    with torch.no_grad():
        for weight in prunable_parameters(model).parameters.values():
            weight[:, ::2] = 0
    return model


WITHOUT_DROPOUT: Mapping[str, Mapping[str, float]] = {
    "Bert": NO_DROPOUT,
    "GPT2": {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0},
    "T5": {"dropout_rate": 0.0},
}


def headed(head: str) -> nn.Module:
    """A tiny model with that head, without dropout in training either."""
    made = HEADED[head]
    changes = {**made.changes, **WITHOUT_DROPOUT[made.family]}
    return replace(made, changes=changes).model()


def rows_of(head: str, count: int = 12) -> Rows:
    """Rows for a model of that head; as for labels, one has more than the next."""
    batch = HEADED[head].batch()
    return [{name: tensor[row % 3] for name, tensor in batch.items()} for row in range(count)]


def collated(rows: Sequence[Batch]) -> Batch:
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}


def steps_of(rows: Rows, size: int, parts: int, count: int) -> Iterator[list[Batch]]:
    """The batches of each step, in the order of the rows, over and over."""
    batches = [collated(rows[at : at + size]) for at in range(0, len(rows), size)]
    for step in range(count):
        yield [batches[(step * parts + part) % len(batches)] for part in range(parts)]


def arguments(folder: Path, **changes: Any) -> TrainingArguments:
    """Quiet, on the CPU, rows in their order, no checkpoints."""
    return TrainingArguments(
        **{
            "output_dir": str(folder),
            "max_steps": STEPS,
            "per_device_train_batch_size": 4,
            "per_device_eval_batch_size": 8,
            "learning_rate": 1e-2,
            "lr_scheduler_type": "constant",
            "optim": "adamw_torch",
            "train_sampling_strategy": "sequential",
            "logging_steps": 1,
            "save_strategy": "no",
            "report_to": "none",
            "disable_tqdm": True,
            "use_cpu": True,
            "dataloader_pin_memory": False,
            **changes,
        }
    )


def pruning(sparsity: float = 0.8, **changes: Any) -> PruningCallback:
    return PruningCallback(sparsity, **{**PHASES, **changes})


def plain_loop(
    model: nn.Module,
    steps: Iterator[list[Batch]],
    pruner_of: Callable[[Optimizer], Pruner],
    *,
    optimizer: str = "adamw_torch",
    head: Head | None = None,
    regularizer: SelfRegularizer | None = None,
    half: bool = False,
) -> Pruner:
    """Forward, backward, clip, step, prune; with a regulariser the mixed loss of `head`."""
    taking = OPTIMIZERS[optimizer](model.parameters(), lr=1e-2)
    pruner = pruner_of(taking)
    for parts in steps:
        model.train()
        count = 0 if head is None else sum(head.count(part) for part in parts)
        for part in parts:
            with torch.autocast("cpu", torch.bfloat16) if half else nullcontext():
                output = model(**part)
                if half:  # accelerate widens what a model returns
                    output = SimpleNamespace(
                        **{n: t.float() for n, t in output.items() if isinstance(t, Tensor)}
                    )
                if regularizer is None:
                    loss: Tensor = output.loss
                else:
                    loss = regularizer.loss(output, part, num_items=count)
            torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        taking.step()
        pruner.step()
        taking.zero_grad()
    return pruner


def default_pruner(model: nn.Module, schedule: Any) -> Callable[[Optimizer], Pruner]:
    """What PruningCallback makes by default."""
    return lambda optimizer: Pruner(model, optimizer, "abs-pins", schedule, smoothing=Uncertainty())


def region_pruner(
    model: nn.Module, schedule: Any, criterion: Criterion, head: Head, step: list[Batch]
) -> Callable[[Optimizer], Pruner]:
    """What PruningCallback makes of a criterion that reads the loss of the rows in `step`."""
    return lambda optimizer: Pruner(
        model, optimizer, criterion, schedule, loss=lambda: step_loss(model, step, head)
    )


def remembered(steps: Iterator[list[Batch]], step: list[Batch]) -> Iterator[list[Batch]]:
    """The same batches; those of the latest step are in `step`, too."""
    for parts in steps:
        step[:] = parts
        yield parts


TOTAL = 2 * (4 * 8 * 8 + 2 * 8 * 16)  # prunable weights of the tiny BERT
KINDS = ("callback", "self-regularised")


def sparsity_after(step: int) -> float:
    """The sparsity of the latest decision, counted."""
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


class Scripted:
    """A metric with given values, one per evaluation."""

    def __init__(self, scores: Iterable[float]) -> None:
        self._scores = iter(scores)

    def __call__(self, _: EvalPrediction) -> dict[str, float]:
        return {"score": next(self._scores)}


def sparse_folder(folder: Path) -> Path:
    """A saved model, half of the encoder's weights zero."""
    model = classifier()
    weights = prunable_parameters(model).parameters
    generator = torch.Generator().manual_seed(3)
    apply({n: torch.rand(w.shape, generator=generator) < 0.5 for n, w in weights.items()}, weights)
    model.save_pretrained(folder)
    return folder


class Stop(Exception):  # noqa: N818 (nothing is wrong with it)
    """Somebody killed the training."""


class AfterSteps(TrainerCallback):
    """Calls a function with the number and the model after each step, and once more at the end."""

    def __init__(self, look: Callable[[int, nn.Module], None]) -> None:
        self._look = look

    def on_step_end(
        self,
        args: TrainingArguments,  # noqa: ARG002 (mypy holds on to the names)
        state: TrainerState,
        control: TrainerControl,  # noqa: ARG002
        **given: Any,
    ) -> None:
        self._look(state.global_step, given["model"])

    def on_train_end(
        self,
        args: TrainingArguments,  # noqa: ARG002 (mypy holds on to the names)
        state: TrainerState,
        control: TrainerControl,  # noqa: ARG002
        **given: Any,
    ) -> None:
        self._look(state.global_step, given["model"])


def kill_after(step: int) -> AfterSteps:
    """A training that has this among its callbacks is killed after so many steps."""

    def look(number: int, _: nn.Module) -> None:
        if number == step:
            raise Stop

    return AfterSteps(look)


def assert_pruned(model: nn.Module, masks: Mapping[str, Tensor]) -> None:
    """What the masks prune is +0."""
    assert masks
    for name, mask in masks.items():
        pruned = model.get_parameter(name).detach()[~mask]
        assert not pruned.any()
        assert not pruned.signbit().any()


def assert_same(
    first: nn.Module, second: nn.Module, masks: Mapping[str, Tensor], others: Mapping[str, Tensor]
) -> None:
    """Weights and masks are equal, bit for bit."""
    assert masks.keys() == others.keys()
    assert all(torch.equal(mask, others[name]) for name, mask in masks.items())
    second_weights = dict(second.named_parameters())
    for name, weight in first.named_parameters():
        assert torch.equal(weight, second_weights[name]), name
