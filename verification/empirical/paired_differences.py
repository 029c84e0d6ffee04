"""Differences of paired runs: their mean, its standard error, and what they decide.

Runs A and B are a pair where they differ in nothing but what is compared. The mean d̄ of n ≥ 2
differences has the standard error σ = s/√n and the interval of Student

    d̄ ± t·σ        t the (1 − α/2)-quantile for n−1 degrees of freedom,  α = 0.05/c

The c intervals of a claim hold together in 95 of 100 cases (Bonferroni), so that looking at many
places does not make one of them hold. s is at least what one test row is worth, 1/rows: scores are
multiples of it, and two differences may be equal by chance.

Supposed: independent differences, normal. The test rows are the same in all runs, so nothing is
said of what other rows would have shown.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from scipy.special import stdtrit

from verification.empirical.wording import counted, signed

LEVEL = 0.05
RULE = (
    "Holds at the places where the interval of the mean of paired differences lies above 0, for "
    "each rival; does not hold if that is nowhere and one interval lies below 0; not tested if "
    "neither is so (too few runs to tell). Student's intervals, 95 % for all of the claim together."
)


class Sign(Enum):
    """Where an interval lies."""

    ABOVE = "above 0"
    BELOW = "below 0"
    OPEN = "too few runs to tell"


@dataclass(frozen=True)
class Difference:
    """The mean of paired differences and its interval.

    Attributes:
        pairs: n.
        mean: d̄.
        error: σ, its standard error; None of one pair.
        half_width: t·σ; None of one pair.
    """

    pairs: int
    mean: float
    error: float | None
    half_width: float | None

    @property
    def sign(self) -> Sign:
        """Where the interval lies."""
        if self.half_width is None or abs(self.mean) <= self.half_width:
            return Sign.OPEN
        return Sign.ABOVE if self.mean > 0 else Sign.BELOW

    def __str__(self) -> str:
        """Mean ± standard error (pairs), and whether these are too few."""
        error = "" if self.error is None else f" ± {self.error:.2g}"
        undecided = ", undecided" if self.sign is Sign.OPEN else ""
        return f"{signed(self.mean, 2)}{error} ({counted(self.pairs, 'pair')}{undecided})"

    def numbers(self) -> dict[str, Any]:
        """JSON values."""
        return {**vars(self), "sign": self.sign.name.lower()}


def difference(values: Sequence[float], *, resolution: float, intervals: int) -> Difference:
    """Of one value or more.

    Args:
        values: A − B of each pair.
        resolution: 1/rows, the least that s is taken to be.
        intervals: c, of the claim they belong to.
    """
    number, mean = len(values), statistics.fmean(values)
    if number < 2:
        return Difference(number, mean, None, None)
    error = max(statistics.stdev(values), resolution) / math.sqrt(number)
    quantile = float(stdtrit(number - 1, 1 - LEVEL / intervals / 2))
    return Difference(number, mean, error, quantile * error)
