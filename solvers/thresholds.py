"""Thresholds by node, from a solver's row duals: the conditions of Theorem 6 up to a tolerance."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pins.errors import ProgramError
from solvers.exact import BoolArray, FloatArray
from solvers.tree import TreeFormulation


@dataclass(frozen=True, eq=False)
class Thresholds:
    """t_A of each node A: y_A = t_A − t_parent is the price of its rows in max s·x.

    An allowed mask is optimal iff some thresholds satisfy (Theorem 6, `pins.selection.tree`)

        (a) kept sᵢ ≥ Σ t ≥ pruned sᵢ, over the innermost node of the weight in each tree,
        (b) y_A > 0 only if m(A) = h_A, and y_A < 0 only if m(A) = l_A.

    A solver's duals do so up to its tolerance. They are not unique, so they are not compared with
    other thresholds for equality.

    Attributes:
        formulation: of one tree or several.
        multipliers: λ, (r,), one for each row of the program, as `Relaxation` returns them.

    Raises:
        ProgramError: the number of multipliers is not the number of rows.
    """

    formulation: TreeFormulation
    multipliers: FloatArray

    def __post_init__(self) -> None:
        if self.multipliers.shape != (len(self.formulation.rows),):
            raise ProgramError(
                f"Thresholds: multipliers of shape {self.multipliers.shape} came; pass one for "
                f"each of the {len(self.formulation.rows)} rows"
            )

    @cached_property
    def prices(self) -> tuple[FloatArray, ...]:
        """y_A of the parts of each tree; 0 where the node has no row."""
        prices = tuple(np.zeros(len(parts)) for parts in self.formulation.trees)
        for row, multiplier in zip(self.formulation.rows, self.multipliers, strict=True):
            prices[row.tree][row.part] += row.sign * multiplier
        return prices

    @cached_property
    def by_name(self) -> tuple[dict[str, float], ...]:
        """t_A by the name of the node, for each tree."""
        found = []
        for parts, prices in zip(self.formulation.trees, self.prices, strict=True):
            values: list[float] = []
            for part, price in zip(parts, prices.tolist(), strict=True):
                values.append(price + (0.0 if part.parent < 0 else values[part.parent]))
            found.append({part.name: t for part, t in zip(parts, values, strict=True)})
        return tuple(found)

    def violation(self, x: BoolArray) -> float:
        """The most by which x fails (a) or (b), in the unit of the scores; 0 if it satisfies both.

        Args:
            x: (n,) bool, a feasible point of the program.
        """
        program = self.formulation.program
        # Aᵀλ sums the prices of all nodes that hold a weight: t of the innermost node
        reduced = -program.objective - program.matrix.T @ self.multipliers
        wrong = [0.0, *np.where(x, -reduced, reduced)]
        for parts, prices in zip(self.formulation.trees, self.prices, strict=True):
            for part, price in zip(parts, prices.tolist(), strict=True):
                kept = int(x[part.variables].sum())
                if kept != (part.maximum if price > 0 else part.minimum):
                    wrong.append(abs(price))
        return float(max(wrong))
