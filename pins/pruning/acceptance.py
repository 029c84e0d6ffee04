"""The acceptance test of a trust-region decision on the rows of its own step.

Nocedal & Wright, Numerical Optimization (2006), algorithm 4.1.

The reduction is relative to optimal brain damage. Predicted is the drop of the mask m of (R) minus
the drop of the mask m₀ of μ = 0; actual is the measured L(m₀) − L(m).

    ratio = actual / predicted      below ¼: a quarter of the radius      above ¾: twice the radius

A trial mask without an actual reduction is rejected.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from pins.importance.criterion import Observation
from pins.importance.trust_region.criterion import TrustRegion
from pins.importance.trust_region.program import TrustRegionDecision, TrustRegionProgram
from pins.importance.trust_region.sample import sample
from pins.masks import apply
from pins.pruning.observations import Loss
from pins.selection.constraints import Constraint
from pins.selection.select import Decision
from pins.selection.tree import Node

POOR, GOOD = 0.25, 0.75
SHRINK, GROW = 0.25, 2.0
TRIALS = 4  # trial steps of one decision, before it falls back on optimal brain damage
LARGEST = 2.0  # factor on the initial radius: the predicted reduction is then the whole loss

TrialLoss = Callable[[Mapping[str, Tensor]], float]


@dataclass(frozen=True)
class Reduction:
    """Predicted and actual reduction of the loss beyond optimal brain damage."""

    predicted: float
    actual: float

    @property
    def ratio(self) -> float:
        """actual / predicted; 1 if nothing was predicted."""
        return self.actual / self.predicted if self.predicted > 0 else 1.0

    @property
    def accepted(self) -> bool:
        """Whether the trial mask is better than the mask of optimal brain damage."""
        return self.ratio > 0


def next_radius(factor: float, reduction: Reduction) -> float:
    """The factor on the radius after a trial step: ¼ of it, the same, or twice it up to LARGEST.

    Without a predicted reduction it stays the same; a NaN ratio (a masked loss is NaN) shrinks it.
    """
    if not reduction.predicted > 0:
        return factor
    if not reduction.ratio >= POOR:
        return factor * SHRINK
    if reduction.ratio > GOOD:
        return min(factor * GROW, LARGEST)
    return factor


@dataclass(frozen=True)
class Solution:
    """The solution of a criterion's program at one step.

    Attributes:
        importance: the ranked scores by tensor name.
        decision: their optimum; of a trust region a `TrustRegionDecision`.
        factor: factor on the radius of the next decision.
        program: (R), readable until the weights change; None without a trust region.
        reduction: of the last trial step; None without one.
        loss: with the masks of the decision, if a trial step measured it.
    """

    importance: Mapping[str, Tensor]
    decision: Decision
    factor: float
    program: TrustRegionProgram | None = None
    reduction: Reduction | None = None
    loss: float | None = None

    @property
    def multiplier(self) -> float | None:
        """μ of a trust region, None without."""
        return self.decision.multiplier if isinstance(self.decision, TrustRegionDecision) else None


def accepted_solution(
    criterion: TrustRegion,
    observations: Mapping[str, Observation],
    constraint: Constraint | Node,
    *,
    tolerance: float,
    factor: float,
    trial_loss: TrialLoss,
) -> Solution:
    """Solve (R), and solve it again with a smaller radius while the trial mask is rejected.

    After `TRIALS` rejected trial steps the decision is optimal brain damage.

    Args:
        criterion: the trust region.
        observations: of the step, by tensor name.
        constraint: the allowed masks.
        tolerance: the loss that the radius is a share of.
        factor: on the radius, from the previous decisions.
        trial_loss: the loss with masks, by name.
    """
    program = criterion.damped(observations).at(observations, constraint)
    sampled = sample(program)

    def solve(factor: float) -> TrustRegionDecision:
        return program.solve(criterion.largest_multiplier(sampled, tolerance * factor))

    decision, reduction, loss = solve(factor), None, None
    if decision.multiplier:
        damage = program.solve(0.0)
        damage_loss = trial_loss(damage.masks)
        for trial in range(TRIALS):
            if trial:
                decision = solve(factor)
            loss = trial_loss(decision.masks)
            reduction = Reduction(decision.drop - damage.drop, damage_loss - loss)
            factor = next_radius(factor, reduction)
            if reduction.accepted:
                break
        else:
            decision, loss = damage, damage_loss
    scores = program.scores(decision.multiplier)
    return Solution(scores, decision, factor, program, reduction, loss)


@torch.no_grad()
def loss_with(masks: Mapping[str, Tensor], parameters: Mapping[str, Tensor], loss: Loss) -> float:
    """L(m⊙θ); afterwards the weights are θ again."""
    saved = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    try:
        apply(masks, parameters)
        return loss()
    finally:
        for name, parameter in parameters.items():
            parameter.copy_(saved[name])
