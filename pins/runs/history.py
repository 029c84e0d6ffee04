"""The history of a run, and the summary of one step."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from pins import __version__, masks
from pins.utils.provenance import versions

DECIDES = ("pins", "torch", "transformers")  # the software that computes the steps


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
        pattern: the N:M of the latest decision; None without a pattern.
    """

    step: int
    steps: int
    loss: float
    sparsity: float
    score: float | None
    pattern: str | None = None


@dataclass
class History:
    """The history of a run as JSON values.

    Attributes:
        losses: since the last evaluation.
        evaluations: all of them.
        decisions: all of them.
        software: the versions of the software, and the step after which it took over.
    """

    losses: list[float]
    evaluations: list[dict[str, Any]]
    decisions: list[dict[str, Any]]
    software: list[dict[str, Any]]

    def __post_init__(self) -> None:
        for name, value in vars(self).items():  # they come from a file
            if not isinstance(value, list):
                raise TypeError(f"{name} is no list")

    def take_over(self, step: int) -> str | None:
        """Record that this software takes the next steps; in words, how it differs from before."""
        now = {"pins": __version__, **{name: versions()[name] for name in DECIDES[1:]}}
        before = self.software[-1] if self.software else None
        changed = [name for name in DECIDES if before and before.get(name) != now[name]]
        if before is None or changed:
            self.software.append({"step": step, **now})
        if before is None or not changed:
            return None
        earlier, later = (
            ", ".join(f"{name} {each.get(name)}" for name in changed) for each in (before, now)
        )
        return f"The earlier steps were taken by {earlier}, the next ones are by {later}."


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
