"""Masks that keep a number of each run: half of a row, N of M; PINS and common alternatives."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pins.selection.constraints import AtMostNofM, Cardinality, Constraint, NofM, Rows, keep_count
from pins.selection.select import select

Scores = Mapping[str, Tensor]
Select = Callable[[Scores, int], list[Tensor]]


@dataclass(frozen=True)
class Pattern:
    """How many scores of each run are kept; a run is a part of a row.

    Attributes:
        length: of a run; 0: a whole row.
        number: kept of each; 0: half of it.
        kept_one_in: k = ⌊n / kept_one_in⌋ are kept in all, and `number` of a run at most; 0: it is
            exactly the number.
    """

    length: int
    number: int
    kept_one_in: int = 0

    def run(self, scores: Tensor) -> tuple[int, int]:
        """Length and number of a tensor's runs."""
        length = self.length or scores.shape[-1]
        return length, self.number or keep_count(0.5, length)

    def constraint(self, keep: int) -> int | Constraint:
        """What PINS is asked for, to keep this number in all."""
        if self.kept_one_in and self.length > 1:
            return Cardinality(keep) & AtMostNofM(self.number, self.length)
        if self.kept_one_in:
            return keep
        return NofM(self.number, self.length) if self.length else Rows(0.5)

    def keep(self, size: int) -> int:
        """The number of ones of n scores."""
        return size // (self.kept_one_in or 2)


HALF = Pattern(1, 1, 2)  # of the whole model
ROWS = Pattern(0, 0)
TWO_OF_FOUR = Pattern(4, 2)
EIGHT_OF_SIXTEEN = Pattern(16, 8)
AT_MOST_TWO_OF_FOUR = Pattern(4, 2, 5)
LONGEST = 16  # of the runs that are parts of a row


def by_pins(pattern: Pattern) -> Select:
    """The optimum, by PINS: ties by index."""
    return lambda scores, keep: [*select(scores, pattern.constraint(keep)).values()]


def by_topk(pattern: Pattern) -> Select:
    """`torch.topk` of each run and its indices scattered, as tools for N:M sparsity do."""
    return _scattered(pattern, lambda runs, number: runs.topk(number, sorted=False).indices)


def by_sort(pattern: Pattern) -> Select:
    """A stable `torch.sort` of each run and its first indices scattered, as Wanda does."""

    def first(runs: Tensor, number: int) -> Tensor:
        return runs.sort(stable=True, descending=True).indices[:, :number]

    return _scattered(pattern, first)


def _scattered(pattern: Pattern, indices: Callable[[Tensor, int], Tensor]) -> Select:
    def masks(scores: Scores, _keep: int) -> list[Tensor]:
        found = []
        for each in scores.values():
            length, number = pattern.run(each)
            runs = each.reshape(-1, length)
            mask = torch.zeros_like(runs, dtype=torch.bool)
            found.append(mask.scatter_(1, indices(runs, number), True).view(each.shape))
        return found

    return masks


def is_optimum(pattern: Pattern, scores: Scores, masks: Sequence[Tensor], keep: int) -> bool:
    """No run can exchange a score for a better one; nor can two runs with room (Theorem 6)."""
    total, least_kept, most_pruned = 0, torch.inf, -torch.inf
    for each, mask in zip(scores.values(), masks, strict=True):
        length, number = pattern.run(each)
        runs, kept = each.reshape(-1, length), mask.reshape(-1, length) != 0
        least = runs.masked_fill(~kept, torch.inf).amin(1)
        most = runs.masked_fill(kept, -torch.inf).amax(1)
        counts = kept.sum(1)
        room = counts < number
        wrong = (least < most) | (counts > number)
        if wrong.any() or (room.any() and not pattern.kept_one_in):
            return False
        total += int(counts.sum())
        least_kept = min(least_kept, least.min().item())
        if room.any():
            most_pruned = max(most_pruned, most[room].max().item())
    return total == keep and (most_pruned <= least_kept or not pattern.kept_one_in)
