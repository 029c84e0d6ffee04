"""Blocks as elements: r × c weights that are kept or pruned together, scored by their exact sum.

    max Σ_B S_B m_B,   S_B = Σ_{i∈B} sᵢ,   m_B ∈ {0,1} for each block B

under any tree of bounds over the blocks: l, h and k are numbers of blocks. Where a sum is no
float64, the blocks are ranked by `exact_ranks`: comparisons stay exact, and the scores that a proof
states are these ranks.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pins.distributed.process_group import Group
from pins.errors import CardinalityError, ImportanceError, MaskError
from pins.selection.constraints import Bounds
from pins.selection.exact_order import Doubles, exact_ranks
from pins.selection.scan.float_keys import denormals_compare_everywhere
from pins.selection.scan.reference import label, require_finite, require_rankable
from pins.selection.tree import Node, View, change_each, in_view


@dataclass(frozen=True)
class Blocks:
    """The masks of whole blocks, such as 1 × 4 or 16 × 16, that a constraint over blocks allows.

    Attributes:
        shape: outputs and inputs of a block.
        constraint: numbers of blocks.

    Raises:
        CardinalityError: a side is less than 1.
    """

    shape: tuple[int, int]
    constraint: Bounds

    def __post_init__(self) -> None:
        if min(self.shape) < 1:
            raise CardinalityError(f"a block is {self.shape}: both sides are at least 1")

    def tree(self, views: Mapping[str, View]) -> Node:
        """The tree over the blocks of these tensors.

        Raises:
            CardinalityError: the blocks do not divide a tensor, or as the constraint.
        """
        rows, columns = self.shape
        blocked = {}
        for name, view in views.items():
            if view.outputs % rows or view.inputs % columns:
                raise CardinalityError(
                    f"{name!r} has {view.outputs} outputs and {view.inputs} inputs, which blocks "
                    f"of {rows} × {columns} do not divide: choose others, or leave it out"
                )
            blocked[name] = view._replace(
                outputs=view.outputs // rows, inputs=view.inputs // columns, block=self.shape
            )
        return change_each(
            self.constraint.tree(blocked), lambda node: replace(node, view=blocked[node.name])
        )


def parse_block(text: str) -> tuple[int, int]:
    """Outputs and inputs of a block as it is written: `1x4`.

    Raises:
        CardinalityError: it is no block.
    """
    found = re.fullmatch(r"([1-9]\d{0,5})x([1-9]\d{0,5})", text, re.ASCII)
    if found is None:
        raise CardinalityError(
            f"the block is {text[:40]!r}: give outputs × inputs, as in 1x4 or 16x16"
        )
    return int(found[1]), int(found[2])


def is_blocked(tree: Node) -> bool:
    """Whether the elements of the tree are blocks."""
    return any(node.view.block != (1, 1) for node in tree.tensors)


def elements(tree: Node) -> Node:
    """The same tree over tensors of one score for each block."""
    return change_each(
        tree, lambda node: replace(node, view=node.view._replace(block=(1, 1), transposed=False))
    )


def block_scores(importance: Mapping[Any, Tensor], tree: Node, group: Group) -> dict[Any, Tensor]:
    """The exact sum of each block, or its rank; of each tensor this rank's share of the blocks.

    Raises:
        ImportanceError: a score cannot be ranked, or this process flushes denormals.
    """
    if not denormals_compare_everywhere():
        raise ImportanceError(
            "blocks cannot be summed exactly: this process takes the floats below 2.3e-308 for 0 "
            "(torch.set_flush_denormal(True), or a library that was built with -ffast-math)"
        )
    terms = {}
    for node in tree.tensors:
        scores = importance[node.name]
        require_rankable(label(node.name), scores)
        require_finite(label(node.name), scores)
        flat = in_view(node.view.weights, scores.detach(), group)
        terms[node.name] = by_block(node.view, flat).cpu().double().numpy()
    sums = {name: _exact_sums(each) for name, each in terms.items()}
    if any(each is None for each in sums.values()):
        ranks = exact_ranks([*np.concatenate([*terms.values()], 1)], [1.0] * tree_block(tree))
        ends = np.cumsum([each.shape[1] for each in terms.values()])
        sums = dict(zip(terms, np.split(ranks, ends[:-1]), strict=True))
    return {
        name: _share(torch.from_numpy(each).to(importance[name].device), group)
        for name, each in sums.items()
        if each is not None
    }


def block_masks(masks: Mapping[Any, Tensor], tree: Node, group: Group) -> dict[Any, Tensor]:
    """The mask of the blocks, as `block_scores` has them.

    Raises:
        MaskError: a block is kept in part.
    """
    found = {}
    for node in tree.tensors:
        weights = by_block(node.view, in_view(node.view.weights, masks[node.name], group))
        kept = weights.all(0)
        if (parted := kept != weights.any(0)).any():
            raise MaskError(
                f"the mask of {node.name!r} keeps a part of block {int(parted.nonzero()[0])}: a "
                "block is kept or pruned as a whole"
            )
        found[node.name] = _share(kept, group)
    return found


def of_weights(
    masks: Mapping[Any, Tensor], tree: Node, like: Mapping[Any, Tensor], group: Group
) -> dict[Any, Tensor]:
    """The masks of this rank's weights from its share of the blocks.

    Args:
        masks: of the blocks, by name.
        tree: over the blocks.
        like: tensors whose names and shapes the masks have.
        group: the ranks.
    """
    found = {}
    nodes = {node.name: node for node in tree.tensors}
    for name, tensor in like.items():
        view = nodes[name].view
        kept = group.whole(masks[name]).expand(math.prod(view.block), -1)
        found[name] = group.part(from_blocks(view, kept), tensor.numel()).view(tensor.shape)
    return found


def tree_block(tree: Node) -> int:
    """The number of weights of a block."""
    return max(math.prod(node.view.block) for node in tree.tensors)


def by_block(view: View, flat: Tensor) -> Tensor:
    """(r·c, blocks) from a tensor in the order of `view.weights`."""
    (rows, columns), size = view.block, math.prod(view.block)
    shape = (view.groups, view.outputs, rows, view.inputs, columns)
    return flat.view(shape).permute(2, 4, 0, 1, 3).reshape(size, view.size)


def from_blocks(view: View, weights: Tensor) -> Tensor:
    """(r·c, blocks) → the tensor as it is stored, flat."""
    shape = (*view.block, view.groups, view.outputs, view.inputs)
    return view.weights.invert(weights.reshape(shape).permute(2, 3, 0, 4, 1).reshape(-1))


def _exact_sums(terms: Doubles) -> Doubles | None:
    """Σ of the rows if every step is exact, else None (Knuth's two-sum)."""
    total: Doubles = terms[0]
    with np.errstate(over="ignore", invalid="ignore"):  # a sum beyond float64: the error is NaN
        for term in terms[1:]:
            before, total = total, total + term
            added = total - before
            if ((before - (total - added)) + (term - added)).any():
                return None
    return total


def _share(whole: Tensor, group: Group) -> Tensor:
    return torch.tensor_split(whole, group.size)[group.rank]
