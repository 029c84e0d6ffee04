"""A choice of a level for each layer, and how far at most it is from the best one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

from pins.errors import SettingError
from pins.selection.budget.core import LIMIT, search
from pins.selection.budget.program import BudgetProgram, Indices, Lagrangian
from pins.selection.budget.spec import Budget
from pins.selection.budget.table import ErrorTable, Level

SMALLEST = 16
"""The first threshold is V of the rounded vertex over this, then twice the last one: most searches
end at once near the optimum. A heuristic; any threshold gives the same optimum."""


@dataclass(frozen=True)
class Choice:
    """An option for each layer, within the budget.

    Attributes:
        program: the numbers it is a choice of, in units.
        options: the number of each layer's option.
        gap: G ≥ 0: no choice within the budget has an error that is smaller by more; 0: an optimum.
        multiplier: the μ whose reduced costs prove it, in units.
        states: the number of partial choices that the search formed.
    """

    program: BudgetProgram
    options: Indices
    gap: Fraction
    multiplier: Fraction
    states: int

    @property
    def optimal(self) -> bool:
        """Whether it is an optimum."""
        return self.gap == 0

    @property
    def levels(self) -> dict[str, Level]:
        """Layer ↦ level."""
        named = zip(self.program.names, self.program.levels, self.options, strict=True)
        return {name: levels[j] for name, levels, j in named}

    @property
    def error(self) -> Fraction:
        """Σ e."""
        return self.program.error_unit * self.program.error(self.options)

    @property
    def cost(self) -> Fraction:
        """Σ c."""
        return self.program.cost_unit * self.program.cost(self.options)

    @property
    def excess(self) -> Fraction | None:
        """By what part of the optimum's error its error is larger, at most.

        None if the optimum's error may be 0 or below.
        """
        bound = self.error - self.gap
        return self.gap / bound if bound > 0 else None


def best_choice(
    table: ErrorTable, budget: Budget, error: str = "relative", limit: int = LIMIT
) -> Choice:
    """min Σ e subject to Σ c ≤ C: an optimum, or within `limit` the best found and its gap.

    Of several optima it is one, not a rule's; the same table gives the same choice. No layer of it
    can be made cheaper at the same error.

    Args:
        table: the layers and their options.
        budget: the cost and its limit C.
        error: "relative", "absolute" or "loss".
        limit: of partial choices that one search may form.

    Raises:
        SettingError: the table lacks a number, or the budget is below the cheapest choice.
    """
    return solve(BudgetProgram.of(table, budget, error), limit)


def solve(program: BudgetProgram, limit: int = LIMIT) -> Choice:
    """`best_choice` of a program.

    The rounded vertex of the LP is within V of the optimum. Choices with a smaller V are searched
    below growing thresholds; where one exceeds the limit, the last one that did not is a bound.
    """
    lagrangian = Lagrangian(program, program.multiplier)
    best = program.vertex()
    value = lagrangian.value(best)
    excluded, states, threshold = 0, 0, min(value, value // SMALLEST + 1)
    while excluded < value:
        found = search(lagrangian, threshold, limit)
        states += found.states
        if found.choice is not None:
            best = found.choice
            excluded = value = lagrangian.value(best)
        elif not found.complete:
            break
        else:
            excluded, threshold = threshold, min(value, 2 * threshold)
    gap = (value - excluded) * program.error_unit / program.multiplier.denominator
    return Choice(program, _without_waste(program, best), gap, program.multiplier, states)


def judged(best: Choice, options: Indices) -> Choice:
    """Another choice of the same program, with its distance from the optimum, at most.

    The distance is exact where `best` is an optimum.

    Args:
        best: what `best_choice` gives.
        options: the number of each layer's option.

    Raises:
        SettingError: it costs more than the budget.
    """
    program = best.program
    over = program.cost(options) - program.budget
    if over > 0:
        cost, most = (float(each * program.cost_unit) for each in (over, program.budget))
        raise SettingError(
            f"the allocation exceeds the budget of {most:,.10g} by {cost:,.10g}: give at least "
            f"{most + cost:,.10g} to compare it with choices that cost no more"
        )
    error = program.error_unit * program.error(options)
    return replace(best, options=options, gap=error - (best.error - best.gap))


def _without_waste(program: BudgetProgram, choice: Indices) -> Indices:
    """In each layer the cheapest option with the same error."""
    layers = zip(program.errors, program.costs, choice, strict=True)
    return tuple(
        min((j for j, e in enumerate(errors) if e == errors[own]), key=costs.__getitem__)
        for errors, costs, own in layers
    )
