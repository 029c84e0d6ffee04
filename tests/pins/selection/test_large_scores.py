"""Scores near the largest float64, under bounds and in blocks."""

import torch

import pins
from pins.selection.blocks import Blocks
from pins.selection.constraints import AtMostNofM, Cardinality


def test_scores_that_float32_does_not_hold_are_ranked_under_bounds() -> None:
    scores = torch.tensor([1e300, 4e300, 3e300, 2e300], dtype=torch.float64)
    masks = pins.select({"w": scores[None]}, AtMostNofM(1, 2) & Cardinality(1))
    assert masks["w"].tolist() == [[False, True, False, False]]


def test_blocks_are_ranked_where_a_sum_is_beyond_float64() -> None:
    scores = torch.tensor([[1.0, 1.7e308, 1.7e308, 1.7e308, 1.7e308, 1.6e308]], dtype=torch.float64)
    masks = pins.select({"w": scores}, Blocks((1, 2), Cardinality(1)))
    assert masks["w"].tolist() == [[False, False, True, True, False, False]]
