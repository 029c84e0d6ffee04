"""The history of a run, and the summary of one step."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from pins import masks


@dataclass(frozen=True)
class StepSummary:
    """The state of a run after a step, for a progress bar.

    Attributes:
        step: optimiser steps taken.
        steps: optimiser steps of the whole run.
        loss: of this step.
        sparsity: 1 − kept ratio.
        score: the headline metric at the last evaluation; None if there was none, or if it is not
            finite.
    """

    step: int
    steps: int
    loss: float
    sparsity: float
    score: float | None


@dataclass
class History:
    """The losses since the last evaluation, all evaluations and all decisions, as JSON values."""

    losses: list[float]
    evaluations: list[dict[str, Any]]
    decisions: list[dict[str, Any]]


def decision_row(
    step: int, before: Mapping[str, Tensor], after: Mapping[str, Tensor]
) -> dict[str, Any]:
    """Exact counts of what a decision changed, in total and by tensor, as JSON values.

    Args:
        step: of the decision.
        before: the masks before it, True = keep.
        after: the masks that it made.

    Returns:
        `pruned` counts the weights that lose their place in the mask, `revived` those that regain
        it; `each` counts the kept weights of each tensor, in the order of the tensors.
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
