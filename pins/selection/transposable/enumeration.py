"""The optimum of small blocks, by a table of all their masks: 90 for 2:4, 24 for 1:4 and 3:4."""

import functools
import itertools
from fractions import Fraction

import torch
from torch import Tensor

from pins.selection.transposable.augmentation import shortest

LARGEST = 4  # M; for 2:5 the table would have 2,040 masks, for 3:6 297,200


@functools.cache
def table(n: int, m: int) -> Tensor:
    """All masks with n ones in each row and each column, float64 of shape (masks, M, M)."""
    rows = [[float(j in kept) for j in range(m)] for kept in itertools.combinations(range(m), n)]
    every = torch.tensor([*itertools.product(rows, repeat=m)], dtype=torch.float64)
    return every[(every.sum(1) == n).all(1)]


def enumerate_masks(
    integers: Tensor, rounded: Tensor, scores: Tensor, n: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The optimum of the scores, exactly, and potentials that prove that of the integers.

    Args:
        integers: float64 of shape (B, M, M).
        rounded: number of scores of the block that `integers` round, (B,).
        scores: as given, of shape (B, M, M).
        n: number of ones of each row and column.

    Returns:
        Masks, bool of shape (B, M, M), among equal ones the first of the table; a and b, (B, M).
    """
    masks = table(n, integers.shape[1]).to(integers.device)
    sums = integers.flatten(1) @ masks.flatten(1).T  # of integers below 2^53: exact
    most, first = sums.max(1)
    rows, columns = shortest(integers, masks[first].bool())
    # a rounded score is off by half a unit at most, in each of two sums
    close = sums >= (most - rounded)[:, None]
    for block in ((rounded > 0) & (close.sum(1) > 1)).nonzero()[:, 0].tolist():
        exact = [Fraction(value) for value in scores[block].flatten().tolist()]
        sum_of = {
            number: sum(itertools.compress(exact, masks[number].flatten().tolist()))
            for number in close[block].nonzero()[:, 0].tolist()
        }
        first[block] = max(sum_of, key=lambda number: (sum_of[number], -number))
    return masks[first].bool(), rows, columns
