"""Exact optimum of transposable blocks: shortest augmenting paths from given potentials.

A mask is optimal iff it has N ones in each row and each column and, for some potentials,
kept s_ij ≥ a_i + b_j ≥ pruned s_ij (theory: two trees). From potentials that are nearly right the
second condition is kept and the first is reached step by step: keep what is above a_i + b_j, prune
what is below, and let the ties fill rows and columns that lack ones. Where a row or column then has
too many ones and another one too few, a shortest path between them in the graph of single changes
(row i → column j: keep (i, j) at the price a_i + b_j − s_ij ≥ 0; j → i: prune it at minus that)
moves one, and the distances correct the potentials so that the second condition still holds.
Together with the entries that were set right at the start, such paths are the negative cycles that
a mask with N ones in each row and column would be repaired along.

All numbers are integers (`pins.selection.transposable.blocks`), hence exact; among equally short
paths the lowest index decides.
"""

import torch
from torch import Tensor

FAR = float("inf")


def augment(scores: Tensor, rows: Tensor, columns: Tensor, n: int) -> tuple[Tensor, Tensor, Tensor]:
    """An optimal mask and potentials that prove it.

    Args:
        scores: integers, float64 of shape (B, M, M).
        rows: a, integers, float64 of shape (B, M).
        columns: b, likewise.
        n: number of ones of each row and column, 0 < N < M.

    Returns:
        The mask, bool of shape (B, M, M), and a and b.
    """
    rows, columns = rows.clone(), columns.clone()
    reduced = _reduced(scores, rows, columns)
    mask = _filled(reduced > 0, reduced == 0, n)
    active = torch.arange(len(scores), device=scores.device)
    while True:
        kept = mask[active]
        lacking, surplus = n - kept.sum(2), kept.sum(1) - n  # positive: a path begins here
        active, a, b, kept, lacking, surplus = (
            each[((lacking != 0) | (surplus != 0)).any(1)]
            for each in (active, rows[active], columns[active], kept, lacking, surplus)
        )
        if not len(active):
            return mask, rows, columns
        reduced = _reduced(scores[active], a, b)
        paths = _Paths(reduced, kept, lacking > 0, surplus > 0)
        ends = torch.cat([lacking < 0, surplus < 0], 1)
        length, end = torch.cat([paths.rows, paths.columns], 1).where(ends, FAR).min(1)
        rows[active] = a + torch.minimum(paths.rows, length[:, None])
        columns[active] = b - torch.minimum(paths.columns, length[:, None])
        mask[active] = paths.flipped(kept, end, torch.cat([lacking > 0, surplus > 0], 1))


def shortest(scores: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Potentials that prove an optimal mask: distances from anywhere; arguments as `augment`."""
    everywhere = torch.ones_like(mask[:, 0])
    paths = _Paths(scores, mask, everywhere, everywhere)
    return paths.rows, -paths.columns


def _reduced(scores: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """s − a − b."""
    return scores - rows[:, :, None] - columns[:, None, :]


def _filled(mask: Tensor, ties: Tensor, n: int) -> Tensor:
    """Add ties where row and column lack ones, by diagonals: equal scores get a whole mask."""
    m = mask.shape[1]
    rows = torch.arange(m, device=mask.device)
    lacking, room = n - mask.sum(2), n - mask.sum(1)
    for shift in range(m):
        columns = (rows + shift) % m
        new = ties[:, rows, columns] & (lacking > 0) & (room[:, columns] > 0)
        mask[:, rows, columns] |= new
        lacking -= new.long()
        room[:, columns] -= new.long()
    return mask


class _Paths:
    """Shortest paths from sources to all rows and columns (Bellman and Ford), in each block.

    Attributes:
        rows: distances, (B, M).
        columns: likewise.
    """

    def __init__(self, reduced: Tensor, mask: Tensor, rows: Tensor, columns: Tensor) -> None:
        """Args: s − a − b, the mask, and which rows and columns are sources."""
        keep = (-reduced).where(~mask, FAR).transpose(1, 2).contiguous()  # (B, column, row)
        prune = reduced.where(mask, FAR)
        zero = torch.zeros_like(reduced[:, 0])
        self.rows, self.columns = zero.where(rows, FAR), zero.where(columns, FAR)
        self._row_before = torch.zeros_like(rows, dtype=torch.int64)
        self._column_before = torch.zeros_like(self._row_before)
        for _ in range(2 * mask.shape[1]):
            found, before = (keep + self.rows[:, None, :]).min(2)
            nearer = found < self.columns
            self.columns = found.where(nearer, self.columns)
            self._row_before = before.where(nearer, self._row_before)
            changed = nearer.any()
            found, before = (prune + self.columns[:, None, :]).min(2)
            nearer = found < self.rows
            self.rows = found.where(nearer, self.rows)
            self._column_before = before.where(nearer, self._column_before)
            if not (changed | nearer.any()):
                break

    def flipped(self, mask: Tensor, end: Tensor, sources: Tensor) -> Tensor:
        """The mask after the changes along the path to `end`, a row, or M plus a column."""
        m = mask.shape[1]
        active = torch.arange(len(mask), device=mask.device)
        before = torch.cat([self._column_before + m, self._row_before], 1)
        node = end.clone()
        while len(active := active[~sources[active, node[active]]]):
            here = node[active]
            last = before[active, here]
            mask[active, torch.minimum(here, last), torch.maximum(here, last) - m] ^= True
            node[active] = last
        return mask
