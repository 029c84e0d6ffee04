"""The constraint of an allocation at a sparsity."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pins.errors import CardinalityError
from pins.pruning.pruner import Pruner
from pins.pruning.schedules import OneShotSchedule
from pins.selection.allocation import Allocation
from pins.selection.constraints import Cardinality, MinimumPerTensor, PerTensor, keep_count
from tests.pins.networks import perceptron

SIZES = {"a": 10, "b": 7, "c": 33}


def test_global_is_one_number() -> None:
    assert Allocation().constraint(0.8, SIZES) == Cardinality(10)


def test_by_tensor_is_a_number_each() -> None:
    constraint = Allocation(by_tensor=True).constraint(0.8, SIZES)
    assert isinstance(constraint, PerTensor)
    assert dict(constraint.keeps) == {"a": 2, "b": 1, "c": 7}


@given(st.fractions(0, 1), st.fractions(0, 1))
def test_a_minimum_is_kept_of_each_or_does_not_fit(sparsity: Fraction, minimum: Fraction) -> None:
    scope = Allocation(minimum_kept=minimum)
    keep = keep_count(sparsity, 50)
    least = {name: -(-minimum * size // 1) for name, size in SIZES.items()}
    if sum(least.values()) > keep:
        with pytest.raises(CardinalityError):
            scope.constraint(sparsity, SIZES)
    elif minimum:
        constraint = scope.constraint(sparsity, SIZES)
        assert isinstance(constraint, MinimumPerTensor)
        assert constraint.keep == keep
        assert dict(constraint.minimums) == least


def test_a_minimum_and_a_share_are_one_too_many() -> None:
    with pytest.raises(CardinalityError, match="leave the minimum out"):
        Allocation(by_tensor=True, minimum_kept=0.1)


@pytest.mark.parametrize("minimum", [-0.1, 1.5, float("nan")])
def test_a_minimum_that_is_no_ratio(minimum: float) -> None:
    with pytest.raises(CardinalityError, match="it is a ratio from 0 to 1 of each tensor"):
        Allocation(minimum_kept=minimum)


def test_a_minimum_above_the_final_ratio_is_an_error_before_the_first_step() -> None:
    import torch

    model = perceptron()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(CardinalityError):
        Pruner(
            model, optimizer, "pins", OneShotSchedule(0.8), allocation=Allocation(minimum_kept=0.3)
        )
