"""The 0-1 program of a layer budget: one option for each layer, costs within the budget."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import accumulate, chain

import numpy as np
from scipy import sparse

from pins.errors import ProgramError
from pins.selection.budget.program import BudgetProgram, Indices
from solvers.exact import MANTISSA_BITS, BoolArray
from solvers.program import BinaryProgram, Sense


@dataclass(frozen=True, eq=False)
class KnapsackFormulation:
    """min Σ e, Σ c ≤ C, one option a layer   ⇄   min e·x, Σ_j x_tj = 1, c·x ≤ C, x ∈ {0,1}ⁿ.

    x has the options of the first layer, then those of the second one, and so on. Costs and budget
    are integers that floats hold. So are errors below 2⁵³ units; larger ones are rounded to a
    float64 each, so compare answers by `budget`, whose numbers are exact.

    Attributes:
        budget: the numbers, in units.
        program: the 0-1 program: a row for each layer, then the budget.

    Raises:
        ProgramError: a cost is 2⁵³ units or more, or an error is no float64.
    """

    budget: BudgetProgram
    program: BinaryProgram = field(init=False)

    def __post_init__(self) -> None:
        costs, errors = ([*chain(*each)] for each in (self.budget.costs, self.budget.errors))
        # a budget above the sum of all costs never binds
        numbers = [*costs, most := min(self.budget.budget, sum(costs))]
        if max(numbers) >= 2**MANTISSA_BITS:
            raise ProgramError(
                f"KnapsackFormulation: costs or a budget of {max(numbers)} units came; solvers "
                f"take numbers below 2**{MANTISSA_BITS}: give them in a greater unit"
            )
        try:
            objective = np.array([float(error) for error in errors])
        except OverflowError:
            raise ProgramError(
                "KnapsackFormulation: an error is beyond the largest float in units of the "
                "smallest one: give errors of a narrower range"
            ) from None
        sizes = [len(each) for each in self.budget.costs]
        layers = np.repeat(np.arange(len(sizes)), sizes)
        one = sparse.csr_array((np.ones(len(costs)), (layers, np.arange(len(costs)))))
        program = BinaryProgram(
            objective=objective,
            matrix=sparse.csr_array(sparse.vstack([one, sparse.csr_array([[*map(float, costs)]])])),
            senses=(*(Sense.EQUAL for _ in sizes), Sense.LESS_OR_EQUAL),
            rhs=np.array([*(1.0 for _ in sizes), float(most)]),
        )
        object.__setattr__(self, "program", program)

    def apply(self, options: Indices) -> BoolArray:
        """x, (n,) bool: the chosen options.

        Args:
            options: the number of each layer's option.
        """
        x = np.zeros(self.program.size, dtype=np.bool_)
        starts = accumulate((len(each) for each in self.budget.costs), initial=0)
        x[[start + j for start, j in zip(starts, options, strict=False)]] = True
        return x

    def invert(self, x: BoolArray) -> Indices:
        """The number of each layer's option at a point that the program allows.

        Raises:
            ProgramError: it has another shape or dtype, or is not allowed.
        """
        if not self.program.feasible(x):
            raise ProgramError(
                "KnapsackFormulation.invert: the point has not one option for each layer, or "
                "exceeds the budget: pass a feasible one"
            )
        starts = accumulate((len(each) for each in self.budget.costs), initial=0)
        return tuple(int(i) - start for i, start in zip(np.flatnonzero(x), starts, strict=False))
