"""Small error tables, and the best choice of each by trying all."""

import itertools
from fractions import Fraction
from typing import Any

from hypothesis import strategies as st

from pins.selection.budget.program import BudgetProgram, Indices

NUMBERS = st.integers(0, 12) | st.integers(0, 10**6)


@st.composite
def programs(draw: st.DrawFn, *, layers: int = 4, options: int = 4) -> BudgetProgram:
    """Integers with many ties and equal layers, errors of both signs; some choice is allowed."""
    rows = st.lists(st.tuples(NUMBERS.map(lambda e: e - 6), NUMBERS), min_size=1, max_size=options)
    kinds = draw(st.lists(rows, min_size=1, max_size=layers))
    copies = draw(st.lists(st.integers(1, 2), min_size=len(kinds), max_size=len(kinds)))
    table = [kind for kind, times in zip(kinds, copies, strict=True) for _ in range(times)]
    costs = tuple(tuple(c for _, c in kind) for kind in table)
    low, high = sum(map(min, costs)), sum(map(max, costs))
    return BudgetProgram(
        names=tuple(f"layer {t}" for t in range(len(table))),
        levels=tuple(tuple(range(len(kind))) for kind in table),
        errors=tuple(tuple(e for e, _ in kind) for kind in table),
        costs=costs,
        budget=draw(st.integers(low, high + 3)),
        error_unit=draw(st.sampled_from([Fraction(1), Fraction(3, 7)])),
        cost_unit=draw(st.sampled_from([Fraction(1), Fraction(1, 10)])),
    )


def allowed(program: BudgetProgram) -> list[Indices]:
    """Every choice within the budget."""
    every = itertools.product(*(range(len(each)) for each in program.errors))
    return [choice for choice in every if program.cost(choice) <= program.budget]


def least_error(program: BudgetProgram) -> int:
    """The optimum, in units."""
    return min(map(program.error, allowed(program)))


def document(**changes: Any) -> dict[str, Any]:
    """Two layers and three levels; the second layer says what it costs as it is."""
    options = [
        {"level": 0, "error": 0, "loss": -0.5, "bytes": 100, "flops": 10},
        {"level": 0.5, "error": 0.1, "loss": 0.25, "bytes": 60, "flops": 5},
        {"level": "2:4", "error": 0.3, "loss": 1, "bytes": 40, "flops": 5, "note": "x"},
    ]
    layers = [
        {"name": "a", "options": options},
        {"name": "b", "options": options[1:], "dense": {"bytes": 120}},
    ]
    return {"format": "pins-error-table", "version": 1, "layers": layers, **changes}
