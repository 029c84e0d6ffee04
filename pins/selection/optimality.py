"""Optimality of a mask: min{sᵢ : mᵢ = 1} ≥ max{sᵢ : mᵢ = 0} (Theorem 1), and its dual.

Scores are compared by their keys (`pins.selection.scan.float_keys`), in every thread rightly: a
processor may have been told to flush denormals.

With a minimum in each tensor (Theorem 4, `pins.selection.constraints`) the same condition holds
within each tensor, and between tensors for the weights that their tensor may lose.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from pins.distributed.process_group import SINGLE_PROCESS, Group
from pins.errors import OptimalityError
from pins.masks import require_same_tensors
from pins.selection.scan import float_keys
from pins.selection.scan.float_keys import key
from pins.selection.scan.reference import BLOCK, GPU_BLOCK


@dataclass(frozen=True)
class Optimality:
    """The two scores that decide whether a mask solves max s·m s.t. 1·m = keep.

    Attributes:
        keep: number of ones of the mask.
        total: number of weights n.
        kept_min: min{sᵢ : mᵢ = 1}; None if nothing is kept.
        pruned_max: max{sᵢ : mᵢ = 0}; None if nothing is pruned.
    """

    keep: int
    total: int
    kept_min: float | None
    pruned_max: float | None

    @property
    def holds(self) -> bool:
        """Theorem 1: the mask is optimal among those with `keep` ones."""
        return self._gap is None or self._gap >= 0

    @property
    def unique(self) -> bool:
        """Theorem 3: the optimum is unique, s₍ₖ₎ > s₍ₖ₊₁₎."""
        return self._gap is None or self._gap > 0

    @property
    def dual_multiplier(self) -> float:
        """A λ in the dual interval [s₍ₖ₊₁₎, s₍ₖ₎] (Theorem 2); mask and λ are the proof."""
        multiplier = self.kept_min if self.kept_min is not None else self.pruned_max
        if multiplier is None or not self.holds:
            raise OptimalityError(
                f"no dual multiplier: least kept score {self.kept_min}, "
                f"largest pruned score {self.pruned_max}"
            )
        return multiplier

    @property
    def _gap(self) -> int | None:
        """By how many floats the least kept score is above the largest pruned one; None without."""
        if self.kept_min is None or self.pruned_max is None:
            return None
        return key(self.kept_min) - key(self.pruned_max)


def optimality(
    importance: Mapping[str, Tensor], masks: Mapping[str, Tensor], group: Group = SINGLE_PROCESS
) -> Optimality:
    """Compute the least kept and the largest pruned score: O(n) comparisons, hence exact.

    Args:
        importance: finite scores s by tensor name.
        masks: bool masks of the same names and shapes, True = keep.
        group: the ranks, each with its part of every tensor.

    Raises:
        MaskError: names or shapes differ.
    """
    return _combined(_tensor_by_tensor(importance, masks, group).values())


@dataclass(frozen=True)
class ConstrainedOptimality:
    """The scores that decide whether a mask solves (C): max s·m, Σm = keep, Σ_{i∈t} mᵢ ≥ l_t.

    Attributes:
        tensors: `Optimality` of each tensor, by name.
        minimums: l_t by name; default 0.
    """

    tensors: Mapping[str, Optimality]
    minimums: Mapping[str, int]

    @property
    def keep(self) -> int:
        """Number of ones of the mask."""
        return self._whole.keep

    @property
    def total(self) -> int:
        """Number of weights n."""
        return self._whole.total

    @property
    def kept_min(self) -> float | None:
        """min{sᵢ : mᵢ = 1} over all tensors; None if nothing is kept."""
        return self._whole.kept_min

    @property
    def pruned_max(self) -> float | None:
        """max{sᵢ : mᵢ = 0} over all tensors; None if nothing is pruned."""
        return self._whole.pruned_max

    @property
    def fault(self) -> str | None:
        """Why the mask is not optimal: a missed minimum or an exchange that gains; else None."""
        for name, tensor in self.tensors.items():
            if tensor.keep < (least := self.minimums.get(name, 0)):
                return f"{name!r} keeps {tensor.keep} weights, its minimum is {least}"
            if not tensor.holds:
                return f"{name!r} keeps {tensor.kept_min} and prunes {tensor.pruned_max}"
        if not self._spare.holds:
            kept = {n: key(s) for n in self._loose if (s := self.tensors[n].kept_min) is not None}
            pruned = {n: key(s) for n, t in self.tensors.items() if (s := t.pruned_max) is not None}
            loser, winner = min(kept, key=kept.__getitem__), max(pruned, key=pruned.__getitem__)
            return (
                f"{loser!r} keeps {self._spare.kept_min} with more than its minimum of weights, "
                f"and {winner!r} prunes {self.pruned_max}"
            )
        return None

    @property
    def holds(self) -> bool:
        """Theorem 4: the mask is optimal among those with `keep` ones and the minimums."""
        return self.fault is None

    @property
    def unique(self) -> bool:
        """The optimum is unique: every allowed exchange loses."""
        return (
            self.holds
            and self._spare.unique
            and all(tensor.unique for tensor in self.tensors.values())
        )

    @property
    def dual_multiplier(self) -> float:
        """λ: the least kept score of the tensors that are not `binding`; else the largest pruned.

        Without a binding minimum it is the λ of Theorem 2.
        """
        least = [t.kept_min for t in self.tensors.values() if t.kept_min is not None]
        free = [s for s in least if self.pruned_max is None or key(s) >= key(self.pruned_max)]
        multiplier = min(free, key=key, default=self.pruned_max)
        if multiplier is None or not self.holds:
            raise OptimalityError(f"no dual multiplier: {self.fault or 'there is no weight'}")
        return multiplier

    @property
    def thresholds(self) -> dict[str, float]:
        """λ_t = λ − ν_t by name; with mask and λ, the proof."""
        multiplier = self.dual_multiplier
        least = {name: tensor.kept_min for name, tensor in self.tensors.items()}
        return {
            name: multiplier if score is None else min(multiplier, score, key=key)
            for name, score in least.items()
        }

    @property
    def binding(self) -> tuple[str, ...]:
        """The tensors with ν_t > 0: they keep a score below a pruned score of another tensor.

        Empty iff the mask is also an optimum without the minimums (Theorem 1).
        """
        multiplier = key(self.dual_multiplier)
        return tuple(name for name, each in self.thresholds.items() if key(each) < multiplier)

    @property
    def _whole(self) -> Optimality:
        return _combined(self.tensors.values())

    @property
    def _loose(self) -> list[str]:
        """The tensors that keep more than their minimum and may lose a weight to another tensor."""
        return [n for n, t in self.tensors.items() if t.keep > self.minimums.get(n, 0)]

    @property
    def _spare(self) -> Optimality:
        """The kept weights that an exchange may prune, and all pruned weights that it may keep."""
        loose = _combined(self.tensors[name] for name in self._loose)
        return Optimality(loose.keep, self.total, loose.kept_min, self.pruned_max)


def constrained_optimality(
    importance: Mapping[str, Tensor],
    masks: Mapping[str, Tensor],
    minimums: Mapping[str, int],
    group: Group = SINGLE_PROCESS,
) -> ConstrainedOptimality:
    """Compute the least kept and the largest pruned score of each tensor: O(n) comparisons.

    Args:
        importance: finite scores s by tensor name.
        masks: bool masks of the same names and shapes, True = keep.
        minimums: l_t by tensor name; default 0.
        group: the ranks, each with its part of every tensor.

    Raises:
        MaskError: names or shapes differ.
    """
    return ConstrainedOptimality(_tensor_by_tensor(importance, masks, group), dict(minimums))


def _tensor_by_tensor(
    importance: Mapping[str, Tensor], masks: Mapping[str, Tensor], group: Group
) -> dict[str, Optimality]:
    """The optimality of each tensor."""
    require_same_tensors(importance, masks)
    found = {}
    for name, scores in importance.items():
        found[name] = _of_tensor(scores.detach().reshape(-1), masks[name].reshape(-1))
    return found if group.size == 1 else _over_ranks(found, group)


def _of_tensor(scores: Tensor, mask: Tensor) -> Optimality:
    """The optimality of one tensor, flat, block by block."""
    kept, total = int(mask.count_nonzero()), scores.numel()
    if not total:
        return Optimality(0, 0, None, None)
    limits = torch.iinfo(float_keys.DTYPES[scores.dtype])
    size = BLOCK if scores.device.type == "cpu" else GPU_BLOCK
    least, most = [], []
    for block, own in zip(torch.split(scores, size), torch.split(mask, size), strict=True):
        keys = float_keys.keys(block)
        # filled, not indexed, which takes several times as long
        least.append(keys.masked_fill(~own, limits.max).min())
        most.append(keys.masked_fill(own, limits.min).max())

    def score(found: Tensor) -> float:
        return float_keys.widened(float_keys.scores(found, scores.dtype), torch.float64).item()

    return Optimality(
        keep=kept,
        total=total,
        kept_min=score(torch.stack(least).min()) if kept else None,
        pruned_max=score(torch.stack(most).max()) if kept < total else None,
    )


def _over_ranks(own: Mapping[str, Optimality], group: Group) -> dict[str, Optimality]:
    """The optimality of each tensor, of which every rank holds a part; None is sent as NaN."""
    rows = [
        [math.nan if x is None else x for x in (t.keep, t.total, t.kept_min, t.pruned_max)]
        for t in own.values()
    ]
    gathered = group.gathered(torch.tensor(rows, dtype=torch.float64).view(-1))
    by_tensor = torch.stack([part.view(-1, 4) for part in gathered], dim=1).tolist()
    return {
        name: _combined(
            Optimality(
                int(keep), int(total), *(None if math.isnan(score) else score for score in scores)
            )
            for keep, total, *scores in parts
        )
        for name, parts in zip(own, by_tensor, strict=True)
    }


def _combined(parts: Iterable[Optimality]) -> Optimality:
    """The optimality of disjoint parts together; a Python float holds every dtype exactly."""
    parts = list(parts)
    return Optimality(
        keep=sum(part.keep for part in parts),
        total=sum(part.total for part in parts),
        kept_min=min((p.kept_min for p in parts if p.kept_min is not None), key=key, default=None),
        pruned_max=max(
            (p.pruned_max for p in parts if p.pruned_max is not None), key=key, default=None
        ),
    )
