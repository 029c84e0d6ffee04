"""Scores and a constraint → the optimal mask: exactly k kept, ties by index.

The mask keeps the k largest scores; among equal ones the lower flat index.
`pins.selection.kth_largest` finds the k-th largest exactly, without sorting, rounding or
concatenating the model, so the answer is the same on every device, for every chunking and on every
rank. With a minimum in each tensor (`pins.selection.constraints`) a few such selections make the
mask.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, overload

import torch
from torch import Tensor

from pins.distributed.process_group import SINGLE_PROCESS, Group
from pins.errors import ImportanceError, OptimalityError
from pins.selection.constraints import Cardinality, Constraint, PerTensor, cardinality
from pins.selection.kth_largest import Cut, cut, survey
from pins.selection.optimality import (
    ConstrainedOptimality,
    Optimality,
    constrained_optimality,
    optimality,
)
from pins.selection.scan.dispatch import scan_of
from pins.selection.scan.reference import Scan, stacked
from pins.utils import bit_packing
from pins.utils.lazy_tensors import shapes_of


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
        return _largest({None: importance}, keep, group)[None]
    if isinstance(importance, Mapping):
        return _largest(importance, keep, group)
    masks = list(_largest(dict(enumerate(importance)), keep, group).values())
    return tuple(masks) if isinstance(importance, tuple) else masks


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
    if isinstance(constraint, Cardinality):
        return _decide_plain(importance, constraint, group)
    sizes = {name: shape.numel() for name, shape in shapes_of(importance).items()}
    _surveyed(importance, list(sizes), group)
    totals = group.total(torch.tensor(list(sizes.values()), dtype=torch.int64)).tolist()
    constraint.validate({n: torch.Size([t]) for n, t in zip(sizes, totals, strict=True)})
    masks = _with_minimums(importance, constraint, group)
    proof = constrained_optimality(importance, masks, constraint.minimums, group)
    if proof.keep != constraint.keep or not proof.holds:
        raise OptimalityError(
            f"the selection kept {proof.keep} of {constraint.keep} and proves {proof}"
        )
    return Decision(masks, proof, constraint)


def _decide_plain(
    importance: Mapping[str, Tensor], constraint: Cardinality, group: Group
) -> Decision:
    scan, sample, total = _surveyed(importance, shapes_of(importance), group)
    keep = cardinality(constraint.keep, total)
    if keep in (0, total):
        masks = _all_alike(importance, scan, kept=keep > 0)
        return Decision(masks, optimality(importance, masks, group), constraint)
    found = cut(scan, sample, keep, total, group)
    return Decision(found.masks, _proof(scan, found, keep, total, group), constraint)


def _proof(scan: Scan, found: Cut, keep: int, total: int, group: Group) -> Optimality:
    """Theorem 1 with λ = s₍ₖ₎, read back from masks and scores in one more pass.

    No kept score is below λ and no pruned one above it; and there are pruned ones equal to it iff
    the search says that s₍ₖ₊₁₎ is (Theorem 3).

    Raises:
        OptimalityError: it is not so.
    """
    least, next_ = scan.bound_of(found.kept_min), scan.bound_of(found.pruned_max)
    counts = group.total(torch.tensor(scan.compared(found.masks, least)))
    kept, below, above, ties = counts.tolist()
    if kept != keep or below or above or (ties > 0) != (next_ == least):
        raise OptimalityError(
            f"the selection kept {kept} of {keep}; of λ = {found.kept_min}, {below} kept scores "
            f"are below, {above} pruned ones above and {ties} equal to it"
        )
    return Optimality(keep, total, found.kept_min, found.pruned_max)


def _with_minimums(
    importance: Mapping[str, Tensor], constraint: Constraint, group: Group
) -> dict[str, Tensor]:
    """Masks by name with Σm = k and Σ_{i∈t} mᵢ ≥ l_t.

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
            plain = _largest(importance, left, group, unsettled)
            kept = group.total(stacked([bit_packing.ones(plain[name]) for name in unsettled]))
            short = [n for n, own in zip(unsettled, kept, strict=True) if own < minimums[n]]
            if not short:
                masks |= plain
                break
        for name in short:
            masks |= _largest(importance, minimums[name], group, [name])
            left -= minimums[name]
        unsettled = [name for name in unsettled if name not in masks]
    return {name: masks[name] for name in importance}


def _largest(
    importance: Mapping[Any, Tensor],
    keep: int,
    group: Group,
    names: Collection[Any] | None = None,
) -> dict[Any, Tensor]:
    """The masks of the k largest scores of some tensors; the lower flat index among equals."""
    scan, sample, total = _surveyed(
        importance, shapes_of(importance) if names is None else names, group
    )
    keep = cardinality(keep, total)
    if keep in (0, total):
        return _all_alike(importance, scan, kept=keep > 0)
    return cut(scan, sample, keep, total, group).masks


def _surveyed(
    importance: Mapping[Any, Tensor], names: Collection[Any], group: Group
) -> tuple[Scan, Tensor, int]:
    """The scores, a sample of them, and their number over all ranks.

    Raises:
        ImportanceError: they cannot be ranked, or there are none.
    """
    scan = scan_of(importance, names, group)
    total = int(group.total(torch.tensor(sum(scan.sizes.values()))))
    sample = survey(scan, total, group)
    if not total and len(names) == len(importance):
        raise ImportanceError("importance is empty: there is no weight to rank")
    return scan, sample, total


def _all_alike(importance: Mapping[Any, Tensor], scan: Scan, *, kept: bool) -> dict[Any, Tensor]:
    """All are kept, or none."""
    return {name: torch.full_like(importance[name], kept, dtype=torch.bool) for name in scan.sizes}
