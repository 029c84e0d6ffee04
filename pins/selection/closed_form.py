"""The optimum of a tree of bounds in closed form, from the inside to the outside.

Let low ≤ m(A) ≤ high be the numbers that node A can keep (`pins.selection.reach`). Of its scores

    the `low` largest are forced (as if +∞),   all but the `high` largest are excluded (as if −∞)

first in the innermost nodes, then in their parents; in the root low = high = k, so its k largest
are the mask. What a node decides holds in every optimum that its parents may choose from, because
the allowed masks are the bases of a matroid. Only the order of the pairs (sᵢ, −i) is looked at: the
mask is the first of all optima in lexicographic order. i counts through the tensors in their order,
in each in the order of its view.

A node with low = high is a problem of its own: its mask is found there, and its parents only count
it. Where no bound of tensors or of nodes above them binds, one selection in the root is enough.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pins.distributed.process_group import Group
from pins.errors import ImportanceError
from pins.selection.kth_largest import (
    KthLargest,
    Ranked,
    kth_largest,
    on_all_ranks,
    validate_and_sample,
)
from pins.selection.limits import Limits
from pins.selection.reach import (
    Counts,
    Reach,
    only_number,
    part_sums,
    reach,
    reaches,
    together,
)
from pins.selection.runs import largest_of_runs
from pins.selection.scan.dispatch import scan_of
from pins.selection.scan.reference import label, require_finite, require_rankable, sum_of
from pins.selection.segments import segments_of
from pins.selection.tree import Node, TensorNode, in_view
from pins.utils import bit_packing
from pins.utils.lazy_tensors import Computed, shapes_of


class Solved(NamedTuple):
    """A mask for each tensor of one selection, and what proves it.

    Attributes:
        nodes: whose tensors these are.
        ranked: their scores.
        found: the masks, and the keys between which the scores were cut.
    """

    nodes: Sequence[Node | TensorNode]
    ranked: Ranked
    found: KthLargest


class ClosedForm:
    """The optimum of a tree, found step by step.

    Attributes:
        alone: the selection that made all masks, if one did, from the scores as they were given, in
            nodes above which and below which no bound binds; None until then.
    """

    def __init__(self, importance: Mapping[Any, Tensor], root: Node, group: Group) -> None:
        """Find what each node can keep.

        Args:
            importance: scores by tensor name, of this rank.
            root: the tree, over these tensors.
            group: the ranks, each with a part of every tensor, contiguous and in their order.

        Raises:
            CardinalityError: the tree is over other tensors, no mask is allowed, or the number of
                kept weights is left open.
        """
        self.alone: Solved | None = None
        self._importance, self._root, self._group = importance, root, group
        self._limits = Limits(importance, group)
        self._shapes = shapes_of(importance)
        self._nodes = {node.name: node for node in root.tensors}
        self._inner = {name: reaches(node, group) for name, node in self._nodes.items()}
        self._reach: dict[Any, Reach] = {}
        self._tiers: list[list[Node | TensorNode]] = []  # by height: tensors first, the root last
        self._visit(root)
        self._masks: dict[Any, Tensor] = {}  # as the scores that they were chosen from
        self._changed: dict[Any, Tensor] = {}  # scores in the order of the view, of this rank
        only_number(root, self._reach[root.name])

    def _visit(self, node: Node | TensorNode) -> int:
        """Note what a node and all inside it can keep, and their tiers.

        Returns:
            The number of the node's own tier.
        """
        height = 0
        if isinstance(node, Node):
            height = 1 + max(map(self._visit, node.children), default=0)
            inner = [self._reach[child.name] for child in node.children]
            self._reach[node.name] = reach(node, inner)
        else:
            self._reach[node.name] = self._inner[node.name][-1]
        self._tiers.extend([] for _ in range(height + 1 - len(self._tiers)))
        self._tiers[height].append(node)
        return height

    def masks(self) -> dict[Any, Tensor]:
        """The optimum, by name, in the shapes of the scores.

        Raises:
            ImportanceError: a score cannot be ranked, or there is none.
        """
        for node in self._nodes.values():
            if node.inside:
                self._decide_inside(node)
            elif node.view.transposed:
                self._changed[node.name] = self._own(node, self._ordered(node))
        if not self._decided_by_the_root():
            for tier in self._tiers:
                self._decide(tier)
        if not self._root.size:  # what is no tensor of scores was refused before
            raise ImportanceError("importance is empty: there is no weight to rank")
        return {name: self._restored(name) for name in self._importance}

    # ---- nodes inside a tensor -------------------------------------------------------------------

    def _decide_inside(self, node: TensorNode) -> None:
        """Decide what the runs of a tensor and its frozen weights decide."""
        (before, *reaches_of_runs, _), inner = self._inner[node.name], None
        zeros, fixed = (
            None if each is None else in_view(node.view, each, self._group)
            for each in (node.zeros, node.fixed)
        )
        free = None if zeros is None else ~zeros
        scores = self._limits.applied(self._ordered(node), free, fixed)
        for runs, own in zip(reversed(node.runs), reaches_of_runs, strict=True):
            least, most = (_numbers(each, scores.device) for each in own)
            if own.settled:
                mask = largest_of_runs(scores, runs.length, least)
                self._masks[node.name] = self._own(node, mask)
                return
            parts = runs.length // (inner or runs.length)
            low, high = (part_sums(each, parts) for each in before)
            scores = self._limits.applied(
                scores,
                largest_of_runs(scores, runs.length, most) if (own.high < high).any() else None,
                largest_of_runs(scores, runs.length, least) if (own.low > low).any() else None,
            )
            before, inner = own, runs.length
        self._changed[node.name] = self._own(node, scores)

    # ---- ranks and orders ------------------------------------------------------------------------

    def _ordered(self, node: TensorNode) -> Tensor:
        """The scores of a tensor on all ranks, in the order of its view."""

        def read() -> Tensor:
            scores = self._importance[node.name]
            require_rankable(label(node.name), scores)
            scores = scores.detach().resolve_neg()
            # a sum of finite scores may be none, and the limits are of finite ones
            if not self._limits.known and not sum_of(scores.reshape(-1)).isfinite():
                require_finite(label(node.name), scores)
            return scores

        return in_view(node.view, on_all_ranks(self._group, read), self._group)

    def _own(self, node: TensorNode, whole: Tensor) -> Tensor:
        """This rank's part of what is in the order of the view."""
        return self._group.part(whole, self._shapes[node.name].numel())

    def _restored(self, name: Any) -> Tensor:
        """The mask of a tensor in the shape and order of its scores."""
        mask, node = self._masks[name], self._nodes[name]
        if node.view.transposed:
            mask = self._own(node, node.view.invert(self._group.whole(mask)))
        return mask.view(self._shapes[name])

    # ---- tensors and the nodes above them --------------------------------------------------------

    def _decided_by_the_root(self) -> bool:
        """Take the selection of the root alone if all other bounds hold for it.

        It is then the first optimum of fewer bounds. A settled node is decided first anyway.
        """
        inner = [node for tier in self._tiers for node in tier if node is not self._root]
        binding = [node for node in inner if self._binds(node)]
        open_ = self._open(self._root)
        if not binding or not open_ or any(self._reach[node.name].settled for node in binding):
            return False
        done, total = self._settled_number(self._root), self._reach[self._root.name].low
        solved = self._largest([self._root], total - done)
        ones = torch.tensor([int(bit_packing.ones(solved.found.masks[name])) for name in open_])
        kept = dict(zip(open_, self._group.total(ones).tolist(), strict=True))
        for node in binding:
            low, high = self._reach[node.name]
            own = sum(kept[name] for name in self._open(node))
            if not low <= self._settled_number(node) + own <= high:
                return False
        self._masks |= solved.found.masks
        return True

    def _decide(self, tier: Sequence[Node | TensorNode]) -> None:
        """Decide what nodes that are not inside each other decide."""
        settled: list[Node | TensorNode] = []
        between: list[Node | TensorNode] = []
        for node in tier:
            if self._open(node) and (node is self._root or self._binds(node)):
                (settled if self._reach[node.name].settled else between).append(node)
        if settled:
            keeps = [self._reach[node.name].low - self._settled_number(node) for node in settled]
            solved = self._largest(settled, np.concatenate(keeps))
            self._masks |= solved.found.masks
            if (
                not self._changed
                and self._masks.keys() == solved.found.masks.keys() == self._nodes.keys()
            ):
                self.alone = solved
        if between:
            forced, allowed = (
                self._largest(
                    between,
                    np.concatenate(
                        [self._reach[node.name][i] - self._settled_number(node) for node in between]
                    ),
                ).found.masks
                for i in (0, 1)
            )
            for name in forced:
                scores = self._scores(name)
                self._changed[name] = self._limits.applied(scores, allowed[name], forced[name])

    def _largest(self, nodes: Sequence[Node | TensorNode], keeps: Counts) -> Solved:
        """The largest scores of the open tensors of some nodes."""
        owner = {name: number for number, node in enumerate(nodes) for name in self._open(node)}
        shapes = {name: shape for name, shape in self._shapes.items() if name in owner}
        shapes |= {name: s.shape for name, s in self._changed.items() if name in owner}
        scan = scan_of(Computed(shapes, self._scores))
        totals = {name: node.size for name, node in self._nodes.items()}
        ranked = validate_and_sample(scan, segments_of(owner, scan.sizes, totals), self._group)
        return Solved(nodes, ranked, kth_largest(ranked, keeps))

    def _scores(self, name: Any) -> Tensor:
        changed = self._changed.get(name)
        return self._importance[name] if changed is None else changed

    # ---- numbers ---------------------------------------------------------------------------------

    def _binds(self, node: Node | TensorNode) -> bool:
        """Whether the bounds of a node allow less than those of its parts."""
        if isinstance(node, TensorNode):
            parts = node.size // node.runs[0].length if node.runs else 1
            loose = Reach(*(part_sums(each, parts) for each in self._inner[node.name][-2]))
        else:
            loose = together([self._reach[child.name] for child in node.children])
        return loose != self._reach[node.name]

    def _settled_number(self, node: Node | TensorNode) -> int:
        """How many weights the decided parts of a node keep."""
        if not self._open(node):
            return int(self._reach[node.name].low[0])
        return sum(map(self._settled_number, node.children)) if isinstance(node, Node) else 0

    def _open(self, node: Node | TensorNode) -> list[Any]:
        """The tensors of a node that are not decided, by name."""
        tensors = node.tensors if isinstance(node, Node) else [node]
        return [tensor.name for tensor in tensors if tensor.name not in self._masks]


def _numbers(counts: Counts, device: torch.device) -> int | Tensor:
    """One number for all runs, or one for each of them."""
    return int(counts[0]) if len(counts) == 1 else torch.from_numpy(counts).to(device)
