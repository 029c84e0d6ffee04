"""The choice is an optimum, or within its gap of one: all choices are tried."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pins.errors import SettingError
from pins.selection.budget import Budget, ErrorTable, best_choice, judged
from pins.selection.budget.choice import solve
from pins.selection.budget.core import search
from pins.selection.budget.program import BudgetProgram, Lagrangian
from tests.pins.selection.budget.tables import allowed, document, least_error, programs


@given(programs())
def test_the_choice_is_an_optimum(program: BudgetProgram) -> None:
    choice = solve(program)
    assert choice.options in allowed(program)
    assert choice.optimal
    assert program.error(choice.options) == least_error(program)
    assert choice.error == program.error_unit * least_error(program)
    for t, own in enumerate(choice.options):  # no layer can be cheaper for nothing
        errors, costs = program.errors[t], program.costs[t]
        assert costs[own] == min(c for e, c in zip(errors, costs, strict=True) if e == errors[own])


@given(programs(), st.integers(0, 30))
def test_beyond_the_limit_the_gap_is_a_bound(program: BudgetProgram, limit: int) -> None:
    choice = solve(program, limit)
    assert choice.options in allowed(program)
    short = choice.error - program.error_unit * least_error(program)
    assert 0 <= short <= choice.gap


def test_a_rounded_vertex_is_no_optimum_and_the_gap_says_so() -> None:
    errors, costs = ((11, 0), (9, 0), (9, 0)), ((0, 6), (0, 5), (0, 5))
    program = BudgetProgram(("a", "b", "c"), ((0, 1),) * 3, errors, costs, budget=10)
    hasty = solve(program, limit=0)
    assert program.vertex() == hasty.options == (1, 0, 0)
    assert not hasty.optimal
    assert hasty.gap == Fraction(36, 5)
    assert solve(program).options == (0, 1, 1)  # with an error of 11 instead of 18


@given(programs(), st.fractions(0, 20))
def test_v_is_the_distance_from_a_bound(program: BudgetProgram, mu: Fraction) -> None:
    lagrangian, best = Lagrangian(program, mu), Lagrangian(program, program.multiplier)
    bounds = set()
    for choice in allowed(program):
        value = Fraction(lagrangian.value(choice), mu.denominator)
        bounds.add(program.error(choice) - value)
    (bound,) = bounds  # D(μ), the same for all
    assert bound <= least_error(program)
    choice = allowed(program)[0]
    own = program.error(choice) - Fraction(best.value(choice), program.multiplier.denominator)
    assert own >= bound  # μ is optimal


@given(programs(), st.integers(1, 10**8))
def test_a_search_finds_the_least_v_below_its_threshold(
    program: BudgetProgram, threshold: int
) -> None:
    lagrangian = Lagrangian(program, program.multiplier)
    found = search(lagrangian, threshold)
    least = min(map(lagrangian.value, allowed(program)))
    assert found.complete
    if found.choice is None:
        assert least >= threshold
    else:
        assert lagrangian.value(found.choice) == least < threshold


def test_equal_layers_are_one() -> None:
    layers = 100
    program = BudgetProgram(
        tuple(map(str, range(layers))),
        ((0, 1, 2),) * layers,
        ((9, 4, 0),) * layers,
        ((0, 2, 5),) * layers,
        budget=167,
    )
    choice = solve(program)
    assert choice.optimal
    assert choice.states < 5 * layers**2  # of 3¹⁰⁰ choices


def test_a_tie_in_decimals_is_a_tie() -> None:
    layers = [
        {"name": name, "options": [{"level": 1, "error": error, "bytes": 2}, other]}
        for name, error, other in (
            ("a", 0.1, {"level": 2, "error": 0.2, "bytes": 1}),
            ("b", 0.2, {"level": 2, "error": 0.3, "bytes": 1}),
        )
    ]
    table = ErrorTable.of(document(layers=layers))
    program = BudgetProgram.of(table, Budget.parse("bytes=3"))
    assert program.error((0, 1)) == program.error((1, 0))
    assert best_choice(table, Budget.parse("bytes=3")).error == Fraction(2, 5)


def test_the_numbers_of_a_choice() -> None:
    table = ErrorTable.of(document())
    choice = best_choice(table, Budget.parse("bytes=0.6"))  # of 220
    assert choice.levels == {"a": 0.5, "b": 0.5}
    assert [choice.error, choice.cost] == [Fraction(1, 5), 120]
    assert choice.optimal
    assert choice.excess == 0
    worse = judged(choice, (1, 1))
    assert [worse.error, worse.gap, worse.excess] == [Fraction(2, 5), Fraction(1, 5), 1]
    assert best_choice(table, Budget.parse("flops=10"), "loss").levels == {"a": 0.5, "b": 0.5}
    dense = best_choice(table, Budget.parse("bytes=1k"), "loss")
    assert dense.levels == {"a": 0, "b": 0.5}
    assert dense.excess is None  # the optimum is not above 0


def test_an_allocation_beyond_the_budget_is_not_judged() -> None:
    choice = best_choice(ErrorTable.of(document()), Budget.parse("bytes=100"))
    with pytest.raises(SettingError, match="exceeds the budget of 100 by 60: give at least 160"):
        judged(choice, (0, 0))


def test_a_budget_below_the_cheapest_choice_says_the_least() -> None:
    table = ErrorTable.of(document())
    with pytest.raises(SettingError, match=r"is 79 bytes, and the cheapest choice takes 80: give"):
        best_choice(table, Budget.parse("bytes=79"))
    with pytest.raises(SettingError, match=r"22 bytes, .* takes 80, 0\.363636 of all: give"):
        best_choice(table, Budget.parse("bytes=0.1"))
    assert best_choice(table, Budget.parse("bytes=80")).levels == {"a": "2:4", "b": "2:4"}
