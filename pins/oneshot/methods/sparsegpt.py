"""SparseGPT (Frantar and Alistarh, 2023): column by column, with updates of the next ones."""

from collections.abc import Mapping
from fractions import Fraction

import torch

from pins.errors import CardinalityError
from pins.oneshot.layer import Layer, Pruned, damped
from pins.oneshot.methods.method import Method, allowed
from pins.oneshot.refit import DAMPING
from pins.selection.allocation import Allocation
from pins.selection.constraints import Cardinality, Constraint, NofM, PerRow, keep_count
from pins.selection.pattern import Pattern
from pins.selection.select import select
from pins.selection.tree import View

BLOCK = 128  # columns whose masks are chosen together, and updated before the others are


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
        weight = layer.live
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped(layer.gram, DAMPING)))
        factor = torch.linalg.cholesky(inverse, upper=True)
        mask = torch.zeros_like(layer.weight, dtype=torch.bool)
        step = BLOCK if pattern is None else max(BLOCK // pattern.m, 1) * pattern.m
        for start in range(0, weight.shape[1], step):
            block = weight[:, start : start + step]
            stop = start + block.shape[1]
            errors = torch.zeros_like(block)
            for first in range(start, stop, step if pattern is None else pattern.m):
                last = stop if pattern is None else first + pattern.m
                scores = (weight[:, first:last] / factor.diagonal()[first:last]).square()
                keep = _keep(layer, first, last, allocation, sparsity)
                mask[:, first:last] = select({layer.name: scores}, keep)[layer.name]
                for j in range(first, last):
                    error = weight[:, j].where(~mask[:, j], 0.0) / factor[j, j]
                    weight[:, j:stop] -= error[:, None] * factor[j, j:stop]
                    errors[:, j - start] = error
            weight[:, stop:] -= errors @ factor[start:stop, stop:]
        return Pruned(weight.float().where(mask, 0.0), mask)


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


def _keep(
    layer: Layer, first: int, last: int, allocation: Allocation, sparsity: Fraction
) -> Constraint:
    """How many weights the columns from `first` to `last` keep."""
    if (pattern := _pattern(allocation)) is not None:
        return NofM(pattern.n, pattern.m)
    if allocation.scope == "row":
        return PerRow({layer.name: keep_count(sparsity, last) - keep_count(sparsity, first)})
    rows = len(layer.weight)
    return Cardinality(keep_count(sparsity, rows * last) - keep_count(sparsity, rows * first))
