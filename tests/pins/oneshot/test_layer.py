"""The reconstruction error from G is that from the inputs."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from pins.oneshot.layer import Layer, damped
from tests.pins.oneshot.layers import layer_of


@given(seed=st.integers(0, 10**6))
def test_the_error_is_that_of_the_outputs(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    weight, pruned = (torch.randint(-9, 9, (3, 5), generator=generator) for _ in range(2))
    inputs = torch.randint(-9, 9, (7, 5), generator=generator)
    layer = layer_of(weight, inputs)
    wrong = inputs @ weight.T - inputs @ pruned.T
    assert layer.error(pruned.float()) == wrong.square().sum()
    assert layer.error(layer.weight) == 0
    if (inputs @ weight.T).any():
        assert layer.relative_error(torch.zeros(3, 5)) == 1


def test_a_layer_that_reads_nothing_has_no_error() -> None:
    layer = Layer("w", torch.ones(2, 3), torch.zeros(3, 3, dtype=torch.float64), 0)
    assert layer.relative_error(torch.zeros(2, 3)) == 0
    assert torch.equal(damped(layer.gram, 0.01), torch.eye(3, dtype=torch.float64))
