"""The Taylor test: derivatives of a loss are right if the remainders fall fast enough.

On the line θ+εd let φ(ε) = L(θ+εd), so that φ′(0) = g·d and φ″(0) = d·Hd. The remainder of order k,

    Rₖ(ε) = |φ(ε) − Σ φ⁽ʲ⁾(0) εʲ/j!|,  j = 0 … k,

is O(εᵏ⁺¹) when all k derivatives are right, and only O(εʲ) when the j-th is the first wrong one: on
a log-log plot a line of slope k+1, or of slope j.

Sources: Farrell, Ham, Funke & Rognes 2013, "Automated derivation of the adjoint of high-level
transient finite element programs" (SIAM J. Sci. Comput. 35), for the test of first and second
order; Griewank & Walther 2008, "Evaluating Derivatives" (SIAM), for Hd as the derivative of g·d.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

import torch
from torch import Tensor

from pins.errors import ObservationError
from pins.masks import require_same_tensors

Loss = Callable[[Mapping[str, Tensor]], Tensor]  # the weights by name → L, a scalar with its graph

# powers of two: εd is exact, so θ+εd has one rounding error only
EPSILONS = tuple(2.0**-power for power in range(4, 20))
ASYMPTOTIC = 4  # remainders that define a slope: enough for a median, all near ε = 0
LEAST = 3
# If successive slopes differ by more, they have not converged, for example if a term of slope k+2
# cancels one of slope k+1. If they differ by less, such a pair of terms is within 0.1 of k+1.
AGREEMENT = 0.15
# Bound of the rounding error of a remainder, relative to φ. A forward pass in float64 errs by a few
# units in the last place; with 2⁷ of them each larger remainder has two digits. A heuristic.
ROUNDING = 2.0**7 * torch.finfo(torch.float64).eps


@dataclass(frozen=True)
class TaylorTest:
    """Remainders of the expansion of φ at 0, and how fast they fall.

    Attributes:
        epsilons: ε, a falling geometric sequence.
        remainders: for each order k = 0 …, the remainder Rₖ(ε) of each ε.
        rounding: a remainder at or below this is rounding error.
        slopes: for each order, d log Rₖ / d log ε near 0: the median of the successive slopes of
            the four smallest ε whose remainders are above rounding. None if fewer than three are
            above rounding (Rₖ vanishes) or the successive slopes disagree (not asymptotic).
    """

    epsilons: tuple[float, ...]
    remainders: tuple[tuple[float, ...], ...]
    rounding: float
    slopes: tuple[float | None, ...]


@dataclass(frozen=True)
class Line:
    """φ(ε) = L(θ+εd), sampled.

    Attributes:
        start: φ(0) = L(θ).
        values: φ(ε) of each ε of `EPSILONS`.
    """

    start: float
    values: tuple[float, ...]

    def test(self, derivatives: Sequence[float]) -> TaylorTest:
        """The Taylor test of the given derivatives φ′(0), φ″(0), …: orders 0, 1, 2, ….

        The remainder of order 0 is |φ(ε) − φ(0)|; it must have slope 1, else the other orders mean
        nothing.
        """
        terms = (self.start, *derivatives)
        rounding = ROUNDING * max(map(abs, (self.start, *self.values)))
        points = list(zip(EPSILONS, self.values, strict=True))
        remainders = tuple(
            tuple(_remainder(terms[: order + 1], *point) for point in points)
            for order in range(len(terms))
        )
        slopes = tuple(_slope(row, rounding) for row in remainders)
        return TaylorTest(EPSILONS, remainders, rounding, slopes)


def sample(loss: Loss, at: Mapping[str, Tensor], direction: Mapping[str, Tensor]) -> Line:
    """φ(ε) = L(θ+εd) at 0 and at each of `EPSILONS`: one evaluation each, without a graph.

    Args:
        loss: L; the same weights must give the same loss, so no dropout.
        at: θ by tensor name, float64.
        direction: d, of the same names and shapes.

    Raises:
        ObservationError: names or shapes differ, weights or losses are not in float64, or a loss
            is not finite.
    """
    _require_comparable(at, direction)
    with torch.no_grad():
        start, *values = (_value(loss(_moved(at, direction, e)), e) for e in (0.0, *EPSILONS))
    return Line(start, tuple(values))


def hessian_product(
    loss: Loss, at: Mapping[str, Tensor], direction: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Hd = ∇(g·d), H = ∇²L at θ, by tensor name: exact, without finite differences.

    Uses reverse mode twice: forward mode over forward mode, which needs scalars alone, has a wrong
    second derivative of `layer_norm` in torch 2.13.

    Raises:
        ObservationError: names or shapes differ, weights or loss are not in float64, or the loss
            is not finite.
    """
    _require_comparable(at, direction)
    weights = {name: w.detach().clone().requires_grad_() for name, w in at.items()}
    with torch.enable_grad():
        value = loss(weights)
        _value(value, 0.0)
        inputs = list(weights.values())
        gradient = torch.autograd.grad(value, inputs, create_graph=True, materialize_grads=True)
        slope = dot(dict(zip(at, gradient, strict=True)), direction)
        if not slope.requires_grad:  # L is linear: its gradient does not depend on the weights
            return {name: torch.zeros_like(w) for name, w in at.items()}
        product = torch.autograd.grad(slope, inputs, materialize_grads=True)
    return dict(zip(at, product, strict=True))


def dot(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> Tensor:
    """Σ aᵢbᵢ over all tensors, a scalar."""
    return torch.stack([(tensor * second[name]).sum() for name, tensor in first.items()]).sum()


def gaussian(at: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
    """A random direction d ~ N(0, I), scaled to ‖d‖ = ‖θ‖."""
    drawn = {
        name: torch.randn(w.shape, generator=generator, dtype=w.dtype) for name, w in at.items()
    }
    scale = (dot(at, at) / dot(drawn, drawn)).sqrt()
    return {name: scale * d for name, d in drawn.items()}


def displacement(
    before: Mapping[str, Tensor], after: Mapping[str, Tensor], masks: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """δ = m⊙(θ+u) − θ, the direction of a pruning decision, which ends at ε = 1.

    Args:
        before: θ.
        after: θ+u, the weights after the step; equal to `before` without a step.
        masks: bool masks, True = keep.

    Raises:
        MaskError: names or shapes differ.
    """
    require_same_tensors(before, masks)
    return {name: torch.where(masks[name], after[name], 0.0) - w for name, w in before.items()}


def _moved(
    at: Mapping[str, Tensor], direction: Mapping[str, Tensor], epsilon: float
) -> dict[str, Tensor]:
    """θ+εd, in one pass over the weights."""
    return {name: torch.add(w, direction[name], alpha=epsilon) for name, w in at.items()}


def _remainder(terms: Sequence[float], epsilon: float, value: float) -> float:
    """|φ(ε) − Σ φ⁽ʲ⁾(0) εʲ/j!|."""
    powers = (term * epsilon**j / math.factorial(j) for j, term in enumerate(terms))
    return abs(math.fsum((value, *(-power for power in powers))))


def _slope(remainders: Sequence[float], rounding: float) -> float | None:
    points = [(e, r) for e, r in zip(EPSILONS, remainders, strict=True) if r > rounding]
    if len(points) < LEAST:
        return None
    slopes = [
        math.log(r / r_next) / math.log(e / e_next)
        for (e, r), (e_next, r_next) in pairwise(points[-ASYMPTOTIC:])
    ]
    return median(slopes) if max(slopes) - min(slopes) <= AGREEMENT else None


def _value(loss: Tensor, epsilon: float) -> float:
    if loss.dtype is not torch.float64:
        raise ObservationError(
            f"the loss has dtype {loss.dtype}, too coarse for remainders: convert the model with "
            "double()"
        )
    value = loss.item()
    if not math.isfinite(value):
        raise ObservationError(f"the loss at ε = {epsilon} is {value}: give smaller ε")
    return value


def _require_comparable(at: Mapping[str, Tensor], direction: Mapping[str, Tensor]) -> None:
    if set(at) != set(direction):
        (name, *_) = sorted(set(at) ^ set(direction))
        raise ObservationError(f"{name!r} is in only one of weights and direction: give it in both")
    for name, weight in at.items():
        if direction[name].shape != weight.shape:
            raise ObservationError(
                f"the direction of {name!r} has shape {tuple(direction[name].shape)}, "
                f"the weights have {tuple(weight.shape)}: they must be equal"
            )
        for what, tensor in (("weights", weight), ("direction", direction[name])):
            if tensor.dtype is not torch.float64:
                raise ObservationError(
                    f"the {what} of {name!r}: dtype is {tensor.dtype}, give float64"
                )
