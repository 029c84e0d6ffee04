"""Importance criteria: the closed-form scores of separable programs.

A criterion maps the observation of one tensor to scores s; larger = keep. The mask of the k largest
scores is the exact optimum of *its* program (`Criterion.program`), not of the loss itself. To add a
criterion, write a class with its program, the quantities it reads and its formula, and add it to
CRITERIA.

Signs for one weight: if gθ > 0, removing the weight *lowers* the loss to first order.

    gθ > 0   pins, movement: s < 0, pruned first     abs-pins, sensitivity: s > 0
    gθ < 0   pins, movement: s > 0, kept first       abs-pins, sensitivity: s > 0
"""

from collections.abc import Mapping

from torch import Tensor

from pins.errors import CriterionError
from pins.importance.criterion import Criterion, Observation, Reads
from pins.importance.trust_region.criterion import TrustRegion
from pins.utils.lookup import find


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
    """sᵢ = |θᵢ+uᵢ|: the same order as (θᵢ+uᵢ)², without the rounding of the square."""

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
    """sᵢ = −gᵢθᵢ, instant movement pruning: PINS with u = 0."""

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
        TrustRegion(),
    )
}


def find_criterion(name: str) -> Criterion:
    """Return the criterion with this name.

    Raises:
        CriterionError: no criterion has this name; the message lists the names.
    """
    return find(CRITERIA, name, "criterion", CriterionError)
