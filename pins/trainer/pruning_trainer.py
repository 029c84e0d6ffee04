"""PruningTrainer: the Trainer of Hugging Face transformers with pruning and self-regularisation.

Trainer(..., callbacks=[PruningCallback(sparsity=0.8)])            prunes
PruningTrainer(..., pruning=PruningCallback(sparsity=0.8))         prunes, self-regularised
Trainer(..., callbacks=[PruningCallback(keep_zeros=True)])         fine-tunes a sparse model
"""

import os
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Trainer
from transformers.trainer_utils import get_last_checkpoint

from pins.errors import SettingError
from pins.importance.criterion import Reads
from pins.models.heads import Head, find_head
from pins.models.self_distillation import SelfRegularizer
from pins.models.task_loss import auxiliary_loss, step_loss
from pins.trainer.callback import PruningCallback

__all__ = ["PruningCallback", "PruningTrainer"]


class PruningTrainer(Trainer):
    """A Trainer that prunes, with the latest best checkpoint as teacher of the model.

    The loss is the mean over the predictions of a whole step, for any number of batches and
    devices. At each evaluation the best checkpoint is chosen by `metric_for_best_model`, default
    the loss; without `eval_strategy` the first teacher stays.

    Attributes:
        pruning: the callback, with the `regularizer` in training.
    """

    def __init__(
        self,
        *args: Any,
        pruning: PruningCallback,
        self_regularization: bool = True,
        teacher: nn.Module | None = None,
        teacher_score: float | None = None,
        head: Head | None = None,
        temperature: float = 2.0,
        **options: Any,
    ) -> None:
        """Create a Trainer with pruning.

        Args:
            *args: of `transformers.Trainer`.
            pruning: the callback.
            self_regularization: whether to use the mixed loss.
            teacher: the first teacher, a dense fine-tuned model on any device; default: the model
                when training begins.
            teacher_score: its `metric_for_best_model`; see `SelfRegularizer`.
            head: the prediction of the model; default: by the name of its class.
            temperature: T of the divergence.
            **options: of `transformers.Trainer`.

        Raises:
            ModelError: PINS does not know the head of the model.
            SettingError: two options exclude each other.
        """
        super().__init__(*args, **options)
        if any(isinstance(each, PruningCallback) for each in self.callback_handler.callbacks):
            raise SettingError(
                "PruningTrainer() was given a PruningCallback among its callbacks: give it as "
                "pruning= alone"
            )
        self.pruning = pruning
        self._first_teacher, self._temperature = teacher, temperature
        self._teacher_score = teacher_score
        self._head: Head | None = None  # of the mixed loss, if used
        self._loss_head: Head | None = None  # of the task's loss, if the criterion reads it
        self._step_batches: list[Any] = []
        if Reads.LOSS in pruning.criterion.reads:
            assert isinstance(self.model, nn.Module)
            self._loss_head = head or find_head(self.model)
            pruning.loss = self._step_loss
        if self_regularization:
            if self.compute_loss_func is not None or self.label_smoother is not None:
                raise SettingError(
                    "PruningTrainer() was given compute_loss_func or label_smoothing_factor and "
                    "self-regularisation, which has a loss of its own: leave one of them out"
                )
            assert isinstance(self.model, nn.Module)
            self._head = head or find_head(self.model)
            self.loss_is_scaled_for_ga = True  # by the number of a step's predictions
            pruning.teach = self._regularizer
        elif teacher is not None:
            raise SettingError(
                "PruningTrainer() was given a teacher and self_regularization=False: a teacher "
                "needs the mixed loss"
            )
        self.add_callback(pruning)

    def train(
        self,
        resume_from_checkpoint: str | os.PathLike[str] | bool | None = None,
        *args: Any,
        **options: Any,
    ) -> Any:
        """As `Trainer.train`.

        Raises:
            CheckpointError: the checkpoint was written without pruning, or with another model.
            ScheduleError: the schedule does not fit into the steps.
        """
        if resume_from_checkpoint is True:
            last = get_last_checkpoint(self.args.output_dir)  # type: ignore[no-untyped-call]
            resume_from_checkpoint = last or True  # True: the Trainer raises its error
        if not resume_from_checkpoint or resume_from_checkpoint is True:
            return super().train(bool(resume_from_checkpoint), *args, **options)
        folder = os.fspath(resume_from_checkpoint)
        assert isinstance(self.model, nn.Module)
        self.pruning.resume(folder, self.model)
        return super().train(folder, *args, **options)

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], Tensor | int | None]:
        """The batches of one step, and the number of predictions in its mean loss."""
        samples, items = super().get_batch_samples(epoch_iterator, num_batches, device)
        if self._loss_head is not None:
            self._step_batches = samples
        if self._head is not None:
            # the Trainer counts labels, not predictions, and no spans
            items = sum(self._head.count(sample) for sample in samples)
            if self.args.average_tokens_across_devices and self.args.world_size > 1:
                items = self.accelerator.gather(torch.tensor(items, device=device)).sum()
        return samples, items

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor | Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor | tuple[Tensor, Any]:
        """The mixed loss in training, the model's own in evaluation."""
        regularizer = self.pruning.regularizer
        if regularizer is None or not model.training:
            result: Tensor | tuple[Tensor, Any] = super().compute_loss(
                model, inputs, return_outputs, num_items_in_batch
            )
            return result
        outputs = model(**regularizer.head.inputs(model, inputs))
        # autocast is part of the forward of the model, and so of the teacher
        loss = regularizer.loss(outputs, inputs, num_items=num_items_in_batch)
        share = 1.0
        if num_items_in_batch is not None:
            share = regularizer.head.count(inputs) / max(float(num_items_in_batch), 1.0)
        loss = loss + auxiliary_loss(model, outputs) * share
        if num_items_in_batch is not None and self.args.average_tokens_across_devices:
            loss = loss * self.accelerator.num_processes  # each divides by the rows of all
        return (loss, outputs) if return_outputs else loss

    def evaluate(self, eval_dataset: Any = None, *args: Any, **options: Any) -> dict[str, float]:
        """As `Trainer.evaluate`; in training, the model becomes a candidate for the teacher."""
        metrics: dict[str, float] = super().evaluate(eval_dataset, *args, **options)
        regularizer = self.pruning.regularizer
        # a named dataset is one of several, or comes from another caller
        if regularizer is not None and self.is_in_train and eval_dataset is None:
            if (score := metrics.get(self._metric())) is None:
                raise SettingError(
                    f"the evaluation has no {self._metric()!r} to choose the teacher by, but "
                    f"{', '.join(sorted(metrics))}: set metric_for_best_model to one of them"
                )
            regularizer.update(score, self.pruning.current_sparsity)
        return metrics

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """As `Trainer.log`, with the exact sparsity next to the loss."""
        if "loss" in logs:
            logs["sparsity"] = self.pruning.current_sparsity
        super().log(logs, start_time)

    def _step_loss(self, model: nn.Module) -> float:
        """The mean of the task's loss over the predictions of a step, over all processes."""
        head, batches = self._loss_head, self._step_batches
        assert head is not None, "the criterion reads the loss"
        value, count = step_loss(model, batches, head), sum(head.count(batch) for batch in batches)
        if self.accelerator.num_processes == 1:
            return value
        # all processes must take the same decision
        own = torch.tensor([value * count, count], device=self.accelerator.device)
        total = self.accelerator.gather(own).reshape(-1, 2).sum(0)
        return float(total[0] / total[1].clamp(min=1))

    def _regularizer(self, model: nn.Module) -> SelfRegularizer:
        return SelfRegularizer(
            model,
            teacher=self._first_teacher,
            teacher_score=self._teacher_score,
            head=self._head,
            temperature=self._temperature,
            higher_is_better=self._higher_is_better(),
        )

    def _metric(self) -> str:
        name = self.args.metric_for_best_model or "loss"
        return name if name.startswith("eval_") else f"eval_{name}"

    def _higher_is_better(self) -> bool:
        if self.args.greater_is_better is not None:
            return bool(self.args.greater_is_better)
        return not self._metric().endswith("loss")
