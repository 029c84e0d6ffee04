"""Allocation of the kept weights to tensors: one global ranking, a minimum, or fixed shares."""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from pins.errors import CardinalityError, ScheduleError
from pins.selection.constraints import (
    Cardinality,
    Constraint,
    exact_ratio,
    keep_count,
    minimum_per_tensor,
    per_tensor,
)


@dataclass(frozen=True)
class Allocation:
    """The allowed masks, apart from their number of ones.

    Attributes:
        by_tensor: each tensor keeps its own share; default: one ranking of all weights.
        minimum_kept: the smallest kept ratio of each tensor, against the collapse of layers; if it
            binds, the decision is the optimum of another program.
    """

    by_tensor: bool = False
    minimum_kept: float | Fraction = 0

    def __post_init__(self) -> None:
        try:
            minimum = exact_ratio(self.minimum_kept)
        except ScheduleError as error:
            raise CardinalityError(
                f"minimum_kept is {self.minimum_kept!r}: it is a ratio from 0 to 1 of each tensor"
            ) from error
        if minimum and self.by_tensor:
            raise CardinalityError(
                f"minimum_kept is {self.minimum_kept} and the allocation is by tensor: each tensor "
                "keeps its share then, leave the minimum out"
            )

    def constraint(self, sparsity: float | Fraction, sizes: Mapping[str, int]) -> Constraint:
        """The constraint of the program at this sparsity.

        Args:
            sparsity: 1 − kept ratio.
            sizes: number of weights by tensor name.
        """
        if self.by_tensor:
            return per_tensor(sparsity, sizes)
        keep = keep_count(sparsity, sum(sizes.values()))
        if not exact_ratio(self.minimum_kept):
            return Cardinality(keep)
        return minimum_per_tensor(keep, self.minimum_kept, sizes)
