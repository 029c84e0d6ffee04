"""Scores and a constraint → the optimal mask: exactly k kept, ties by index.

The mask keeps the k largest scores; among equal ones the lower flat index. `kth_largest` finds
the k-th largest exactly, without sorting, rounding or concatenating the model, so the answer is
the same on every device, for every chunking and on every rank. With a minimum in each tensor
(`pins.selection.constraints`) a few such selections make the mask.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
import torch
from torch import Tensor

from pins.distributed.process_group import SINGLE_PROCESS, Group
from pins.errors import CardinalityError, ImportanceError, OptimalityError
from pins.selection.blocks import block_masks, block_scores, elements, is_blocked, of_weights
from pins.selection.closed_form import ClosedForm
from pins.selection.constraints import Cardinality, Constraint
from pins.selection.kth_largest import KthLargest, Ranked, count, kth_largest, validate_and_sample
from pins.selection.optimality import Optimality, Part, of_nodes, optimality
from pins.selection.scan import float_keys
from pins.selection.scan.dispatch import scan_of
from pins.selection.scan.reference import Integers
from pins.selection.segments import Segments, whole_model
from pins.selection.transposable.constraint import TransposableNofM
from pins.selection.tree import Node, View, require_over
from pins.utils.lazy_tensors import shapes_of

Pattern = Callable[[Mapping[Any, int], Group], Segments]
"""(number of scores of this rank by tensor name, ranks) → segments."""


@dataclass(frozen=True)
class Decision:
    """One solved program max s·m over the masks a constraint allows: the optimum and its proof.

    Attributes:
        masks: bool masks by tensor name, True = keep.
        proof: Theorem 6, read back from scores and masks after the selection.
        tree: the masks allowed; of a transposable pattern those that have it in their rows.
    """

    masks: Mapping[str, Tensor]
    proof: Optimality
    tree: Node

    @property
    def binding(self) -> tuple[str, ...]:
        """The tensors whose bounds bind; empty iff the mask is an optimum of Σm = k alone."""
        return self.proof.binding


@overload
def select(
    importance: Tensor,
    keep: int | Constraint | Node,
    group: Group = SINGLE_PROCESS,
    *,
    views: None = None,
) -> Tensor: ...
@overload
def select(
    importance: Mapping[str, Tensor],
    keep: int | Constraint | Node,
    group: Group = SINGLE_PROCESS,
    *,
    views: Mapping[str, View] | None = None,
) -> dict[str, Tensor]: ...
@overload
def select(
    importance: Sequence[Tensor],
    keep: int | Constraint | Node,
    group: Group = SINGLE_PROCESS,
    *,
    views: None = None,
) -> Sequence[Tensor]: ...
def select(
    importance: Tensor | Mapping[str, Tensor] | Sequence[Tensor],
    keep: int | Constraint | Node,
    group: Group = SINGLE_PROCESS,
    *,
    views: Mapping[str, View] | None = None,
) -> Tensor | dict[str, Tensor] | Sequence[Tensor]:
    """argmax s·m over the masks m ∈ {0,1}ⁿ with 1·m = keep, or that a constraint allows.

    Of several optima it is the first in lexicographic order: the lower flat index is kept among
    equals.

    Args:
        importance: scores s, larger = keep: a tensor, or a sequence or mapping of tensors of
            any shapes, numbered row-major in the order given. float16, bfloat16, float32, float64.
        keep: the exact number k of ones over all tensors together, 0 ≤ k ≤ n; or a constraint.
        group: ranks that each hold a part of every tensor, contiguous and in the order of the
            ranks; k and n are of all together, the masks of the own parts.
        views: the outputs and inputs of each tensor by name; default: (…, outputs, inputs). With
            several ranks the constraint's runs need them: those of the whole tensors.

    Returns:
        Bool masks (True = keep) in the structure of `importance`.

    Raises:
        ImportanceError: NaN, ±inf, no weights, or not floating point; names tensor, index, value.
        CardinalityError: `keep` is not an int in [0, n], or no mask is allowed.
    """
    if isinstance(importance, Tensor):
        named: Mapping[Any, Tensor] = {None: importance}
    elif isinstance(importance, Mapping):
        named = importance
    else:
        named = dict(enumerate(importance))
    if isinstance(keep, Constraint | Node):
        masks: Mapping[Any, Tensor] = _optimum(named, tree_of(keep, named, group, views), group)
    else:
        masks = largest(named, [keep], whole_model, group)
    if isinstance(importance, Tensor):
        return masks[None]
    if isinstance(importance, Mapping):
        return dict(masks)
    return tuple(masks.values()) if isinstance(importance, tuple) else [*masks.values()]


def largest(
    importance: Mapping[Any, Tensor],
    keeps: Sequence[int] | Integers,
    pattern: Pattern,
    group: Group = SINGLE_PROCESS,
) -> Mapping[Any, Tensor]:
    """The masks of the k largest scores of each segment; the lower flat index among equals.

    Args:
        importance: as `select`, by name.
        keeps: k by segment.
        pattern: which scores are a segment: one of `pins.selection.segments`.
        group: as `select`.

    Raises:
        ImportanceError: as `select`.
        CardinalityError: a k is not an int in [0, n].
    """
    return kth_largest(_ranked(importance, pattern, group), keeps).masks


def decide(
    importance: Mapping[str, Tensor],
    keep: int | Constraint | Node | TransposableNofM,
    group: Group = SINGLE_PROCESS,
    *,
    views: Mapping[str, View] | None = None,
) -> Decision:
    """Solve the program and prove the solution: the closed form, then Theorem 6 on its result.

    Args:
        importance: scores s by tensor name, as `select`.
        keep: the constraint, on the tensors of all ranks; an int k is `Cardinality(k)`.
        group: as `select`.
        views: as `select`.

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
    if isinstance(keep, TransposableNofM):
        rows = keep.rows(shapes_of(importance))
        return Decision(*keep.solve(importance, group), rows)
    constraint = keep if isinstance(keep, Constraint | Node) else Cardinality(keep)
    tree = tree_of(constraint, importance, group, views)
    if is_blocked(tree):
        masks, scores = _of_blocks(importance, tree, group)
        own = block_masks(masks, tree, group)
        proof = optimality(scores, own, group, tree=elements(tree))
        return Decision(masks, _proved(proof), tree)
    closed_form = ClosedForm(importance, tree, group)
    masks = closed_form.masks()
    if (solved := closed_form.alone) is not None:
        parts = zip(solved.nodes, _proofs(solved.ranked, solved.found), strict=True)
        proof = of_nodes(tree, {node.name: part for node, part in parts})
    else:
        proof = optimality(importance, masks, group, tree=tree)
    return Decision(masks, _proved(proof), tree)


def _optimum(importance: Mapping[Any, Tensor], tree: Node, group: Group) -> dict[Any, Tensor]:
    """The first optimum of a tree in lexicographic order."""
    if is_blocked(tree):
        return _of_blocks(importance, tree, group)[0]
    return ClosedForm(importance, tree, group).masks()


def _of_blocks(
    importance: Mapping[Any, Tensor], tree: Node, group: Group
) -> tuple[dict[Any, Tensor], dict[Any, Tensor]]:
    """The optimum of a tree over blocks, of their weights, and the scores of the blocks."""
    scores = block_scores(importance, tree, group)
    masks = ClosedForm(scores, elements(tree), group).masks()
    return of_weights(masks, tree, importance, group), scores


def _proved(proof: Optimality) -> Optimality:
    """The proof.

    Raises:
        OptimalityError: it is none.
    """
    if proof.fault is not None:
        raise OptimalityError(f"the selection is not the optimum: {proof.fault}")
    return proof


def tree_of(
    constraint: Constraint | Node,
    importance: Mapping[Any, Tensor],
    group: Group = SINGLE_PROCESS,
    views: Mapping[Any, View] | None = None,
) -> Node:
    """The tree of bounds over the tensors of all ranks.

    Raises:
        CardinalityError: as `Constraint.tree`; or there are runs, several ranks and no views.
    """
    shapes = shapes_of(importance)
    if views is None and not isinstance(constraint, Node):
        views = {name: View.of(shape) for name, shape in shapes.items()}
        if group.size > 1:  # of parts only the sizes are known
            totals = group.total(torch.tensor([each.numel() for each in shapes.values()]))
            views = {name: View(1, 1, n) for name, n in zip(shapes, totals.tolist(), strict=True)}
            tree = constraint.tree(views)
            if any(node.runs for node in tree.tensors):
                raise CardinalityError(
                    "the constraint speaks of rows or groups, and the tensors are parts of larger "
                    "ones: give views="
                )
            return tree
        return constraint.tree(views)
    tree = constraint if isinstance(constraint, Node) else constraint.tree(views or {})
    require_over(tree, {name: shape.numel() for name, shape in shapes.items()}, group)
    return tree


def _proofs(ranked: Ranked, found: KthLargest) -> list[Part]:
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
        Part.of(keep, total, least[i] if keep else None, largest[i] if keep < total else None)
        for i, (keep, total) in enumerate(zip(keeps.tolist(), sizes.tolist(), strict=True))
    ]


def _ranked(importance: Mapping[Any, Tensor], pattern: Pattern, group: Group) -> Ranked:
    """The scores by segment, and a sample of them.

    Raises:
        ImportanceError: they cannot be ranked, or there is none.
    """
    scan = scan_of(importance)
    ranked = validate_and_sample(scan, pattern(scan.sizes, group), group)
    if not ranked.segments.sizes.sum():
        raise ImportanceError("importance is empty: there is no weight to rank")
    return ranked
