from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pins.errors import ProgramError
from solvers.exact import (
    CHUNK,
    exact_sum,
    integers,
    objective,
    power_of_two_exponent,
    row_exponents,
    scaled,
)
from tests.solvers.solver_cases import finite


@given(st.lists(finite(), max_size=30))
def test_the_sum_is_the_sum_of_fractions(values: list[float]) -> None:
    assert exact_sum(np.array(values)) == sum(map(Fraction, values))


@given(st.lists(finite(width=32), max_size=30))
def test_float32_is_summed_exactly_too(values: list[float]) -> None:
    assert exact_sum(np.array(values, dtype=np.float32)) == sum(map(Fraction, values))


def test_float16_is_summed_exactly_too() -> None:
    smallest = 2.0**-24
    assert exact_sum(np.array([65504, smallest], dtype=np.float16)) == 65504 + Fraction(1, 2**24)


def test_extremes_do_not_round() -> None:
    largest, smallest = np.finfo(np.float64).max, 5e-324
    values = np.array([largest, largest, smallest, -largest])
    assert exact_sum(values) == Fraction(largest) + Fraction(smallest)


def test_rounded_sums_are_told_from_exact_ones() -> None:
    # The negative control: numpy's sum loses what the exact sum keeps.
    values = np.array([1e16, 1.0, -1e16])
    assert exact_sum(values) == 1
    assert values.sum() == 0


def test_sums_over_several_chunks_with_full_mantissas() -> None:
    size = 2 * CHUNK + 3
    largest_mantissa = float(2**53 - 1)
    values = np.full(size, largest_mantissa)
    assert exact_sum(values) == size * (2**53 - 1)
    assert exact_sum(-values) == -size * (2**53 - 1)


def test_shape_does_not_matter_and_nothing_sums_to_zero() -> None:
    assert exact_sum(np.ones((2, 3))) == 6
    assert exact_sum(np.ones(0)) == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_named(bad: float) -> None:
    values = np.array([0.0, bad])
    with pytest.raises(ProgramError, match=r"entry 1 is -?(nan|inf)"):
        exact_sum(values)


def test_other_dtypes_are_refused() -> None:
    values: Any = np.arange(3)
    with pytest.raises(ProgramError, match="dtype int64 came"):
        exact_sum(values)


@given(st.lists(st.tuples(finite(), st.booleans()), min_size=1, max_size=20))
def test_the_objective_sums_the_kept_costs(pairs: list[tuple[float, bool]]) -> None:
    c, x = np.array([p[0] for p in pairs]), np.array([p[1] for p in pairs])
    assert objective(c, x) == sum(Fraction(cost) for cost, kept in pairs if kept)


def test_the_objective_refuses_other_shapes_and_dtypes() -> None:
    with pytest.raises(ProgramError, match=r"shape \(2,\) and dtype bool came"):
        objective(np.ones(3), np.ones(2, dtype=np.bool_))
    indices: Any = np.array([1, 0, 1])
    with pytest.raises(ProgramError, match="dtype int64 came"):
        objective(np.ones(3), indices)


@given(st.lists(finite(), min_size=1, max_size=20))
def test_scaling_is_undone_bit_for_bit(values: list[float]) -> None:
    c = np.array(values)
    image, exponent = scaled(c)
    assert np.array_equal(np.ldexp(image, -exponent), c)
    assert [Fraction(v) for v in image.tolist()] == [
        Fraction(v) * Fraction(2) ** exponent for v in values
    ]


@given(st.lists(st.floats(1e-150, 1e150) | st.floats(-1e150, -1e-150), min_size=1, max_size=20))
def test_scaling_reaches_its_target(values: list[float]) -> None:
    assert 2**9 <= np.abs(scaled(np.array(values))[0]).max() < 2**10


def test_subnormals_scale_up_to_the_target() -> None:
    image, exponent = scaled(np.array([5e-324, -1.5e-323]))
    assert np.abs(image).max() == 3 * 2**8
    assert exponent == 1074 + 8


def test_scaling_down_stops_before_it_loses_a_digit() -> None:
    c = np.array([1e300, 5e-324])
    assert power_of_two_exponent(c) == 0
    # The exponent that reaches the target would have lost the smaller entry.
    assert np.ldexp(c, -987)[1] == 0


def test_a_zero_objective_is_left_alone() -> None:
    image, exponent = scaled(np.zeros(3))
    assert exponent == 0
    assert not image.any()


@given(st.lists(finite(), max_size=8))
def test_integers_keep_the_ratios(values: list[float]) -> None:
    numbers = integers(values)
    for a, n in zip(values, numbers, strict=True):
        for b, m in zip(values, numbers, strict=True):
            assert Fraction(a) * m == Fraction(b) * n
            assert (a < b) == (n < m)


def test_integers_refuse_infinity() -> None:
    with pytest.raises(ProgramError, match="NaN or infinite"):
        integers([float("inf")])


@given(st.lists(finite(), max_size=8), finite())
def test_a_row_is_scaled_without_loss_or_not_at_all(row: list[float], bound: float) -> None:
    entries, starts = np.array(row, dtype=np.float64), np.array([0, len(row)])
    (exponent,) = row_exponents(starts, entries, np.array([bound])).tolist()
    image = np.ldexp(np.array([*row, bound]), exponent)
    assert np.array_equal(np.ldexp(image, -exponent), np.array([*row, bound]))
    if exponent:
        assert 2**9 <= np.abs(image[:-1]).max() < 2**10


def test_large_rows_of_one_size_are_scaled_down() -> None:
    def exponent(row: list[float], bound: float) -> int:
        return int(row_exponents(np.array([0, len(row)]), np.array(row), np.array([bound]))[0])

    assert exponent([6e15, 4e15, 4e15], 8e15) == -43
    assert exponent([2.0**70, 2.0**70], 2.0**70) == -61
    assert exponent([2.0**20, 2.0], 4) == -11
    # a digit would be lost beside the tolerances, in the entries or on the right
    assert exponent([1.5e10, 1e10 + 1, 1e10], 2e10) == 0
    assert exponent([2.0**21, 1.0], 4) == 0
    assert exponent([6e15, 4e15, 4e15], 8e15 + 1) == 0
    assert exponent([2.0**19, 2.0**18], 2.0**20) == 0  # not large


def test_each_row_has_its_own_exponent() -> None:
    entries = np.array([1.0, 1.0, 0.25, 0.125, 1e-13])
    exponents = row_exponents(np.array([0, 2, 2, 4, 5]), entries, np.ones(4))
    # integers and an empty row stay as they are
    assert exponents.tolist() == [0, 0, 11, 53]
