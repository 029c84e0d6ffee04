"""A trust region's decision, rehearsed: is its promise kept on the rows that it was made from?"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pins.constraints import Constraint
from pins.criterion import Criterion, Observation
from pins.masks import apply
from pins.observations import Loss
from pins.radius import TRIALS, Promise, next_radius
from pins.selection import Decision
from pins.trust_region import RegionDecision, RegionProgram
from pins.trust_region_criterion import TrustRegion

Solve = Callable[[Criterion], tuple[Mapping[str, Tensor], Decision]]
Rehearse = Callable[[Mapping[str, Tensor]], float]


@dataclass(frozen=True)
class Choice:
    """What came of a criterion's program at one step.

    Attributes:
        importance: the scores that were ranked, by tensor name.
        decision: their optimum; of a trust region one that knows its μ.
        factor: on the radius of the next decision.
        program: of a trust region, None without; read before the weights change.
        promise: of the radius that was tried last; None where there was none, or nobody measured.
        loss: with the masks of the decision, where that was rehearsed.
    """

    importance: Mapping[str, Tensor]
    decision: Decision
    factor: float
    program: RegionProgram | None = None
    promise: Promise | None = None
    loss: float | None = None

    @property
    def multiplier(self) -> float | None:
        """μ of a trust region, None without."""
        return self.decision.multiplier if isinstance(self.decision, RegionDecision) else None


def choose(
    criterion: Criterion,
    observations: Mapping[str, Observation],
    constraint: Constraint,
    *,
    allowance: float,
    factor: float,
    solve: Solve,
    rehearse: Rehearse | None,
) -> Choice:
    """Solve; where a trust region's promise is broken, shrink it and solve again.

    After `TRIALS` broken promises the decision is optimal brain damage.

    Args:
        criterion: not fitted yet.
        observations: of the step.
        constraint: of the decision.
        allowance: what a radius of 1 lets a decision promise, in units of the loss.
        factor: on the radius, from the decisions before.
        solve: a fitted criterion's scores, and their optimum.
        rehearse: the loss with masks, by name; None: promises are believed.
    """
    fitted = criterion.fitted(observations, constraint, allowance * factor)
    importance, decision = solve(fitted)
    if not isinstance(fitted, TrustRegion):
        return Choice(importance, decision, factor)
    region: TrustRegion = fitted
    program = region.region(observations, constraint)
    found = program.decision(decision, region.multiplier)
    promise = loss = None
    if rehearse is not None and region.multiplier:
        plain_importance, plain_decision = solve(replace(region, multiplier=0.0))
        plain = program.decision(plain_decision, 0.0)
        plain_loss = rehearse(plain.masks)
        for trial in range(TRIALS):
            if trial:  # with what the last broken promise left of the radius
                region = region.fitted(observations, constraint, allowance * factor)
                importance, decision = solve(region)
                found = program.decision(decision, region.multiplier)
            loss = rehearse(found.masks)
            promise = Promise(found.drop - plain.drop, plain_loss - loss)
            factor = next_radius(factor, promise)
            if promise.accepted:
                break
        else:
            importance, found, loss = plain_importance, plain, plain_loss
    return Choice(importance, found, factor, program, promise, loss)


@torch.no_grad()
def loss_with(masks: Mapping[str, Tensor], parameters: Mapping[str, Tensor], loss: Loss) -> float:
    """L(m⊙θ). The weights are θ again afterwards."""
    saved = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    try:
        apply(masks, parameters)
        return loss()
    finally:
        for name, parameter in parameters.items():
            parameter.copy_(saved[name])
