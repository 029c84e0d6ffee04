"""Greedy Optimal Brain Surgeon (Hassibi and Stork, 1993) for each row of a layer."""

from collections.abc import Mapping
from fractions import Fraction

import torch
from torch import Tensor

from pins.errors import CardinalityError
from pins.oneshot.layer import Layer, Pruned, damped
from pins.oneshot.methods.method import Method, allowed
from pins.oneshot.refit import DAMPING, refit
from pins.oneshot.row_bounds import RowBounds
from pins.oneshot.shared_rows import by_rows
from pins.selection.allocation import Allocation
from pins.selection.tree import View

ROOM = 1 << 25  # numbers of the inverses of one batch of rows: 128 MB of float32
STAGES = 5  # an inverse is made anew after a fifth of the inputs were removed
DRIFT = 1e-3  # relative; rows whose rounded increases add up to another error are done in float64


class Obs(Method):
    """A heuristic for (R): each removal is the best single one, all of them are no optimum.

    With H = G + δI and P the inverse of H over the kept inputs, the removal of weight p raises the
    error of a refitted row x by exactly x_p² / P_pp (§3 there). The least increase goes first, ties
    to the lower index; then x −= (x_p / P_pp)·P_:p and P −= P_:p P_p: / P_pp. The kept weights are
    refitted at the end.

    Removals are Cholesky's steps on H⁻¹ with pivots, so a step computes one column of P from the
    columns before, and P itself only after each fifth of the inputs. O(rows·inputs³), in float32,
    rows shared by the ranks; the increases must add up to the error of the refit (computed in
    float64) within 0.1 %, or the row is done again in float64.
    """

    name = "obs"

    def require(
        self, allocation: Allocation, sparsity: Fraction, views: Mapping[str, View]
    ) -> None:
        """As `Method.require`."""
        super().require(allocation, sparsity, views)
        for view in views.values():
            _bounds(allocation, sparsity, view.inputs)

    def prune(self, layer: Layer, allocation: Allocation, sparsity: Fraction) -> Pruned:
        """As `Method.prune`; the increases change on the way, so there are no scores to certify."""
        allowed(layer, allocation, sparsity)
        bounds = _bounds(allocation, sparsity, layer.weight.shape[1])
        gram = damped(layer.gram, DAMPING)
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(gram))
        weight = layer.weight.where(layer.gram.diagonal() > 0, 0.0)  # of dead inputs, first
        single = inverse.float()

        def solve(rows: slice) -> Tensor:
            mask, increase = removed(weight[rows], single, bounds)
            return torch.cat([mask, increase[:, None]], 1)

        both = by_rows(solve, len(weight), layer.group)
        mask, increase = both[:, :-1].bool(), both[:, -1]
        pruned = refit(layer, mask)
        wrong = weight.double() - pruned.double()
        error = ((wrong @ gram) * wrong).sum(1)
        drift = (increase - error).abs() / error.clamp(min=torch.finfo(torch.float64).tiny)
        again = ~(drift <= DRIFT)  # of NaN too
        if bool(again.any()):
            mask[again], _ = removed(weight[again], inverse, bounds)
            pruned = refit(layer, mask)
        return Pruned(pruned, mask, report={"float64_rows": int(again.sum())})


def _bounds(allocation: Allocation, sparsity: Fraction, inputs: int) -> RowBounds:
    """The bounds of a row.

    Raises:
        CardinalityError: they do not say how many weights a row keeps.
    """
    bounds = RowBounds.of(allocation, sparsity, inputs)
    if bounds.keep is None:
        raise CardinalityError(
            "obs removes the weights of each row: give --scope row, or --pattern N:M alone"
        )
    return bounds


def removed(weight: Tensor, inverse: Tensor, bounds: RowBounds) -> tuple[Tensor, Tensor]:
    """Remove weights of each row until it has its number.

    Args:
        weight: (rows, inputs).
        inverse: H⁻¹, (inputs, inputs), of the dtype to compute in.
        bounds: how many weights rows and groups keep.

    Returns:
        The mask, True = keep, and the sum of the increases of each row, float64.
    """
    step = max(ROOM // max(inverse.numel(), 1), 1)
    parts = [_removed(rows, inverse, bounds) for rows in torch.split(weight, step)]
    masks, increases = zip(*parts, strict=True)
    return torch.cat(masks), torch.cat(increases)


def _removed(weight: Tensor, inverse: Tensor, bounds: RowBounds) -> tuple[Tensor, Tensor]:
    assert bounds.keep is not None
    count, inputs = weight.shape
    number, stage = inputs - bounds.keep, max(inputs // STAGES, 1)
    rows = torch.arange(count, device=weight.device)
    increase = torch.zeros(count, dtype=torch.float64, device=weight.device)
    mask = torch.ones_like(weight, dtype=torch.bool)
    # of the inputs that are left at the start of a stage: x, diagonal of P, P, and their numbers
    left, diagonal = weight.to(inverse.dtype), inverse.diagonal().repeat(count, 1)
    kept, index = inverse.expand(count, -1, -1), mask.nonzero()[:, 1].view(count, inputs)
    for first in range(0, number, stage):
        steps = left.new_empty(count, min(stage, number - first), left.shape[1])
        for t in range(steps.shape[1]):
            allowed = mask.gather(1, index)
            if bounds.length < inputs:
                groups = bounds.removable(bounds.numbers(mask), number - first - t)
                allowed &= groups.gather(1, index // bounds.length)
            costs = left.square().div_(diagonal).masked_fill_(~allowed, torch.inf)
            p = costs.argmin(1)
            value, own = left[rows, p], diagonal[rows, p]
            column, before = kept[rows, p], steps[:, :t]
            column = column - (steps[rows, :t, p][:, None] @ before)[:, 0]
            increase += value.double().square() / own
            left = left - column * (value / own)[:, None]
            steps[:, t] = column * own.rsqrt()[:, None]
            diagonal = diagonal - steps[:, t].square()
            mask[rows, index[rows, p]] = False
        if first + stage < number:
            among = mask.gather(1, index).nonzero()[:, 1].view(count, -1)
            kept = torch.stack([each[own][:, own] for each, own in zip(kept, among, strict=True)])
            steps = steps.gather(2, among[:, None].expand(-1, steps.shape[1], -1))
            kept.baddbmm_(steps.mT, steps, alpha=-1)
            left, index = left.gather(1, among), index.gather(1, among)
            diagonal = kept.diagonal(dim1=1, dim2=2)
    return mask, increase
