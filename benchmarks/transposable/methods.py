"""Rivals of the exact transposable mask: a greedy, and the potentials without the paths."""

from collections.abc import Callable

import torch
from torch import Tensor

from pins.selection.transposable.blocks import Blocks, join
from pins.selection.transposable.potentials import potentials
from pins.selection.transposable.proof import ROOM, cut


def greedy(scores: Tensor, n: int, m: int) -> Tensor:
    """Block by block the largest score whose row and column have fewer than n ones: at least half
    of the optimum (Hubara et al., 2021). Some rows and columns may be left with fewer than n ones.
    """
    return _by_block(scores, m, lambda blocks: _greedy(blocks.scores, n))


def rounded(scores: Tensor, n: int, m: int) -> Tensor:
    """The greedy on s − a − b, with the potentials of scaling and sweeps: no shortest paths."""

    def of(blocks: Blocks) -> Tensor:
        rows, columns = potentials(blocks.scores, n)
        return _greedy(blocks.scores - rows[:, None] - columns, n)

    return _by_block(scores, m, of)


def _by_block(scores: Tensor, m: int, of: Callable[[Blocks], Tensor]) -> Tensor:
    masks = [join(of(Blocks.of(given)), scores.shape[1]) for given in cut(scores, m, ROOM)]
    return torch.cat(masks)


def _greedy(scores: Tensor, n: int) -> Tensor:
    """The greedy mask of blocks, (M, M, B)."""
    m, _, blocks = scores.shape
    order = scores.flatten(0, 1).argsort(dim=0, descending=True, stable=True)
    rows, columns = torch.full((2, m, blocks), n)
    mask = torch.zeros_like(order, dtype=torch.bool)
    for entry in order[:, None].unbind(0):
        i, j = entry // m, entry % m
        free = (rows.gather(0, i) > 0) & (columns.gather(0, j) > 0)
        rows.scatter_add_(0, i, -free.long())
        columns.scatter_add_(0, j, -free.long())
        mask.scatter_(0, entry, free)
    return mask.view(m, m, blocks)
