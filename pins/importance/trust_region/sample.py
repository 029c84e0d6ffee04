"""A fixed sample of the weights on which the multiplier of a trust region is searched.

The sample decides only how good μ is. That the mask is the optimum for μ is proved on all weights.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from pins.errors import ImportanceError
from pins.importance.trust_region.program import Terms, TrustRegionProgram
from pins.selection.blocks import tree_block
from pins.selection.reach import keep_of
from pins.utils.tensors import sample_indices, upcast_half

SAMPLE = 1 << 17  # weights; a smaller model is its own sample, and the search is exact
OCTAVES = 96  # between the smallest and the largest μ tried; outside, the limits are reached


@dataclass(frozen=True)
class Sample:
    """The terms of some weights, and the number of weights that each represents.

    Attributes:
        terms: s and c, flat, in float32 or float64.
        weights: float64; 1 for a weight that represents only itself.
        keep: k.
    """

    terms: Terms
    weights: Tensor
    keep: int

    @cached_property
    def whole(self) -> bool:
        """Whether the sample holds all weights of the model."""
        return bool((self.weights == 1).all())

    def drop(self, multiplier: float) -> float:
        """−s·(1−m) at the optimum for r = c + μs, estimated."""
        return -self._pruned(self.terms.importance, multiplier)

    def cost(self, multiplier: float) -> float:
        """c·(1−m) at the optimum for r = c + μs, estimated."""
        return self._pruned(self.terms.cost, multiplier)

    def multipliers(self) -> tuple[float, float]:
        """A μ so small that s hardly matters, and a μ so large that c hardly matters."""
        linear, curved = (float((each.abs() * self.weights).sum()) for each in self.terms)
        if linear == 0:
            return 0.0, 0.0
        middle = curved / linear if curved else 1.0  # without a cost all μ > 0 are equivalent
        factor = 2.0 ** (OCTAVES / 2)
        # μ·s must be finite in the dtype of the terms
        return middle / factor, min(middle * factor, torch.finfo(self.terms.cost.dtype).max)

    def _pruned(self, values: Tensor, multiplier: float) -> float:
        order = self._order(self.terms.scores(multiplier))
        weights = self.weights[order]
        # a sampled weight represents several: the threshold may lie within one of them
        pruned = weights.cumsum(0) > self.keep + 0.5
        return float((values[order].double() * weights)[pruned].sum())

    def _order(self, scores: Tensor) -> Tensor:
        """Indices in descending order of score; ties as in `select` if the sample is the model."""
        if self.whole:
            return scores.sort(descending=True, stable=True).indices
        return torch.from_numpy(np.argsort(-scores.numpy()))  # a tenth of the time


def sample(program: TrustRegionProgram) -> Sample:
    """Evenly spread weights, and all weights of unusually large |s|; deterministic.

    Zeros that are frozen, which the program keeps at no μ, are left out.

    Gradients have heavy tails: few weights cause most of the drop, and an even sample misses them.
    Every number of ranks has the same sample, in the order of one device.

    Raises:
        ImportanceError: the program has no tensor.
    """
    parts = _parts(program)
    if not parts:
        raise ImportanceError("importance is empty: there is no weight to rank")
    total = sum(part.size for part in parts.values())
    tree = program.tree
    keep, frozen = keep_of(tree, program.group) * tree_block(tree), tree.zeros
    if total <= SAMPLE:
        terms = _gather(program, parts, frozen, lambda part, _: torch.arange(part.own))
        return Sample(terms, torch.ones(len(terms.cost), dtype=torch.float64), keep)
    share = SAMPLE / total
    even = _gather(program, parts, frozen, lambda part, _: part.even(share))
    magnitude = even.importance.abs()
    large = float(magnitude.topk(max(1, round(share * magnitude.numel()))).values[-1])
    outliers = _gather(program, parts, frozen, lambda _, s: (s.abs() > large).nonzero().view(-1))
    common = magnitude <= large
    lost = torch.tensor(sum(int(zeros.sum()) for zeros in frozen.values()))
    free = total - int(program.group.total(lost))
    weight = (free - len(outliers.cost)) / max(int(common.sum()), 1)
    counts = torch.ones(len(outliers.cost) + int(common.sum()), dtype=torch.float64)
    counts[len(outliers.cost) :] = weight
    terms = Terms(*(torch.cat([a, b[common]]) for a, b in zip(outliers, even, strict=True)))
    return Sample(terms, counts, keep)


@dataclass(frozen=True)
class _Part:
    """The part of a tensor on this rank: flat indices [offset, offset + own) of `size`.

    Attributes:
        start: the number of the tensor's first weight among the weights of all tensors.
        offset: the first flat index of the part.
        own: number of weights of the part.
        size: number of weights of the tensor.
    """

    start: int
    offset: int
    own: int
    size: int

    def even(self, share: float) -> Tensor:
        """Indices in the part of an even sample of the tensor, of at least one weight."""
        if not self.size:
            return torch.arange(0)
        index = sample_indices(self.size, max(1, round(share * self.size)))
        return index[(index >= self.offset) & (index < self.offset + self.own)] - self.offset


def _parts(program: TrustRegionProgram) -> dict[str, _Part]:
    own = torch.tensor([shape.numel() for shape in program.shapes.values()], dtype=torch.int64)
    sizes_by_rank = torch.stack(program.group.gathered(own))
    sizes, offsets = sizes_by_rank.sum(0), sizes_by_rank[: program.group.rank].sum(0)
    starts = sizes.cumsum(0) - sizes
    rows = torch.stack([starts, offsets, own, sizes], dim=1).tolist()
    return {name: _Part(*row) for name, row in zip(program.shapes, rows, strict=True)}


def _gather(
    program: TrustRegionProgram,
    parts: dict[str, _Part],
    frozen: Mapping[str, Tensor],
    indices: Callable[[_Part, Tensor], Tensor],
) -> Terms:
    """s and c of the weights `indices(part, s)` of each tensor, over all ranks, in model order.

    Those that are frozen zeros, bool by tensor name, are left out.
    """
    numbers, linear, curved = [], [], []
    for name, part in parts.items():
        s, c = (upcast_half(term.detach()).reshape(-1) for term in program.terms[name])
        index = indices(part, s).to(s.device)
        if name in frozen:
            index = index[~frozen[name].reshape(-1)[index]]
        numbers.append((index + (part.start + part.offset)).cpu())
        linear.append(s[index].cpu())
        curved.append(c[index].cpu())
    number, s, c = (program.group.whole(torch.cat(each)) for each in (numbers, linear, curved))
    order = number.argsort(stable=True)
    return Terms(s[order], c[order])
