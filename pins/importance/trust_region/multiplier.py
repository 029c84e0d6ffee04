"""The multiplier μ of a trust region: searched on a log scale, over a sample, then decided in full.

Drop and cost of the optimum of r = c + μs never fall as μ grows (`program`), so a
bisection over log μ finds the largest μ whose promise is small enough. It runs over a fixed sample
of the weights, where a ranking costs next to nothing; the model itself is then ranked once, or a
few times where the radius must not be exceeded. The sample decides how good μ is, never whether the
mask is the optimum for it: that is proved in full.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pins.errors import CardinalityError, CriterionError
from pins.importance.trust_region.program import RegionDecision, RegionProgram, Terms
from pins.utils.tensors import sample_indices, upcast_half

SAMPLE = 1 << 17  # weights; a model with fewer is its own sample, and the search is exact
OCTAVES = 96  # between the least and the greatest μ tried: below and above, limits are reached
HALVINGS = 20  # of them where the sample is the model: μ is found to 96 / 2²⁰ octaves
ROUGH_HALVINGS = 13  # where it is not: to a hundredth of an octave
SAFETY = 1 + 1e-12  # more than float64 loses in adding up costs, none of which is negative
SELECTIONS = 4  # of all weights at most, where the cost must not exceed a radius


@dataclass(frozen=True)
class Sample:
    """Some weights that stand for all: their terms, and for how many each stands.

    Attributes:
        terms: s and c, flat, in float32 or float64.
        weights: float64; 1 for a weight that stands for itself alone.
        keep: k.
    """

    terms: Terms
    weights: Tensor
    keep: int

    @property
    def whole(self) -> bool:
        """Whether it holds all weights there are."""
        return bool((self.weights == 1).all())

    def drop(self, multiplier: float) -> float:
        """−s·(1−m) at the optimum for r = c + μs, estimated."""
        return -self._pruned(self.terms.importance, multiplier)

    def cost(self, multiplier: float) -> float:
        """c·(1−m), likewise."""
        return self._pruned(self.terms.cost, multiplier)

    def multipliers(self) -> tuple[float, float]:
        """A μ at which s hardly counts, and one at which c hardly does."""
        linear, curved = (float((each.abs() * self.weights).sum()) for each in self.terms)
        if linear == 0:
            return 0.0, 0.0
        middle = curved / linear if curved else 1.0  # without a cost all μ > 0 are alike
        spread = 2.0 ** (OCTAVES / 2)
        # beyond the largest float of their dtype no μ can be multiplied with s
        return middle / spread, min(middle * spread, torch.finfo(self.terms.cost.dtype).max)

    def _pruned(self, values: Tensor, multiplier: float) -> float:
        order = self._order(self.terms.scores(multiplier))
        weights = self.weights[order]
        # an estimated weight stands for several: the threshold lies within one of them
        pruned = weights.cumsum(0) > self.keep + 0.5
        return float((values[order].double() * weights)[pruned].sum())

    def _order(self, scores: Tensor) -> Tensor:
        """Indices from the largest score; of a model that is its own sample ties as in `select`."""
        if self.whole:
            return scores.sort(descending=True, stable=True).indices
        return torch.from_numpy(np.argsort(-scores.numpy()))  # a tenth of the time


def sample(program: RegionProgram) -> Sample:
    """Evenly spread weights, and all of uncommonly large |s|; the same ones each time.

    Gradients have heavy tails: the drop is made by few weights, which no even sample would hold.
    """
    places = _places(program)
    total, keep = sum(place.size for place in places.values()), program.constraint.keep
    if total <= SAMPLE:
        everything = {name: torch.arange(place.own) for name, place in places.items()}
        return _sample([(*_taken(program, places, everything), 1.0)], keep)
    share = SAMPLE / total
    s, c = _taken(program, places, {n: place.spread(share) for n, place in places.items()})
    large = float(s.abs().topk(max(1, round(share * s.numel()))).values[-1])
    outliers = _taken(program, places, large)
    common = s.abs() <= large
    weight = (total - len(outliers[0])) / max(int(common.sum()), 1)
    return _sample([(*outliers, 1.0), (s[common], c[common], weight)], keep)


@dataclass(frozen=True)
class _Place:
    """The part of a tensor that this rank holds: flat indices [offset, offset + own) of `size`.

    Attributes:
        start: the number of the tensor's first weight among those of all tensors.
        offset: where the part begins.
        own: how many weights it has.
        size: how many the whole tensor has.
    """

    start: int
    offset: int
    own: int
    size: int

    def spread(self, share: float) -> Tensor:
        """A share of the whole tensor's weights, at least one: those of them that are in the part.

        As indices in the part.
        """
        if not self.size:
            return torch.arange(0)
        index = sample_indices(self.size, max(1, round(share * self.size)))
        return index[(index >= self.offset) & (index < self.offset + self.own)] - self.offset


def _places(program: RegionProgram) -> dict[str, _Place]:
    own = torch.tensor([shape.numel() for shape in program.shapes.values()], dtype=torch.int64)
    parts = torch.stack(program.group.gathered(own))
    sizes, offsets = parts.sum(0), parts[: program.group.rank].sum(0)
    starts = sizes.cumsum(0) - sizes
    numbers = (each.tolist() for each in (starts, offsets, own, sizes))
    return {
        name: _Place(*each)
        for name, each in zip(program.shapes, zip(*numbers, strict=True), strict=True)
    }


def _taken(
    program: RegionProgram, places: Mapping[str, _Place], which: Mapping[str, Tensor] | float
) -> tuple[Tensor, Tensor]:
    """s and c of some weights of each tensor, or of those of larger |s|: of all ranks, by number.

    The order is that of one device, so that every number of ranks has the same sample.
    """
    numbers, linear, curved = [], [], []
    for name, place in places.items():
        s, c = _flat(program.terms[name])
        index = (s.abs() > which).nonzero().view(-1) if isinstance(which, float) else which[name]
        index = index.to(s.device)
        numbers.append((index + (place.start + place.offset)).cpu())
        linear.append(s[index].cpu())
        curved.append(c[index].cpu())
    together = [torch.cat(program.group.gathered(torch.cat(x))) for x in (numbers, linear, curved)]
    order = together[0].argsort(stable=True)
    return together[1][order], together[2][order]


def _sample(parts: list[tuple[Tensor, Tensor, float]], keep: int) -> Sample:
    terms = Terms(torch.cat([s for s, _, _ in parts]), torch.cat([c for _, c, _ in parts]))
    weights = torch.cat([torch.full((len(s),), w, dtype=torch.float64) for s, _, w in parts])
    return Sample(terms, weights, keep)


def _flat(terms: Terms) -> tuple[Tensor, Tensor]:
    s, c = (upcast_half(part.detach()).reshape(-1) for part in terms)
    return s, c


def promise(program: RegionProgram, limit: float) -> float:
    """The largest μ whose drop is at most `limit` larger than that of optimal brain damage.

    Args:
        program: the program.
        limit: in units of the loss, ≥ 0; 0 is optimal brain damage, μ = 0.

    Raises:
        CriterionError: the limit is negative, or not a number.
    """
    if not limit >= 0:
        raise CriterionError(f"the radius allows a drop of {limit}: it is at least 0")
    some = sample(program)
    base = some.drop(0.0)
    return largest(
        lambda multiplier: some.drop(multiplier) - base,
        limit,
        some.multipliers(),
        HALVINGS if some.whole else ROUGH_HALVINGS,
    )


def within(program: RegionProgram, radius: float) -> RegionDecision:
    """A decision with c·(1−m) ≤ ρ, by the largest μ that was found to have it.

    Of a model that is its own sample, it is the best that one multiplier can do.

    Args:
        program: the program.
        radius: ρ.

    Raises:
        CriterionError: the radius is not a number.
        CardinalityError: no mask that is allowed has so small a cost; or only by less than 1e-12 of
            it, which its sum in float64 cannot tell.
    """
    if math.isnan(radius):
        raise CriterionError(f"the radius is {radius}: it is a number, of the unit of the cost")
    some = sample(program)
    aim = radius / SAFETY
    for _ in range(SELECTIONS - 1):
        multiplier = largest(some.cost, aim, some.multipliers(), HALVINGS)
        decision = program.solve(multiplier)
        if decision.cost * SAFETY <= radius:
            return decision
        # the sample's costs are too low by this factor, and by a little more
        aim *= 0.99 * radius / (decision.cost * SAFETY)
    cheapest = program.solve(0.0)
    if cheapest.cost * SAFETY > radius:
        raise CardinalityError(
            f"the radius is {radius}: the cheapest {cheapest.proof.total - cheapest.proof.keep} "
            f"weights to prune cost {cheapest.cost}; allow more, or keep more weights"
        )
    return cheapest


def largest(
    grows: Callable[[float], float], limit: float, between: tuple[float, float], halvings: int
) -> float:
    """The largest μ with grows(μ) ≤ limit for a function that never falls, on a log scale.

    0 where even the least μ exceeds the limit, the greatest where none does.
    """
    low, high = between
    if low <= 0 or limit <= 0:
        return 0.0
    if grows(high) <= limit:
        return high
    if grows(low) > limit:
        return 0.0
    least, most = math.log2(low), math.log2(high)
    for _ in range(halvings):
        middle = (least + most) / 2
        if grows(2.0**middle) <= limit:
            least = middle
        else:
            most = middle
    return float(2.0**least)
