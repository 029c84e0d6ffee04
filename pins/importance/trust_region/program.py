"""Trust region: the first-order gain, within a bound on what is torn out of a curved loss.

    max s·m   s.t.   1·m = k,   c·(1−m) ≤ ρ,   m ∈ {0,1}ⁿ                                        (R)

with sᵢ = −gᵢ(θᵢ+uᵢ), what keeping weight i saves to first order, and cᵢ = ½(hᵢ+δ)(θᵢ+uᵢ)² ≥ 0,
what removing it costs to second. Without the second row (R) is PINS, which leaves the region where
the linear model is true; the smallest ρ that any mask meets is optimal brain damage.

**Theorem 5 (one multiplier).** For every μ > 0 a mask of the k largest rᵢ = cᵢ + μsᵢ is an optimum
of (R) for the radius ρ = c·(1−m) that it has itself. And for every ρ, each mask m′ that (R) allows
has

    s·m′  ≤  s·m + (V + ρ − c·(1−m)) / μ,      V = Σ_{mᵢ=0} max(0, rᵢ−λ) + Σ_{mᵢ=1} max(0, λ−rᵢ)

for any λ. *Proof.* r·m′ ≤ r·m + V, as both masks have k ones. With r = c + μs this is
μs·m′ ≤ μs·m + V + c·m − c·m′, and c·m − c·m′ = c·(1−m′) − c·(1−m) ≤ ρ − c·(1−m). ∎

V is 0 where the k largest r are kept; what rounding r to a float misplaces, V counts. So (m, λ, μ)
proves how far m is from the optimum of (R) at most: the *gap*. At the μ where the bound is least,
an LP vertex has two fractional entries at most, and the gap is about one weight's share.

As μ grows the drop −s·(1−m) and the cost c·(1−m) both grow: from optimal brain damage, μ = 0, to
PINS, μ → ∞. The proof needs no more of the masks allowed than that they are the same for every μ,
so minimums in each tensor (`pins.selection.constraints`) may stand in place of 1·m = k.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from pins.distributed.collectives import sum_over_ranks
from pins.distributed.process_group import SINGLE_PROCESS, Group
from pins.errors import CriterionError
from pins.selection.constraints import Constraint
from pins.selection.select import Decision, decide
from pins.utils.lazy_tensors import Computed, Scores
from pins.utils.tensors import total, upcast_half


class Terms(NamedTuple):
    """s and c of one tensor, in its shape; floating point, finite, c ≥ 0."""

    importance: Tensor
    cost: Tensor

    def scores(self, multiplier: float) -> Tensor:
        """r = c + μs, rounded to their dtype, 16-bit floats to float32; c itself for μ = 0."""
        if multiplier == 0:
            return self.cost
        return torch.add(upcast_half(self.cost), upcast_half(self.importance), alpha=multiplier)


@dataclass(frozen=True)
class RegionDecision(Decision):
    """An optimum of (R) for its own radius; its proof is that of Theorem 1 for r = c + μs.

    Attributes:
        multiplier: μ.
        drop: −s·(1−m), by how much the loss falls to first order by what is removed.
        cost: c·(1−m). Both are summed in float64.
    """

    multiplier: float
    drop: float
    cost: float


@dataclass(frozen=True)
class RegionProgram:
    """(R) without its radius.

    Attributes:
        terms: s and c by tensor name. They are asked for tensor by tensor and not held, so a
            mapping that computes them saves their memory.
        constraint: the masks allowed beside the radius.
        group: the ranks, each with its part of every tensor.
    """

    terms: Mapping[str, Terms]
    constraint: Constraint
    group: Group = SINGLE_PROCESS

    @property
    def shapes(self) -> Mapping[str, torch.Size]:
        """Of each tensor by name."""
        known: Mapping[str, torch.Size] | None = getattr(self.terms, "shapes", None)
        return known or {name: terms.cost.shape for name, terms in self.terms.items()}

    def scores(self, multiplier: float) -> Scores:
        """r = c + μs by tensor name, μ ≥ 0, computed from the terms whenever asked for.

        Raises:
            CriterionError: μ is not a number of [0, ∞).
        """
        if not 0 <= multiplier < float("inf"):
            raise CriterionError(f"the multiplier is {multiplier}: it is at least 0, and finite")
        return Computed(self.shapes, lambda name: self.terms[name].scores(multiplier))

    def solve(self, multiplier: float) -> RegionDecision:
        """The k largest r, ties by index, with the proof that they are.

        Raises:
            ImportanceError, CardinalityError: as `decide`.
        """
        solved = decide(self.scores(multiplier), self.constraint, self.group)
        return self.decision(solved, multiplier)

    def decision(self, solved: Decision, multiplier: float) -> RegionDecision:
        """What `solved`, an optimum for r = c + μs, promises and costs."""
        drop, cost = self._sums(solved.masks)
        return RegionDecision(solved.masks, solved.proof, solved.constraint, multiplier, drop, cost)

    def drop(self, masks: Mapping[str, Tensor]) -> float:
        """−s·(1−m), summed in float64."""
        return self._sums(masks)[0]

    def cost(self, masks: Mapping[str, Tensor]) -> float:
        """c·(1−m), summed in float64."""
        return self._sums(masks)[1]

    def _sums(self, masks: Mapping[str, Tensor]) -> tuple[float, float]:
        """Drop and cost in one pass: computing the terms is what takes time."""
        importance = cost = 0.0
        for name, terms in self.terms.items():
            pruned = ~masks[name]  # a product is a quarter of the time of torch.where
            importance += total(terms.importance * pruned)
            cost += total(terms.cost * pruned)
        return -sum_over_ranks(importance, self.group), sum_over_ranks(cost, self.group)
