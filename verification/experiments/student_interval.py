"""Student's confidence interval of a mean: d̄ ± t·σ.

    σ = s/√n       s the sample standard deviation of n ≥ 2 values
    t              the (1 + confidence)/2-quantile of Student's distribution for n−1 degrees

Assumed: independent values with a normal distribution.
"""

import math
import statistics
from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum

from scipy.special import stdtrit

CONFIDENCE = 0.95


class Sign(Enum):
    """The position of an interval relative to 0."""

    ABOVE = "above 0"
    BELOW = "below 0"
    OPEN = "too few runs to tell"


@dataclass(frozen=True)
class Interval:
    """mean ± half_width.

    Attributes:
        number: n.
        mean: d̄.
        error: σ, the standard error; None for one value.
        half_width: t·σ; None for one value.
    """

    number: int
    mean: float
    error: float | None
    half_width: float | None

    @property
    def sign(self) -> Sign:
        """The position relative to 0; open for one value."""
        if self.half_width is None or abs(self.mean) <= self.half_width:
            return Sign.OPEN
        return Sign.ABOVE if self.mean > 0 else Sign.BELOW


def interval(
    values: Collection[float], *, confidence: float = CONFIDENCE, resolution: float = 0.0
) -> Interval:
    """The interval of the mean of one or more values.

    Args:
        values: the values.
        confidence: probability that such an interval contains the expectation.
        resolution: lower bound of s: rounded values may be equal by chance.
    """
    number, mean = len(values), statistics.fmean(values)
    if number < 2:
        return Interval(number, mean, None, None)
    error = max(statistics.stdev(values), resolution) / math.sqrt(number)
    quantile = float(stdtrit(number - 1, (1 + confidence) / 2))
    return Interval(number, mean, error, quantile * error)
