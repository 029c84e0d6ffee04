"""SparseGPT (Frantar and Alistarh, 2023): column by column, with updates of the next ones."""

from collections.abc import Mapping
from fractions import Fraction

import torch
from torch import Tensor

from pins.errors import CardinalityError
from pins.oneshot.layer import Layer, Pruned, damped
from pins.oneshot.methods.method import Method, allowed
from pins.oneshot.refit import DAMPING
from pins.selection.allocation import Allocation
from pins.selection.constraints import keep_count
from pins.selection.pattern import Pattern
from pins.selection.runs import largest_of_runs
from pins.selection.select import select
from pins.selection.tree import View

BLOCK = 128  # columns whose masks are chosen together, and updated before the others are
PANEL = 8  # columns of a block that are updated one by one, before the rest of it is


class SparseGpt(Method):
    """A heuristic for (R): its mask and its weights are the optimum of no program.

    With the upper Cholesky factor U of (G + δI)⁻¹, δ 1 % of the mean diagonal (§3.3 there), the
    columns are passed from left to right. A mask of the next columns keeps the largest
    w_ij² / U_jj², for N:M of each group when it is reached; the error of a pruned weight is made up
    for by the columns to its right: W_{j:} −= (w_j / U_jj)·U_{j,j:}. Weights of an input that is
    always 0 go first. O(inputs³ + rows·inputs²), in float64.

    Each row (or the whole matrix) keeps in the first p columns the integer nearest to
    (1 − sparsity)·p, so that the count at the end is exact; the authors count blocks apart.
    """

    name = "sparsegpt"

    def require(
        self, allocation: Allocation, sparsity: Fraction, views: Mapping[str, View]
    ) -> None:
        """As `Method.require`."""
        _pattern(allocation)
        super().require(allocation, sparsity, views)

    def prune(self, layer: Layer, allocation: Allocation, sparsity: Fraction) -> Pruned:
        """As `Method.prune`; the scores change on the way, so there are none to certify."""
        pattern = _pattern(allocation)
        if pattern is not None and layer.weight.shape[1] % pattern.m:  # kept whole, or refused
            masks = select({layer.name: layer.weight}, allowed(layer, allocation, sparsity))
            return Pruned(layer.weight, masks[layer.name])
        weight = layer.live.T.contiguous()  # a row for each input, as for the mask
        factor = _factor(damped(layer.gram, DAMPING))
        mask = torch.zeros_like(weight, dtype=torch.bool)
        panel = PANEL if pattern is None else pattern.m
        step = max(BLOCK // panel, 1) * panel
        for start in range(0, len(weight), step):
            stop = min(start + step, len(weight))
            errors = torch.empty_like(weight[start:stop])
            for first in range(start, stop, panel):
                last = min(first + panel, stop)
                if pattern is not None or first == start:
                    chosen = slice(first, stop if pattern is None else last)
                    scores = (weight[chosen] / factor.diagonal()[chosen, None]).square()
                    mask[chosen] = _largest(scores, first, allocation, sparsity)
                own = errors[first - start : last - start]
                for j in range(first, last):
                    torch.div(weight[j].where(~mask[j], 0.0), factor[j, j], out=own[j - first])
                    weight[j:last].addr_(factor[j, j:last], own[j - first], alpha=-1)
                weight[last:stop].addmm_(factor[first:last, last:stop].T, own, alpha=-1)
            weight[stop:].addmm_(factor[start:stop, stop:].T, errors, alpha=-1)
        mask = mask.T.contiguous()
        return Pruned(weight.T.float().where(mask, 0.0), mask)


def _factor(gram: Tensor) -> Tensor:
    """U, upper triangular, with UᵀU = H⁻¹: the inverse of H's own factor from the last input on."""
    reverse = torch.linalg.cholesky(gram.flip(0, 1)).flip(0, 1)
    one = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    factor: Tensor = torch.linalg.solve_triangular(reverse, one, upper=True)
    return factor


def _pattern(allocation: Allocation) -> Pattern | None:
    """The pattern whose groups are chosen one after the other.

    Raises:
        CardinalityError: the masks allowed cannot be chosen from left to right.
    """
    pattern = None if allocation.pattern is None else Pattern.parse(allocation.pattern)
    ranked = allocation.scope != "global" and pattern is None
    exactly = pattern is not None and allocation.exactly and not pattern.transposable
    if not ranked and not exactly:
        raise CardinalityError(
            "sparsegpt chooses masks from left to right: give --scope row or tensor, or --pattern "
            "N:M alone"
        )
    return pattern


def _largest(scores: Tensor, first: int, allocation: Allocation, sparsity: Fraction) -> Tensor:
    """The mask of the inputs from `first` on, of their scores: each with a row for an input."""
    found, last = scores.T.contiguous(), first + len(scores)
    pattern, rows = _pattern(allocation), 1 if allocation.scope == "row" else len(found)
    keep = keep_count(sparsity, rows * last) - keep_count(sparsity, rows * first)
    if pattern is None and allocation.scope == "tensor":
        return select(found, keep).T
    length, keep = (len(scores), keep) if pattern is None else (pattern.m, pattern.n)
    return largest_of_runs(found.view(-1), length, keep).view(found.shape).T
