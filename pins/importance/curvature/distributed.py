"""The diagonal curvature of a step whose rows are divided over several ranks.

fisher       h = Σ_r n_r·h_r / Σ_r n_r    n_r rows with a prediction on rank r
hutchinson   h = |Σ_r z_r ⊙ (∇²L_r z_r)|  L = Σ_r L_r, independent signs on each rank
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
        curvature: the source of h.
        step: the step with the rows of this rank, possibly none.
        count: number of predictions in the rows of all ranks.
        group: the ranks; every rank calls this function.

    Raises:
        CriterionError: the results of this source on several ranks cannot be combined.
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
            f"curvature {curvature.name!r} works in one process, and {group.size} processes "
            "divide the rows of a step: give another curvature, or start one process"
        )
    diagonal = _zeros(step)
    if step.batches:
        losses = step_losses(step.model, step.batches, step.head, count=count)
        diagonal = hutchinson_diagonal(step.parameters, losses)
    return {name: group.total(h).abs_() for name, h in diagonal.items()}


def _examples(step: TrainedStep) -> int:
    """The number of rows with a prediction."""
    head = step.head or find_head(step.model)
    return sum(
        head.count({name: tensor[row : row + 1] for name, tensor in batch.items()}) > 0
        for batch in step.batches
        for row in range(number_of_rows(batch))
    )


def _zeros(step: TrainedStep) -> dict[str, Tensor]:
    return {name: torch.zeros_like(upcast_half(p.detach())) for name, p in step.parameters.items()}
