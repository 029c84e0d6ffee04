"""The path from optimal brain damage to PINS: one decision for each of a row of multipliers μ.

    max r·m,  r = c + μs,  1·m = k        μ = 0: optimal brain damage        μ → ∞: PINS

The drop −s·(1−m) that the linear model promises grows with μ, and the cost c·(1−m) with it
(`pins.importance.trust_region.program`). What the loss does on the way is measured: it falls with
the promise while the linear model is true, and turns up where it is not.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from pins.importance.trust_region.criterion import OF_FEW_ROWS, TrustRegion
from pins.importance.trust_region.multiplier import largest_multiplier
from pins.importance.trust_region.program import RegionProgram
from pins.importance.trust_region.sample import sample
from pins.selection.constraints import Cardinality, keep_count
from pins.selection.select import select
from verification.experiments.loss_change import Experiment, Losses, measuring
from verification.experiments.model_snapshot import RealModel

FRACTION = 0.2  # of the weights, pruned in this one decision
# of the loss, promised beyond optimal brain damage: a loss cannot fall by more than all of it
SHARES = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0, 2.0, 4.0, 16.0)


@dataclass(frozen=True)
class PathPoint:
    """One decision on the path.

    Attributes:
        multiplier: μ; 0 is optimal brain damage, None is PINS.
        share: of the loss, promised beyond optimal brain damage; None at the two ends.
        predicted: change of the loss by step and mask, to first order, on the gradient's rows.
        measured: on the gradient's rows.
        measured_unseen: on rows that took no part.
    """

    multiplier: float | None
    share: float | None
    predicted: float
    measured: float
    measured_unseen: float


def multiplier_path(
    experiment: Experiment,
    observed: RealModel,
    start: Losses,
    advance: Callable[[], None] = lambda: None,
    shares: Sequence[float] = SHARES,
) -> list[PathPoint]:
    """The points in ascending order of μ; the weights come back.

    Args:
        experiment: the model at θ.
        observed: what `experiment.observe` saw there.
        start: `experiment.losses()` at θ.
        advance: called after each point.
        shares: of the loss, promised at the points between the ends, ascending.
    """
    keep = keep_count(FRACTION, sum(w.numel() for w in observed.before.values()))
    # δ is a mean over all weights, and the same for every μ
    damped = TrustRegion(damping=OF_FEW_ROWS).damped(observed.observations)
    program = damped.at(observed.observations, Cardinality(keep))
    points = []
    with measuring(experiment, observed, start) as measure:
        for multiplier, share in _multipliers(program, start.rows, shares):
            scores = observed.importance(
                "pins" if multiplier is None else replace(damped, multiplier=multiplier)
            )
            found = measure(TrustRegion.name, FRACTION, select(scores, keep))
            points.append(
                PathPoint(multiplier, share, found.predicted, found.measured, found.measured_unseen)
            )
            advance()
    return points


def _multipliers(
    program: RegionProgram, loss: float, shares: Sequence[float]
) -> Iterator[tuple[float | None, float | None]]:
    """μ and the share of the loss that it promises; each μ once."""
    yield 0.0, None
    last, sampled = 0.0, sample(program)
    for share in shares:
        multiplier = largest_multiplier(sampled, share * loss)
        if multiplier > last:  # no share is promised below the least μ
            yield multiplier, share
            last = multiplier
    yield None, None
