"""The diagonal curvature of a step whose rows several ranks have divided.

fisher       h = Σ_r n_r·h_r / Σ_r n_r    h_r of the n_r rows of rank r that predict something
hutchinson   h = |Σ_r z_r ⊙ (∇²L_r z_r)|  L = Σ_r L_r, with signs of its own on each rank
"""

import torch
from torch import Tensor

from pins.distributed.collectives import sum_over_ranks
from pins.distributed.process_group import Group
from pins.errors import CriterionError
from pins.importance.curvature.hutchinson import hutchinson_diagonal
from pins.importance.curvature.sources import (
    Curvature,
    FisherCurvature,
    HutchinsonCurvature,
    TrainedStep,
)
from pins.models.heads import find_head
from pins.models.task_loss import number_of_rows, step_losses
from pins.utils.tensors import upcast_half


def diagonal_of_all(
    curvature: Curvature, step: TrainedStep, count: int, group: Group
) -> dict[str, Tensor]:
    """h of the whole step, the same on every rank.

    Args:
        curvature: where it comes from.
        step: with this rank's rows alone, which may be none.
        count: predictions of the rows of all ranks.
        group: every rank of it calls this.

    Raises:
        CriterionError: there is no rule to put together what this source has on each rank.
    """
    if group.size == 1 or not curvature.reads_batches:
        return curvature.diagonal(step)
    if isinstance(curvature, FisherCurvature):
        own = _examples(step)
        share = own / max(sum_over_ranks(own, group), 1)
        diagonal = curvature.diagonal(step) if own else _zeros(step)
        return {name: group.total(h * share) for name, h in diagonal.items()}
    if not isinstance(curvature, HutchinsonCurvature):
        raise CriterionError(
            f"curvature {curvature.name!r} is of one process, and {group.size} divide the rows of "
            "a step: give another curvature, or start one process"
        )
    diagonal = _zeros(step)
    if step.batches:
        losses = step_losses(step.model, step.batches, step.head, count=count)
        diagonal = hutchinson_diagonal(step.parameters, losses)
    return {name: group.total(h).abs_() for name, h in diagonal.items()}


def _examples(step: TrainedStep) -> int:
    """How many rows have a prediction."""
    head = step.head or find_head(step.model)
    return sum(
        head.count({name: tensor[row : row + 1] for name, tensor in batch.items()}) > 0
        for batch in step.batches
        for row in range(number_of_rows(batch))
    )


def _zeros(step: TrainedStep) -> dict[str, Tensor]:
    return {name: torch.zeros_like(upcast_half(p.detach())) for name, p in step.parameters.items()}
