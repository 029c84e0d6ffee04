"""The rule of the radius: laws of algorithm 4.1 of Nocedal & Wright, which other rules break."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pins.pruning.acceptance import GOOD, GROW, LARGEST, POOR, SHRINK, TRIALS, Promise, next_radius

Rule = Callable[[float, Promise], float]

FACTORS = st.integers(-10, 1).map(lambda octave: 2.0**octave)
PROMISED = st.integers(-20, 20).map(lambda octave: 2.0**octave)
RATIOS = st.integers(-64, 64).map(lambda eighths: eighths / 8)


def never_falls(rule: Rule, factor: float, ratios: Sequence[float]) -> bool:
    """More of a promise kept, no smaller a radius."""
    found = [rule(factor, Promise(1.0, ratio)) for ratio in sorted(ratios)]
    return all(less <= more for less, more in pairwise(found))


def shrinks(rule: Rule, factor: float) -> bool:
    """Where nothing of a promise is kept, the radius falls."""
    return rule(factor, Promise(1.0, 0.0)) < factor


def is_bounded(rule: Rule, factor: float) -> bool:
    """However well promises are kept, the radius stays below a bound."""
    for _ in range(20):
        factor = rule(factor, Promise(1.0, 1.0))
    return factor <= LARGEST


def knows_no_unit(rule: Rule, factor: float, ratio: float, unit: float) -> bool:
    """Promise and worth in other units of loss change nothing."""
    return rule(factor, Promise(1.0, ratio)) == rule(factor, Promise(unit, unit * ratio))


@given(FACTORS, st.lists(RATIOS, min_size=2, max_size=5))
def test_a_promise_better_kept_leaves_no_smaller_a_radius(
    factor: float, ratios: list[float]
) -> None:
    assert never_falls(next_radius, factor, ratios)


@given(FACTORS, RATIOS, PROMISED)
def test_the_unit_of_the_loss_does_not_matter(factor: float, ratio: float, unit: float) -> None:
    assert knows_no_unit(next_radius, factor, ratio, unit)


@given(FACTORS)
def test_the_radius_shrinks_and_grows_within_its_bound(factor: float) -> None:
    assert shrinks(next_radius, factor)
    assert is_bounded(next_radius, factor)


def test_rules_that_are_none_break_a_law_each() -> None:
    assert not shrinks(lambda factor, _: factor, 1.0)
    assert not is_bounded(lambda factor, _: factor * GROW, 1.0)
    assert not never_falls(
        lambda factor, p: factor * (SHRINK if p.ratio > GOOD else 1), 1.0, [0, 1]
    )
    assert not knows_no_unit(lambda factor, p: factor * (1 + (p.kept > POOR)), 1.0, 0.5, 0.25)


@given(FACTORS, PROMISED, RATIOS)
def test_the_radius_of_a_ratio(factor: float, promised: float, ratio: float) -> None:
    promise = Promise(promised, ratio * promised)  # products and quotients of few bits: exact
    assert promise.ratio == ratio
    expected = factor
    if ratio < 0.25:
        expected = factor / 4
    elif ratio > 0.75:
        expected = min(2 * factor, 2.0)
    assert next_radius(factor, promise) == expected
    assert promise.accepted == (ratio > 0)


@pytest.mark.parametrize("promised", [0.0, -1.0])
@pytest.mark.parametrize("kept", [-1.0, 0.0, 1.0])
def test_a_promise_of_nothing_is_kept_and_says_nothing_of_the_radius(
    promised: float, kept: float
) -> None:
    promise = Promise(promised, kept)
    assert promise.accepted
    assert next_radius(0.5, promise) == 0.5


@pytest.mark.parametrize("kept", [float("nan"), float("-inf")])
def test_a_loss_that_is_no_number_breaks_the_promise(kept: float) -> None:
    promise = Promise(1.0, kept)
    assert not promise.accepted
    assert next_radius(1.0, promise) == SHRINK


def test_a_radius_recovers_from_broken_promises() -> None:
    factor = 1.0
    for _ in range(TRIALS):
        factor = next_radius(factor, Promise(1.0, -1.0))
    assert factor == SHRINK**TRIALS
    for _ in range(2 * TRIALS + 1):
        factor = next_radius(factor, Promise(1.0, 1.0))
    assert factor == LARGEST
