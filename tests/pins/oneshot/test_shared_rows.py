"""Rows shared by ranks come together in their order, with the same bits for any number of ranks."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pins.distributed.process_group import Group
from pins.errors import CalibrationError
from pins.oneshot.layer import Layer, damped
from pins.oneshot.refit import refit
from pins.oneshot.shared_rows import CHUNK, by_rows
from tests.pins.oneshot.layers import correlated
from verification.testing.threaded_group import together


@given(size=st.integers(1, 5), number=st.integers(1, 5 * CHUNK), width=st.integers(0, 3))
def test_each_row_is_solved_once_by_one_rank(size: int, number: int, width: int) -> None:
    table = torch.arange(number * width, dtype=torch.float64).view(number, width)
    solved: list[int] = []

    def work(group: Group) -> Tensor:
        def solve(rows: slice) -> Tensor:
            solved.extend(range(number)[rows])
            return table[rows]

        return by_rows(solve, number, group)

    for found in together(size, work):
        assert torch.equal(found, table)
    # a rank without rows solves the first ones, which tell it the shape
    spare = max(size - -(-number // CHUNK), 0) * min(number, CHUNK)
    assert len(solved) == number + spare
    assert set(solved) == set(range(number))


def test_an_error_of_one_rank_is_raised_by_all() -> None:
    def work(group: Group) -> str:
        def solve(rows: slice) -> Tensor:
            if rows.start:
                raise CalibrationError("row 64 has no solution")
            return torch.zeros(CHUNK)

        with pytest.raises(CalibrationError, match="row 64 has no solution"):
            by_rows(solve, 2 * CHUNK, group)
        return "raised"

    assert together(3, work) == ["raised"] * 3


def test_a_refit_has_the_same_bits_for_any_number_of_ranks() -> None:
    layer = correlated(0, outputs=3 * CHUNK + 5)
    mask = torch.rand(layer.weight.shape, generator=torch.Generator().manual_seed(0)) < 0.5
    alone = refit(layer, mask)

    def work(group: Group) -> Tensor:
        return refit(Layer("w", layer.weight, layer.gram, layer.vectors, group), mask)

    for size in (2, 3, 7):
        assert all(torch.equal(found, alone) for found in together(size, work))
    moved = Layer("w", layer.weight, damped(layer.gram, 1e-3), layer.vectors)
    assert not torch.equal(refit(moved, mask), alone)
