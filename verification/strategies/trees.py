"""Strategies of trees of bounds (`pins.selection.tree`)."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from hypothesis import strategies as st
from torch import Tensor

from pins.selection.tree import Node, Runs, TensorNode, View
from verification.strategies.tensors import scores, shapes

Tree = tuple[dict[str, Tensor], Node]
"""(importance, root)."""

_SLACK = st.sampled_from((0, 0, 1, 3))
_ERROR = st.sampled_from((0, 0, 0, 0, 0, -1, 1, 2))


@st.composite
def trees(
    draw: st.DrawFn,
    *,
    max_tensors: int = 4,
    max_total: int = 12,
    integers: bool = False,
    allowed: bool = False,
) -> Tree:
    """(importance, root): finite scores and a tree over their tensors, of at most three levels.

    Bounds may be out of range, nodes and tensors empty, weights frozen at 0 and at 1, and views
    transposed; a tensor without bounds belongs to its node alone. The order of the tensors in the
    tree is not the order of the mapping. l = h = k in the root.

    A mask is drawn first. With `allowed` all bounds admit it, else about half of the trees have
    bounds around it that may exclude every mask. With `integers`, scores are integers of [−9, 9],
    for which floating-point solvers are exact. Shrinks to one zero, not kept.
    """
    drawn = draw(_scores_and_masks(max_tensors, max_total, integers))
    return drawn[0], draw(_roots(*drawn, allowed or draw(st.booleans())))


@st.composite
def tree_pairs(
    draw: st.DrawFn, *, max_tensors: int = 3, max_total: int = 12, allowed: bool = False
) -> tuple[dict[str, Tensor], tuple[Node, Node]]:
    """(importance, two roots over the same weights): as `trees` of integers.

    With `allowed` both trees admit the mask drawn first.
    """
    drawn = draw(_scores_and_masks(max_tensors, max_total, integers=True))
    roots = _roots(*drawn, allowed or draw(st.booleans()))
    return drawn[0], (draw(roots), draw(roots))


@st.composite
def _scores_and_masks(
    draw: st.DrawFn, max_tensors: int, max_total: int, integers: bool
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Scores by name with one or more entries in total, and a mask."""
    number, total = draw(st.integers(1, max_tensors)), draw(st.integers(1, max_total))
    cuts = draw(st.lists(st.integers(0, total), min_size=number - 1, max_size=number - 1))
    ends = [0, *sorted(cuts), total]
    importance, masks = {}, {}
    for i in draw(st.permutations(range(number))):
        size, name = ends[i + 1] - ends[i], f"layer.{i}"
        if integers:
            shape = draw(shapes(min_size=size, max_size=size))
            values = draw(st.lists(st.integers(-9, 9), min_size=size, max_size=size))
            importance[name] = torch.tensor(values, dtype=torch.float32).reshape(shape)
        else:
            importance[name] = draw(scores(min_size=size, max_size=size, min_dims=0, max_dims=3))
        masks[name] = draw(_mask(tuple(importance[name].shape)))
    return importance, masks


@st.composite
def _mask(draw: st.DrawFn, shape: tuple[int, ...]) -> Tensor:
    """Any mask, or one with as many ones in each run, or in each row and column of a square."""
    size = math.prod(shape)
    if not size or draw(st.booleans()):
        bits = draw(st.lists(st.booleans(), min_size=size, max_size=size))
        return torch.tensor(bits, dtype=torch.bool).reshape(shape)
    if len(shape) > 1 and shape[-1] == shape[-2]:
        places = torch.arange(shape[-1])
        square = (places[:, None] + places) % shape[-1] < draw(st.integers(0, shape[-1]))
        return square.expand(shape).clone()
    length = draw(st.sampled_from(_divisors(size)))
    run = torch.arange(length) < draw(st.integers(0, length))
    runs = [run[draw(st.permutations(range(length)))] for _ in range(size // length)]
    return torch.cat(runs).reshape(shape)


@st.composite
def _roots(
    draw: st.DrawFn, importance: Mapping[str, Tensor], masks: Mapping[str, Tensor], admit: bool
) -> Node:
    """A tree; with `admit` its bounds admit the masks."""

    def around(counts: Sequence[int], *, admit: bool = admit) -> tuple[int, int | None]:
        """Bounds around these numbers of kept weights."""
        error = 0 if admit else draw(_ERROR)
        low, high = min(counts, default=0) + error, max(counts, default=0) + error
        low, high = low - draw(_SLACK), high + draw(_SLACK)
        return draw(st.sampled_from([(0, None), (low, None), (0, high), (low, high)]))

    def tensor(name: str, mask: Tensor) -> TensorNode:
        transposed = mask.dim() > 1 and draw(st.booleans())
        view = View.of(mask.shape, transposed=transposed)
        flat = view.apply(mask)
        runs: list[Runs] = []
        for length in draw(st.lists(st.sampled_from(_divisors(view.size)), max_size=3)):
            if length < (runs[-1].length if runs else view.size + 1):
                # an empty tensor has no run, so bounds exclude nothing
                bounds = around(flat.view(-1, length).sum(1).tolist(), admit=admit or not view.size)
                if not runs or runs[-1].length % length == 0:
                    runs.append(Runs(length, *bounds, name=f"run of {length}"))
        frozen = [
            (draw(_mask(tuple(mask.shape))) & (free | (not admit))) if draw(_ONE_IN_FOUR) else None
            for free in (~mask, mask)
        ]
        return TensorNode(name, view, *around([int(flat.sum())]), tuple(runs), *frozen)

    def node(name: str, leaves: Sequence[TensorNode], levels: int) -> Node:
        children: list[Node | TensorNode] = []
        cuts = draw(st.lists(st.integers(0, len(leaves)), max_size=2)) if levels else []
        ends = [0, *sorted(cuts), len(leaves)]
        for i, (start, end) in enumerate(pairwise(ends)):
            if bool(cuts) and draw(st.booleans()):
                children.append(node(f"{name}.{i}", leaves[start:end], levels - 1))
            else:
                children += leaves[start:end]
        kept = sum(int(masks[leaf.name].sum()) for leaf in leaves)
        if levels == LEVELS:
            kept += 0 if admit else draw(_ERROR)
            return Node(name, tuple(children), kept, kept)
        return Node(name, tuple(children), *around([kept]))

    names = draw(st.permutations(list(importance)))
    return node("model", [tensor(name, masks[name]) for name in names], LEVELS)


LEVELS = 2
"""Nodes between the root and a tensor, at most."""

_ONE_IN_FOUR = st.sampled_from((False, False, False, True))


def _divisors(size: int) -> list[int]:
    """The divisors of a tensor's size, the largest first; 2 and 1 of an empty one."""
    return [each for each in range(size, 0, -1) if size % each == 0] or [2, 1]
