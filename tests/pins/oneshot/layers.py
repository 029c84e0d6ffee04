"""Layers to prune: of small integers, whose sums are exact, and of correlated inputs."""

import torch
from hypothesis import strategies as st
from torch import Tensor

from pins.oneshot.layer import Layer


def layer_of(weight: Tensor, inputs: Tensor) -> Layer:
    wide = inputs.double()
    return Layer("w", weight.float(), wide.T @ wide, len(inputs))


@st.composite
def integer_layers(draw: st.DrawFn, rows: int = 3, columns: int = 8, by: int = 1) -> Layer:
    """Ties, zero weights and inputs that are always 0 are frequent."""

    def matrix(height: int, width: int) -> Tensor:
        numbers = st.integers(-3, 3)
        values = draw(st.lists(numbers, min_size=height * width, max_size=height * width))
        return torch.tensor(values, dtype=torch.float32).view(height, width)

    height, width = draw(st.integers(1, rows)), by * draw(st.integers(1, columns // by))
    inputs = matrix(draw(st.integers(0, 4)), width)
    dead = draw(st.lists(st.booleans(), min_size=width, max_size=width))
    return layer_of(matrix(height, width), inputs.masked_fill(torch.tensor(dead), 0.0))


def correlated(seed: int, outputs: int = 24, inputs: int = 64, vectors: int = 256) -> Layer:
    """Each input has a correlation of 0.9 with the next one."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(vectors, inputs, generator=generator)
    read = noise.clone()
    for j in range(1, inputs):
        read[:, j] = 0.9 * read[:, j - 1] + 0.19**0.5 * noise[:, j]
    return layer_of(torch.randn(outputs, inputs, generator=generator), read)
