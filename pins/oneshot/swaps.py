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
from pins.oneshot.shared_rows import by_rows

LEAST = 1e-10  # of the error of 0; a swap that lowers the error by less may be rounding
MOST = 1000  # swaps of a row
ROOM = 1 << 21  # numbers in the inverses of the rows that go on together: 16 MB
CACHE = 1 << 16  # pairs looked at together


def swapped(layer: Layer, mask: Tensor, bounds: RowBounds) -> tuple[Tensor, int]:
    """The best swap of each row, again and again, until none lowers the error of its refit.

    For (R) with G + δI, δ as for `refit`. The mask that comes out is a local optimum: no exchange
    of one kept for one pruned weight of a row is better, up to rounding in float64. The number of
    each row stays, and the bounds of groups stay kept. O(inputs³) for the start of each row, and
    O(inputs²) for each swap; rows that keep equally many go on together. The ranks of the layer
    share its rows.

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

    def solve(rows: slice) -> Tensor:
        found, number = _descended(gram, right[rows], mask[rows], bounds, least[rows])
        swaps = torch.zeros_like(found[:, :1], dtype=torch.int32)
        swaps[0] = number
        return torch.cat([found, swaps], 1)

    found = by_rows(solve, len(mask), layer.group)
    return found[:, :-1].bool(), int(found[:, -1].sum())


def _descended(
    gram: Tensor, right: Tensor, mask: Tensor, bounds: RowBounds, least: Tensor
) -> tuple[Tensor, int]:
    found, counts, total = mask.clone(), mask.sum(1), 0
    for k in sorted({*counts.tolist()} - {0, mask.shape[1]}):
        for rows in (counts == k).nonzero()[:, 0].split(max(ROOM // k**2, 1)):
            state = _Rows(gram, right[rows], found[rows])
            total += state.descend(bounds, least[rows])
            found[rows] = state.mask
    return found, total


class _Rows:
    """Rows that keep equally many: S and what is outside of it, x, P_ii, q_j, σ_j, and r_j.

    P itself is that of the start and what swaps added, −uuᵀ and vvᵀ for each two `steps` u and v.
    """

    def __init__(self, gram: Tensor, right: Tensor, mask: Tensor) -> None:
        self.gram, self.mask = gram, mask
        self.rows = torch.arange(len(mask), device=mask.device)
        self.kept, self.pruned = (m.nonzero()[:, 1].view(len(mask), -1) for m in (mask, ~mask))
        self.inverse = gram.new_empty(len(mask), self.kept.shape[1], self.kept.shape[1])
        self.q = gram.new_empty(len(mask), self.pruned.shape[1], self.kept.shape[1])
        self.weight, self.sigma = right.gather(1, self.kept), gram.diagonal()[self.pruned]
        self.r = right.gather(1, self.pruned)
        for row, (kept, pruned) in enumerate(zip(self.kept, self.pruned, strict=True)):
            # row by row, since its matrices fit a processor's cache
            own, cross = gram[kept[:, None], kept], gram[pruned[:, None], kept]
            inverse = torch.cholesky_inverse(torch.linalg.cholesky(own))
            self.inverse[row], self.weight[row] = inverse, inverse @ self.weight[row]
            torch.mm(cross, inverse, out=self.q[row])  # a row for each j
            self.sigma[row] -= torch.linalg.vecdot(self.q[row], cross)
            self.r[row] -= cross @ self.weight[row]
        self.own = self.inverse.diagonal(dim1=1, dim2=2).clone()
        self.steps = self.own[:, None, :][:, :0]

    def descend(self, bounds: RowBounds, least: Tensor) -> int:
        """Make the best swaps that lower the error by more than `least`; their number."""
        swaps = 0
        for left in range(MOST, -1, -1):
            row, j, i, change = self.swaps(bounds)
            best = change.new_zeros(len(self.rows)).scatter_reduce(0, row, change, "amin")
            number = torch.arange(len(row), device=row.device).where(change == best[row], len(row))
            first = row.new_full(best.shape, len(row)).scatter_reduce(0, row, number, "amin")
            first = first[self._leave((best < -least[self.rows]) & (left > 0))]
            if not len(first):
                break
            self.exchange(i[first], j[first])
            swaps += len(first)
        return swaps

    def swaps(self, bounds: RowBounds) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Swaps, among them the best of each row that lowers the error: row, j, i, the change."""
        if bounds.length == len(self.gram):
            row, j = self._promising()
            change, i = changes(
                self.q[row, j], self.sigma[row, j, None], self.r[row, j, None],
                self.weight[row], self.own[row],
            ).min(1)  # fmt: skip
        else:
            row, j, i = self._allowed(bounds)
            change = changes(
                self.q[row, j, i], self.sigma[row, j], self.r[row, j],
                self.weight[row, i], self.own[row, i],
            )  # fmt: skip
        return row, j, i, change

    def _promising(self) -> tuple[Tensor, Tensor]:
        """The rows and their j that may have the best swap: most pairs need no division.

        A swap that lowers the error does so by at most r_j² / σ_j, as if no weight went for j, and
        by at most that + 2 r_j q_ji x_i / (σ_j P_ii) − c_i, as if it were divided by σ_j alone.
        """
        scaled = self.weight / self.own
        costs, gains = self.weight * scaled, self.r.square() / self.sigma
        rates = 2 * self.r / self.sigma
        step = max(CACHE // self.own.numel(), 1)
        more = [
            (self.q[:, at : at + step] * scaled[:, None])
            .mul_(rates[:, at : at + step, None])
            .sub_(costs[:, None])
            .amax(2)
            for at in range(0, self.q.shape[1], step)
        ]
        most = gains + torch.cat(more, 1).clamp(max=0)
        row, j = torch.arange(len(most), device=most.device), most.argmax(1)
        known = changes(
            self.q[row, j], self.sigma[row, j, None], self.r[row, j, None], self.weight, self.own
        ).amin(1)
        most[row, j] = torch.inf
        found = most > (-known).clamp(min=0)[:, None]
        row, j = found.nonzero(as_tuple=True)
        return row, j

    def _allowed(self, bounds: RowBounds) -> tuple[Tensor, ...]:
        """The swaps that keep the bounds of the groups: row, j, i; some of them twice."""
        gains, loses = self.pruned // bounds.length, self.kept // bounds.length
        numbers = torch.arange(loses.shape[1], device=loses.device).expand_as(loses)
        places = loses.new_full((len(loses), len(self.gram)), -1).scatter_(1, self.kept, numbers)
        group = gains[:, :, None] * bounds.length + torch.arange(bounds.length, device=loses.device)
        found = places.gather(1, group.flatten(1)).view(group.shape)
        row, j, at = (found >= 0).nonzero(as_tuple=True)
        inside = row, j, found[row, j, at]
        if bounds.minimum == bounds.maximum:
            return inside
        counts = loses.new_zeros(len(loses), len(self.gram) // bounds.length)
        counts.scatter_add_(1, loses, torch.ones_like(loses))
        room = (counts < bounds.maximum).gather(1, gains)
        spare = (counts > bounds.minimum).gather(1, loses)
        across = (room[:, :, None] & spare[:, None]).nonzero(as_tuple=True)
        return tuple(torch.cat(each) for each in zip(inside, across, strict=True))

    def _leave(self, stay: Tensor) -> Tensor:
        """Take out the other rows; the last ones that stay take their places: the old numbers."""
        order = torch.arange(int(stay.sum()), device=stay.device)
        if len(order) < len(stay):
            holes = (~stay[: len(order)]).nonzero()[:, 0]
            order[holes] = stay[len(order) :].nonzero()[:, 0] + len(order)
            for name in ("rows", "kept", "pruned", "weight", "own", "q", "sigma", "r", "steps"):
                each = getattr(self, name)
                each[holes] = each[order[holes]]
                setattr(self, name, each[: len(order)])
        return order

    def exchange(self, i: Tensor, j: Tensor) -> None:
        """Prune the i-th kept input and keep the j-th pruned one; each takes the other's place."""
        at = torch.arange(len(i), device=i.device)
        own, value = self.own[at, i, None], self.weight[at, i, None]
        signed = self.steps[at, :, i]
        signed[:, ::2] *= -1
        column = self.inverse[self.rows, i] + (signed[:, None] @ self.steps)[:, 0]
        column, across = column / own, self.q[at, :, i]
        # S without the input: its place among the kept ones is 0
        self.weight -= column * value
        self.sigma += across.square() / own
        self.r += across * (value / own)
        column[at, i] = 0
        row = self.q[at, j] - column * across[at, j, None]
        row[at, i] = 0
        sigma, r = self.sigma[at, j][:, None], self.r[at, j][:, None]
        self.sigma[at, j], self.r[at, j] = 1 / own[:, 0], (value / own)[:, 0]
        # S with the new one
        old, new = self.kept[at, i], self.pruned[at, j]
        self.kept[at, i], self.pruned[at, j] = new, old
        self.mask[self.rows, old], self.mask[self.rows, new] = False, True
        read = self.gram[new]
        cross = read.gather(1, self.kept)
        cross[at, i] = 0
        fitted = torch.linalg.vecdot(column, cross)[:, None]
        product = (self.q @ cross[:, :, None])[:, :, 0] - across * fitted
        product[at, j] = -fitted[:, 0]
        rest = (read.gather(1, self.pruned) - product) / sigma
        self.q.baddbmm_(torch.stack([across, rest], 2), torch.stack([column, row], 1), alpha=-1)
        self.q[at, j] = -column - row * rest[at, j, None]
        self.q[at, :, i] = rest
        self.sigma -= rest.square() * sigma
        self.r -= rest * r
        column[at, i], row[at, i] = 1, -1
        self.weight -= row * (r / sigma)
        steps = torch.stack([column * own.sqrt(), row * sigma.rsqrt()], 1)
        self.own += steps[:, 1].square() - steps[:, 0].square()
        self.steps = torch.cat([self.steps, steps], 1)


def changes(q: Tensor, sigma: Tensor, r: Tensor, weight: Tensor, own: Tensor) -> Tensor:
    """The change of the error by swaps: of q_ji, σ_j, r_j, x_i and P_ii, which broadcast."""
    scaled = q / own
    below = torch.addcmul(sigma, q, scaled)
    above = torch.addcmul(-r.square(), sigma, weight.square() / own)
    return above.addcmul_(scaled.mul_(weight), r, value=-2).div_(below)
