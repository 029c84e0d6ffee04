"""What explains that many kept weights changed: rows in another order, or a merged adapter."""

import torch
from torch import Tensor

from verification.audit.comparison import Comparison

RANK = 128  # the largest rank that is looked for
ENERGY = 0.999  # of the squared change
SEED = 0
MOVED = "its "  # begins the sentence of rows or columns in another order


def explanation(found: Comparison) -> str | None:
    """A sentence about a matrix in which over a tenth of the kept weights changed, if one fits.

    That rows or columns are in another order is exact. The rank is that of a random projection in
    floating point, and holds for 99.9 % of the squared change.
    """
    if found.sparse.dim() != 2 or 10 * (found.changed - found.grown) <= int(found.kept.sum()):
        return None
    before, after = found.dense.float(), found.sparse.float()
    for what, own, others in (("rows", after, before), ("columns", after.T, before.T)):
        if order := _order(own, others):
            new, old = order
            return (
                f"{MOVED}{what} are those of the dense model in another order: {new} is {old} there"
            )
    rank = _rank(after.double() - before.double())
    if rank:
        return (
            f"{100 * ENERGY:g} % of the squared change has rank {rank}, as that of an adapter that "
            "was merged"
        )
    return None


def _order(own: Tensor, others: Tensor) -> tuple[int, int] | None:
    """A row of `own` and the other row of `others` of which it is a part; None if any is of none.

    Each row of `own` with a weight that is not zero has a row of `others` of its own, with the same
    weights where it is not zero.
    """
    taken: set[int] = set()
    moved = None
    for number, row in enumerate(own):
        place = int(row.abs().argmax())
        if not row[place]:
            continue
        there = (others[:, place] == row[place]).nonzero().flatten().tolist()
        fitting = [i for i in there if ((row == 0) | (row == others[i])).all()]
        found = next((i for i in fitting if i not in taken), None)
        if found is None:
            return None
        taken.add(found)
        if found != number and moved is None:
            moved = number, found
    return moved


def _rank(change: Tensor) -> int | None:
    """The least rank of ENERGY of the squared change, if it is at most a quarter of full."""
    most = min(RANK, min(change.shape) // 4)
    total = float((change**2).sum())
    if not most or not total:
        return None
    random = torch.randn(
        change.shape[1], most, dtype=change.dtype, generator=torch.Generator().manual_seed(SEED)
    )
    basis = torch.linalg.qr(change @ random).Q
    parts = torch.linalg.svdvals(basis.T @ change) ** 2
    enough = (parts.cumsum(0) >= ENERGY * total).nonzero()
    return int(enough[0]) + 1 if len(enough) else None
