"""Wanda prunes to the optimum of the error with the diagonal of G, found by enumeration."""

from fractions import Fraction
from itertools import combinations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pins.oneshot.layer import Layer
from pins.oneshot.methods.magnitude import Magnitude
from pins.oneshot.methods.wanda import Wanda
from pins.selection.allocation import Allocation
from tests.pins.oneshot.layers import integer_layers, layer_of

ROW, HALF = Allocation(scope="row"), Fraction(1, 2)


def losses(layer: Layer) -> list[list[Fraction]]:
    """w²G_jj of each weight, exactly."""
    weights = layer.weight.tolist()
    diagonal = [Fraction(value) for value in layer.gram.diagonal().tolist()]
    return [[Fraction(w) ** 2 * g for w, g in zip(row, diagonal, strict=True)] for row in weights]


def least(values: list[Fraction], pruned: int) -> Fraction:
    return min(sum(each, Fraction(0)) for each in combinations(values, pruned))


def lost(values: list[Fraction], mask: Tensor) -> Fraction:
    kept = mask.flatten().tolist()
    return sum((v for v, keep in zip(values, kept, strict=True) if not keep), Fraction(0))


@given(layer=integer_layers(columns=7), sparsity=st.fractions(0, 1, max_denominator=7))
def test_each_row_is_the_optimum(layer: Layer, sparsity: Fraction) -> None:
    mask = Wanda().prune(layer, ROW, sparsity).mask
    for values, row in zip(losses(layer), mask, strict=True):
        assert lost(values, row) == least(values, len(values) - int(row.sum()))


@given(layer=integer_layers(columns=4), sparsity=st.fractions(0, 1, max_denominator=7))
def test_a_matrix_is_the_optimum(layer: Layer, sparsity: Fraction) -> None:
    mask = Wanda().prune(layer, Allocation(scope="tensor"), sparsity).mask
    values = [value for row in losses(layer) for value in row]
    assert lost(values, mask) == least(values, int((~mask).sum()))


@given(layer=integer_layers(by=4))
def test_each_group_is_the_optimum(layer: Layer) -> None:
    mask = Wanda().prune(layer, Allocation(pattern="2:4", exactly=True), HALF).mask
    for values, row in zip(losses(layer), mask, strict=True):
        for at in range(0, len(values), 4):
            group = values[at : at + 4]
            assert lost(group, row[at : at + 4]) == least(group, 2)


def test_magnitude_is_no_optimum_where_inputs_differ() -> None:
    layer = layer_of(torch.tensor([[1.0, 2.0]]), torch.tensor([[4.0, 1.0]]))
    (values,) = losses(layer)
    assert lost(values, Wanda().prune(layer, ROW, HALF).mask) == least(values, 1)
    assert lost(values, Magnitude().prune(layer, ROW, HALF).mask) > least(values, 1)


@pytest.mark.parametrize("pruned", [3, 4])
def test_ties_go_to_the_lower_index_and_dead_inputs_first(pruned: int) -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randint(-3, 4, (5, 7), generator=generator).float()
    inputs = torch.randint(0, 2, (64, 1), generator=generator).repeat(1, 7)
    inputs[:, [2, 5]] = 0
    layer = layer_of(weight, inputs)
    mask = Wanda().prune(layer, ROW, Fraction(pruned, 7)).mask
    for values, row in zip(losses(layer), mask, strict=True):
        order = sorted(range(7), key=lambda j: (-values[j], j))
        assert row.nonzero().flatten().tolist() == sorted(order[: 7 - pruned])
        live = sum(value > 0 for value in values)
        assert int(row[[2, 5]].sum()) <= max(7 - pruned - live, 0)
