"""Scopes: over what a pruner decides, and what the number means that it is given.

    flat    (importance, k) ↦ (n,) bool       k weights of all tensors together
    row     (matrix, k) ↦ bool of its shape   k weights of each row, as Wanda
    N:4     (matrix, k) ↦ bool of its shape   k of each four consecutive weights of a row
    2:4     (matrix, 2) ↦ bool of its shape   the same for k = 2 alone
    block   (matrix, k) ↦ bool of its shape   k blocks of 2 × 2, scored by their sums
    tree    (importance, root) ↦ (n,) bool    what a tree of bounds allows (`pins.selection.tree`)

True = keep. Rows are outputs. In each scope the allowed masks are those of a tree, so that the same
laws hold (`verification.laws.laws_of`).
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from pins.errors import CardinalityError, SettingError
from pins.selection.blocks import Blocks
from pins.selection.constraints import Cardinality, NofM
from pins.selection.reach import keep_of, total_reach
from pins.selection.tree import Node, Runs, TensorNode, View

Scores = Mapping[str, Tensor]
"""Importance by tensor name, larger = keep."""

Given = Scores | Tensor
"""What a selector gets: scores by name, or one matrix."""

Keep = int | Node
"""How many weights to keep: a number, or a tree of bounds."""

MATRIX = "weight"
"""The name of the one tensor of a scope of matrices."""


@dataclass(frozen=True)
class Scope:
    """Masks that a pruner may choose from, for scores and a number.

    Attributes:
        name: as `scope_of` takes it.
        tree: (importance, keep) ↦ the tree of the allowed masks.
        room: importance ↦ the largest number.
        keeps: what an allowed mask keeps, as a clause.
        best: what the optimum keeps.
        beside: with what a kept score is compared; empty: with each pruned one.
        permuted: what permutations the allowed masks are closed under.
        matrix: selectors get one matrix and return a mask of its shape.
        sides: outputs and inputs of a matrix are multiples of these.
        number: the only number; None: any from 0 to `room`.
        cut: tensors may be cut, matrices into rows, and the masks put together.
    """

    name: str
    tree: Callable[[Scores, Keep], Node]
    room: Callable[[Scores], int]
    keeps: str
    best: str
    beside: str
    permuted: str
    matrix: bool = True
    sides: tuple[int, int] = (1, 1)
    number: int | None = None
    cut: bool = False

    def named(self, given: Given) -> Scores:
        """The scores by name."""
        return {MATRIX: given} if isinstance(given, Tensor) else given

    def given(self, importance: Scores) -> Given:
        """What a selector gets."""
        return importance[MATRIX] if self.matrix else importance

    def successor(self, importance: Scores, keep: Keep) -> Keep | None:
        """One more than `keep`; None if no mask has as many."""
        if isinstance(keep, Node):
            more = keep_of(keep) + 1
            try:
                total_reach(raised := replace(keep, minimum=more, maximum=more))
            except CardinalityError:
                return None
            return raised
        return keep + 1 if keep < self.room(importance) else None

    def complement(self, importance: Scores, keep: Keep) -> Keep:
        """How many are pruned, of all weights in reverse order."""
        if isinstance(keep, Node):
            return _mirrored(keep)
        return self.room(importance) - keep


def _mirrored(node: Node) -> Node:
    """The tree of the complements of the allowed masks, of tensors that are flipped."""
    children = tuple(
        _mirrored_tensor(child) if isinstance(child, TensorNode) else _mirrored(child)
        for child in node.children
    )
    low, high = _pruned(node, node.size)
    return replace(node, children=children, minimum=low, maximum=high)


def _mirrored_tensor(node: TensorNode) -> TensorNode:
    low, high = _pruned(node, node.size)
    runs = []
    for each in node.runs:
        least, most = _pruned(each, each.length)
        runs.append(replace(each, minimum=least, maximum=most))
    zeros, fixed = (None if f is None else reverse(f) for f in (node.fixed, node.zeros))
    return replace(node, minimum=low, maximum=high, runs=tuple(runs), zeros=zeros, fixed=fixed)


def _pruned(bounds: Node | TensorNode | Runs, size: int) -> tuple[int, int]:
    """Bounds of the number of pruned weights."""
    return 0 if bounds.maximum is None else size - bounds.maximum, size - bounds.minimum


def reverse(tensor: Tensor) -> Tensor:
    """The tensor with its flat indices in reverse order; of the same shape."""
    return tensor.flip(tuple(range(tensor.dim())))


def _views(importance: Scores) -> dict[str, View]:
    return {name: View.of(scores.shape) for name, scores in importance.items()}


def _whole_model(importance: Scores, keep: Keep) -> Node:
    return Cardinality(_number(keep)).tree(_views(importance))


def _rows(importance: Scores, keep: Keep) -> Node:
    number, views = _number(keep), _views(importance)
    runs = {name: Runs(view.inputs, number, number, "row") for name, view in views.items()}
    total = sum(number * view.groups * view.outputs for view in views.values())
    nodes = tuple(TensorNode(name, view, runs=(runs[name],)) for name, view in views.items())
    return Node("the model", nodes, total, total)


def _number(keep: Keep) -> int:
    assert isinstance(keep, int)
    return keep


def _size(importance: Scores) -> int:
    return sum(scores.numel() for scores in importance.values())


FLAT = Scope(
    "flat",
    _whole_model,
    _size,
    keeps="The mask keeps exactly k weights",
    best="k largest scores",
    beside="",
    permuted="distinct scores",
    matrix=False,
    cut=True,
)
"""k weights of all tensors together."""

ROW = Scope(
    "row",
    _rows,
    lambda importance: importance[MATRIX].shape[1],
    keeps="Each row keeps exactly k weights",
    best="k largest scores of each row",
    beside=" of its row",
    permuted="rows, and distinct scores in them,",
    cut=True,
)
"""k weights of each row."""

TREE = Scope(
    "tree",
    lambda _, keep: keep if isinstance(keep, Node) else Node("", ()),
    _size,
    keeps="Each node keeps a number of weights within its bounds",
    best="largest scores that the bounds allow",
    beside=" that the bounds let take its place",
    permuted="distinct scores within a node, and nodes of equal structure,",
    matrix=False,
)
"""What a tree of bounds allows."""


def n_of_m(m: int, n: int | None = None) -> Scope:
    """k of each m consecutive weights of a row; with n for k = n alone."""
    return Scope(
        f"{'N' if n is None else n}:{m}",
        lambda importance, keep: NofM(_number(keep), m).tree(_views(importance)),
        lambda _: m,
        keeps=f"Each group of {m} keeps exactly k weights",
        best=f"k largest scores of each group of {m}",
        beside=" of its group",
        permuted="groups, and distinct scores in them,",
        sides=(1, m),
        number=n,
        cut=True,
    )


def blocks(rows: int = 2, columns: int = 2) -> Scope:
    """k blocks of rows × columns weights, each kept or pruned as a whole, scored by its sum."""
    return Scope(
        "block" if (rows, columns) == (2, 2) else f"block:{rows}x{columns}",
        lambda importance, keep: Blocks((rows, columns), Cardinality(_number(keep))).tree(
            _views(importance)
        ),
        lambda importance: _size(importance) // (rows * columns),
        keeps=f"The mask keeps exactly k blocks of {rows} × {columns}, each as a whole",
        best="k blocks with the largest sums",
        beside=", where the score of a block is its sum",
        permuted="blocks of distinct sums",
        sides=(rows, columns),
    )


_NAMED = {scope.name: scope for scope in (FLAT, ROW, blocks(), TREE)}


def scope_of(name: str) -> Scope:
    """The scope of that name: flat, row, N:4 or 2:4 (any numbers), block, block:4x4, or tree.

    Raises:
        SettingError: there is none.
    """
    if scope := _NAMED.get(name):
        return scope
    if (match := re.fullmatch(r"(N|\d+):(\d+)", name)) and (m := int(match[2])):
        n = None if match[1] == "N" else int(match[1])
        if n is None or n <= m:
            return n_of_m(m, n)
    if (match := re.fullmatch(r"block:(\d+)x(\d+)", name)) and int(match[1]) * int(match[2]):
        return blocks(int(match[1]), int(match[2]))
    raise SettingError(
        f"there is no scope {name!r}: give flat, row, 2:4 or N:4 (any numbers), block or "
        "block:4x4 (any sides), or tree"
    )
