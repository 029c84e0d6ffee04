"""Two methods compared window by window: the mean difference of their losses, and its error."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from verification.formatting import rounded

NORMAL = 1.96  # standard errors of a two-sided 95 % interval


@dataclass(frozen=True)
class Paired:
    """The mean over test windows of loss − loss of another method.

    Attributes:
        mean: of the differences, in nats a token; exp(mean) is the ratio of the perplexities.
        error: standard error of the mean, over the windows as if they were independent.
    """

    mean: float
    error: float

    @classmethod
    def of(cls, one: Sequence[Sequence[float]], other: Sequence[Sequence[float]]) -> "Paired":
        """From the losses of two or more windows; a window's difference is its mean over draws.

        Args:
            one: the losses of the windows, a sequence of them for each draw of the calibration.
            other: likewise, of the same windows and draws.
        """
        draws = [
            [a - b for a, b in zip(first, second, strict=True)]
            for first, second in zip(one, other, strict=True)
        ]
        windows = [statistics.fmean(window) for window in zip(*draws, strict=True)]
        error = statistics.stdev(windows) / math.sqrt(len(windows))
        return cls(statistics.fmean(windows), error)

    @property
    def lower(self) -> bool:
        """Whether the 95 % interval of the mean lies below 0."""
        return self.mean + NORMAL * self.error < 0

    @property
    def higher(self) -> bool:
        """Whether the 95 % interval of the mean lies above 0."""
        return self.mean - NORMAL * self.error > 0

    @property
    def verdict(self) -> str:
        """What the interval says."""
        return "lower" if self.lower else "higher" if self.higher else "no difference"

    def __str__(self) -> str:
        return f"{rounded(self.mean)} ± {self.error:.2g}"
