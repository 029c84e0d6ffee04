"""Goals of a benchmark: the median of a number over the rounds, against a bound."""

import operator
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.harness.markdown import ranged, share
from benchmarks.harness.results import Row

Rows = Mapping[str, Row]
"""The rows of one set of scores, by method."""


@dataclass(frozen=True)
class MedianRange:
    """Median, least and greatest of a number that was measured in each round."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "MedianRange":
        """Median and range of at least one value."""
        return cls(statistics.median(values), min(values), max(values))

    def __str__(self) -> str:
        return ranged(self.median, self.low, self.high)


def per_round(rows: Rows, of: Callable[..., float], *names: str) -> MedianRange | None:
    """A number computed from the seconds of some methods in the same round.

    Args:
        rows: by method.
        of: seconds of each method ↦ the number.
        names: of the methods.

    Returns:
        Median and range over the rounds; None if a method was not measured.
    """
    seconds = [rows.get(name, {}).get("seconds") for name in names]
    if not all(seconds):
        return None
    return MedianRange.of([of(*turn) for turn in zip(*seconds, strict=True)])


def speedup(rows: Rows, name: str, other: str) -> MedianRange | None:
    """Seconds of `other` / seconds of `name`, round by round."""
    return per_round(rows, operator.truediv, other, name)


@dataclass(frozen=True)
class Goal:
    """A bound on the median of a measured number.

    Attributes:
        says: the goal in words, without its bound.
        bound: the greatest or the least number that meets the goal.
        measured: the number, from the rows of one set of scores; None if it was not measured.
        at_least: the bound is a lower bound.
        strictly: the bound itself does not meet the goal.
        unit: printed after the numbers; " %" prints shares in per cent.
    """

    says: str
    bound: float
    measured: Callable[[Rows], MedianRange | None]
    at_least: bool = False
    strictly: bool = False
    unit: str = ""

    def met(self, value: float) -> bool:
        """Whether a median meets the goal."""
        if value == self.bound:
            return not self.strictly
        return (value > self.bound) == self.at_least

    def judged(self, found: MedianRange | None) -> str:
        """Met, or missed by which share of the bound, with the numbers."""
        if found is None:
            return "not measured"
        if self.met(found.median):
            return f"**met**: {self._shown(found)}"
        short = share(abs(found.median - self.bound) / self.bound, 0)
        return f"**missed** by {short}: {self._shown(found)}"

    def stated(self) -> str:
        """The goal in words, with its bound."""
        relation = "more than" if self.strictly else "at least" if self.at_least else "at most"
        return f"{self.says}: {relation} {self._shown(MedianRange.of([self.bound]))}"

    def _shown(self, found: MedianRange) -> str:
        if self.unit == " %":
            found = MedianRange(100 * found.median, 100 * found.low, 100 * found.high)
        return f"{found}{self.unit}"
