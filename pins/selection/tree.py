"""Trees of bounds: how many weights each node keeps, l ≤ m(A) ≤ h, and whether a mask exists.

The nodes of a tree are sets of weights. The root holds all of them; the children of a node are
disjoint parts of it; m(A) is the number of kept weights in A:

    max s·m   s.t.   l_A ≤ m(A) ≤ h_A for each node A,   m ∈ {0,1}ⁿ,   l = h = k in the root     (T)

A family of sets of which any two are disjoint or nested is called laminar. Its rows are totally
unimodular, so the LP relaxation of (T) has an integral optimum, and Theorem 6
(`pins.selection.optimality`) proves masks by counts and comparisons.

A tree goes down to tensors by objects, and within a tensor by *runs*: every L consecutive weights
of its view (groups, outputs, inputs) are a node, all with the same bounds. So the rows of a matrix,
or millions of groups of four, are one object. Below all runs each single weight may be a node:
h = 0 freezes a zero, l = 1 freezes a weight.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pins.distributed.process_group import SINGLE_PROCESS, Group
from pins.errors import CardinalityError

Counts: TypeAlias = NDArray[np.int64]
"""One number for each run of a tensor, or one for all of them: shape (runs,) or (1,)."""


class View(NamedTuple):
    """A weight tensor as `groups` matrices of (outputs, inputs), each output a row.

    Attributes:
        groups: experts of a 3-D weight; else 1.
        outputs: rows of each matrix.
        inputs: weights of a row.
        transposed: the matrices are stored (inputs, outputs), as GPT-2's `Conv1D` does.
        block: outputs and inputs of an element: numbers are of such blocks, and their scores sums.
    """

    groups: int
    outputs: int
    inputs: int
    transposed: bool = False
    block: tuple[int, int] = (1, 1)

    @classmethod
    def of(cls, shape: Sequence[int], *, transposed: bool = False) -> "View":
        """The view of a tensor: (…, outputs, inputs); of one dimension or none, a single row."""
        rows, columns = (1, *shape)[-2:] if shape else (1, 1)
        if transposed := transposed and len(shape) > 1:
            rows, columns = columns, rows
        return cls(math.prod(shape[:-2]), rows, columns, transposed)

    @property
    def stored(self) -> "View":
        """The order of the storage as a view."""
        return View(*self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return self.groups * self.outputs * self.inputs

    @property
    def weights(self) -> "View":
        """The view whose elements are the weights."""
        rows, columns = self.block
        return View(self.groups, self.outputs * rows, self.inputs * columns, self.transposed)

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape in which the tensor is stored."""
        rows, columns = self.outputs, self.inputs
        return (self.groups, columns, rows) if self.transposed else (self.groups, rows, columns)

    def apply(self, tensor: Tensor) -> Tensor:
        """The tensor in the order of the view, flat; a copy where it is stored transposed."""
        return (tensor.transpose(-1, -2) if self.transposed else tensor).reshape(-1)

    def invert(self, flat: Tensor) -> Tensor:
        """What is in the order of the view, in that of the storage; flat."""
        if not self.transposed:
            return flat
        return flat.view(self.groups, self.outputs, self.inputs).transpose(-1, -2).reshape(-1)


@dataclass(frozen=True)
class Runs:
    """Nodes: each `length` consecutive weights of a tensor in the order of its view.

    Attributes:
        length: a divisor of the tensor's size, and of the next longer runs.
        minimum: l of each.
        maximum: h of each; None: its length.
        name: what messages call one of them.
    """

    length: int
    minimum: int = 0
    maximum: int | None = None
    name: str = "run"


@dataclass(frozen=True)
class TensorNode:
    """The node of one tensor.

    Attributes:
        name: of the tensor.
        view: how its weights are ordered.
        minimum: l.
        maximum: h; None: its size.
        runs: the nodes inside, longest first; each length divides the one before.
        zeros: bool, in the shape of the tensor: the weights with h = 0. Of a sharded tensor it is
            this rank's part.
        fixed: bool, likewise: the weights with l = 1.
    """

    name: str
    view: View
    minimum: int = 0
    maximum: int | None = None
    runs: tuple[Runs, ...] = ()
    zeros: Tensor | None = field(default=None, compare=False)
    fixed: Tensor | None = field(default=None, compare=False)

    @property
    def size(self) -> int:
        """Number of weights of all ranks."""
        return self.view.size


@dataclass(frozen=True)
class Node:
    """A node whose children are tensors or other nodes.

    Attributes:
        name: what messages call it.
        children: disjoint parts, which hold all weights of the node.
        minimum: l.
        maximum: h; None: its size.

    Raises:
        CardinalityError: two nodes in it have one name.
    """

    name: str
    children: tuple["Node | TensorNode", ...]
    minimum: int = 0
    maximum: int | None = None

    def __post_init__(self) -> None:
        names = Counter(self.names)
        if twice := [name for name, number in names.items() if number > 1]:
            raise CardinalityError(
                f"{names[twice[0]]} nodes of a tree are called {twice[0]!r}: give each its own name"
            )

    @property
    def names(self) -> Iterator[Any]:
        """Its own name and those of all nodes below it."""
        yield self.name
        for child in self.children:
            yield from child.names if isinstance(child, Node) else [child.name]

    @property
    def size(self) -> int:
        """Number of weights."""
        return sum(child.size for child in self.children)

    @property
    def tensors(self) -> Iterator[TensorNode]:
        """The tensors below it, in order."""
        for child in self.children:
            if isinstance(child, TensorNode):
                yield child
            else:
                yield from child.tensors


def change_each(tree: Node, change: Callable[[TensorNode], TensorNode]) -> Node:
    """The tree with each tensor's node changed."""
    return replace(
        tree,
        children=tuple(
            change(child) if isinstance(child, TensorNode) else change_each(child, change)
            for child in tree.children
        ),
    )


class Reach(NamedTuple):
    """The numbers that the nodes of one kind can keep: every integer low ≤ m(A) ≤ high.

    low = max(l, Σ low of the children), high = min(h, Σ high of the children).
    """

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
    shortest = node.runs[-1].length if node.runs else node.size
    frozen = (_frozen(each, node.view, shortest, group) for each in (node.fixed, node.zeros))
    fixed, zeros = frozen
    found, inner = [Reach(fixed, shortest - zeros)], shortest
    for runs in (*reversed(node.runs), Runs(node.size, node.minimum, node.maximum, "")):
        if runs.length and (inner < 1 or runs.length % inner):
            raise CardinalityError(
                f"{node.name!r} has {runs.length} weights in a {runs.name or 'tensor'}, which is "
                f"no multiple of {inner}: choose a number that divides it"
            )
        parts = runs.length // inner if inner else 1
        low, high = (part_sums(each, parts) for each in found[-1])
        bounds = f"{runs.name} {{}} of {node.name!r}" if runs.name else repr(node.name)
        found.append(_bounded(low, high, runs.minimum, runs.maximum, bounds, runs.length))
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
    return _bounded(low, high, node.minimum, node.maximum, node.name, node.size)


def require_over(root: Node, sizes: Mapping[Any, int]) -> None:
    """Require a node of the right size for each tensor, and no other.

    Raises:
        CardinalityError: there is none, or another.
    """
    known = {node.name: node.size for node in root.tensors}
    if odd := [name for name in {**known, **sizes} if known.get(name) != sizes.get(name)]:
        raise CardinalityError(
            f"{root.name} and the scores differ in the tensors {odd[:3]} or their sizes: give a "
            "tree that has each tensor once"
        )


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
    low, high = total_reach(tree, group)
    if low != high:
        raise CardinalityError(
            f"{tree.name} may keep {low[0]} to {high[0]} of {tree.size} weights: say how many, as "
            "by & Cardinality(k)"
        )
    return int(low[0])


def together(parts: Sequence[Reach]) -> Reach:
    """The numbers that disjoint nodes can keep together."""
    none = np.zeros(1, dtype=np.int64)
    return Reach(sum((each.low for each in parts), none), sum((each.high for each in parts), none))


def _bounded(
    low: Counts, high: Counts, minimum: int, maximum: int | None, name: str, size: int
) -> Reach:
    """Σ of the children, cut to the bounds of a node."""
    maximum = size if maximum is None else min(maximum, size)
    low, high = np.broadcast_arrays(low, high)
    least, most = np.maximum(low, minimum), np.minimum(high, maximum)
    if (wrong := np.flatnonzero(least > most)).size:
        i = int(wrong[0])
        asked = f"exactly {minimum}" if minimum == maximum else f"{minimum} to {maximum}"
        raise CardinalityError(
            f"{name.format(i)} is to keep {asked} of its {size} weights, and the "
            f"bounds inside it allow {low[i]} to {high[i]}: no mask meets both"
        )
    return Reach(least, most)


def part_sums(counts: Counts, parts: int) -> Counts:
    """Σ over each `parts` consecutive numbers; of one number for all, a multiple."""
    return counts * parts if len(counts) == 1 else counts.reshape(-1, parts).sum(1)


def in_view(view: View, own: Tensor, group: Group) -> Tensor:
    """A tensor in the order of its view, flat, from this rank's part of it."""
    if group.size > 1:
        own = torch.cat(group.gathered(own.reshape(-1)))
    return view.apply(own.reshape(view.shape))


def _frozen(which: Tensor | None, view: View, length: int, group: Group) -> Counts:
    """The number of frozen weights in each run of `length`; one number for all without any."""
    if which is None or not view.size:
        return np.zeros(1, dtype=np.int64)
    return in_view(view, which, group).view(-1, length).sum(1).cpu().numpy()
