"""The constraint of an allocation at a sparsity."""

import math
from fractions import Fraction
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pins.errors import CardinalityError
from pins.pruning.pruner import Pruner
from pins.pruning.schedules import OneShotSchedule
from pins.selection.allocation import Allocation
from pins.selection.constraints import (
    AtMostNofM,
    Cardinality,
    Constraint,
    NofM,
    PerTensor,
    Rows,
    keep_count,
)
from pins.selection.reach import keep_of
from pins.selection.tree import View
from tests.pins.networks import perceptron

VIEWS = {"a": View(1, 2, 5), "b": View(1, 1, 7), "c": View(1, 11, 3)}


def test_global_is_one_number() -> None:
    assert Allocation().constraint(0.8, VIEWS) == Cardinality(10)


def test_by_tensor_and_by_row_is_a_number_each() -> None:
    constraint = Allocation("tensor").constraint(0.8, VIEWS)
    assert constraint == PerTensor({"a": 2, "b": 1, "c": 7})
    assert Allocation("row").constraint(0.8, VIEWS) == Rows(0.8)


@given(st.fractions(0, 1), st.fractions(0, 1), st.fractions(0, 1))
def test_bounds_are_kept_of_each_or_do_not_fit(
    sparsity: Fraction, minimum: Fraction, maximum: Fraction
) -> None:
    keep = keep_count(sparsity, 50)
    least = {name: math.ceil(minimum * view.size) for name, view in VIEWS.items()}
    most = {name: math.floor(maximum * view.size) for name, view in VIEWS.items()}
    allocation = Allocation(layer_minimum=minimum, layer_maximum=maximum)
    constraint = allocation.constraint(sparsity, VIEWS)
    assert isinstance(constraint, Constraint)
    tree = constraint.tree(VIEWS)
    fits = all(least[name] <= most[name] for name in VIEWS)
    if fits and sum(least.values()) <= keep <= sum(most.values()):
        assert keep_of(tree) == keep
        if minimum != 0 or maximum != 1:
            assert {node.name: node.minimum for node in tree.tensors} == least
            assert {node.name: node.maximum for node in tree.tensors} == most
    else:
        with pytest.raises(CardinalityError, match="no mask meets both"):
            keep_of(tree)


@pytest.mark.parametrize(
    ("sparsity", "n"), [(0, 4), (0.2, 4), (0.25, 3), (0.3, 3), (0.5, 2), (0.7, 2), (1, 2)]
)
def test_a_pattern_falls_with_the_sparsity_from_m_to_n(sparsity: float, n: int) -> None:
    views = {"w": View(1, 3, 4)}
    some = Allocation(pattern="2:4").constraint(sparsity, views)
    assert some == Cardinality(keep_count(sparsity, 12)) & AtMostNofM(n, 4)
    exact = Allocation(pattern="2:4", exactly=True).constraint(sparsity, views)
    assert exact == NofM(n, 4)
    assert keep_of(exact.tree(views)) == 3 * n
    per_row = Allocation("row", pattern="2:4", skip_indivisible=True).constraint(sparsity, views)
    assert per_row == Rows(sparsity) & AtMostNofM(n, 4, skip_indivisible=True)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scope": "layer"}, "the scope is 'layer': choose one of global, tensor, row"),
        ({"scope": "tensor", "layer_minimum": 0.1}, "since the scope is tensor: leave one of"),
        ({"scope": "tensor", "layer_maximum": 0.9}, "since the scope is tensor: leave one of"),
        ({"layer_minimum": -0.1}, "the minimum kept of each tensor is -0.1: it is a ratio"),
        ({"layer_maximum": 1.5}, "the maximum kept of each tensor is 1.5: it is a ratio"),
        ({"layer_minimum": float("nan")}, "the minimum kept of each tensor is nan"),
        ({"exactly": True}, "exactly and skip_indivisible belong to a pattern: give one"),
        ({"skip_indivisible": True}, "exactly and skip_indivisible belong to a pattern"),
        ({"pattern": "4:2"}, "the pattern is '4:2': give N:M with 1 ≤ N ≤ M"),
        ({"pattern": "2:4", "exactly": True, "scope": "row"}, "each 2:4 group has its number"),
        ({"pattern": "2:4", "exactly": True, "layer_minimum": 0.1}, "each 2:4 group has its"),
    ],
)
def test_values_that_contradict_each_other(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(CardinalityError, match=message):
        Allocation(**settings)


def test_a_minimum_above_the_final_ratio_is_an_error_before_the_first_step() -> None:
    model = perceptron()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(CardinalityError):
        Pruner(
            model, optimizer, "pins", OneShotSchedule(0.8), allocation=Allocation(layer_minimum=0.3)
        )
