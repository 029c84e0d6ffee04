"""A tree of bounds of each kind that people prune with."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import product

import torch
from torch import Tensor

from pins.selection.tree import Node, Runs, TensorNode, View

KEPT_RATIO = 0.2  # of all weights, unless a pattern says otherwise
MINIMUM_RATIO = 0.1  # of each tensor

Tensors = Mapping[str, Tensor]
Builder = Callable[[Tensors], Node]
"""Scores ↦ a tree over their tensors, which are matrices with a multiple of 4 inputs."""


def _model(leaves: Iterator[TensorNode], ratio: float = KEPT_RATIO) -> Node:
    """The root above all tensors, with `ratio` of their weights kept."""
    tensors = tuple(leaves)
    keep = round(ratio * sum(leaf.size for leaf in tensors))
    return Node("model", tensors, keep, keep)


def minimums(scores: Tensors) -> Node:
    """At least `MINIMUM_RATIO` of each tensor."""
    leaves = _leaves(scores)
    return _model(replace(leaf, minimum=round(MINIMUM_RATIO * leaf.size)) for leaf in leaves)


def per_tensor(scores: Tensors) -> Node:
    """The same ratio of each tensor."""
    leaves = [(leaf, round(KEPT_RATIO * leaf.size)) for leaf in _leaves(scores)]
    found = tuple(replace(leaf, minimum=keep, maximum=keep) for leaf, keep in leaves)
    keep = sum(keep for _, keep in leaves)
    return Node("model", found, keep, keep)


def rows(scores: Tensors) -> Node:
    """One number of weights in each row, as Wanda."""
    return _exact_runs(_leaves(scores), lambda view: view.inputs, KEPT_RATIO)


def columns(scores: Tensors) -> Node:
    """One number of weights in each column: rows of tensors that are stored transposed."""
    leaves = (
        TensorNode(name, View.of(tensor.shape, transposed=True)) for name, tensor in scores.items()
    )
    return _exact_runs(leaves, lambda view: view.inputs, KEPT_RATIO)


def two_of_four(scores: Tensors) -> Node:
    """Two of each four consecutive weights."""
    return _exact_runs(_leaves(scores), lambda _: 4, 0.5)


def at_most_two_of_four(scores: Tensors) -> Node:
    """Two of four at most, and one ranking."""
    return _model((replace(leaf, runs=(Runs(4, 0, 2),)) for leaf in _leaves(scores)), 0.4)


def heads(scores: Tensors) -> Node:
    """Pairs of tensors, tensors, halves of a tensor and rows, each with a minimum and a maximum."""
    leaves = []
    for leaf in _leaves(scores):
        half, inputs = leaf.size // 2, leaf.view.inputs
        runs = (Runs(half, 1, half // 2, "head"), Runs(inputs, 1, inputs // 2, "row"))
        leaves.append(replace(leaf, maximum=2 * leaf.size // 5, runs=runs))
    pairs = [tuple(leaves[i : i + 2]) for i in range(0, len(leaves), 2)]
    sizes = [sum(leaf.size for leaf in pair) for pair in pairs]
    layers = tuple(
        Node(f"pair {i}", pair, size // 8, size // 3)
        for i, (pair, size) in enumerate(zip(pairs, sizes, strict=True))
    )
    keep = round(KEPT_RATIO * sum(sizes))
    return Node("model", layers, keep, keep)


def frozen(scores: Tensors) -> Node:
    """Each fifth weight is a zero that stays, each fourth row keeps its first weight."""
    leaves = []
    for leaf in _leaves(scores):
        places = torch.arange(leaf.size)
        zeros, fixed = places % 5 == 4, places % (4 * leaf.view.inputs) == 0
        shape = scores[leaf.name].shape
        leaves.append(replace(leaf, zeros=zeros.view(shape), fixed=fixed.view(shape)))
    return _model(iter(leaves))


BUILDERS: tuple[Builder, ...] = (
    minimums,
    per_tensor,
    rows,
    columns,
    two_of_four,
    at_most_two_of_four,
    heads,
    frozen,
)


def _leaves(scores: Tensors) -> Iterator[TensorNode]:
    """A node without bounds for each tensor."""
    return (TensorNode(name, View.of(tensor.shape)) for name, tensor in scores.items())


def _exact_runs(leaves: Iterator[TensorNode], length: Callable[[View], int], ratio: float) -> Node:
    """l = h in runs of each tensor, so in all nodes."""
    found, total = [], 0
    for leaf in leaves:
        run = length(leaf.view)
        keep = round(ratio * run)
        total += keep * leaf.size // run
        found.append(replace(leaf, runs=(Runs(run, keep, keep),)))
    return Node("model", tuple(found), total, total)


def square(scores: Tensor) -> tuple[dict[str, Tensor], tuple[Node, Node, Node]]:
    """One of each row, of each column and of each diagonal: three trees over single weights.

    Args:
        scores: (m, m).

    Returns:
        The scores by name, and the trees.
    """
    size = scores.shape[0]
    named = {f"{i}, {j}": scores[i, j] for i, j in product(range(size), range(size))}
    leaves = [TensorNode(name, View(1, 1, 1)) for name in named]
    rows = [leaves[i * size : (i + 1) * size] for i in range(size)]
    columns = [leaves[j::size] for j in range(size)]
    diagonals = [[row[(d - i) % size] for i, row in enumerate(rows)] for d in range(size)]

    def tree(lines: list[list[TensorNode]]) -> Node:
        nodes = (Node(f"line {i}", tuple(line), 1, 1) for i, line in enumerate(lines))
        return Node("square", tuple(nodes), size, size)

    return named, (tree(rows), tree(columns), tree(diagonals))
