"""The masks of one row at a time: a number of kept weights, and bounds of groups of inputs.

What sequential methods keep to while they remove and exchange single weights.
"""

from dataclasses import dataclass
from fractions import Fraction

from torch import Tensor

from pins.selection.allocation import Allocation
from pins.selection.constraints import keep_count
from pins.selection.pattern import Pattern


@dataclass(frozen=True)
class RowBounds:
    """Each row keeps `keep` weights, each group of `length` consecutive inputs l to h of them.

    Attributes:
        keep: weights of a row; None: the scope is no row, so the numbers of the rows may differ.
        length: inputs of a group; without a pattern the whole row.
        minimum: l.
        maximum: h.
    """

    keep: int | None
    length: int
    minimum: int
    maximum: int

    @classmethod
    def of(cls, allocation: Allocation, sparsity: Fraction, inputs: int) -> "RowBounds":
        """The bounds of a row with so many inputs; of a row that M does not divide, all kept."""
        pattern = None if allocation.pattern is None else Pattern.parse(allocation.pattern)
        if pattern is None:
            keep = keep_count(sparsity, inputs) if allocation.scope == "row" else None
            return cls(keep, inputs, 0, inputs)
        if inputs % pattern.m:
            return cls(inputs, inputs, inputs, inputs)
        if allocation.exactly:
            return cls(inputs // pattern.m * pattern.n, pattern.m, pattern.n, pattern.n)
        keep = keep_count(sparsity, inputs) if allocation.scope == "row" else None
        return cls(keep, pattern.m, 0, pattern.n)

    def numbers(self, mask: Tensor) -> Tensor:
        """Kept weights of each group, (rows, groups)."""
        return mask.view(len(mask), -1, self.length).sum(2)

    def removable(self, numbers: Tensor, left: int) -> Tensor:
        """The groups of which a weight may be removed, when each row is to lose `left` ones.

        None below l; and if a row's groups above h take all that is left, only from these.
        """
        above = numbers > self.maximum
        needed = (numbers - self.maximum).clamp(min=0).sum(1, keepdim=True)
        return (numbers > self.minimum) & (above | (needed < left))
