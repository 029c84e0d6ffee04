"""The 0-1 program of a tree of bounds, or of several trees over the same weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from scipy import sparse

from pins.selection.constraints import Constraint
from pins.selection.tree import Node, TensorNode, View, require_over
from solvers.formulation import Formulation
from solvers.program import BinaryProgram, Sense


class Part(NamedTuple):
    """A node as a set of variables.

    Attributes:
        name: of the node; of a run, the tensor's name and its number within it.
        variables: the indices of its weights in x.
        minimum: l.
        maximum: h, at most the number of its weights.
        parent: the place of the parent among the tree's parts; −1 of the root.
    """

    name: str
    variables: npt.NDArray[np.int64]
    minimum: int
    maximum: int
    parent: int


class Row(NamedTuple):
    """A row of the program: Σ_{i∈A} xᵢ = l, Σ_{i∈A} xᵢ ≤ h, or −Σ_{i∈A} xᵢ ≤ −l.

    Attributes:
        tree: the place of the tree.
        part: the place of A among its parts.
        sign: 1, or −1 of a row that states a minimum.
        sense: of the row.
        bound: the right side.
    """

    tree: int
    part: int
    sign: int
    sense: Sense
    bound: int


@dataclass(frozen=True, eq=False)
class TreeFormulation(Formulation):
    """max s·m, l_A ≤ m(A) ≤ h_A in each node A   ⇄   min (−s)·x over the same rows, x ∈ {0,1}ⁿ.

    A node has one row if l = h, else one for each of l and h that is more than 0 ≤ m(A) ≤ |A|. With
    several trees the program has the rows of all. The rows of one tree, and of two, are totally
    unimodular: the LP relaxation has an integral optimum; those of three are not.

    A tree without an allowed mask gives a program without a feasible point.

    Attributes:
        importance: s by tensor name, as in `CardinalityFormulation`.
        constraint: the tree, a constraint that has one, or several of both.
        program: the 0-1 program, objective −s. The flat order is the order of `importance`, each
            tensor in the order of its view in the first tree.
        trees: the parts of each tree, parents before children.
        rows: the meaning of each row of the program.

    Raises:
        ImportanceError: as `CardinalityFormulation`.
        CardinalityError: a tree's tensors are not those of `importance`.
    """

    importance: Mapping[str, torch.Tensor]
    constraint: Constraint | Node | Sequence[Constraint | Node]
    program: BinaryProgram = field(init=False)
    trees: tuple[tuple[Part, ...], ...] = field(init=False, repr=False)
    rows: tuple[Row, ...] = field(init=False, repr=False)
    _views: Mapping[str, View] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        given = self.constraint if isinstance(self.constraint, Sequence) else [self.constraint]
        views = {name: View.of(scores.shape) for name, scores in self.importance.items()}
        roots = [each if isinstance(each, Node) else each.tree(views) for each in given]
        for root in roots:
            require_over(root, {name: s.numel() for name, s in self.importance.items()})
        object.__setattr__(self, "_views", {each.name: each.view for each in roots[0].tensors})
        scores = self.flat(self.importance)
        numbers = self._unflat(torch.arange(scores.size))
        trees = tuple(tuple(_parts(root, numbers)) for root in roots)
        rows = tuple(_rows(trees))
        variables = [np.sort(trees[row.tree][row.part].variables) for row in rows]
        sizes = [each.size for each in variables]
        matrix = sparse.csr_array(
            (
                np.repeat([float(row.sign) for row in rows], sizes),
                np.concatenate([np.zeros(0, dtype=np.int64), *variables]),
                np.cumsum([0, *sizes]),
            ),
            shape=(len(rows), scores.size),
        )
        program = BinaryProgram(
            objective=-scores,
            matrix=matrix,
            senses=tuple(row.sense for row in rows),
            rhs=np.array([row.bound for row in rows], dtype=np.float64),
        )
        for name, value in {"program": program, "trees": trees, "rows": rows}.items():
            object.__setattr__(self, name, value)

    def view(self, name: str, scores: torch.Tensor) -> View:  # noqa: ARG002 (of the first tree)
        """The tensor's view in the first tree."""
        return self._views[name]


def _parts(root: Node, numbers: Mapping[str, torch.Tensor]) -> list[Part]:
    """The nodes of a tree, parents first; `numbers` are the indices in x by tensor name."""
    found: list[Part] = []

    def add(
        name: str, variables: npt.NDArray[np.int64], low: int, high: int | None, parent: int
    ) -> int:
        most = variables.size if high is None else min(high, variables.size)
        found.append(Part(name, variables, low, most, parent))
        return len(found) - 1

    def add_tensor(node: TensorNode, parent: int) -> None:
        own = _variables(node, numbers)
        places, length = [add(node.name, own, node.minimum, node.maximum, parent)], node.size
        for runs in node.runs if own.size else ():
            places = [
                add(
                    f"{runs.name} {i} of {node.name}",
                    own[start : start + runs.length],
                    runs.minimum,
                    runs.maximum,
                    places[start // length],
                )
                for i, start in enumerate(range(0, own.size, runs.length))
            ]
            length = runs.length
        for which, bound in ((node.zeros, 0), (node.fixed, 1)):
            if which is not None:
                for i in torch.nonzero(node.view.apply(which)).flatten().tolist():
                    name = f"weight {i} of {node.name}"
                    add(name, own[i : i + 1], bound, bound, places[i // length])

    def add_node(node: Node, parent: int) -> None:
        own = [_variables(each, numbers) for each in node.tensors]
        variables = np.concatenate([np.zeros(0, dtype=np.int64), *own])
        place = add(node.name, variables, node.minimum, node.maximum, parent)
        for child in node.children:
            if isinstance(child, TensorNode):
                add_tensor(child, place)
            else:
                add_node(child, place)

    add_node(root, -1)
    return found


def _variables(node: TensorNode, numbers: Mapping[str, torch.Tensor]) -> npt.NDArray[np.int64]:
    """The indices in x of a tensor's weights, in the order of its view."""
    flat: npt.NDArray[np.int64] = node.view.apply(numbers[node.name]).numpy()
    return flat


def _rows(trees: Sequence[Sequence[Part]]) -> list[Row]:
    """The rows of all nodes that say more than 0 ≤ m(A) ≤ |A|."""
    found = []
    for tree, parts in enumerate(trees):
        for place, part in enumerate(parts):
            low, high, size = part.minimum, part.maximum, part.variables.size
            if low == high and size:
                found.append(Row(tree, place, 1, Sense.EQUAL, low))
                continue
            if high < size:
                found.append(Row(tree, place, 1, Sense.LESS_OR_EQUAL, high))
            if low > 0:
                found.append(Row(tree, place, -1, Sense.LESS_OR_EQUAL, -low))
    return found
