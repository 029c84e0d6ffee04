"""Constraints: what they say, which tensors they fit, and how ratios become numbers."""

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pins.errors import CardinalityError, ScheduleError
from pins.selection.constraints import (
    Cardinality,
    Constraint,
    MinimumPerTensor,
    PerTensor,
    keep_count,
    minimum_per_tensor,
    per_tensor,
)
from verification.strategies import sparsities

SHAPES = {"a": (2, 3), "b": (4,), "c": ()}
SIZES = st.dictionaries(st.text(max_size=2), st.integers(0, 10**9), min_size=1, max_size=5)


def test_each_kind_is_a_case_of_one_program() -> None:
    kinds: list[Constraint] = [
        Cardinality(5),
        PerTensor({"a": 3, "b": 2}),
        MinimumPerTensor(5, {"a": 1}),
    ]
    assert all(isinstance(kind, Constraint) for kind in kinds)
    assert not isinstance(5, Constraint)
    assert [kind.keep for kind in kinds] == [5, 5, 5]
    assert [dict(kind.minimums) for kind in kinds] == [{}, {"a": 3, "b": 2}, {"a": 1}]
    assert [kind.statement for kind in kinds] == [
        "max s·m over masks with 5 ones",
        "max s·m over masks with its own number of ones in each of 2 tensors, 5 in all",
        "max s·m over masks with 5 ones and a minimum in each tensor, 1 in all",
    ]


@pytest.mark.parametrize(
    "constraint",
    [
        Cardinality(0),
        Cardinality(11),
        PerTensor({"a": 6, "b": 0, "c": 1}),
        MinimumPerTensor(11, {"a": 6, "b": 4, "c": 1}),
        MinimumPerTensor(0, {}),
        MinimumPerTensor(3, {"b": 3}),
    ],
)
def test_what_some_mask_meets_is_accepted(constraint: Constraint) -> None:
    constraint.validate(SHAPES)


@pytest.mark.parametrize(
    ("constraint", "message"),
    [
        (
            Cardinality(12),
            r"^keep is 12: it is the number of weights to keep, an int from 0 to 11$",
        ),
        (MinimumPerTensor(12, {}), "keep is 12: .*an int from 0 to 11"),
        (PerTensor({"a": 1, "b": 1}), "PerTensor says nothing of 'c': give each tensor its number"),
        (
            PerTensor({"a": 1, "b": 1, "c": 1, "d": 0}),
            r"keeps\['d'\] is 0, and there is no tensor 'd': leave it out",
        ),
        (
            PerTensor({"a": 1, "b": 5, "c": 1}),
            r"keeps\['b'\] is 5, and 'b' has 4 weights: ask for fewer",
        ),
        (MinimumPerTensor(8, {"a": 7}), r"minimums\['a'\] is 7, and 'a' has 6 weights"),
        (MinimumPerTensor(8, {"e": 1}), r"minimums\['e'\] is 1, and there is no tensor 'e'"),
    ],
)
def test_what_no_mask_meets_is_refused_by_tensor(constraint: Constraint, message: str) -> None:
    with pytest.raises(CardinalityError, match=message):
        constraint.validate(SHAPES)


@pytest.mark.parametrize("number", [-1, 1.0, "1", None, True, torch.tensor(True)])
def test_a_number_that_is_no_count_is_refused(number: Any) -> None:
    with pytest.raises(CardinalityError, match=r"keeps\['a'\] is .*: it is a number of weights"):
        PerTensor({"a": number})
    with pytest.raises(CardinalityError, match=r"minimums\['a'\] is "):
        MinimumPerTensor(3, {"a": number})
    with pytest.raises(CardinalityError, match=r"keep is .*: it is the number of weights to keep"):
        MinimumPerTensor(number, {})
    with pytest.raises(CardinalityError, match=r"keep is .*: it is the number of weights to keep"):
        Cardinality(number).validate(SHAPES)


def test_integers_of_other_libraries_are_integers() -> None:
    numbers: Any = {"a": np.int64(2), "b": torch.tensor(1)}
    assert PerTensor(numbers) == PerTensor({"a": 2, "b": 1})
    assert MinimumPerTensor(np.int64(4), numbers) == MinimumPerTensor(4, {"a": 2, "b": 1})  # type: ignore[arg-type]


def test_a_constraint_does_not_change_with_the_mapping_it_came_from() -> None:
    numbers = {"a": 2}
    constraints: list[Constraint] = [PerTensor(numbers), MinimumPerTensor(3, numbers)]
    numbers["a"] = 9
    assert [dict(each.minimums) for each in constraints] == [{"a": 2}, {"a": 2}]


def test_minimums_that_are_too_many_are_refused_by_how_much() -> None:
    message = "the minimums of 2 tensors add up to 130 weights, 30 more than the 100 kept in all"
    with pytest.raises(CardinalityError, match=message):
        MinimumPerTensor(100, {"a": 60, "b": 70})
    with pytest.raises(CardinalityError, match=message):
        minimum_per_tensor(100, 0.5, {"a": 120, "b": 139})
    assert sum(minimum_per_tensor(130, 0.5, {"a": 120, "b": 139}).minimums.values()) == 130


@given(sparsities(), SIZES)
def test_per_tensor_rounds_each_tensor_by_itself(
    sparsity: float | Fraction, sizes: dict[str, int]
) -> None:
    constraint = per_tensor(sparsity, sizes)
    constraint.validate({name: (size,) for name, size in sizes.items()})
    assert constraint.keeps == {name: keep_count(sparsity, size) for name, size in sizes.items()}
    together = keep_count(sparsity, sum(sizes.values()))
    assert 2 * abs(constraint.keep - together) <= len(sizes) + 1


def test_the_numbers_of_tensors_may_add_up_to_another_total() -> None:
    sizes = {"a": 5, "b": 5, "c": 5}
    assert per_tensor(0.5, sizes).keep == 9
    assert keep_count(0.5, 15) == 8


@given(sparsities(), SIZES)
def test_a_minimum_is_the_least_number_that_reaches_the_ratio(
    ratio: float | Fraction, sizes: dict[str, int]
) -> None:
    exact = ratio if isinstance(ratio, Fraction) else Fraction(repr(ratio))
    constraint = minimum_per_tensor(sum(sizes.values()), ratio, sizes)
    constraint.validate({name: (size,) for name, size in sizes.items()})
    for name, size in sizes.items():
        least = constraint.minimums[name]
        assert least >= exact * size > least - 1
        assert least > 0 or ratio == 0 or size == 0


def test_the_ratio_is_the_decimal_that_was_written() -> None:
    assert minimum_per_tensor(10, 0.1, {"a": 10, "b": 11}).minimums == {"a": 1, "b": 2}


@pytest.mark.parametrize("ratio", [-0.1, 1.1, float("nan"), "x"])
def test_what_is_no_ratio_is_refused(ratio: Any) -> None:
    message = "the minimum kept of each tensor is .*: it is a ratio from 0 to 1"
    with pytest.raises(CardinalityError, match=message):
        minimum_per_tensor(1, ratio, {"a": 3})
    with pytest.raises(ScheduleError, match="sparsity is"):
        per_tensor(ratio, {"a": 3})
