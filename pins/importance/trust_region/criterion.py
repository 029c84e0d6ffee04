"""The criterion of trust-region PINS: as much of PINS as a decision may promise, else OBD.

The linear model promises a drop of D = −s·(1−m). How much of it can be true? The loss L is not
negative, so D ≤ L. And let δ be what is removed and g_b the gradient of row b, so that
D = −mean_b g_b·δ: the Fisher information adds ½·mean_b (g_b·δ)² ≥ ½D² (Jensen), by which a loss in
nats keeps no promise beyond D = 1, and half of that one; the more the rows differ, the less. So the
radius is a share of L, and a promise has to be measured (`pins.pruning.acceptance`).

In training the optimiser would have found the same drop in its next steps, and the weights removed
for it are lost to them. A decision with R steps to come may promise a share 1/(1+R) of the radius.
That is a heuristic; what it is worth is measured (`benchmarks/`).
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Tensor

from pins.distributed.process_group import SINGLE_PROCESS, Group
from pins.errors import CriterionError, ObservationError
from pins.importance.criterion import Criterion, Observation, Reads
from pins.importance.trust_region.multiplier import promise
from pins.importance.trust_region.program import RegionProgram, Terms
from pins.selection.constraints import Constraint
from pins.utils.tensors import total

# δ as a share of the mean of h. An estimate of h from few gradients is 0 for weights that these
# happened not to need; the mean of all corrects it, the more, the fewer there are (Levenberg,
# Marquardt). Adam averages hundreds of steps; some rows' own gradients are few.
AVERAGED, OF_FEW_ROWS = 0.1, 1.0


@dataclass(frozen=True)
class TrustRegion(Criterion):
    """rᵢ = cᵢ − μĝᵢ(θᵢ+uᵢ) with cᵢ = ½(hᵢ+δ)(θᵢ+uᵢ)²; the program is (R) of `program`.

    Before it is `fitted` to a decision μ is 0, and it ranks as damped optimal brain damage.

    Attributes:
        radius: the drop that a decision may promise beyond that of μ = 0, as a share of the loss.
        damping: δ as a share of the mean of h: AVERAGED, or OF_FEW_ROWS.
        multiplier: μ.
        offset: δ itself.
    """

    name: ClassVar[str] = "trust-region"
    program: ClassVar[str] = (
        "the first-order loss change of step and mask, its curvature cost being bounded"
    )
    reads: ClassVar[frozenset[Reads]] = frozenset({Reads.MOMENTUM, Reads.CURVATURE, Reads.LOSS})
    fits: ClassVar[bool] = True

    radius: float = 0.5
    damping: float = AVERAGED
    multiplier: float = 0.0
    offset: float = 0.0

    def __post_init__(self) -> None:
        for name in ("radius", "damping", "multiplier", "offset"):
            if not 0 <= (value := getattr(self, name)) < float("inf"):
                raise CriterionError(f"{name} of the trust region is {value}: it is at least 0")

    def terms(self, observation: Observation) -> Terms:
        """s = −ĝ ⊙ (θ+u) and c = ½(h+δ) ⊙ (θ+u)²."""
        after = observation.after
        curvature = observation.curvature.to(after.dtype)
        cost = (curvature + self.offset).mul_(0.5).mul_(after).mul_(after)
        return Terms(-observation.momentum * after, cost)

    def importance(self, observation: Observation) -> Tensor:
        """c + μs."""
        return self.terms(observation).scores(self.multiplier)

    def fitted(
        self,
        observations: Mapping[str, Observation],
        constraint: Constraint,
        allowance: float = 0.0,
    ) -> Self:
        """With δ from the mean curvature, and the largest μ that promises radius·allowance.

        Where the allowance is no number of (0, ∞), as that of a loss that is none, μ is 0.

        Raises:
            ObservationError: the curvature of a tensor does not add up to a number of [0, ∞).
        """
        offset = self.damping * _mean_curvature(observations)
        damped = replace(self, offset=offset, multiplier=0.0)
        limit = self.radius * allowance
        if not 0 < limit < float("inf"):
            return damped
        found = promise(damped.region(observations, constraint), limit)
        # a gradient that is no number has no multiplier: with any, the decision names the weight
        return replace(damped, multiplier=found if math.isfinite(found) else 1.0)

    def region(
        self, observations: Mapping[str, Observation], constraint: Constraint
    ) -> RegionProgram:
        """(R) at this decision, without its radius."""
        return RegionProgram(_LazyTerms(self, observations), constraint, group_of(observations))


class _LazyTerms(Mapping[str, Terms]):
    """The terms of a tensor, computed whenever they are asked for: none is held."""

    def __init__(self, criterion: TrustRegion, observations: Mapping[str, Observation]) -> None:
        self._criterion, self._observations = criterion, observations

    @property
    def shapes(self) -> Mapping[str, torch.Size] | None:
        """Of each tensor, where the observations know them."""
        return getattr(self._observations, "shapes", None)

    def __getitem__(self, name: str) -> Terms:
        return self._criterion.terms(self._observations[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._observations)

    def __len__(self) -> int:
        return len(self._observations)


def group_of(observations: Mapping[str, Observation]) -> Group:
    """The ranks that hold the parts of what is observed, where the observations know them."""
    group: Group = getattr(observations, "group", SINGLE_PROCESS)
    return group


def _mean_curvature(observations: Mapping[str, Observation]) -> float:
    sums, sizes = [], []
    for observation in observations.values():
        sums.append(total(observation.curvature))
        sizes.append(observation.curvature.numel())
    group = group_of(observations)
    parts = group.gathered(torch.tensor(sums, dtype=torch.float64))
    trace = 0.0
    for number, name in enumerate(observations):
        found = sum(float(part[number]) for part in parts)
        if not 0 <= found < float("inf"):
            raise ObservationError(
                f"the curvature of {name!r} adds up to {found}: that of a trust region is "
                "at least 0 and finite; look for overflow in the gradient, or give another "
                "curvature"
            )
        trace += found
    return trace / max(int(group.total(torch.tensor(sum(sizes)))), 1)
