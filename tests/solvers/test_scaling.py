from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from solvers.program import BinaryProgram
from solvers.relaxation import Relaxation
from solvers.scaling import Scaled
from tests.solvers.solver_cases import finite, program


@st.composite
def programs(draw: st.DrawFn) -> BinaryProgram:
    """Programs of any finite floats; shrinks to one variable without rows."""
    size, rows = draw(st.integers(1, 4)), draw(st.integers(0, 3))
    numbers = st.lists(finite(), min_size=size, max_size=size)
    senses = "".join(draw(st.lists(st.sampled_from("<="), min_size=rows, max_size=rows)))
    matrix = [draw(numbers) for _ in range(rows)]
    rhs = draw(st.lists(finite(), min_size=rows, max_size=rows))
    return program(draw(numbers), matrix, senses, rhs)


@given(programs())
def test_every_number_is_multiplied_by_its_power_of_two_exactly(given_: BinaryProgram) -> None:
    image, exponent, rows = Scaled.of(given_)

    def times(value: float, power: int) -> Fraction:
        return Fraction(value) * Fraction(2) ** int(power)

    assert [times(c, exponent) for c in given_.objective] == [Fraction(c) for c in image.objective]
    before, after = given_.matrix.toarray(), image.matrix.toarray()
    for row, power in enumerate(rows):
        assert [times(a, power) for a in before[row]] == [Fraction(a) for a in after[row]]
        assert times(given_.rhs[row], power) == Fraction(image.rhs[row])
    assert image.senses == given_.senses


@given(programs())
def test_a_program_that_is_not_scaled_is_the_same(given_: BinaryProgram) -> None:
    image, exponent, rows = Scaled.of(given_, scale=False)
    assert (image, exponent) == (given_, 0)
    assert rows.tolist() == [0] * len(given_.senses)


def test_rows_of_integers_and_of_large_numbers_are_left_alone() -> None:
    rows: list[list[float]] = [
        [1, 1, 1],
        [1e-13, 2e-13, 0],
        [0, 0, 0],
        [1e16, 1, 1],
        [600.5, 0.25, 0],
        [0.1, 0, 0],
    ]
    rhs = [2, 2e-13, 1, 5, 7, 1e307]
    image = Scaled.of(program([1, 1, 1], rows, "=<<<<<", rhs))
    assert image.rows.tolist() == [0, 52, 0, 0, 0, 0]
    assert 2**9 <= image.program.matrix.toarray()[1].max() < 2**10
    # the last row alone could be scaled, but not its right side
    assert Scaled.of(program([1, 1, 1], rows, "=<<<<<", [*rhs[:5], 1.0])).rows[-1] == 13


def test_the_price_of_a_scaled_row_is_in_the_unit_of_the_row() -> None:
    # max x₀ + 2x₁ + 4x₂ within a budget of 5e-13
    relaxed = Relaxation().solve(program([-1, -2, -4], [[2e-13, 3e-13, 4e-13]], "<", [5e-13]))
    assert relaxed.x is not None
    assert relaxed.multipliers is not None
    # x₂ first, and a third of x₁, at 2 for 3e-13
    assert relaxed.x == pytest.approx([0, 1 / 3, 1])
    assert relaxed.multipliers == pytest.approx([2 / 3e-13])
    assert relaxed.objective == pytest.approx(-(4 + 2 / 3))
