"""Samples to explore: made here, with what a page may stumble over."""

from dataclasses import replace

import torch
from torch import Tensor

from pins.runs import weight_sample
from pins.runs.weight_sample import WeightSample

ODD = "</script><script>window.broken = 1</script><!-- λ \"'&"


def sample_of(sizes: dict[str, tuple[int, ...]], *, seed: int = 0) -> WeightSample:
    """Random θ, g, h in the scales of a fine-tuned model."""
    generator = torch.Generator().manual_seed(seed)

    def draw(scale: float) -> dict[str, Tensor]:
        return {n: scale * torch.randn(size, generator=generator) for n, size in sizes.items()}

    return weight_sample.take(
        draw(0.05),
        draw(2e-5),
        {name: values.square() for name, values in draw(3e-5).items()},
        learning_rate=0.03,
        sparsity=0.8123,
        description="random weights",
    )


def small_sample() -> WeightSample:
    """Three layers: of a few hundred weights, of 40 with ties, zeros and subnormals, and of one."""
    sample = sample_of({"dense": (48, 5), "tied": (40,), "one": (1,)})
    weights, gradient = dict(sample.weights), dict(sample.gradient)
    weights["tied"] = weights["tied"].sign() * 0.25
    weights["tied"][:6] = torch.tensor([0.0, -0.0, 1e-40, -1e-40, 0.0, 3.0])
    gradient["tied"] = gradient["tied"].sign() * 2.0**-14
    gradient["tied"][3:9] = 0.0
    return replace(sample, weights=weights, gradient=gradient)
