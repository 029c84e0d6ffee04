"""Sources of a diagonal curvature h ≈ diag ∇²L, and their cost.

    name         h                                   extra cost of a decision
    adam         exp_avg_sq / (1 − β₂ᵗ)              nothing
    fisher       mean over the step's rows of g_b²   a gradient of each row alone
    hutchinson   |z ⊙ (∇²L z)|, one random z         about three gradients of the step

To add a source, write a class with its formula and add it to CURVATURES.
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
    """A step that the optimiser has taken.

    Attributes:
        parameters: the weights whose h is wanted, by name.
        optimizer: the optimiser that took the step.
        model: the model after the step.
        batches: the rows of the step, with their targets, on any device.
        head: the prediction of the model; default: the head of its class.
    """

    parameters: Mapping[str, Tensor]
    optimizer: Optimizer
    model: nn.Module
    batches: Sequence[Batch] = ()
    head: Head | None = None


class Curvature(ABC):
    """h ≥ 0 of each weight, an approximation of the diagonal of the Hessian of the task's loss."""

    name: ClassVar[str]
    reads_batches: ClassVar[bool]  # False: no extra forward or backward pass

    @abstractmethod
    def diagonal(self, step: TrainedStep) -> dict[str, Tensor]:
        """h by parameter name, in the parameters' shapes; float32 for 16-bit parameters.

        Raises:
            ObservationError: a quantity that this source reads is missing.
        """


class AdamCurvature(Curvature):
    """h = exp_avg_sq / (1 − β₂ᵗ), kept by Adam: an average over about 1,000 steps.

    A `Pruner` without `curvature` reads the same h, one tensor at a time.
    """

    name = "adam"
    reads_batches = False

    def diagonal(self, step: TrainedStep) -> dict[str, Tensor]:
        """`pins.importance.curvature.adam.adam_second_moment`."""
        return adam_second_moment(step.optimizer, step.parameters)


class FisherCurvature(Curvature):
    """h = mean over the step's rows b of g_b², without dropout: the empirical Fisher's diagonal."""

    name = "fisher"
    reads_batches = True

    def __init__(self, *, vectorize: bool | None = None) -> None:
        """Choose the method of computation, which changes only the rounding.

        Args:
            vectorize: several rows at once, if the model allows it; default: on an accelerator.
        """
        self._vectorize = vectorize

    def diagonal(self, step: TrainedStep) -> dict[str, Tensor]:
        """`pins.importance.curvature.fisher.vectorized_fisher` or `empirical_fisher`."""
        batches, vectorize = _batches(self, step), self._vectorize
        if vectorize is None:
            vectorize = device_of(step.model).type != "cpu"
        if vectorize:
            # the other method needs less memory and works for every model
            with suppress(ModelError, torch.OutOfMemoryError):
                return vectorized_fisher(step.model, step.parameters, batches, step.head)
        return empirical_fisher(step.parameters, example_losses(step.model, batches, step.head))


class HutchinsonCurvature(Curvature):
    """h = |z ⊙ (∇²L z)| with one z of random signs, L the mean loss of the step, without dropout.

    The signs come from torch's generator on the CPU, so a run that restores the state of that
    generator continues with the same signs.
    """

    name = "hutchinson"
    reads_batches = True

    def diagonal(self, step: TrainedStep) -> dict[str, Tensor]:
        """`hutchinson_diagonal` with one sample per microbatch of the step."""
        losses = step_losses(step.model, _batches(self, step), step.head)
        return hutchinson_diagonal(step.parameters, losses, absolute=True)


CURVATURES: Mapping[str, Curvature] = {
    curvature.name: curvature
    for curvature in (AdamCurvature(), FisherCurvature(), HutchinsonCurvature())
}


def find_curvature(name: str) -> Curvature:
    """Return the source of curvature with this name.

    Raises:
        CriterionError: no source has this name; the message lists the names.
    """
    return find(CURVATURES, name, "curvature", CriterionError)


def default_curvature(optimizer: Optimizer) -> Curvature:
    """Adam's second moment if the optimiser keeps it; else the empirical Fisher."""
    return CURVATURES["adam" if has_second_moment(optimizer) else "fisher"]


def _batches(curvature: Curvature, step: TrainedStep) -> Sequence[Batch]:
    if not step.batches:
        raise ObservationError(
            f"curvature {curvature.name!r} reads the rows of the step, and there are none: give "
            "TrainedStep its batches"
        )
    return step.batches
