"""Importance criteria: each the optimum of a separable program, ranked by its closed form.

A criterion turns what is known of one tensor into scores s; larger = keep. The mask of the k
largest is then the exact optimum of *its* program (`Criterion.program`), not of the loss itself.
To add one: a class with its program, what it reads, and the formula, and a row in CRITERIA.

Signs, for one weight: when gθ > 0, removing it *lowers* the loss to first order.

    gθ > 0   pins, movement: s < 0, pruned first     abs-pins, sensitivity: s > 0
    gθ < 0   pins, movement: s > 0, kept first       abs-pins, sensitivity: s > 0
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from enum import Enum
from typing import ClassVar

from torch import Tensor

from pins.errors import CriterionError, ObservationError
from pins.precision import widened


class Reads(Enum):
    """What a criterion may read beside the weights after the step."""

    GRADIENT = "the gradient"
    BEFORE = "the weights before the step"
    CURVATURE = "a diagonal curvature"


class Observation:
    """What is known of one tensor at a pruning decision; all of one shape.

    16-bit floats are read as float32, in which a product of two of them has room for every bit.
    """

    def __init__(
        self,
        after: Tensor,
        gradient: Tensor | None = None,
        before: Tensor | None = None,
        curvature: Tensor | None = None,
    ) -> None:
        """Collect what is known.

        Args:
            after: θ+u, the weights that the mask will be applied to.
            gradient: g at θ.
            before: θ; None when no step was taken, so that θ = θ+u.
            curvature: h ≥ 0, a diagonal approximation of the Hessian.
        """
        self.after = widened(after.detach())
        self._known = {
            Reads.GRADIENT: gradient,
            Reads.BEFORE: after if before is None else before,
            Reads.CURVATURE: curvature,
        }

    @property
    def gradient(self) -> Tensor:
        """The gradient g at θ."""
        return self._get(Reads.GRADIENT)

    @property
    def before(self) -> Tensor:
        """The weights θ before the step."""
        return self._get(Reads.BEFORE)

    @property
    def curvature(self) -> Tensor:
        """The diagonal curvature h at θ."""
        return self._get(Reads.CURVATURE)

    def _get(self, what: Reads) -> Tensor:
        value = self._known[what]
        if value is None:
            raise ObservationError(f"the criterion reads {what.value}, and there is none")
        return widened(value.detach())


class Criterion(ABC):
    """s = importance of each weight of a tensor, larger = keep."""

    name: ClassVar[str]
    program: ClassVar[str]  # what the mask of the k largest scores is the exact optimum of
    reads: ClassVar[frozenset[Reads]] = frozenset()

    @abstractmethod
    def importance(self, observation: Observation) -> Tensor:
        """Scores in the shape of the weights: float32 for 16-bit weights, else their own dtype.

        Raises:
            ObservationError: something this criterion reads is missing.
        """


class Pins(Criterion):
    """sᵢ = −gᵢ(θᵢ+uᵢ); under SGD, u = −ηg, this is −gᵢθᵢ + ηgᵢ² (Ren & Zhu 2023)."""

    name = "pins"
    program = "the first-order loss change of step and mask"
    reads = frozenset({Reads.GRADIENT})

    def importance(self, observation: Observation) -> Tensor:
        """−g ⊙ (θ+u)."""
        return -observation.gradient * observation.after


class AbsPins(Criterion):
    """sᵢ = |gᵢ(θᵢ+uᵢ)|, the authors' released rule; NOT the optimum of their program."""

    name = "abs-pins"
    program = "the worst case over signs of the first-order loss change of step and mask"
    reads = frozenset({Reads.GRADIENT})

    def importance(self, observation: Observation) -> Tensor:
        """|g ⊙ (θ+u)|."""
        return (observation.gradient * observation.after).abs()


class Magnitude(Criterion):
    """sᵢ = |θᵢ+uᵢ|, which ranks as (θᵢ+uᵢ)² does, without the rounding of the square."""

    name = "magnitude"
    program = "the quadratic loss change of the mask after the step, with g = 0 and Hessian c·I"

    def importance(self, observation: Observation) -> Tensor:
        """|θ+u|."""
        return observation.after.abs()


class Sensitivity(Criterion):
    """sᵢ = |gᵢθᵢ|."""

    name = "sensitivity"
    program = "the worst case over signs of the first-order loss change of the mask alone"
    reads = frozenset({Reads.GRADIENT, Reads.BEFORE})

    def importance(self, observation: Observation) -> Tensor:
        """|g ⊙ θ|."""
        return (observation.gradient * observation.before).abs()


class Movement(Criterion):
    """sᵢ = −gᵢθᵢ, instant movement pruning: PINS that leaves the step out, u = 0."""

    name = "movement"
    program = "the first-order loss change of the mask alone"
    reads = frozenset({Reads.GRADIENT, Reads.BEFORE})

    def importance(self, observation: Observation) -> Tensor:
        """−g ⊙ θ."""
        return -observation.gradient * observation.before


class OptimalBrainDamage(Criterion):
    """sᵢ = ½ hᵢ (θᵢ+uᵢ)² (LeCun, Denker & Solla 1989)."""

    name = "obd"
    program = "the quadratic loss change of the mask after the step, g = 0, Hessian diagonal h"
    reads = frozenset({Reads.CURVATURE})

    def importance(self, observation: Observation) -> Tensor:
        """½ h ⊙ (θ+u)²."""
        return 0.5 * observation.curvature * observation.after.square()


CRITERIA: Mapping[str, Criterion] = {
    criterion.name: criterion
    for criterion in (
        Pins(),
        AbsPins(),
        Magnitude(),
        Sensitivity(),
        Movement(),
        OptimalBrainDamage(),
    )
}


def find_criterion(name: str) -> Criterion:
    """The criterion of that name.

    Raises:
        CriterionError: there is none; says which there are.
    """
    try:
        return CRITERIA[name]
    except KeyError:
        raise CriterionError(
            f"there is no criterion {name!r}: choose one of {', '.join(CRITERIA)}"
        ) from None
