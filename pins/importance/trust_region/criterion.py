"""The criterion of trust-region PINS: PINS as far as the predicted reduction may be trusted.

The linear model predicts a drop D = −s·(1−m). How much of it can be true? The loss L is not
negative, so D ≤ L. And let δ be the removed weights and g_b the gradient of row b, so that
D = −mean_b g_b·δ: the Fisher information adds ½·mean_b (g_b·δ)² ≥ ½D² (Jensen). So a loss in nats
reaches no more than D = 1, and only half of that; it reaches less if the rows differ more.
Therefore the radius is a share of L, and each predicted reduction is compared with the measured one
(`pins.pruning.acceptance`).

In training, the optimiser would find the same drop in its next steps, and the weights removed for
the drop are lost to those steps. With R steps to come, a decision may predict a share 1/(1+R) of
the radius. That is a heuristic; its effect is measured (`benchmarks/`).
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
from pins.importance.trust_region.multiplier import largest_multiplier
from pins.importance.trust_region.program import Terms, TrustRegionProgram
from pins.importance.trust_region.sample import Sample
from pins.selection.constraints import Constraint
from pins.selection.tree import Node
from pins.utils.tensors import total

# δ as a share of the mean of h. An estimate of h from few gradients is 0 for weights that those
# gradients do not use; the mean corrects it (Levenberg, Marquardt), and fewer gradients need more
# correction. Adam averages hundreds of steps; the gradients of single rows are few.
AVERAGED, OF_FEW_ROWS = 0.1, 1.0


@dataclass(frozen=True)
class TrustRegion(Criterion):
    """rᵢ = cᵢ − μĝᵢ(θᵢ+uᵢ) with cᵢ = ½(hᵢ+δ)(θᵢ+uᵢ)²; the program is (R) of `program`.

    With μ = 0 it is damped optimal brain damage.

    Attributes:
        radius: the largest predicted reduction beyond μ = 0, as a share of the loss.
        damping: δ as a share of the mean of h: AVERAGED, or OF_FEW_ROWS.
        multiplier: μ.
        offset: δ itself.
    """

    name: ClassVar[str] = "trust-region"
    program: ClassVar[str] = (
        "the first-order loss change of step and mask, its curvature cost being bounded"
    )
    reads: ClassVar[frozenset[Reads]] = frozenset({Reads.MOMENTUM, Reads.CURVATURE, Reads.LOSS})
    adaptive: ClassVar[bool] = True

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

    def damped(self, observations: Mapping[str, Observation]) -> Self:
        """The criterion with δ = damping · mean(h) and μ = 0.

        Args:
            observations: by tensor name; read one at a time and not held.

        Raises:
            ObservationError: the sum of a tensor's curvature is not in [0, ∞).
        """
        return replace(self, offset=self.damping * _mean_curvature(observations), multiplier=0.0)

    def largest_multiplier(self, sampled: Sample, tolerance: float) -> float:
        """The largest μ whose predicted reduction is at most radius · tolerance.

        0 if that limit is not finite and positive, as for a loss that is NaN.
        """
        limit = self.radius * tolerance
        if not 0 < limit < float("inf"):
            return 0.0
        found = largest_multiplier(sampled, limit)
        # a NaN gradient has no multiplier: with any other, the decision names the NaN score
        return found if math.isfinite(found) else 1.0

    def at(
        self, observations: Mapping[str, Observation], constraint: Constraint | Node
    ) -> TrustRegionProgram:
        """(R) for these observations, without its radius."""
        return TrustRegionProgram(
            _LazyTerms(self, observations), constraint, group_of(observations)
        )


class _LazyTerms(Mapping[str, Terms]):
    """The terms by tensor name, computed at each access and not held."""

    def __init__(self, criterion: TrustRegion, observations: Mapping[str, Observation]) -> None:
        self._criterion, self._observations = criterion, observations
        self.shapes: Mapping[str, torch.Size] | None = getattr(observations, "shapes", None)

    def __getitem__(self, name: str) -> Terms:
        return self._criterion.terms(self._observations[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._observations)

    def __len__(self) -> int:
        return len(self._observations)


def group_of(observations: Mapping[str, Observation]) -> Group:
    """The ranks that hold the parts of the observed tensors; one process if there are none."""
    group: Group = getattr(observations, "group", SINGLE_PROCESS)
    return group


def _mean_curvature(observations: Mapping[str, Observation]) -> float:
    own, size = [], 0
    for observation in observations.values():
        own.append(total(observation.curvature))
        size += observation.curvature.numel()
    group = group_of(observations)
    parts = [part.tolist() for part in group.gathered(torch.tensor(own, dtype=torch.float64))]
    trace = 0.0
    for name, *sums in zip(observations, *parts, strict=True):
        found = sum(sums)
        if not 0 <= found < float("inf"):
            raise ObservationError(
                f"the curvature of {name!r} adds up to {found}: a trust region needs a sum that is "
                "at least 0 and finite; look for overflow in the gradient, or give another "
                "curvature"
            )
        trace += found
    return trace / max(int(group.total(torch.tensor(size))), 1)
