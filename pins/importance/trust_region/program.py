"""Trust region: the largest first-order gain subject to a bound on the second-order cost.

    max s·m   s.t.   1·m = k,   c·(1−m) ≤ ρ,   m ∈ {0,1}ⁿ                                        (R)

with sᵢ = −gᵢ(θᵢ+uᵢ), the first-order loss that keeping weight i saves, and the second-order cost
cᵢ = ½(hᵢ+δ)(θᵢ+uᵢ)² ≥ 0 of removing it. Without the second row (R) is PINS, which leaves the region
in which the linear model holds; with the smallest feasible ρ it is optimal brain damage.

**Theorem 5 (one multiplier).** For every μ > 0 a mask of the k largest rᵢ = cᵢ + μsᵢ is an optimum
of (R) with the radius ρ = c·(1−m) of that mask. And for every ρ, each feasible mask m′ of (R)
satisfies

    s·m′  ≤  s·m + (V + ρ − c·(1−m)) / μ,      V = Σ_{mᵢ=0} max(0, rᵢ−λ) + Σ_{mᵢ=1} max(0, λ−rᵢ)

for any λ. *Proof.* r·m′ ≤ r·m + V, because both masks have k ones. With r = c + μs this is
μs·m′ ≤ μs·m + V + c·m − c·m′, and c·m − c·m′ = c·(1−m′) − c·(1−m) ≤ ρ − c·(1−m). ∎

V is 0 if the k largest r are kept; V accounts for weights that are misplaced because r is rounded
to a float. So (m, λ, μ) proves an upper bound on the distance of m from the optimum of (R), the
*gap*. At the μ with the smallest bound, an LP vertex has at most two fractional entries, and the
gap is about the share of one weight.

As μ grows, the drop −s·(1−m) and the cost c·(1−m) both grow: from optimal brain damage, μ = 0, to
PINS, μ → ∞. The proof needs only that the allowed masks are the same for every μ, so minimums in
each tensor (`pins.selection.constraints`) may replace 1·m = k.
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
from pins.selection.select import Decision, decide, tree_of
from pins.selection.tree import Node
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
class TrustRegionDecision(Decision):
    """An optimum of (R) for its own radius; the proof is Theorem 1 for r = c + μs.

    Attributes:
        multiplier: μ.
        drop: −s·(1−m), the first-order decrease of the loss; summed in float64.
        cost: c·(1−m); summed in float64.
    """

    multiplier: float
    drop: float
    cost: float


@dataclass(frozen=True)
class TrustRegionProgram:
    """(R) without its radius.

    Attributes:
        terms: s and c by tensor name, read tensor by tensor and not held, so a mapping that
            computes them saves memory.
        constraint: the allowed masks apart from the radius.
        group: the ranks, each with its part of every tensor.
    """

    terms: Mapping[str, Terms]
    constraint: Constraint | Node
    group: Group = SINGLE_PROCESS

    @property
    def tree(self) -> Node:
        """The allowed masks, apart from the radius."""
        return tree_of(self.constraint, self.scores(0), self.group)

    @property
    def shapes(self) -> Mapping[str, torch.Size]:
        """The shape of each tensor by name."""
        known: Mapping[str, torch.Size] | None = getattr(self.terms, "shapes", None)
        return known or {name: terms.cost.shape for name, terms in self.terms.items()}

    def scores(self, multiplier: float) -> Scores:
        """r = c + μs by tensor name, μ ≥ 0, computed from the terms at each access.

        Raises:
            CriterionError: μ is not in [0, ∞).
        """
        if not 0 <= multiplier < float("inf"):
            raise CriterionError(f"the multiplier is {multiplier}: it is at least 0, and finite")
        return Computed(self.shapes, lambda name: self.terms[name].scores(multiplier))

    def solve(self, multiplier: float) -> TrustRegionDecision:
        """Keep the k largest r, ties by index, and prove it.

        Raises:
            ImportanceError, CardinalityError: as `decide`.
        """
        solved = decide(self.scores(multiplier), self.constraint, self.group)
        drop, cost = self._sums(solved.masks)
        return TrustRegionDecision(solved.masks, solved.proof, solved.tree, multiplier, drop, cost)

    def drop(self, masks: Mapping[str, Tensor]) -> float:
        """−s·(1−m), summed in float64."""
        return self._sums(masks)[0]

    def cost(self, masks: Mapping[str, Tensor]) -> float:
        """c·(1−m), summed in float64."""
        return self._sums(masks)[1]

    def _sums(self, masks: Mapping[str, Tensor]) -> tuple[float, float]:
        """Drop and cost in one pass, because computing the terms takes most of the time."""
        importance = cost = 0.0
        for name, terms in self.terms.items():
            pruned = ~masks[name]  # a product takes a quarter of the time of torch.where
            importance += total(terms.importance * pruned)
            cost += total(terms.cost * pruned)
        return -sum_over_ranks(importance, self.group), sum_over_ranks(cost, self.group)
