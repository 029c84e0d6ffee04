"""When a mask is optimal: min{sᵢ : mᵢ = 1} ≥ max{sᵢ : mᵢ = 0} (Theorem 1), and what follows.

With a minimum in each tensor (Theorem 4, `pins.selection.constraints`) the same holds within each
tensor, and between tensors for the weights that their tensor may lose.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from pins.distributed.process_group import SINGLE_PROCESS, Group
from pins.errors import OptimalityError
from pins.masks import require_same_tensors


@dataclass(frozen=True)
class Optimality:
    """The two numbers that decide whether a mask solves max s·m s.t. 1·m = keep.

    Attributes:
        keep: number of ones of the mask.
        total: number of weights n.
        kept_min: min{sᵢ : mᵢ = 1}; None when nothing is kept.
        pruned_max: max{sᵢ : mᵢ = 0}; None when nothing is pruned.
    """

    keep: int
    total: int
    kept_min: float | None
    pruned_max: float | None

    @property
    def holds(self) -> bool:
        """Theorem 1: the mask is optimal among those with `keep` ones."""
        return self.kept_min is None or self.pruned_max is None or self.kept_min >= self.pruned_max

    @property
    def unique(self) -> bool:
        """Theorem 3: no other mask is as good, s₍ₖ₎ > s₍ₖ₊₁₎."""
        return self.kept_min is None or self.pruned_max is None or self.kept_min > self.pruned_max

    @property
    def dual_multiplier(self) -> float:
        """A λ of the dual interval [s₍ₖ₊₁₎, s₍ₖ₎] (Theorem 2): with the mask, the proof."""
        multiplier = self.kept_min if self.kept_min is not None else self.pruned_max
        if multiplier is None or not self.holds:
            raise OptimalityError(
                f"no dual multiplier: least kept score {self.kept_min}, "
                f"largest pruned score {self.pruned_max}"
            )
        return multiplier


def optimality(
    importance: Mapping[str, Tensor], masks: Mapping[str, Tensor], group: Group = SINGLE_PROCESS
) -> Optimality:
    """Read the least kept and the largest pruned score: O(n), comparisons only, hence exact.

    Args:
        importance: finite scores s by tensor name.
        masks: bool masks of the same names and shapes, True = keep.
        group: the ranks, each with its part of every tensor.

    Raises:
        MaskError: names or shapes differ.
    """
    return _together(_tensor_by_tensor(importance, masks, group))


@dataclass(frozen=True)
class ConstrainedOptimality:
    """The numbers that decide whether a mask solves (C): max s·m, Σm = keep, Σ_{i∈t} mᵢ ≥ l_t.

    Attributes:
        tensors: the numbers of each tensor by itself, by name.
        minimums: l_t by name; 0 for a tensor that is not named.
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
        """min{sᵢ : mᵢ = 1} over all tensors; None when nothing is kept."""
        return self._whole.kept_min

    @property
    def pruned_max(self) -> float | None:
        """max{sᵢ : mᵢ = 0} over all tensors; None when nothing is pruned."""
        return self._whole.pruned_max

    @property
    def fault(self) -> str | None:
        """Why the mask is not optimal: a minimum missed, or an exchange that gains; or None."""
        for name, tensor in self.tensors.items():
            if tensor.keep < (least := self.minimums.get(name, 0)):
                return f"{name!r} keeps {tensor.keep} weights, its minimum is {least}"
            if not tensor.holds:
                return f"{name!r} keeps {tensor.kept_min} and prunes {tensor.pruned_max}"
        if not self._spare.holds:
            loser = next(n for n in self._loose if self.tensors[n].kept_min == self._spare.kept_min)
            winner = next(n for n, t in self.tensors.items() if t.pruned_max == self.pruned_max)
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
        """No other such mask is as good: every exchange allowed loses."""
        return (
            self.holds
            and self._spare.unique
            and all(tensor.unique for tensor in self.tensors.values())
        )

    @property
    def dual_multiplier(self) -> float:
        """λ: the least kept score of the tensors that are not `binding`; else the largest pruned.

        Without a binding minimum it is the multiplier of Theorem 2.
        """
        least = [t.kept_min for t in self.tensors.values() if t.kept_min is not None]
        free = [s for s in least if self.pruned_max is None or s >= self.pruned_max]
        multiplier = min(free, default=self.pruned_max)
        if multiplier is None or not self.holds:
            raise OptimalityError(f"no dual multiplier: {self.fault or 'there is no weight'}")
        return multiplier

    @property
    def thresholds(self) -> dict[str, float]:
        """λ_t = λ − ν_t by name: with the mask and λ, the proof."""
        multiplier = self.dual_multiplier
        return {
            name: multiplier if tensor.kept_min is None else min(multiplier, tensor.kept_min)
            for name, tensor in self.tensors.items()
        }

    @property
    def binding(self) -> tuple[str, ...]:
        """The tensors whose minimum costs something, ν_t > 0: they keep less than is pruned.

        None iff the mask is an optimum without the minimums as well (Theorem 1).
        """
        multiplier = self.dual_multiplier
        return tuple(name for name, each in self.thresholds.items() if each < multiplier)

    @property
    def _whole(self) -> Optimality:
        return _together(self.tensors)

    @property
    def _loose(self) -> list[str]:
        """The tensors that keep more than their minimum, and may lose a weight to another."""
        return [n for n, t in self.tensors.items() if t.keep > self.minimums.get(n, 0)]

    @property
    def _spare(self) -> Optimality:
        """The weights that an exchange between tensors may prune, against all that it may keep."""
        loose = _together({name: self.tensors[name] for name in self._loose})
        return Optimality(loose.keep, self.total, loose.kept_min, self.pruned_max)


def constrained_optimality(
    importance: Mapping[str, Tensor],
    masks: Mapping[str, Tensor],
    minimums: Mapping[str, int],
    group: Group = SINGLE_PROCESS,
) -> ConstrainedOptimality:
    """Read the least kept and the largest pruned score of each tensor: O(n), comparisons only.

    Args:
        importance: finite scores s by tensor name.
        masks: bool masks of the same names and shapes, True = keep.
        minimums: l_t by tensor name; 0 for a tensor that is not named.
        group: the ranks, each with its part of every tensor.

    Raises:
        MaskError: names or shapes differ.
    """
    return ConstrainedOptimality(_tensor_by_tensor(importance, masks, group), dict(minimums))


def _tensor_by_tensor(
    importance: Mapping[str, Tensor], masks: Mapping[str, Tensor], group: Group
) -> dict[str, Optimality]:
    """The two numbers of each tensor by itself."""
    require_same_tensors(importance, masks)
    read = {}
    for name, scores in importance.items():
        mask = masks[name]
        kept, pruned = scores[mask], scores[~mask]
        read[name] = Optimality(
            keep=kept.numel(),
            total=scores.numel(),
            kept_min=kept.min().item() if kept.numel() else None,
            pruned_max=pruned.max().item() if pruned.numel() else None,
        )
    return read if group.size == 1 else _of_all_ranks(read, group)


def _of_all_ranks(own: Mapping[str, Optimality], group: Group) -> dict[str, Optimality]:
    """The numbers of each tensor, of which every rank has read its part."""
    none = float("nan")
    read = torch.tensor(
        [
            [t.keep, t.total]
            + [none if score is None else score for score in (t.kept_min, t.pruned_max)]
            for t in own.values()
        ],
        dtype=torch.float64,
    )
    parts = [part.view(-1, 4).tolist() for part in group.gathered(read.view(-1))]
    return {
        name: _together(
            {
                str(rank): Optimality(
                    int(part[number][0]),
                    int(part[number][1]),
                    *(None if math.isnan(score) else score for score in part[number][2:]),
                )
                for rank, part in enumerate(parts)
            }
        )
        for number, name in enumerate(own)
    }


def _together(tensors: Mapping[str, Optimality]) -> Optimality:
    """The two numbers of all tensors together; Python floats hold those of every dtype exactly."""
    each = tensors.values()
    return Optimality(
        keep=sum(tensor.keep for tensor in each),
        total=sum(tensor.total for tensor in each),
        kept_min=min((t.kept_min for t in each if t.kept_min is not None), default=None),
        pruned_max=max((t.pruned_max for t in each if t.pruned_max is not None), default=None),
    )
