"""Each criterion's mask and boundary over weight and gradient: the data of `criteria.plane`."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from pins.importance.criterion import Criterion, Observation, Reads
from pins.runs.weight_sample import WeightSample, flat_indices
from pins.selection.select import decide
from verification.laws import flat
from verification.plots.criteria import Plane

DRAWN = 1500  # weights
GRID = 161  # values of θ and of g each at which s − λ is computed
QUARTILES = (0.25, 0.5, 0.75)
INNER = 0.995  # share of the weights that lie inside the picture


def plane_of(sample: WeightSample, criteria: Mapping[str, Criterion], keep: int) -> dict[str, Any]:
    """The arguments of `criteria.plane`: weights, gradients, masks and boundaries."""
    weights, gradient = (flat(part).double() for part in (sample.weights, sample.gradient))
    curvature = None if sample.curvature is None else flat(sample.curvature).double()
    shown = flat_indices(weights.numel(), min(DRAWN, weights.numel()))
    width, height = (float(part.abs().quantile(INNER)) for part in (weights, gradient))
    shown = shown[(weights[shown].abs() <= width) & (gradient[shown].abs() <= height)]
    linear = float(gradient.abs().quantile(0.25)) or height or 1.0
    across = torch.linspace(-width, width, GRID, dtype=torch.float64)
    up = _signed_logarithms(height, linear)
    grid = torch.meshgrid(across, up, indexing="xy")
    planes = {}
    for name, criterion in criteria.items():
        decision = decide(sample.importance(criterion), keep)
        kept = flat(decision.masks)[shown].numpy()
        reads = Reads.CURVATURE in criterion.reads
        levels = [0.0]
        if reads and curvature is not None:
            levels = [float(curvature.quantile(share)) for share in QUARTILES]
        boundaries = [
            _scores(criterion, grid, level, sample.learning_rate) - decision.proof.dual_multiplier
            for level in levels
        ]
        note = "(at the quartiles of h)" if reads else ""
        planes[name] = Plane(kept, boundaries, note)
    return {
        "weights": weights[shown].numpy(),
        "gradient": gradient[shown].numpy(),
        "grid": (across.numpy(), up.numpy()),
        "planes": planes,
        "linear": linear,
    }


def _scores(
    criterion: Criterion, grid: tuple[torch.Tensor, ...], curvature: float, rate: float
) -> np.ndarray:
    weights, gradient = grid
    seen = Observation(
        after=weights - rate * gradient,
        gradient=gradient,
        before=weights,
        curvature=torch.full_like(weights, curvature),
    )
    return np.asarray(criterion.importance(seen).numpy())


def _signed_logarithms(height: float, linear: float) -> torch.Tensor:
    """Values evenly spaced in the picture: linear up to `linear`, logarithmic above."""
    beyond = torch.logspace(
        np.log10(linear), np.log10(max(height, 1.01 * linear)), GRID, dtype=torch.float64
    )
    near = torch.linspace(-linear, linear, GRID, dtype=torch.float64)[1:-1]
    return torch.cat([-beyond.flip(0), near, beyond])
