"""What became of each weight of a matrix: kept, pruned, or zero from the beginning.

The dense matrix A is first rounded to the dtype of the sparse one B, as a copy in that dtype is.

    kept      Bᵢ ≠ 0
    pruned    Bᵢ = 0 and Aᵢ ≠ 0
    free      Bᵢ = 0 and Aᵢ = 0: nothing tells whether the tool kept it

−0.0 is zero. A tool that stores its mask beside the weights says itself what it kept, and then
nothing is free.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from pins.errors import FileError


@dataclass(frozen=True, eq=False)
class Comparison:
    """A sparse matrix beside the dense one.

    Attributes:
        dense: A in the dtype of `sparse`.
        sparse: B.
        kept: bool, in the shape of both.
        pruned: bool, likewise; disjoint from `kept`.
        underflowed: number of weights that are zero only by the rounding of A.
        grown: number of kept weights that are zero in A.
        changed: number of kept weights with Bᵢ ≠ Aᵢ, the grown ones among them.
        largest_change: max |Bᵢ − Aᵢ| of the kept, a float64.
        relative_change: ‖B − A‖ / ‖A‖ over the kept, a float64 sum; ∞ if all of these Aᵢ are 0.
    """

    dense: Tensor
    sparse: Tensor
    kept: Tensor
    pruned: Tensor
    underflowed: int
    grown: int
    changed: int
    largest_change: float
    relative_change: float

    @property
    def free(self) -> Tensor:
        """Bool: neither kept nor pruned."""
        return ~(self.kept | self.pruned)


def compare(name: str, dense: Tensor, sparse: Tensor, mask: Tensor | None = None) -> Comparison:
    """Compare a matrix with its sparse form.

    Args:
        name: of the matrix, for errors.
        dense: A, floating point.
        sparse: B, floating point, of the same shape.
        mask: what the sparse model's own mask keeps; None if it has none.

    Raises:
        FileError: NaN or infinity in A or B, or B is not zero where its mask prunes.
    """
    for what, each in (("dense", dense), ("sparse", sparse)):
        if not wide(each).isfinite().all():
            raise FileError(f"{name!r} of the {what} model holds NaN or infinity: nothing to audit")
    rounded = dense.to(sparse.dtype)
    before, after = wide(rounded), wide(sparse)
    kept, pruned = after != 0, (after == 0) & (before != 0)
    if mask is not None:
        if (kept & ~mask).any():
            raise FileError(f"{name!r} of the sparse model is not zero where its mask prunes")
        kept, pruned = mask, ~mask
    moved = kept & (before != after)
    difference = after[moved].double() - before[moved].double()
    changed, norm = (
        float(torch.linalg.vector_norm(each, dtype=torch.float64))
        for each in (difference, before[kept])
    )
    return Comparison(
        rounded,
        sparse,
        kept,
        pruned,
        int(((wide(dense) != 0) & (before == 0)).count_nonzero()),
        int((kept & (before == 0) & (after != 0)).count_nonzero()),
        len(difference),
        float(difference.abs().max()) if len(difference) else 0.0,
        changed / norm if norm else (math.inf if changed else 0.0),
    )


def wide(tensor: Tensor) -> Tensor:
    """In a dtype that can be compared and ranked: floats of 8 bits cannot."""
    return tensor.float() if tensor.element_size() < 2 else tensor
