"""A criterion with the parameters that a decision gives it."""

from collections.abc import Mapping
from dataclasses import replace

from pins.importance.criterion import Criterion, Observation
from pins.importance.trust_region.criterion import TrustRegion
from pins.importance.trust_region.sample import sample
from pins.selection.constraints import Constraint


def fit_region(
    criterion: TrustRegion,
    observations: Mapping[str, Observation],
    constraint: Constraint,
    tolerance: float = 0.0,
) -> TrustRegion:
    """The trust region with δ and the largest μ whose reduction is at most radius · tolerance."""
    damped = criterion.damped(observations)
    sampled = sample(damped.at(observations, constraint))
    return replace(damped, multiplier=damped.largest_multiplier(sampled, tolerance))


def fit(
    criterion: Criterion,
    observations: Mapping[str, Observation],
    constraint: Constraint,
    tolerance: float = 0.0,
) -> Criterion:
    """As `fit_region`; every other criterion is returned unchanged."""
    if not isinstance(criterion, TrustRegion):
        return criterion
    return fit_region(criterion, observations, constraint, tolerance)
