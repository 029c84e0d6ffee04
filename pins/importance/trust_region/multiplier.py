"""The multiplier μ of a trust region: bisection on a log scale over a sample of the weights.

Drop and cost of the optimum for r = c + μs never decrease as μ grows (`program`), so a bisection
over log μ finds the largest μ with a sufficiently small drop or cost. It runs on a fixed sample of
the weights, where a ranking is cheap; the model itself is then ranked once, or a few times if the
radius must not be exceeded.
"""

import math
from collections.abc import Callable

from pins.errors import CardinalityError, CriterionError
from pins.importance.trust_region.program import TrustRegionDecision, TrustRegionProgram
from pins.importance.trust_region.sample import Sample, sample

HALVINGS = 20  # if the sample is the model: μ is found to 96 / 2²⁰ octaves
ROUGH_HALVINGS = 13  # otherwise: to a hundredth of an octave
SAFETY = 1 + 1e-12  # more than the float64 rounding of a sum of costs ≥ 0
SELECTIONS = 4  # largest number of rankings of all weights if the cost is bounded


def largest_multiplier(sampled: Sample, limit: float) -> float:
    """The largest μ whose drop exceeds the drop of optimal brain damage by at most `limit`.

    Args:
        sampled: sample of the program's weights.
        limit: in units of the loss, ≥ 0; 0 gives optimal brain damage, μ = 0.

    Raises:
        CriterionError: the limit is negative or NaN.
    """
    if not limit >= 0:
        raise CriterionError(f"the radius allows a drop of {limit}: it is at least 0")
    base = sampled.drop(0.0)
    return bisect(
        lambda multiplier: sampled.drop(multiplier) - base,
        limit,
        sampled.multipliers(),
        HALVINGS if sampled.whole else ROUGH_HALVINGS,
    )


def within(program: TrustRegionProgram, radius: float) -> TrustRegionDecision:
    """A decision with c·(1−m) ≤ ρ, with the largest μ that the search finds.

    If the sample is the model, it is the best decision of a single multiplier.

    Args:
        program: the program.
        radius: ρ.

    Raises:
        CriterionError: the radius is NaN.
        CardinalityError: no allowed mask has such a small cost, or only masks within 1e-12 of the
            radius, which the float64 sum cannot distinguish.
    """
    if math.isnan(radius):
        raise CriterionError(f"the radius is {radius}: it is a number, of the unit of the cost")
    sampled = sample(program)
    aim = radius / SAFETY
    for _ in range(SELECTIONS - 1):
        decision = program.solve(bisect(sampled.cost, aim, sampled.multipliers(), HALVINGS))
        if decision.cost * SAFETY <= radius:
            return decision
        # the sample underestimates costs by this factor, and slightly more
        aim *= 0.99 * radius / (decision.cost * SAFETY)
    cheapest = program.solve(0.0)
    if cheapest.cost * SAFETY > radius:
        raise CardinalityError(
            f"the radius is {radius}: the cheapest {cheapest.proof.total - cheapest.proof.keep} "
            f"weights to prune cost {cheapest.cost}; allow more, or keep more weights"
        )
    return cheapest


def bisect(
    function: Callable[[float], float], limit: float, between: tuple[float, float], halvings: int
) -> float:
    """The largest μ with f(μ) ≤ limit for a non-decreasing f, by bisection on a log scale.

    0 if f exceeds the limit at the smallest μ, the largest μ if f never exceeds it.
    """
    low, high = between
    if low <= 0 or limit <= 0:
        return 0.0
    if function(high) <= limit:
        return high
    if function(low) > limit:
        return 0.0
    least, most = math.log2(low), math.log2(high)
    for _ in range(halvings):
        middle = (least + most) / 2
        if function(2.0**middle) <= limit:
            least = middle
        else:
            most = middle
    return float(2.0**least)
