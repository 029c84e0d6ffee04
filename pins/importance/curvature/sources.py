"""Sources of a diagonal curvature h ≈ diag ∇²L by name, and what they cost.

    name         h                                   at a decision, beside the step
    adam         exp_avg_sq / (1 − β₂ᵗ)              nothing
    fisher       mean over the step's rows of g_b²   a gradient of each row alone
    hutchinson   |z ⊙ (∇²L z)|, one random z         about three gradients of the step

To add one: a class with its formula, and a row in CURVATURES.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from pins.errors import CriterionError, ModelError, ObservationError
from pins.importance.curvature.adam import adam_second_moment, has_second_moment
from pins.importance.curvature.fisher import empirical_fisher, vectorized_fisher
from pins.importance.curvature.hutchinson import hutchinson_diagonal
from pins.models.batches import Batch
from pins.models.heads import Head
from pins.models.inference import device_of
from pins.models.task_loss import example_losses, step_losses
from pins.utils.lookup import find


@dataclass(frozen=True, kw_only=True)
class TrainedStep:
    """What there is to read of a step that the optimiser has taken.

    Attributes:
        parameters: the weights to know h of, by name.
        optimizer: what took the step.
        model: as it is after the step.
        batches: the rows of the step, with their targets, on any device.
        head: what the model predicts; default: the head of its class.
    """

    parameters: Mapping[str, Tensor]
    optimizer: Optimizer
    model: nn.Module
    batches: Sequence[Batch] = ()
    head: Head | None = None


class Curvature(ABC):
    """h ≥ 0 of each weight, an approximation of the diagonal of the Hessian of the task's loss."""

    name: ClassVar[str]
    formula: ClassVar[str]
    reads_batches: ClassVar[bool]  # False: h is there for nothing, and a tensor at a time

    @abstractmethod
    def diagonal(self, step: TrainedStep) -> dict[str, Tensor]:
        """h by name of the parameters, in their shapes; float32 for 16-bit ones.

        Raises:
            ObservationError: what this source reads is missing.
        """


class AdamCurvature(Curvature):
    """h = exp_avg_sq / (1 − β₂ᵗ), which Adam keeps: of the gradients of some 1,000 steps.

    A `Pruner` without `curvature` reads the same, and holds that of one tensor at a time.
    """

    name = "adam"
    formula = "Adam's bias-corrected running mean of the squared gradients of steps"
    reads_batches = False

    def diagonal(self, step: TrainedStep) -> dict[str, Tensor]:
        """`pins.importance.curvature.adam.adam_second_moment`."""
        return adam_second_moment(step.optimizer, step.parameters)


class FisherCurvature(Curvature):
    """h = mean over the step's rows b of g_b², without dropout: the empirical Fisher's diagonal."""

    name = "fisher"
    formula = "the mean over the step's rows of the squared gradient of each"
    reads_batches = True

    def __init__(self, *, vectorize: bool | None = None) -> None:
        """Say how it is computed, which the numbers depend on by rounding alone.

        Args:
            vectorize: several rows at once, where the model can; default: on an accelerator.
        """
        self._vectorize = vectorize

    def diagonal(self, step: TrainedStep) -> dict[str, Tensor]:
        """`pins.importance.curvature.fisher.vectorized_fisher` or `empirical_fisher`."""
        batches, vectorize = _batches(self, step), self._vectorize
        if vectorize is None:
            vectorize = device_of(step.model).type != "cpu"
        if vectorize:
            # the other way asks less of the model and of memory
            with suppress(ModelError, torch.OutOfMemoryError):
                return vectorized_fisher(step.model, step.parameters, batches, step.head)
        return empirical_fisher(step.parameters, example_losses(step.model, batches, step.head))


class HutchinsonCurvature(Curvature):
    """h = |z ⊙ (∇²L z)| with one z of random signs, L the mean loss of the step, without dropout.

    The signs come from torch's own generator on the CPU, so that a run that keeps the state of that
    generator goes on with those it would have drawn.
    """

    name = "hutchinson"
    formula = "one random sample of the Hessian's diagonal, without its signs"
    reads_batches = True

    def diagonal(self, step: TrainedStep) -> dict[str, Tensor]:
        """`hutchinson_diagonal` of one sample for each part of the step."""
        losses = step_losses(step.model, _batches(self, step), step.head)
        return hutchinson_diagonal(step.parameters, losses, absolute=True)


CURVATURES: Mapping[str, Curvature] = {
    curvature.name: curvature
    for curvature in (AdamCurvature(), FisherCurvature(), HutchinsonCurvature())
}


def find_curvature(name: str) -> Curvature:
    """The source of curvature of that name.

    Raises:
        CriterionError: there is none; says which there are.
    """
    return find(CURVATURES, name, "curvature", CriterionError)


def default_curvature(optimizer: Optimizer) -> Curvature:
    """Adam's own where the optimiser keeps it, which costs nothing; else the empirical Fisher."""
    return CURVATURES["adam" if has_second_moment(optimizer) else "fisher"]


def _batches(curvature: Curvature, step: TrainedStep) -> Sequence[Batch]:
    if not step.batches:
        raise ObservationError(
            f"curvature {curvature.name!r} reads the rows of the step, and there are none: give "
            "TrainedStep its batches"
        )
    return step.batches
