"""The error of a row's refit, computed by itself, and the least over all masks."""

from collections.abc import Iterator
from itertools import combinations

import torch
from torch import Tensor

from pins.oneshot.layer import Layer, damped
from pins.oneshot.refit import DAMPING
from pins.oneshot.row_bounds import RowBounds


def error_of(layer: Layer, row: int, kept: Tensor) -> float:
    """min of (x − w)(G + δI)(x − w)ᵀ over x that is 0 outside of `kept`."""
    gram, weight = damped(layer.gram, DAMPING), layer.weight[row].double()
    inside, outside = kept.nonzero()[:, 0], (~kept).nonzero()[:, 0]
    cross = gram[outside][:, inside]
    rest = gram[outside][:, outside] - cross @ torch.linalg.solve(gram[inside][:, inside], cross.T)
    return float(weight[outside] @ rest @ weight[outside])


def masks_of(bounds: RowBounds, inputs: int, keep: int) -> Iterator[Tensor]:
    """All masks of a row that keep so many weights within the bounds."""
    for chosen in combinations(range(inputs), keep):
        mask = torch.zeros(1, inputs, dtype=torch.bool)
        mask[0, list(chosen)] = True
        numbers = bounds.numbers(mask)
        if bool(((numbers >= bounds.minimum) & (numbers <= bounds.maximum)).all()):
            yield mask[0]
