"""The rank of a sum of floats is that of the rational number."""

import math
import sys
from fractions import Fraction
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pins.errors import ImportanceError
from pins.selection import exact_order
from pins.selection.exact_order import exact_ranks

HUGE = sys.float_info.max
NUMBERS = st.sampled_from(
    [0.0, -0.0, 1.0, 2.0**-53, -(2.0**-53), 1e300, -1e300, 1e-310, 5e-324, 3.0, 1 / 3, HUGE, -HUGE]
) | st.floats(allow_nan=False, allow_infinity=False)
FACTORS = st.sampled_from([1.0, 0.1, 3.0, 1e-9, -1.0, 0.0]) | st.floats(-1e9, 1e9)


def ranks(rows: list[list[float]], factors: list[float]) -> list[int]:
    """By the definition."""
    sums = [
        sum((Fraction(f) * Fraction(x) for f, x in zip(factors, row, strict=True)), Fraction(0))
        for row in rows
    ]
    return [sorted(set(sums)).index(each) for each in sums]


def terms(rows: list[list[float]], number: int) -> list[np.ndarray[tuple[int], np.dtype]]:
    return [np.array([row[t] for row in rows], dtype=np.float64) for t in range(number)]


@given(st.integers(1, 4), st.data())
def test_ranks_are_those_of_rational_numbers(number: int, data: st.DataObject) -> None:
    few = data.draw(st.lists(NUMBERS, min_size=1, max_size=4))
    row = st.lists(st.sampled_from(few) | NUMBERS, min_size=number, max_size=number)
    rows = data.draw(st.lists(row, max_size=12))
    factors = data.draw(st.lists(FACTORS, min_size=number, max_size=number))
    assert exact_ranks(terms(rows, number), factors).tolist() == ranks(rows, factors)


HALF = 2.0**-53  # an ulp of 1 is twice that
NEAR = [[1.0, HALF, HALF], [1.0 + 2 * HALF, 0.0, 0.0], [1.0, HALF, 0.0], [0.0, 0.0, 1.0]]


def test_sums_that_float64_misorders_have_their_order() -> None:
    assert [a + b + c for a, b, c in NEAR] == [1.0, 1.0 + 2 * HALF, 1.0, 1.0]
    assert exact_ranks(terms(NEAR, 3), [1.0] * 3).tolist() == [2, 2, 1, 0]


def test_without_the_bound_of_the_rounding_errors_they_have_not() -> None:
    """The negative control."""
    with mock.patch.multiple(exact_order, ROUNDING=0.0, SMALLEST=0.0):
        assert exact_ranks(terms(NEAR, 3), [1.0] * 3).tolist() != [2, 2, 1, 0]


def test_rational_arithmetic_decides_only_where_it_must() -> None:
    """Many equal rows, as of a model that is pruned already, need none."""
    generator = np.random.default_rng(0)
    s, c = generator.standard_normal(5000), generator.random(5000)
    s[:2000], c[:2000] = 0.0, 0.0
    with mock.patch.object(exact_order, "Fraction", side_effect=AssertionError):
        found = exact_ranks([c, s], [1.0, 0.5])
    assert np.array_equal(found, np.unique(c + 0.5 * s, return_inverse=True)[1].reshape(-1))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("rows", [1, 2])
def test_a_term_that_is_not_finite_is_refused(value: float, rows: int) -> None:
    """Also where it is alone, or all are equal, and nothing has to be compared."""
    with pytest.raises(ImportanceError, match="a term of a score is not finite: look for overflow"):
        exact_ranks([np.zeros(rows), np.full(rows, value)], [1.0, 1.0])


def test_products_that_overflow_are_decided_by_rational_arithmetic() -> None:
    rows = [[HUGE, 1.0], [HUGE, -HUGE], [0.0, HUGE], [1.0, 1.0]]
    assert exact_ranks(terms(rows, 2), [3.0, 2.0]).tolist() == [3, 1, 2, 0]
