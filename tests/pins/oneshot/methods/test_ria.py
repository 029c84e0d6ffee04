"""RIA's scores by its formula, one by one."""

from math import isclose, sqrt

from hypothesis import given

from pins.oneshot.layer import Layer
from pins.oneshot.methods.ria import Ria
from tests.pins.oneshot.layers import integer_layers


@given(layer=integer_layers())
def test_scores_are_those_of_the_formula(layer: Layer) -> None:
    scores = Ria().scores(layer).tolist()
    weights = layer.weight.abs().tolist()
    norms = layer.gram.diagonal().sqrt().tolist()
    for i, row in enumerate(weights):
        for j, w in enumerate(row):
            column = sum(each[j] for each in weights)
            share = (w / column if column else 0.0) + (w / sum(row) if sum(row) else 0.0)
            assert isclose(scores[i][j], share * sqrt(norms[j]), rel_tol=1e-6)
