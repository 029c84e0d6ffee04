"""Scores and a constraint → the optimal mask: exactly k kept, ties by index.

The mask keeps the k largest scores; among equal ones the lower flat index. `kth_largest` finds
the k-th largest exactly, without sorting, rounding or concatenating the model, so the answer is
the same on every device, for every chunking and on every rank. With a minimum in each tensor
(`pins.selection.constraints`) a few such selections make the mask.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
import torch
from torch import Tensor

from pins.distributed.process_group import SINGLE_PROCESS, Group
from pins.errors import ImportanceError, OptimalityError
from pins.selection.constraints import Cardinality, Constraint, PerTensor
from pins.selection.kth_largest import KthLargest, Ranked, count, kth_largest, validate_and_sample
from pins.selection.optimality import ConstrainedOptimality, Optimality, constrained_optimality
from pins.selection.scan import float_keys
from pins.selection.scan.dispatch import scan_of
from pins.selection.scan.reference import Integers
from pins.selection.segments import Segments, each_tensor, whole_model
from pins.utils import bit_packing

Pattern = Callable[[Mapping[Any, int], Group], Segments]
"""(number of scores of this rank by tensor name, ranks) → segments."""


@dataclass(frozen=True)
class Decision:
    """One solved program max s·m over the masks a constraint allows: the optimum and its proof.

    Attributes:
        masks: bool masks by tensor name, True = keep.
        proof: Theorem 1, or 4 where tensors have minimums, read back from scores and masks after
            the selection.
        constraint: the masks allowed.
    """

    masks: Mapping[str, Tensor]
    proof: Optimality | ConstrainedOptimality
    constraint: Constraint

    @property
    def binding(self) -> tuple[str, ...]:
        """The tensors whose minimum binds: they keep a score below one that is pruned elsewhere.

        Empty iff the mask is an optimum of Σm = k alone. `PerTensor` has no minimums, so none bind.
        """
        if isinstance(self.proof, Optimality) or isinstance(self.constraint, PerTensor):
            return ()
        return self.proof.binding


@overload
def select(importance: Tensor, keep: int, group: Group = SINGLE_PROCESS) -> Tensor: ...
@overload
def select(
    importance: Mapping[str, Tensor], keep: int, group: Group = SINGLE_PROCESS
) -> dict[str, Tensor]: ...
@overload
def select(
    importance: Sequence[Tensor], keep: int, group: Group = SINGLE_PROCESS
) -> Sequence[Tensor]: ...
def select(
    importance: Tensor | Mapping[str, Tensor] | Sequence[Tensor],
    keep: int,
    group: Group = SINGLE_PROCESS,
) -> Tensor | dict[str, Tensor] | Sequence[Tensor]:
    """argmax s·m subject to 1·m = keep, m ∈ {0,1}ⁿ; the lower flat index is kept among equals.

    Args:
        importance: scores s, larger = keep: a tensor, or a sequence or mapping of tensors of
            any shapes, numbered row-major in the order given. float16, bfloat16, float32, float64.
        keep: the exact number k of ones over all tensors together, 0 ≤ k ≤ n.
        group: ranks that each hold a part of every tensor, contiguous and in the order of the
            ranks; k and n are of all together, the masks of the own parts.

    Returns:
        Bool masks (True = keep) in the structure of `importance`.

    Raises:
        ImportanceError: NaN, ±inf, no weights, or not floating point; names tensor, index, value.
        CardinalityError: `keep` is not an int in [0, n].
    """
    if isinstance(importance, Tensor):
        mask: Tensor = largest({None: importance}, [keep], whole_model, group)[None]
        return mask
    if isinstance(importance, Mapping):
        return dict(largest(importance, [keep], whole_model, group))
    masks = list(largest(dict(enumerate(importance)), [keep], whole_model, group).values())
    return tuple(masks) if isinstance(importance, tuple) else masks


def largest(
    importance: Mapping[Any, Tensor],
    keeps: Sequence[int] | Integers,
    pattern: Pattern,
    group: Group = SINGLE_PROCESS,
    names: Collection[Any] | None = None,
) -> Mapping[Any, Tensor]:
    """The masks of the k largest scores of each segment; the lower flat index among equals.

    Args:
        importance: as `select`, by name.
        keeps: k by segment.
        pattern: which scores are a segment: one of `pins.selection.segments`.
        group: as `select`.
        names: of the tensors to select from; default: all.

    Raises:
        ImportanceError: as `select`.
        CardinalityError: a k is not an int in [0, n].
    """
    return kth_largest(_ranked(importance, pattern, group, names), keeps).masks


def decide(
    importance: Mapping[str, Tensor], keep: int | Constraint, group: Group = SINGLE_PROCESS
) -> Decision:
    """Solve the program and prove the solution: select, then Theorem 1 or 4 on what came of it.

    Of several optima it is the one whose ones stand at the lowest flat indices (the first in
    lexicographic order): each tensor's minimum goes to its largest scores, then the rest to the
    largest of all others, and both times to the lower index among equals. Where the plain selection
    has every minimum already, the mask is the plain selection.

    Args:
        importance: scores s by tensor name, as `select`.
        keep: the constraint, on the tensors of all ranks; an int k is `Cardinality(k)`.
        group: as `select`.

    Raises:
        ImportanceError: as `select`.
        CardinalityError: no mask of these tensors meets the constraint.
        OptimalityError: the masks are not the optimum, which would be a defect of PINS.
    """
    if not isinstance(importance, Mapping):
        raise ImportanceError(
            f"decide() was given a {type(importance).__name__}: give a mapping of tensors by name, "
            "or call select()"
        )
    constraint = keep if isinstance(keep, Constraint) else Cardinality(keep)
    whole = isinstance(constraint, Cardinality)
    ranked = _ranked(importance, whole_model if whole else each_tensor, group)
    keeps = [constraint.keep]
    if not whole:
        totals = zip(importance, ranked.segments.sizes.tolist(), strict=True)
        constraint.validate({name: torch.Size([total]) for name, total in totals})
        if not isinstance(constraint, PerTensor):
            return _decide_with_minimums(importance, constraint, group)
        keeps = [constraint.keeps[name] for name in importance]
    found = kth_largest(ranked, keeps)
    proofs = _proofs(ranked, found)
    if whole:
        return Decision(found.masks, proofs[0], constraint)
    tensors = dict(zip(importance, proofs, strict=True))
    return Decision(found.masks, ConstrainedOptimality(tensors, constraint.minimums), constraint)


def _proofs(ranked: Ranked, found: KthLargest) -> list[Optimality]:
    """Theorem 1 for each segment with λ = s₍ₖ₎, read back from masks and scores in one more pass.

    No kept score is below λ and no pruned one above it; and there are pruned ones equal to it iff
    the search says that s₍ₖ₊₁₎ is (Theorem 3). Where nothing is kept, λ = s₍ₖ₊₁₎.

    Raises:
        OptimalityError: it is not so.
    """
    keeps, sizes, dtype = found.keeps, ranked.segments.sizes, ranked.scan.dtype
    against = np.where(keeps > 0, found.kept_min, found.pruned_max)
    counts = count(ranked, found.masks, against)
    kept, below, above, ties = counts.T
    tied = (keeps < sizes) & (found.pruned_max == against)
    wrong = np.flatnonzero((kept != keeps) | (below + above > 0) | ((ties > 0) != tied))
    ends = torch.from_numpy(np.stack([found.kept_min, found.pruned_max]))
    least, largest = float_keys.widened(float_keys.scores(ends, dtype), torch.float64).tolist()
    for i in wrong:
        raise OptimalityError(
            f"the selection kept {kept[i]} of {keeps[i]}; of λ = {least[i]}, {below[i]} kept "
            f"scores are below, {above[i]} pruned ones above and {ties[i]} equal to it"
        )
    return [
        Optimality(keep, total, least[i] if keep else None, largest[i] if keep < total else None)
        for i, (keep, total) in enumerate(zip(keeps.tolist(), sizes.tolist(), strict=True))
    ]


def _decide_with_minimums(
    importance: Mapping[str, Tensor], constraint: Constraint, group: Group
) -> Decision:
    """Masks by name with Σm = k and Σ_{i∈t} mᵢ ≥ l_t, and their proof.

    Where the plain selection gives a tensor less than its minimum, the optimum gives it exactly the
    minimum: that leaves the others fewer weights, hence a higher threshold. The others are a
    smaller program of the same kind, and each such round settles at least one tensor.
    """
    masks: dict[str, Tensor] = {}
    unsettled, left = list(importance), constraint.keep
    while unsettled:
        minimums = {name: constraint.minimums.get(name, 0) for name in unsettled}
        if sum(minimums.values()) == left:  # nothing beyond them to share
            short = unsettled
        else:
            plain = largest(importance, [left], whole_model, group, unsettled)
            counts = [int(bit_packing.ones(plain[name])) for name in unsettled]
            kept = group.total(torch.tensor(counts)).tolist()
            short = [n for n, own in zip(unsettled, kept, strict=True) if own < minimums[n]]
            if not short:
                masks |= plain
                break
        keeps = [minimums[name] for name in short]
        masks |= largest(importance, keeps, each_tensor, group, short)
        left -= sum(keeps)
        unsettled = [name for name in unsettled if name not in masks]
    masks = {name: masks[name] for name in importance}
    proof = constrained_optimality(importance, masks, constraint.minimums, group)
    if proof.keep != constraint.keep or not proof.holds:
        raise OptimalityError(
            f"the selection kept {proof.keep} of {constraint.keep} and proves {proof}"
        )
    return Decision(masks, proof, constraint)


def _ranked(
    importance: Mapping[Any, Tensor],
    pattern: Pattern,
    group: Group,
    names: Collection[Any] | None = None,
) -> Ranked:
    """The scores of some tensors by segment, and a sample of them.

    Raises:
        ImportanceError: they cannot be ranked, or the model has none.
    """
    scan = scan_of(importance, names)
    ranked = validate_and_sample(scan, pattern(scan.sizes, group), group)
    if not ranked.segments.sizes.sum() and len(scan.sizes) == len(importance):
        raise ImportanceError("importance is empty: there is no weight to rank")
    return ranked
