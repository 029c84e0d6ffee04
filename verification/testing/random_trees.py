"""Random trees of bounds around one random mask, which all of them allow."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from pins.selection.tree import Node, Runs, TensorNode, View


def random_trees(
    rng: np.random.Generator, scores: Mapping[str, Tensor], number: int = 1
) -> list[Node]:
    """Trees over tensors of these shapes, which have an allowed mask in common.

    About half of the tensors are viewed by columns, have runs, and have frozen weights; half of the
    trees have nodes between the root and the tensors. Each row of the mask has the same number of
    ones in half of the tensors.
    """
    masks = {name: _mask(rng, tuple(tensor.shape)) for name, tensor in scores.items()}
    return [_tree(rng, masks) for _ in range(number)]


def _mask(rng: np.random.Generator, shape: tuple[int, ...]) -> Tensor:
    order = rng.random(shape).argsort(-1)
    even = order < rng.integers(0, shape[-1] + 1)
    return torch.from_numpy(even if rng.random() < 0.5 else order * rng.random(shape) < 0.5)


def _bounds(rng: np.random.Generator, *counts: int) -> tuple[int, int | None]:
    """l and h around these numbers of ones, one of them or both; often l = h."""
    slack = rng.choice([0, 0, 1, 2], 2)
    low, high = min(counts) - int(slack[0]), max(counts) + int(slack[1])
    return (low if rng.random() < 0.7 else 0), (high if rng.random() < 0.7 else None)


def _tree(rng: np.random.Generator, masks: Mapping[str, Tensor]) -> Node:
    names = [str(name) for name in rng.permutation(list(masks))]
    leaves = [_leaf(rng, name, masks[name]) for name in names]
    counts = [int(masks[name].sum()) for name in names]
    children: tuple[Node | TensorNode, ...] = tuple(leaves)
    if len(leaves) > 1 and rng.random() < 0.5:
        cut = int(rng.integers(1, len(leaves)))
        inner = Node("half", tuple(leaves[:cut]), *_bounds(rng, sum(counts[:cut])))
        children = (inner, *leaves[cut:])
    return Node("model", children, sum(counts), sum(counts))


def _leaf(rng: np.random.Generator, name: str, mask: Tensor) -> TensorNode:
    view = View.of(mask.shape, transposed=mask.dim() > 1 and rng.random() < 0.5)
    flat, runs = view.apply(mask), []
    frozen: list[Tensor | None] = [None, None]
    if rng.random() < 0.5:
        length = view.inputs
        runs.append(Runs(length, *_bounds(rng, *flat.view(-1, length).sum(1).tolist()), "row"))
        divisors = [each for each in range(1, length) if length % each == 0]
        if divisors and rng.random() < 0.5:
            part = int(rng.choice(divisors))
            runs.append(Runs(part, *_bounds(rng, *flat.view(-1, part).sum(1).tolist()), "group"))
    if rng.random() < 0.5:
        few = torch.from_numpy(rng.random(tuple(mask.shape)) < 0.1)
        frozen = [~mask & few, mask & few]
    return TensorNode(name, view, *_bounds(rng, int(flat.sum())), tuple(runs), *frozen)
