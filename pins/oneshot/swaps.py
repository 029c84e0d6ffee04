"""Exact 1-swaps: a kept and a pruned weight of a row change places while that lowers the error.

For a row w let b = Hw, S its kept inputs, P the inverse of H over S, x = P b_S the refitted row.
For an input j outside of S let q_j = P H_Sj, σ_j = H_jj − H_jS q_j and r_j = b_j − H_jS x. Then

    prune i            the error rises by c_i = x_i² / P_ii
    prune i, keep j    it changes by (c_i σ_j − r_j² − 2 r_j q_ji x_i / P_ii) / (σ_j + q_ji² / P_ii)

with everything refitted. So all pairs are compared exactly, in O(kept·pruned) for a row.
"""

import torch
from torch import Tensor

from pins.oneshot.layer import Layer, damped
from pins.oneshot.refit import DAMPING
from pins.oneshot.row_bounds import RowBounds

LEAST = 1e-10  # of the error of 0; a swap that lowers the error by less may be rounding
MOST = 1000  # swaps of a row


def swapped(layer: Layer, mask: Tensor, bounds: RowBounds) -> tuple[Tensor, int]:
    """The best swap of each row, again and again, until none lowers the error of its refit.

    For (R) with G + δI, δ as for `refit`. The mask that comes out is a local optimum: no exchange
    of one kept for one pruned weight of a row is better, up to rounding in float64. The number of
    each row stays, and the bounds of groups stay kept. O(inputs³) for the start of each row, and
    O(inputs²) for each swap.

    Args:
        layer: W and G.
        mask: True = keep, any start.
        bounds: of groups of inputs.

    Returns:
        The mask, and the number of swaps.
    """
    gram = damped(layer.gram, DAMPING)
    right = layer.weight.double() @ gram
    least = LEAST * (layer.weight * right).sum(1)
    found, total = mask.clone(), 0
    for own, b, enough in zip(found, right, least.tolist(), strict=True):
        if 0 < int(own.sum()) < len(own):
            row = _Row(gram, b, own)
            while row.swaps < MOST and row.swap(bounds, enough):
                pass
            own[row.kept], own[row.pruned] = True, False
            total += row.swaps
    return found, total


class _Row:
    """S and what is outside of it, P, x, and of each j outside q_j, σ_j and r_j."""

    def __init__(self, gram: Tensor, right: Tensor, mask: Tensor) -> None:
        self.gram, self.swaps = gram, 0
        self.kept, self.pruned = mask.nonzero()[:, 0], (~mask).nonzero()[:, 0]
        own, cross = gram[self.kept][:, self.kept], gram[self.pruned][:, self.kept]
        self.inverse = torch.cholesky_inverse(torch.linalg.cholesky(own))
        self.weight = self.inverse @ right[self.kept]
        self.q = cross @ self.inverse  # a row for each j
        self.sigma = gram.diagonal()[self.pruned] - (self.q * cross).sum(1)
        self.r = right[self.pruned] - cross @ self.weight

    def swap(self, bounds: RowBounds, least: float) -> bool:
        """Make the best swap; False if none lowers the error by more than `least`."""
        own, kept = self.inverse.diagonal(), len(self.kept)
        if bounds.length == kept + len(self.pruned):  # all pairs
            found = changes(self.q, self.sigma[:, None], self.r[:, None], self.weight, own)
            change, best = found.flatten().min(0)
            j, i = divmod(int(best), kept)
        else:
            into, out = self._allowed(bounds).nonzero(as_tuple=True)
            if not len(into):
                return False
            found = changes(
                self.q[into, out], self.sigma[into], self.r[into], self.weight[out], own[out]
            )
            change, best = found.min(0)
            j, i = int(into[best]), int(out[best])
        if not float(change) < -least:
            return False
        self._exchange(i, j)
        self.swaps += 1
        return True

    def _allowed(self, bounds: RowBounds) -> Tensor:
        """Which swaps keep the bounds of the groups, (pruned, kept)."""
        total = len(self.kept) + len(self.pruned)
        gains, loses = self.pruned // bounds.length, self.kept // bounds.length
        numbers = torch.bincount(loses, minlength=total // bounds.length)
        room = (numbers < bounds.maximum)[gains]
        spare = (numbers > bounds.minimum)[loses]
        return (gains[:, None] == loses) | (room[:, None] & spare)

    def _exchange(self, i: int, j: int) -> None:
        """Prune the i-th kept input and keep the j-th pruned one; each takes the other's place."""
        own, value = self.inverse[i, i].clone(), self.weight[i].clone()
        column, across = self.inverse[:, i] / own, self.q[:, i].clone()
        # S without the input: its place among the kept ones is 0
        self.inverse.addr_(column, column, alpha=-float(own))
        self.q.addr_(across, column, alpha=-1)
        self.q[:, i] = 0
        self.weight -= column * value
        self.sigma += across.square() / own
        self.r += across * (value / own)
        row, sigma, r = self.q[j].clone(), self.sigma[j].clone(), self.r[j].clone()
        column[i] = 0
        self.q[j], self.sigma[j], self.r[j] = -column, 1 / own, value / own
        # S with the new one
        new, self.pruned[j] = self.pruned[j].clone(), self.kept[i]
        read = self.gram[new]
        rest = (read[self.pruned] - self.q @ read[self.kept]) / sigma
        self.q.addr_(rest, row, alpha=-1)
        self.q[:, i] = rest
        self.sigma -= rest.square() * sigma
        self.r -= rest * r
        row[i] = -1
        self.weight -= row * (r / sigma)
        self.inverse.addr_(row, row, alpha=1 / float(sigma))
        self.kept[i] = new


def changes(q: Tensor, sigma: Tensor, r: Tensor, weight: Tensor, own: Tensor) -> Tensor:
    """The change of the error by swaps: of q_ji, σ_j, r_j, x_i and P_ii, which broadcast."""
    scaled = q / own
    below = torch.addcmul(sigma, q, scaled)
    above = torch.addcmul(-r.square(), sigma, weight.square() / own)
    return above.addcmul_(scaled.mul_(weight), r, value=-2).div_(below)
