"""Goals of a benchmark: ratios over rounds, with their intervals, against a number to reach."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.harness.results import number

Row = Mapping[str, Any]
Rows = Mapping[str, Row]
"""The rows of one set of scores, by method."""


@dataclass(frozen=True)
class Spread:
    """Median, least and greatest of a number that was measured in each round."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Of at least one value."""
        return cls(statistics.median(values), min(values), max(values))

    def __str__(self) -> str:
        if self.low == self.high:
            return number(self.median)
        return f"{number(self.median)} ({number(self.low)} to {number(self.high)})"


def speedup(rows: Rows, name: str, other: str) -> Spread | None:
    """How many times as fast `name` is as `other`, round by round."""
    own, theirs = seconds(rows, name), seconds(rows, other)
    if not own or not theirs:
        return None
    return Spread.of([slow / fast for fast, slow in zip(own, theirs, strict=True)])


@dataclass(frozen=True)
class Goal:
    """A bound on the median of something measured.

    Attributes:
        says: the goal, without its bound.
        bound: reached is enough, but for `strictly`.
        measured: from the rows of one set of scores; None where that is missing.
        at_least: the bound is a lower one.
        strictly: the bound itself is not enough.
        unit: written after the numbers; shares are given as " %".
    """

    says: str
    bound: float
    measured: Callable[[Rows], Spread | None]
    at_least: bool = False
    strictly: bool = False
    unit: str = ""

    def met(self, value: float) -> bool:
        """Whether such a median is on the right side of the bound."""
        if value == self.bound:
            return not self.strictly
        return (value > self.bound) == self.at_least

    def judged(self, found: Spread | None) -> str:
        """Met, or missed by how much, with the numbers."""
        if found is None:
            return "not measured"
        if self.met(found.median):
            return f"**met**: {self._shown(found)}"
        short = abs(found.median - self.bound) / self.bound
        return f"**missed** by {short:.0%}: {self._shown(found)}".replace("%:", " %:")

    def stated(self) -> str:
        """The goal in words, with its bound."""
        relation = "more than" if self.strictly else "at least" if self.at_least else "at most"
        return f"{self.says}: {relation} {self._shown(Spread.of([self.bound]))}"

    def _shown(self, found: Spread) -> str:
        if self.unit == " %":
            found = Spread(100 * found.median, 100 * found.low, 100 * found.high)
        return f"{found}{self.unit}"


def seconds(rows: Rows, name: str) -> Sequence[float] | None:
    """The seconds of a method in each round; None if it was not measured."""
    return rows[name]["seconds"] if name in rows else None
