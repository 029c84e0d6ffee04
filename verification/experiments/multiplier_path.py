"""The path from optimal brain damage to PINS: one decision for each of several multipliers μ.

    max r·m,  r = c + μs,  1·m = k        μ = 0: optimal brain damage        μ → ∞: PINS

The reduction −s·(1−m) that the linear model predicts grows with μ, and so does the cost c·(1−m)
(`pins.importance.trust_region.program`). The loss is measured at each point: it falls with the
prediction while the linear model is right, and rises where the model is wrong.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from pins.importance.trust_region.criterion import OF_FEW_ROWS, TrustRegion
from pins.importance.trust_region.multiplier import largest_multiplier
from pins.importance.trust_region.program import TrustRegionProgram
from pins.importance.trust_region.sample import sample
from pins.selection.constraints import Cardinality, keep_count
from pins.selection.select import select
from verification.experiments.loss_change import Experiment, Losses, measuring
from verification.experiments.model_snapshot import ModelSnapshot

FRACTION = 0.2  # of the weights, pruned in this one decision
# reduction predicted beyond optimal brain damage, as shares of the loss; more than 1 is impossible
SHARES = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0, 2.0, 4.0, 16.0)


@dataclass(frozen=True)
class PathPoint:
    """One decision on the path.

    Attributes:
        multiplier: μ; 0 is optimal brain damage, None is PINS.
        share: predicted reduction beyond optimal brain damage, as a share of the loss; None at
            the two ends.
        predicted: first-order change of the loss by step and mask, on the gradient's rows.
        measured: measured change on the gradient's rows.
        measured_unseen: measured change on rows that were used for nothing else.
    """

    multiplier: float | None
    share: float | None
    predicted: float
    measured: float
    measured_unseen: float


def multiplier_path(
    experiment: Experiment,
    observed: ModelSnapshot,
    start: Losses,
    shares: Sequence[float] = SHARES,
) -> Iterator[PathPoint]:
    """The points in ascending order of μ; restores the weights at the end.

    Args:
        experiment: the model at θ.
        observed: `experiment.observe(…)` at θ.
        start: `experiment.losses()` at θ.
        shares: ascending shares of the loss, predicted at the points between the ends.
    """
    keep = keep_count(FRACTION, sum(w.numel() for w in observed.before.values()))
    # δ is a mean over all weights, and the same for every μ
    damped = TrustRegion(damping=OF_FEW_ROWS).damped(observed.observations)
    program = damped.at(observed.observations, Cardinality(keep))
    with measuring(experiment, observed, start) as measure:
        for multiplier, share in _multipliers(program, start.rows, shares):
            chosen = "pins" if multiplier is None else replace(damped, multiplier=multiplier)
            masks = select(observed.importance(chosen), keep)
            found = measure(TrustRegion.name, FRACTION, masks)
            changes = found.predicted, found.measured, found.measured_unseen
            yield PathPoint(multiplier, share, *changes)


def _multipliers(
    program: TrustRegionProgram, loss: float, shares: Sequence[float]
) -> Iterator[tuple[float | None, float | None]]:
    """(μ, predicted reduction as a share of the loss), μ ascending."""
    yield 0.0, None
    last, sampled = 0.0, sample(program)
    for share in shares:
        multiplier = largest_multiplier(sampled, share * loss)
        if multiplier > last:  # each μ once: several shares may give the least μ
            yield multiplier, share
            last = multiplier
    yield None, None
