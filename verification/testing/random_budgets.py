"""Random error tables as programs: with ties, equal layers, and budgets that only some sums hit."""

from collections.abc import Iterator

import numpy as np

from pins.selection.budget.program import BudgetProgram


def random_budgets(
    rng: np.random.Generator, cases: int, layers: int, options: int
) -> Iterator[BudgetProgram]:
    """Programs of small integers; every third one has equal layers, every second one few numbers.

    What costs more has no larger error, as in a table of sparsities.

    Args:
        rng: of the numbers.
        cases: how many programs.
        layers: of each.
        options: of each layer.
    """
    for case in range(cases):
        most = 6 if case % 2 else 1000
        kinds = [
            (
                tuple(sorted(map(int, rng.integers(0, most, options)), reverse=True)),
                tuple(sorted(map(int, rng.integers(1, most, options)))),
            )
            for _ in range(2 if case % 3 == 0 else layers)
        ]
        errors, costs = zip(*(kinds[t % len(kinds)] for t in range(layers)), strict=True)
        low, high = sum(map(min, costs)), sum(map(max, costs))
        yield _program(errors, costs, int(rng.integers(low, high + 1)))


def planted_budget(rng: np.random.Generator, layers: int, options: int) -> BudgetProgram:
    """A program whose optimum is known, and hard to find: V = 0 is an equation of large integers.

    The error of an option is a constant less its cost, and the budget is what one choice costs: so
    the optima are the choices that spend all of it. Option 0 of each layer is one of them.
    """
    costs = rng.integers(1, 10**8, (layers, options))
    errors = 10**8 - costs
    spent = int(costs[:, 0].sum())
    rows = [tuple(tuple(map(int, row)) for row in each) for each in (errors, costs)]
    return _program(rows[0], rows[1], spent)


Rows = tuple[tuple[int, ...], ...]


def _program(errors: Rows, costs: Rows, budget: int) -> BudgetProgram:
    names = tuple(f"layer {t}" for t in range(len(errors)))
    levels = tuple(tuple(range(len(each))) for each in errors)
    return BudgetProgram(names, levels, errors, costs, budget)
