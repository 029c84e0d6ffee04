"""What a run says of a step, and what it keeps of all of them."""

from dataclasses import dataclass
from typing import Any


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
