"""Runs of one length that keep one number each: rows, columns, the groups of N:M.

A run whose weights are partly free can count as keeping any number from its kept ones to its kept
and free ones. A number N fits the runs if it lies in the interval of each.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

LONGEST_GROUP = 64  # M of N:M
ALMOST = 20  # of so many runs one may differ: then they break a pattern, and have not another one
MOST_BREAKS = 100  # in all: thousands of groups below N are no breaks of N:M, but "at most N:M"
FEWEST = 4  # runs of which one may


@dataclass(frozen=True)
class Break:
    """A run that keeps another number than the others.

    Attributes:
        run: its number, from 0.
        kept: the nearest to `expected` that it can count as.
        expected: what the others keep.
    """

    run: int
    kept: int
    expected: int


@dataclass(frozen=True)
class SameCount:
    """The number that the runs keep, and the runs that do not."""

    keep: int
    breaks: tuple[Break, ...]


def few(runs: int) -> int:
    """How many of so many runs may differ from the others, so that they break a pattern."""
    return max(min(runs // ALMOST, MOST_BREAKS), 1 if runs >= FEWEST else 0)


def same_count(kept: Tensor, free: Tensor) -> SameCount | None:
    """The number from 1 to length − 1 that fits most runs, the least of several.

    Args:
        kept: bool (runs, length).
        free: bool, likewise, disjoint from `kept`.

    Returns:
        None if more than one run of twenty differs (or more than one, of fewer runs), or more than
        100 do, or if there is one run only.
    """
    runs, length = kept.shape
    allowed = few(runs)
    if runs < 2 or length < 2:
        return None
    some = max(runs // 8, 1)  # enough to refuse nearly every length that does not fit
    if (
        some < runs
        and (some - _fitting(*_intervals(kept[:some], free[:some]), length)[1]) > allowed
    ):
        return None
    low, high = _intervals(kept, free)
    keep, fitting = _fitting(low, high, length)
    if runs - fitting > allowed:
        return None
    outside = ((low > keep) | (high < keep)).nonzero().flatten().tolist()
    breaks = [Break(i, int(low[i]) if low[i] > keep else int(high[i]), keep) for i in outside]
    return SameCount(keep, tuple(breaks))


def filled(kept: Tensor, free: Tensor, keep: int) -> Tensor:
    """The mask in which each run keeps `keep` weights: its kept ones, then its first free ones.

    Args:
        kept: bool (runs, length).
        free: bool, likewise.
        keep: a number that fits; other runs keep what they can.
    """
    missing = keep - kept.sum(1, keepdim=True)
    return kept | (free & (free.cumsum(1) <= missing))


def _intervals(kept: Tensor, free: Tensor) -> tuple[Tensor, Tensor]:
    low = kept.sum(1)
    return low, low + free.sum(1)


def _fitting(low: Tensor, high: Tensor, length: int) -> tuple[int, int]:
    """The number from 1 to length − 1 that fits most runs, and how many."""
    begins = torch.bincount(low, minlength=length + 2)
    ends = torch.bincount(high + 1, minlength=length + 2)
    fits = (begins - ends).cumsum(0)[1:length]
    best = int(fits.argmax())  # the first of several
    return best + 1, int(fits[best])
