"""Families of synthetic scores, each difficult for a selection or a solver."""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

Family = Callable[[np.random.Generator, int], Tensor]


def gaussian(rng: np.random.Generator, size: int) -> Tensor:
    """Independent standard normal scores."""
    return torch.from_numpy(rng.standard_normal(size)).float()


def heavy_tails(rng: np.random.Generator, size: int) -> Tensor:
    """Cauchy scores: a few exceed the sum of the others."""
    return torch.from_numpy(rng.standard_cauchy(size)).float()


def magnitudes(rng: np.random.Generator, size: int) -> Tensor:
    """Scores of both signs over 20 orders of magnitude."""
    values = rng.choice([-1.0, 1.0], size) * 10.0 ** rng.uniform(-20, 0, size)
    return torch.from_numpy(values).float()


def ties(rng: np.random.Generator, size: int) -> Tensor:
    """Seven distinct values, so that scores tie at the threshold."""
    return torch.from_numpy(rng.integers(-3, 4, size) / 4).float()


def near_ties(rng: np.random.Generator, size: int) -> Tensor:
    """Neighbouring floats: 1 + j·2⁻²³."""
    return torch.from_numpy(1 + rng.integers(0, 64, size) * 2.0**-23).float()


def real_scale(rng: np.random.Generator, size: int) -> Tensor:
    """Student's t with 3 degrees of freedom near 1e-9, the size of real scores |gθ|."""
    return torch.from_numpy(rng.standard_t(3, size) * 1e-9).float()


FAMILIES: Mapping[str, Family] = {
    family.__name__.replace("_", "-"): family
    for family in (gaussian, heavy_tails, magnitudes, ties, near_ties)
}
