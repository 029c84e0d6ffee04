"""What a run says of a step, and what it keeps of all of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from pins import masks


@dataclass(frozen=True)
class Moment:
    """Where a run stands after a step: what a progress bar shows."""

    step: int
    steps: int
    loss: float
    sparsity: float
    # the headline at the last evaluation on held-out training rows; None: none, or not finite
    score: float | None


@dataclass
class Record:
    """What a run has seen so far, as JSON values."""

    losses: list[float]  # since the last evaluation
    evaluations: list[dict[str, Any]]
    decisions: list[dict[str, Any]]


def decision_row(
    step: int, before: Mapping[str, Tensor], after: Mapping[str, Tensor]
) -> dict[str, Any]:
    """What a decision changed, as JSON values: exact counts, over all tensors and of each.

    Args:
        step: of the decision.
        before: the masks until then, True = keep.
        after: those that it made.

    Returns:
        `pruned` are the weights that it takes out, `revived` those that it takes in again; `each`
        are the numbers of ones in the order of the tensors.
    """
    kept, changed = masks.count(after), masks.compare(before, after)
    return {
        "step": step,
        "keep": kept.kept,
        "total": kept.total,
        "sparsity": kept.sparsity,
        "pruned": changed.first_only,
        "revived": changed.second_only,
        "each": [own.kept for own in masks.count_each(after).values()],
    }
