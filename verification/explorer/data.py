"""The data of the page: θ, g and h of each layer to the bit, and the positions of its sliders.

float32 becomes text without rounding: base64 of its little-endian bytes. The page itself computes
scores, masks and proofs.
"""

import base64
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

import pins
from pins.errors import ImportanceError
from pins.importance.trust_region.criterion import OF_FEW_ROWS, TrustRegion
from pins.importance.trust_region.program import Terms
from pins.runs.weight_sample import WeightSample
from pins.selection.constraints import exact_ratio
from pins.utils.tensors import GOLDEN
from verification.explorer.twelve import twelve

LEAST_RATE = -4  # the least η on the slider, except 0, is 10^−4
REACH = 60  # most steps of μ in each direction: with ties two orders may never be equal


def data(sample: WeightSample) -> dict[str, Any]:
    """The sample as JSON, layer by layer, without empty tensors.

    Raises:
        ImportanceError: a number is not finite, or the sample has no weight.
    """
    names = [name for name, weights in sample.weights.items() if weights.numel()]
    if not names:
        raise ImportanceError("the sample holds no weight: there is nothing to explore")
    _require_finite(sample)
    ratio = exact_ratio(sample.sparsity)
    return {
        "description": sample.description,
        "made_by": f"pins {pins.__version__}",
        "golden": GOLDEN,
        "learning_rate": sample.learning_rate,
        "learning_rates": learning_rates(sample),
        "sparsity": {"numerator": str(ratio.numerator), "denominator": str(ratio.denominator)},
        "layers": [_layer(sample, name) for name in names],
    }


def learning_rates(sample: WeightSample) -> list[float]:
    """η on the slider, ascending: 0, then 1, 2, 5 times powers of ten, and the sample's own.

    They end where the step is as long as the weights: η‖g‖ ≥ ‖θ‖.
    """
    length, slope = _norm(sample.weights), _norm(sample.gradient)
    end = math.ceil(math.log10(length / slope)) if length and slope else 0
    powers = range(LEAST_RATE, max(end, 0))
    grid = (float(f"{digit}e{power}") for power in powers for digit in (1, 2, 5))
    return sorted({0.0, *grid, 10.0 ** max(end, 0), sample.learning_rate})


def offset(curvature: Tensor) -> float:
    """δ: the mean of h over the weights of a layer, the exact sum rounded once.

    The trust region adds it to a Fisher information of a few rows.
    """
    return OF_FEW_ROWS * math.fsum(curvature.double().tolist()) / curvature.numel()


def multipliers(terms: Terms) -> tuple[int, int]:
    """The least and the greatest e of μ = 2^e on the slider.

    At the lower end c + μs ranks like c, at the upper end like s, if `REACH` steps suffice.
    """
    importance, cost = terms
    size, price = importance.abs().median().item(), cost.median().item()
    middle = round(math.log2(price / size)) if size and price else 0

    def end(alone: Tensor, direction: int) -> int:
        wanted = _order(alone)
        for step in range(REACH):
            exponent = middle + direction * step
            if torch.equal(_order(terms.scores(2.0**exponent)), wanted):
                return exponent
        return middle + direction * REACH

    return end(cost, -1), end(importance, +1)


def _layer(sample: WeightSample, name: str) -> dict[str, Any]:
    weights, gradient = sample.weights[name], sample.gradient[name]
    curvature = None if sample.curvature is None else sample.curvature[name]
    seen = sample.observations()[name]
    layer: dict[str, Any] = {
        "name": name,
        "size": sample.shapes[name].numel(),
        "count": weights.numel(),
        "weights": _encoded(weights),
        "gradient": _encoded(gradient),
        "curvature": None if curvature is None else _encoded(curvature),
        "twelve": twelve(-seen.gradient * seen.after),
    }
    if curvature is not None:
        damped = TrustRegion(offset=offset(curvature))
        layer |= {"offset": damped.offset, "multipliers": multipliers(damped.terms(seen))}
    return layer


def _require_finite(sample: WeightSample) -> None:
    parts = {"θ": sample.weights, "g": sample.gradient, "h": sample.curvature or {}}
    for what, tensors in parts.items():
        for name, values in tensors.items():
            if not values.isfinite().all():
                said = f"{what} of {name!r} is not finite everywhere"
                raise ImportanceError(f"{said}: take another sample")


def _encoded(values: Tensor) -> str:
    return base64.b64encode(values.numpy().astype("<f4").tobytes()).decode("ascii")


def _norm(tensors: Mapping[str, Tensor]) -> float:
    return math.sqrt(math.fsum(float(t.double().square().sum()) for t in tensors.values()))


def _order(scores: Tensor) -> Tensor:
    return scores.argsort(descending=True, stable=True)
