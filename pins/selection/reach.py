"""The numbers of weights that the nodes of a tree of bounds can keep, and whether a mask exists.

What node A can keep are all integers from low to high, from the inside to the outside:

    low = max(l, Σ low of the children),   high = min(h, Σ high of the children)

A mask is allowed by the tree (`pins.selection.tree`) iff low ≤ high in every node.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pins.distributed.process_group import SINGLE_PROCESS, Group
from pins.errors import CardinalityError
from pins.selection.tree import Node, Runs, TensorNode, View, in_view

Counts: TypeAlias = NDArray[np.int64]
"""One number for each run of a tensor, or one for all of them: shape (runs,) or (1,)."""


class Reach(NamedTuple):
    """The numbers that the nodes of one kind can keep: every integer low ≤ m(A) ≤ high."""

    low: Counts
    high: Counts

    @property
    def settled(self) -> bool:
        """Each of these nodes can keep one number only."""
        return bool((self.low == self.high).all())


def reaches(node: TensorNode, group: Group = SINGLE_PROCESS) -> list[Reach]:
    """The numbers that the nodes of a tensor can keep, from the inside to the outside.

    Returns:
        First of the single weights together, by the shortest runs; then of each of `node.runs`,
        shortest first; last of the tensor itself, of shape (1,).

    Raises:
        CardinalityError: a node can keep none; names node, bounds and size.
    """
    kinds = (Runs(node.size, node.minimum, node.maximum, "tensor"), *node.runs)
    for longer, shorter in pairwise(kinds):
        if shorter.length < 1 or longer.length % shorter.length:
            raise CardinalityError(
                f"{node.name!r} has {longer.length} weights in a {longer.name}, which is no "
                f"multiple of {shorter.length}: choose a number that divides it"
            )
    inner = kinds[-1].length
    fixed, zeros, both = (
        _frozen(each, node.view, inner, group)
        for each in (node.fixed, node.zeros, _and(node.fixed, node.zeros))
    )
    if both.any():
        raise CardinalityError(
            f"{both.sum()} weights of {node.name!r} are frozen as zero and as kept"
        )
    found = [Reach(fixed, inner - zeros)]
    for runs in reversed(kinds):
        parts = runs.length // inner if inner else 1
        low, high = (part_sums(each, parts) for each in found[-1])
        kind = "" if runs is kinds[0] else runs.name
        found.append(
            _bounded(low, high, runs.minimum, runs.maximum, runs.length, repr(node.name), kind)
        )
        inner = runs.length
    return found


def reach(node: Node, children: Sequence[Reach]) -> Reach:
    """The numbers that a node can keep.

    Args:
        node: the node.
        children: their numbers, each of shape (1,).

    Raises:
        CardinalityError: as `reaches`.
    """
    low, high = together(children)
    return _bounded(low, high, node.minimum, node.maximum, node.size, node.name)


def total_reach(node: Node | TensorNode, group: Group = SINGLE_PROCESS) -> Reach:
    """The numbers that a node can keep, from all that is inside it.

    Raises:
        CardinalityError: as `reaches`.
    """
    if isinstance(node, TensorNode):
        return reaches(node, group)[-1]
    return reach(node, [total_reach(child, group) for child in node.children])


def keep_of(tree: Node, group: Group = SINGLE_PROCESS) -> int:
    """The number k of weights that every allowed mask keeps.

    Raises:
        CardinalityError: no mask is allowed, or the bounds leave k open.
    """
    return only_number(tree, total_reach(tree, group))


def only_number(tree: Node, found: Reach) -> int:
    """The number of weights that a tree can keep, of one that can keep a single one.

    Raises:
        CardinalityError: it can keep several.
    """
    low, high = (int(each[0]) for each in found)
    if low != high:
        raise CardinalityError(
            f"{tree.name} may keep {low} to {high} of {tree.size} weights: say how many, as by "
            "& Cardinality(k)"
        )
    return low


def together(parts: Sequence[Reach]) -> Reach:
    """The numbers that disjoint nodes can keep together."""
    none = np.zeros(1, dtype=np.int64)
    return Reach(sum((each.low for each in parts), none), sum((each.high for each in parts), none))


def _bounded(
    low: Counts,
    high: Counts,
    minimum: int,
    maximum: int | None,
    size: int,
    name: str,
    kind: str = "",
) -> Reach:
    """Σ of the children, cut to the bounds of a node."""
    maximum = size if maximum is None else min(maximum, size)
    low, high = np.broadcast_arrays(low, high)
    least, most = np.maximum(low, minimum), np.minimum(high, maximum)
    if (wrong := np.flatnonzero(least > most)).size:
        i = int(wrong[0])
        which = f"{kind} {i} of {name}" if kind else name
        asked = f"exactly {minimum}" if minimum == maximum else f"{minimum} to {maximum}"
        raise CardinalityError(
            f"{which} is to keep {asked} of its {size} weights, and the "
            f"bounds inside it allow {low[i]} to {high[i]}: no mask meets both"
        )
    return Reach(least, most)


def part_sums(counts: Counts, parts: int) -> Counts:
    """Σ over each `parts` consecutive numbers; of one number for all, a multiple."""
    return counts * parts if len(counts) == 1 else counts.reshape(-1, parts).sum(1)


def _frozen(which: Tensor | None, view: View, length: int, group: Group) -> Counts:
    """The number of frozen weights in each run of `length`; one number for all without any."""
    if which is None or not view.size:
        return np.zeros(1, dtype=np.int64)
    return in_view(view, which, group).view(-1, length).sum(1).cpu().numpy()


def _and(first: Tensor | None, second: Tensor | None) -> Tensor | None:
    return None if first is None or second is None else first & second
