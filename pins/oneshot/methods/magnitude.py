"""Magnitude: s = |w|."""

from torch import Tensor

from pins.oneshot.layer import Layer
from pins.oneshot.methods.method import ScoreMethod


class Magnitude(ScoreMethod):
    """s = |W|: the optimum of (R) for G = I, whatever the layer reads. O(n)."""

    name = "magnitude"

    def scores(self, layer: Layer) -> Tensor:
        """|W|, exact."""
        return layer.weight.abs()
