"""Trees of bounds: how many weights each node keeps, l ≤ m(A) ≤ h.

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
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pins.distributed.process_group import SINGLE_PROCESS, Group
from pins.errors import CardinalityError


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

    @property
    def upper(self) -> int:
        """h as a number."""
        return self.length if self.maximum is None else self.maximum


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

    @property
    def upper(self) -> int:
        """h as a number."""
        return self.size if self.maximum is None else self.maximum

    @property
    def inside(self) -> bool:
        """Whether there are nodes inside it: runs or frozen weights."""
        return bool(self.runs) or self.zeros is not None or self.fixed is not None


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
    def upper(self) -> int:
        """h as a number."""
        return self.size if self.maximum is None else self.maximum

    @property
    def tensors(self) -> Iterator[TensorNode]:
        """The tensors below it, in order."""
        for child in self.children:
            if isinstance(child, TensorNode):
                yield child
            else:
                yield from child.tensors

    @property
    def zeros(self) -> dict[Any, Tensor]:
        """The weights with h = 0 of each tensor that has any, by its name."""
        return {node.name: node.zeros for node in self.tensors if node.zeros is not None}


def change_each(tree: Node, change: Callable[[TensorNode], TensorNode]) -> Node:
    """The tree with each tensor's node changed."""
    return replace(
        tree,
        children=tuple(
            change(child) if isinstance(child, TensorNode) else change_each(child, change)
            for child in tree.children
        ),
    )


def in_view(view: View, own: Tensor, group: Group) -> Tensor:
    """A tensor in the order of its view, flat, from this rank's part of it."""
    return view.apply(group.whole(own).reshape(view.shape))


def require_over(root: Node, sizes: Mapping[Any, int], group: Group = SINGLE_PROCESS) -> None:
    """Require a node of the right size for each tensor, and no other.

    Args:
        root: the tree.
        sizes: the number of weights of each tensor on this rank.
        group: the ranks.

    Raises:
        CardinalityError: there is none, or another; or what is frozen has another size.
    """
    known = {node.name: node for node in root.tensors}
    numbers = [[size, *_frozen_sizes(known.get(name), size)] for name, size in sizes.items()]
    totals = group.total(torch.tensor(numbers, dtype=torch.int64).view(-1, 3)).tolist()
    found = dict(zip(sizes, totals, strict=True))
    odd = [
        name
        for name in {**known, **sizes}
        if name not in known or found.get(name) != [known[name].view.weights.size] * 3
    ]
    if odd:
        raise CardinalityError(
            f"{root.name} and the scores differ in the tensors {odd[:3]} or their sizes: give a "
            "tree that has each tensor once, and masks of frozen weights in their shapes"
        )


def _frozen_sizes(node: TensorNode | None, size: int) -> list[int]:
    frozen = (None, None) if node is None else (node.zeros, node.fixed)
    return [size if each is None else each.numel() for each in frozen]
