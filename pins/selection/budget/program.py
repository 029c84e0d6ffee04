"""The program of a layer budget in integers, and its Lagrangian bound.

    min Σ_t e_t,j(t)   s.t.   Σ_t c_t,j(t) ≤ C,   one option j(t) for each layer t

For a number μ ≥ 0 let r_tj = e_tj + μ c_tj − min_i (e_ti + μ c_ti), the reduced costs. For every
choice j within the budget

    error(j) = D(μ) + V(j),   V(j) = Σ_t r_t,j(t) + μ (C − Σ_t c_t,j(t)) ≥ 0,
    D(μ) = Σ_t min_i (e_ti + μ c_ti) − μC

so V(j) bounds its distance from the optimum, and of two choices the one with the smaller V is the
better one. (Multiple-choice knapsack: P. Sinha and A. A. Zoltners, Operations Research 27, 1979.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import pairwise
from math import gcd, lcm

from pins.errors import SettingError
from pins.selection.budget.spec import Budget
from pins.selection.budget.table import ErrorTable, Level, error_field

Indices = tuple[int, ...]
"""The number of the option of each layer."""


@dataclass(frozen=True)
class BudgetProgram:
    """The program, its numbers as integers times units.

    Attributes:
        names: of the layers, (T,).
        levels: of the options of each layer.
        errors: e in units of `error_unit`, likewise.
        costs: c ≥ 0 in units of `cost_unit`, likewise.
        budget: C in units of `cost_unit`, rounded down, which excludes no choice.
        error_unit: a rational > 0, the greatest of which all errors are multiples.
        cost_unit: likewise of the costs.
    """

    names: tuple[str, ...]
    levels: tuple[tuple[Level, ...], ...]
    errors: tuple[tuple[int, ...], ...]
    costs: tuple[tuple[int, ...], ...]
    budget: int
    error_unit: Fraction = Fraction(1)
    cost_unit: Fraction = Fraction(1)

    @classmethod
    def of(cls, table: ErrorTable, budget: Budget, error: str = "relative") -> BudgetProgram:
        """The program of a table.

        Args:
            table: the layers and their options.
            budget: its cost is a field of every option.
            error: "relative", "absolute" or "loss".

        Raises:
            SettingError: the table lacks a number, or has one that is not finite or below 0; or the
                budget is below the cheapest choice: the message says the least possible.
        """
        field = error_field(error)
        errors, error_unit = _integers(table.numbers(field, signed=error == "loss"))
        costs, cost_unit = _integers(table.numbers(budget.cost))
        limit = budget.limit(table)
        least = cost_unit * sum(map(min, costs))
        if least > limit:
            share = f", {float(least / limit * budget.amount):.6g} of all" if budget.share else ""
            raise SettingError(
                f"budget is {float(limit):,.10g} {budget.cost}, and the cheapest choice takes "
                f"{float(least):,.10g}{share}: give at least that"
            )
        return cls(
            names=tuple(layer.name for layer in table.layers),
            levels=tuple(tuple(o.level for o in layer.options) for layer in table.layers),
            errors=errors,
            costs=costs,
            budget=int(limit // cost_unit),
            error_unit=error_unit,
            cost_unit=cost_unit,
        )

    def error(self, choice: Indices) -> int:
        """Σ e, in units."""
        return sum(errors[j] for errors, j in zip(self.errors, choice, strict=True))

    def cost(self, choice: Indices) -> int:
        """Σ c, in units."""
        return sum(costs[j] for costs, j in zip(self.costs, choice, strict=True))

    @cached_property
    def _hulls(self) -> list[list[int]]:
        """The options on each layer's lower convex hull, from the cheapest to the least error."""
        return [_hull(*layer) for layer in zip(self.errors, self.costs, strict=True)]

    @cached_property
    def _steps(self) -> list[tuple[Fraction, int, int]]:
        """The edges of all hulls, steepest first: −slope, layer, option at its end.

        Edges of a hull become flatter, so in this order each begins where the last one ended.
        """
        steps = []
        for t, (hull, errors, costs) in enumerate(
            zip(self._hulls, self.errors, self.costs, strict=True)
        ):
            for i, j in pairwise(hull):
                steps.append((Fraction(errors[i] - errors[j], costs[j] - costs[i]), t, j))
        return sorted(steps, key=lambda step: -step[0])  # stable: in the order of the layers

    @cached_property
    def multiplier(self) -> Fraction:
        """The μ with the greatest D(μ), in units of the errors per unit of the costs.

        The slope of the first edge that does not fit, when edges are taken from the cheapest choice
        on; 0 if all fit.
        """
        at = [hull[0] for hull in self._hulls]
        cost = self.cost(tuple(at))
        for slope, t, j in self._steps:
            cost += self.costs[t][j] - self.costs[t][at[t]]
            at[t] = j
            if cost > self.budget:
                return slope
        return Fraction(0)

    def vertex(self) -> Indices:
        """A choice within the budget: the LP's vertex, rounded down, then improved.

        Edges are taken while they fit; then, as long as there is one, the change of one layer that
        fits and lowers the error most.
        """
        at = [hull[0] for hull in self._hulls]
        left = self.budget - self.cost(tuple(at))
        for _, t, j in self._steps:
            more = self.costs[t][j] - self.costs[t][at[t]]
            if more > left:
                break
            at[t], left = j, left - more
        while True:
            changes = [
                (error - errors[at[t]], t, j)
                for t, errors in enumerate(self.errors)
                for j, error in enumerate(errors)
                if error < errors[at[t]] and self.costs[t][j] - self.costs[t][at[t]] <= left
            ]
            if not changes:
                return tuple(at)
            _, t, j = min(changes)
            at[t], left = j, left - self.costs[t][j] + self.costs[t][at[t]]


@dataclass(frozen=True)
class Lagrangian:
    """Reduced costs at one multiplier μ = p/q ≥ 0, times q: integers.

    Attributes:
        program: its errors and costs are in units.
        multiplier: μ.
    """

    program: BudgetProgram
    multiplier: Fraction

    @cached_property
    def reduced(self) -> list[list[int]]:
        """q·r of each option of each layer, ≥ 0."""
        p, q = self.multiplier.numerator, self.multiplier.denominator
        found = []
        for errors, costs in zip(self.program.errors, self.program.costs, strict=True):
            priced = [q * e + p * c for e, c in zip(errors, costs, strict=True)]
            found.append([each - min(priced) for each in priced])
        return found

    def value(self, choice: Indices) -> int:
        """q·V of a choice within the budget; ≥ 0."""
        slack = self.program.budget - self.program.cost(choice)
        parts = (own[j] for own, j in zip(self.reduced, choice, strict=True))
        return sum(parts) + self.multiplier.numerator * slack


def _integers(numbers: Sequence[Sequence[Fraction]]) -> tuple[tuple[Indices, ...], Fraction]:
    """Integers and the greatest unit with number = integer · unit; the unit is 1 if all are 0."""
    common = lcm(*(each.denominator for row in numbers for each in row))
    scaled = [[int(each * common) for each in row] for row in numbers]
    most = gcd(*(each for row in scaled for each in row)) or common
    return tuple(tuple(each // most for each in row) for row in scaled), Fraction(most, common)


def _hull(errors: Indices, costs: Indices) -> list[int]:
    """The lower convex hull of points (cost, error), costs ascending, errors descending.

    Of equal points it has the first.
    """
    hull: list[int] = []
    for j in sorted(range(len(costs)), key=lambda j: (costs[j], errors[j], j)):
        if hull and errors[j] >= errors[hull[-1]]:
            continue
        while len(hull) > 1:
            a, b = hull[-2:]
            before = (errors[a] - errors[b]) * (costs[j] - costs[b])
            if before > (errors[b] - errors[j]) * (costs[b] - costs[a]):
                break
            hull.pop()
        hull.append(j)
    return hull
