"""A model in training: loss, optimiser, learning rate, pruner and teacher, step by step.

    loss → backward → sum over the ranks → clip → optimiser's step → prune → next learning rate

Several ranks divide the rows of a step. Each has the whole model, and takes the same steps with it.
All of it can be read out between two steps and put back, bit for bit.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from pins.distributed import rng
from pins.distributed.collectives import sum_over_ranks
from pins.distributed.consistency import require_same_masks
from pins.distributed.gradient_reduction import GradientSum
from pins.distributed.process_group import SINGLE_PROCESS, Group
from pins.errors import CheckpointError, ModelError, first_line
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
from pins.models.parameters import prunable_parameters
from pins.models.self_distillation import SelfRegularizer
from pins.models.task_loss import step_loss
from pins.pruning.authors import AuthorsPruner, Quirks
from pins.pruning.pruner import OnDecision, OnRegion, Pruner
from pins.runs.microbatches import share
from pins.runs.optimizer import enable_gradient_checkpointing, make_optimizer, set_learning_rate
from pins.runs.settings import AUTHORS, Settings
from pins.utils.devices import Device
from pins.utils.io import flatten, unflatten

MAX_GRADIENT_NORM = 1.0


class FineTuning:
    """One model of a run, from its settings."""

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
        on_region: OnRegion | None = None,
    ) -> None:
        """Put everything together; no step is taken.

        Args:
            model: with its head.
            head: what the model predicts.
            settings: resolved.
            device: where to compute.
            group: the ranks that divide the rows of each step; all of them call every method.
            higher_is_better: of the scores that make a teacher.
            teacher: the first one; default: the model as it is.
            on_decision: as in `Pruner`.
            on_region: likewise.

        Raises:
            PinsError: a setting does not fit the model or the steps.
        """
        self.settings, self.device, self.head = settings, device, head
        self.group = group
        self.model = model.to(device.device)
        if settings.gradient_checkpointing:
            enable_gradient_checkpointing(self.model)
        self._forward: Any = torch.compile(model) if settings.compile else model
        self.optimizer = make_optimizer(self.model, settings)
        self._scaler = device.scaler()
        self._curvature = (
            default_curvature(self.optimizer)
            if settings.curvature is None
            else find_curvature(settings.curvature)
        )
        self._parts: Sequence[Batch] = ()  # of the present step, the rows of this rank
        self._count = 0  # of the predictions of all rows of the step
        self._gradients = GradientSum(self.model.parameters(), group)
        self.pruner = self._make_pruner(on_decision, on_region)
        self.regularizer: SelfRegularizer | None = None
        if settings.self_regularization:
            self.regularizer = SelfRegularizer(
                self.model,
                teacher=teacher,
                head=head,
                temperature=settings.temperature,
                higher_is_better=higher_is_better,
                **_divergence(settings),
            )
        set_learning_rate(self.optimizer, self.settings, self.pruner.steps + 1)

    def step(self, parts: Sequence[Batch]) -> float:
        """One optimiser step on the rows of all parts together; its loss.

        Args:
            parts: all rows of the step, the same on every rank.

        Raises:
            ModelError: the loss is not finite.
            OptimalityError: the ranks came to different masks.
        """
        self.model.train()
        self._parts = share(parts, self.group)
        # the mean over the predictions of the whole step, however its rows are cut and divided
        self._count = sum(self.head.count(part) for part in parts)
        value = self._gradient()
        if not math.isfinite(value):
            advice = "lower the learning rate"
            if self._scaler is not None:
                advice += ", or give another precision"
            raise ModelError(f"the loss of step {self.pruner.steps + 1} is {value}: {advice}")
        if self._scaler is not None:
            self._scaler.unscale_(self.optimizer)  # clipping and scores see the true gradient
        nn.utils.clip_grad_norm_(self.model.parameters(), MAX_GRADIENT_NORM)
        if self._scaler is None:
            self.optimizer.step()
        else:
            self._scaler.step(self.optimizer)
            self._scaler.update()
        decision = self.pruner.step()
        if decision is not None:
            require_same_masks(decision.masks, self.pruner.steps, self.group)
        self.optimizer.zero_grad()
        set_learning_rate(self.optimizer, self.settings, self.pruner.steps + 1)
        return value

    def _gradient(self) -> float:
        """The loss of all rows of the step, and its gradient in the parameters, on every rank."""
        value = 0.0
        try:
            for part in self._parts[:-1]:
                value += self._backward(part)
            with self._gradients.summing():
                for part in self._parts[-1:]:  # none, where there are more ranks than rows
                    value += self._backward(part)
        except torch.OutOfMemoryError as error:
            raise ModelError(
                f"step {self.pruner.steps + 1} does not fit into the memory of "
                f"{self.device.device}: give a larger accumulation, a smaller batch_size, or "
                "gradient_checkpointing"
            ) from error
        return sum_over_ranks(value, self.group)

    def _backward(self, part: Batch) -> float:
        loss = self._loss(to_device(part, self.device.device), self._count)
        scaled = loss if self._scaler is None else self._scaler.scale(loss)
        torch.autograd.backward(scaled)
        return loss.item()

    def _loss(self, batch: Batch, count: int) -> Tensor:
        with self.device.autocast():
            output = self._forward(**self.head.inputs(self.model, batch))
            if self.regularizer is not None:
                return self.regularizer.loss(output, batch, num_items=count)
        return mixed_loss(self.head.rows(output, batch), None, num_items=count)

    def _measured(self) -> float:
        """The task's loss on the rows of this step, as the weights stand."""
        with self.device.autocast():
            own = step_loss(self.model, self._parts, self.head, count=self._count)
        return sum_over_ranks(own, self.group)

    @torch.no_grad()
    def divergence(self) -> float | None:
        """How far the model is from its teacher on the rows of the latest step, without dropout.

        As `SelfRegularizer.divergence`, over the rows of all ranks, which call it together; None
        where there is no teacher.
        """
        if self.regularizer is None:
            return None
        own = 0.0
        with evaluation_mode(self.model), self.device.autocast():
            for part in self._parts:
                batch = to_device(part, self.device.device)
                output = self.model(**self.head.inputs(self.model, batch))
                own += self.regularizer.divergence(output, batch, num_items=self._count).item()
        return sum_over_ranks(own, self.group)

    def _diagonal(self) -> dict[str, Tensor]:
        """The curvature of this step by name, from the source that the settings name."""
        step = TrainedStep(
            parameters=self.pruner.parameters,
            optimizer=self.optimizer,
            model=self.model,
            batches=self._parts,
            head=self.head,
        )
        return diagonal_of_all(self._curvature, step, self._count, self.group)

    def _make_pruner(self, on_decision: OnDecision | None, on_region: OnRegion | None) -> Pruner:
        settings = self.settings
        parameters = prunable_parameters(self.model, settings.include)
        schedule = settings.pruning_schedule()
        if settings.criterion == AUTHORS:
            quirks = Quirks.without(*settings.without_quirks)
            return AuthorsPruner(
                self.model,
                self.optimizer,
                schedule,
                quirks,
                parameters=None if quirks.biases else parameters,
                on_decision=on_decision,
            )
        criterion = settings.pruning_criterion()
        measured = settings.measure or Reads.LOSS in criterion.reads
        if isinstance(criterion, TrustRegion) and self._curvature.reads_batches:
            criterion = replace(criterion, damping=OF_FEW_ROWS)
        kept_by_adam = self._curvature.name == "adam"  # which the pruner reads tensor by tensor
        return Pruner(
            self.model,
            self.optimizer,
            criterion,
            schedule,
            parameters=parameters,
            smoothing=find_smoothing(settings.pruning_smoothing())(),
            allocation=settings.pruning_scope(),
            curvature=None if kept_by_adam else self._diagonal,
            loss=self._measured if measured else None,
            on_decision=on_decision,
            on_region=on_region,
        )

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and JSON values that say where the training stands."""
        pruner = self.pruner.state_dict()
        groups = {
            "model": state_dicts.model_tensors(self.model),
            "optimizer": state_dicts.optimizer_tensors(self.optimizer, self._names()),
            "masks": pruner["masks"],
            "smoothing": pruner["smoothing"],
            "random": rng.random_states(self.device.device, self.group),
        }
        scalars: dict[str, Any] = {
            "pruner": {k: pruner[k] for k in ("steps", "due", "radius_factor")},
        }
        if self._scaler is not None:
            scalars["scaler"] = self._scaler.state_dict()
        if self.regularizer is not None:
            groups["teacher"], scalars["teacher"] = self.regularizer.state_dict()
        return flatten(groups), scalars

    def load_state(self, tensors: dict[str, Tensor], scalars: dict[str, Any]) -> None:
        """Put back what `state` read out.

        Raises:
            CheckpointError: it is the state of another run.
        """
        device = self.device.device
        try:
            state_dicts.load_model(self.model, unflatten(tensors, "model"))
            state_dicts.load_optimizer(
                self.optimizer, unflatten(tensors, "optimizer"), dict(self.model.named_parameters())
            )
            masks = {k: v.to(device) for k, v in unflatten(tensors, "masks").items()}
            averages = {k: v.to(device) for k, v in unflatten(tensors, "smoothing").items()}
            self.pruner.load_state_dict(
                {**scalars["pruner"], "masks": masks, "smoothing": averages}
            )
            set_learning_rate(self.optimizer, self.settings, self.pruner.steps + 1)
            if self._scaler is not None:
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
        except (KeyError, RuntimeError, ValueError, TypeError) as error:
            # PINS' own errors, too: each is a value or a runtime error that says what differs
            raise CheckpointError(
                f"the checkpoint does not fit this model: {first_line(error)}"
            ) from error

    def _names(self) -> dict[int, str]:
        return {id(parameter): name for name, parameter in self.model.named_parameters()}


def _divergence(settings: Settings) -> Any:
    """The options in which the authors' self-regularisation differs."""
    if settings.criterion != AUTHORS:
        return {}
    quirks = Quirks.without(*settings.without_quirks)
    options = {}
    if quirks.cross_entropy_as_kl:
        options["divergence"] = "cross-entropy"
    if quirks.frozen_teacher:
        options["rule"] = "best-ever"
    return options
