"""Fine-tuning with pruning: loss, optimiser, learning rate, pruner and teacher, step by step.

    loss → backward → sum over the ranks → clip → optimiser's step → prune → next learning rate

Several ranks divide the rows of a step; each has the whole model and takes the same steps.
The state can be saved between two steps and loaded again, bit for bit.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn

from pins.distributed import rng
from pins.distributed.collectives import sum_over_ranks
from pins.distributed.gradient_reduction import GradientSum
from pins.distributed.process_group import SINGLE_PROCESS, Group
from pins.errors import CheckpointError, ModelError, ParameterError, first_line
from pins.importance.criterion import Reads
from pins.importance.curvature.distributed import diagonal_of_all
from pins.importance.curvature.sources import TrainedStep, default_curvature, find_curvature
from pins.importance.smoothing import find_smoothing
from pins.importance.trust_region.criterion import OF_FEW_ROWS, TrustRegion
from pins.models import state_dicts
from pins.models.batches import Batch
from pins.models.distillation_loss import mixed_loss
from pins.models.heads import Head
from pins.models.inference import evaluation_mode, to_device
from pins.models.parameters import PrunableParameters, prunable_parameters
from pins.models.self_distillation import SelfRegularizer
from pins.models.task_loss import auxiliary_loss, step_loss
from pins.pruning.authors import AuthorsPruner, Quirks
from pins.pruning.pruner import TENSORS, OnDecision, OnTrustRegion, Pruner
from pins.pruning.start import Start
from pins.runs.microbatches import microbatches_of_rank
from pins.runs.optimizer import enable_gradient_checkpointing, learning_rate, make_optimizer
from pins.runs.settings import AUTHORS, Settings
from pins.utils.devices import Device
from pins.utils.io import flatten, unflatten

MAX_GRADIENT_NORM = 1.0


class FineTuning:
    """The training of one model, from resolved settings."""

    def __init__(
        self,
        model: nn.Module,
        head: Head,
        settings: Settings,
        device: Device,
        *,
        group: Group = SINGLE_PROCESS,
        higher_is_better: bool = True,
        teacher: nn.Module | None = None,
        on_decision: OnDecision | None = None,
        on_trust_region: OnTrustRegion | None = None,
    ) -> None:
        """Assemble the parts; no step is taken.

        Args:
            model: with its head.
            head: what the model predicts.
            settings: resolved.
            device: where to compute.
            group: the ranks that divide the rows of each step; all of them call every method.
            higher_is_better: how the scores compare that select the teacher.
            teacher: the first teacher; default: the model itself.
            on_decision: as in `Pruner`.
            on_trust_region: as in `Pruner`.

        Raises:
            PinsError: a setting does not fit the model or the steps.
        """
        self.settings, self.device, self.head = settings, device, head
        self.group = group
        self.model = model.to(device.device)
        if settings.gradient_checkpointing:
            enable_gradient_checkpointing(self.model)
        self._forward: Any = torch.compile(model) if settings.compile else model
        authors = settings.criterion == AUTHORS
        self.quirks = Quirks.without(*settings.without_quirks) if authors else Quirks.none()
        self.optimizer = make_optimizer(self.model, settings, authors=self.quirks.adamw)
        # disabled, it passes losses, gradients and steps through unchanged
        self._scaler = device.scaler() or torch.amp.GradScaler(enabled=False)
        self._curvature = (
            default_curvature(self.optimizer)
            if settings.curvature is None
            else find_curvature(settings.curvature)
        )
        self._microbatches: Sequence[Batch] = ()  # of the current step, the rows of this rank
        self._count = 0  # of the predictions of all rows of the step
        self._gradients = GradientSum(self.model.parameters(), group)
        self.pruner = self._make_pruner(on_decision, on_trust_region)
        self.pruner.replicas = group
        self.regularizer: SelfRegularizer | None = None
        if settings.self_regularization:
            self.regularizer = SelfRegularizer(
                self.model,
                teacher=teacher,
                head=head,
                temperature=settings.temperature,
                higher_is_better=higher_is_better,
                divergence="cross-entropy" if self.quirks.cross_entropy_as_kl else "kl",
                rule="best-ever" if self.quirks.frozen_teacher else "latest-best",
            )
        self._set_learning_rate()

    def step(self, microbatches: Sequence[Batch]) -> float:
        """Take one optimiser step on the rows of all microbatches; return its loss.

        Args:
            microbatches: all rows of the step, the same on every rank.

        Raises:
            ModelError: the loss is not finite.
            OptimalityError: the ranks have different masks or weights.
        """
        self.model.train()
        self._microbatches = microbatches_of_rank(microbatches, self.group)
        # the loss is the mean over the predictions of the whole step, however its rows are divided
        self._count = sum(self.head.count(each) for each in microbatches)
        value = self._backward_all()
        if not math.isfinite(value):
            advice = "lower the learning rate"
            if self._scaler.is_enabled():
                advice += ", or give another precision"
            raise ModelError(f"the loss of step {self.pruner.steps + 1} is {value}: {advice}")
        self._scaler.unscale_(self.optimizer)  # clipping and scores need the true gradient
        nn.utils.clip_grad_norm_(self.model.parameters(), MAX_GRADIENT_NORM)
        self._scaler.step(self.optimizer)
        self._scaler.update()
        self.pruner.step()
        self.optimizer.zero_grad()
        self._set_learning_rate()
        return value

    def _backward_all(self) -> float:
        """The loss of all rows of the step; its gradient is summed over the ranks."""
        value = 0.0
        try:
            for microbatch in self._microbatches[:-1]:
                value += self._backward(microbatch)
            with self._gradients.summing():
                for microbatch in self._microbatches[-1:]:  # none if there are more ranks than rows
                    value += self._backward(microbatch)
        except torch.OutOfMemoryError as error:
            raise ModelError(
                f"step {self.pruner.steps + 1} does not fit into the memory of "
                f"{self.device.device}: give a larger accumulation, a smaller batch_size, or "
                "gradient_checkpointing"
            ) from error
        return sum_over_ranks(value, self.group)

    def _backward(self, microbatch: Batch) -> float:
        loss = self._loss(to_device(microbatch, self.device.device))
        torch.autograd.backward(self._scaler.scale(loss))
        return loss.item()

    def _loss(self, batch: Batch) -> Tensor:
        with self.device.autocast():
            output = self._forward(**self.head.inputs(self.model, batch))
            share = self.head.count(batch) / max(self._count, 1)
            auxiliary = auxiliary_loss(self.model, output) * share
            if self.regularizer is not None:
                return self.regularizer.loss(output, batch, num_items=self._count) + auxiliary
        return mixed_loss(self.head.rows(output, batch), None, num_items=self._count) + auxiliary

    def _measured(self) -> float:
        """The task's loss on the rows of the current step, with the current weights."""
        with self.device.autocast():
            own = step_loss(self.model, self._microbatches, self.head, count=self._count)
        return sum_over_ranks(own, self.group)

    @torch.no_grad()
    def divergence(self) -> float | None:
        """The divergence of the model from its teacher on the rows of the latest step, no dropout.

        As `SelfRegularizer.divergence`, over the rows of all ranks, which must all call it. None
        if there is no teacher.
        """
        if self.regularizer is None:
            return None
        own = 0.0
        with evaluation_mode(self.model), self.device.autocast():
            for microbatch in self._microbatches:
                batch = to_device(microbatch, self.device.device)
                output = self.model(**self.head.inputs(self.model, batch))
                own += self.regularizer.divergence(output, batch, num_items=self._count).item()
        return sum_over_ranks(own, self.group)

    def _diagonal(self) -> dict[str, Tensor]:
        """The diagonal curvature of this step by name, from the source in the settings."""
        step = TrainedStep(
            parameters=self.pruner.parameters,
            optimizer=self.optimizer,
            model=self.model,
            batches=self._microbatches,
            head=self.head,
        )
        return diagonal_of_all(self._curvature, step, self._count, self.group)

    def _make_pruner(
        self, on_decision: OnDecision | None, on_trust_region: OnTrustRegion | None
    ) -> Pruner:
        settings = self.settings
        parameters = prunable_parameters(self.model, settings.include)
        schedule = settings.pruning_schedule(self._zeros(parameters) if settings.keep_zeros else 0)
        if settings.criterion == AUTHORS:
            return AuthorsPruner(
                self.model,
                self.optimizer,
                schedule,
                self.quirks,
                parameters=None if self.quirks.biases else parameters,
                on_decision=on_decision,
            )
        criterion = settings.pruning_criterion()
        measured = settings.measure or Reads.LOSS in criterion.reads
        if isinstance(criterion, TrustRegion) and self._curvature.reads_batches:
            criterion = replace(criterion, damping=OF_FEW_ROWS)
        kept_by_adam = self._curvature.name == "adam"  # the pruner reads it tensor by tensor
        return Pruner(
            self.model,
            self.optimizer,
            criterion,
            schedule,
            parameters=parameters,
            smoothing=find_smoothing(settings.pruning_smoothing())(
                **({"window": True} if settings.window else {})
            ),
            allocation=settings.pruning_allocation(),
            curvature=None if kept_by_adam else self._diagonal,
            loss=self._measured if measured else None,
            revive_zeros=settings.revive_zeros,
            on_decision=on_decision,
            on_trust_region=on_trust_region,
        )

    @staticmethod
    def _zeros(parameters: PrunableParameters) -> Fraction:
        """The ratio of zeros of a model whose zeros are to be kept."""
        start = Start.of(parameters.parameters)
        if not start.zeros:
            raise ParameterError(
                f"keep_zeros found no zero among {sum(start.free.values()):,} prunable weights: "
                "give the folder of a pruned model"
            )
        return start.sparsity

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The state between two steps: tensors by `group/name`, and JSON values."""
        pruner = self.pruner.state_dict()
        groups = {
            "model": state_dicts.model_tensors(self.model),
            "optimizer": state_dicts.optimizer_tensors(
                self.optimizer, {id(p): name for name, p in self.model.named_parameters()}
            ),
            **{name: pruner.pop(name) for name in TENSORS},
            "random": rng.random_states(self.device.device, self.group),
        }
        scalars: dict[str, Any] = {"pruner": pruner}
        if self._scaler.is_enabled():
            scalars["scaler"] = self._scaler.state_dict()
        if self.regularizer is not None:
            groups["teacher"], scalars["teacher"] = self.regularizer.state_dict()
        return flatten(groups), scalars

    def load_state(self, tensors: dict[str, Tensor], scalars: dict[str, Any]) -> None:
        """Load what `state` returned.

        Raises:
            CheckpointError: it is the state of another run.
        """
        device = self.device.device
        try:
            state_dicts.load_model(self.model, unflatten(tensors, "model"))
            state_dicts.load_optimizer(
                self.optimizer, unflatten(tensors, "optimizer"), dict(self.model.named_parameters())
            )
            state = {
                name: {k: v.to(device) for k, v in unflatten(tensors, name).items()}
                for name in TENSORS
            }
            self.pruner.load_state_dict({**scalars["pruner"], **state})
            self._set_learning_rate()
            if self._scaler.is_enabled():
                self._scaler.load_state_dict(scalars["scaler"])
            if self.regularizer is not None:
                self.regularizer.load_state_dict(unflatten(tensors, "teacher"), scalars["teacher"])
            rng.restore_random_states(
                unflatten(tensors, "random"),
                device,
                self.group,
                seed=self.settings.seed,
                step=self.pruner.steps,
            )
        except (AttributeError, KeyError, RuntimeError, ValueError, TypeError) as error:
            # the errors of PINS are among them: each is a ValueError or a RuntimeError
            raise CheckpointError(
                f"the checkpoint does not fit this model: {first_line(error)}"
            ) from error

    def _set_learning_rate(self) -> None:
        """Set the rate of the next step; needed before each, also if a step overflowed."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(
                self.settings,
                self.pruner.steps + 1,
                scheduler_first=self.quirks.scheduler_first,
            )
