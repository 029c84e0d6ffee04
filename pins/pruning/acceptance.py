"""A trust region's decision, rehearsed: is its promise kept on the rows that it was made from?

Nocedal & Wright, Numerical Optimization (2006), algorithm 4.1.

A promise is what the linear term adds to optimal brain damage: the drop that the mask m of (R)
predicts beyond the mask m₀ of μ = 0. What was kept of it is L(m₀) − L(m), measured.

    ratio = kept / promised      below ¼: a quarter of the radius      above ¾: twice the radius

A mask that keeps nothing of its promise, or less, is not taken.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pins.importance.criterion import Criterion, Observation
from pins.importance.trust_region.criterion import TrustRegion
from pins.importance.trust_region.program import RegionDecision, RegionProgram
from pins.masks import apply
from pins.pruning.observations import Loss
from pins.selection.constraints import Constraint
from pins.selection.select import Decision

POOR, GOOD = 0.25, 0.75
SHRINK, GROW = 0.25, 2.0
TRIALS = 4  # radii tried at one decision, before it falls back on optimal brain damage
LARGEST = 2.0  # of what it started from: then a promise is of the whole loss

Solve = Callable[[Criterion], tuple[Mapping[str, Tensor], Decision]]
Rehearse = Callable[[Mapping[str, Tensor]], float]


@dataclass(frozen=True)
class Promise:
    """What a decision promised beyond optimal brain damage, and what was kept; in loss units."""

    promised: float
    kept: float

    @property
    def ratio(self) -> float:
        """kept / promised; 1 where nothing was promised."""
        return self.kept / self.promised if self.promised > 0 else 1.0

    @property
    def accepted(self) -> bool:
        """Something of it was kept: the mask is better than optimal brain damage's."""
        return self.ratio > 0


def next_radius(factor: float, promise: Promise) -> float:
    """The factor on the radius after a promise: ¼ of it, as much, or twice it, up to LARGEST.

    A promise of nothing says nothing of the radius. One whose worth is no number, as a loss of the
    mask that is none makes it, counts as broken.
    """
    if not promise.promised > 0:
        return factor
    if not promise.ratio >= POOR:
        return factor * SHRINK
    if promise.ratio > GOOD:
        return min(factor * GROW, LARGEST)
    return factor


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
