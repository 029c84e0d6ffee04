"""Optimality of a mask by counts and comparisons: the mask is its own proof.

**Theorem 6.** A mask that a tree of bounds allows (`pins.selection.tree`) is an optimum of
max s·m iff there is a threshold t_A for each node with

    kept sᵢ ≥ t_A ≥ pruned sᵢ for each weight i, A its innermost node;
    t_A > t_parent only if m(A) = h_A,   t_A < t_parent only if m(A) = l_A.

*Proof.* y_A = t_A − t_parent are multipliers: for every allowed m′

    s·m′ = Σ m′ᵢ(sᵢ − t_A(i)) + Σ_A y_A m′(A) ≤ Σ (sᵢ − t_A(i))⁺ + Σ_A (h_A y_A⁺ − l_A y_A⁻)

with equality for m iff both conditions hold. They exist because laminar rows are totally
unimodular.

No threshold needs to be known. From the inside to the outside, over a node's own weights and its
children C, let

    b_A = the least of: kept own scores;   b_C of each C with m(C) > l_C, which may lose a weight
    a_A = the largest of: pruned own scores;   a_C of each C with m(C) < h_C, which may gain one

The mask is an optimum iff a_A ≤ b_A in every node, the only one iff a_A < b_A in every node. Then
t_A = clip(t_parent, a_A, b_A), from the root down, are thresholds. With the root alone this is
Theorem 1: min{sᵢ : mᵢ = 1} ≥ max{sᵢ : mᵢ = 0}.

Scores are compared by their keys (`pins.selection.scan.float_keys`), in every thread rightly: a
processor may have been told to flush denormals.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pins.distributed.process_group import SINGLE_PROCESS, Group
from pins.errors import OptimalityError
from pins.masks import require_same_tensors
from pins.selection.blocks import block_masks, block_scores, elements, is_blocked
from pins.selection.runs import extremes_of_runs
from pins.selection.scan import float_keys
from pins.selection.scan.float_keys import key
from pins.selection.scan.reference import BLOCK, GPU_BLOCK, label, require_rankable
from pins.selection.tree import Node, TensorNode, View, in_view, require_over

FARTHEST = torch.iinfo(torch.int64).max  # the gap where nothing can be exchanged


class Exchange(NamedTuple):
    """The two scores of a node that decide whether an exchange inside it gains.

    Attributes:
        kept_min: b_A, the least score that the node may lose; None if it may lose none.
        pruned_max: a_A, the largest score that it may gain; None if it may gain none.
    """

    kept_min: float | None
    pruned_max: float | None

    @property
    def gap(self) -> float:
        """By how many floats the first is above the second; ∞ if one is absent."""
        if self.kept_min is None or self.pruned_max is None:
            return math.inf
        return key(self.kept_min) - key(self.pruned_max)

    def threshold(self, near: float) -> float:
        """The number of [pruned_max, kept_min] that is nearest to another one."""
        low = near if self.pruned_max is None else max(near, self.pruned_max, key=key)
        return low if self.kept_min is None else min(low, self.kept_min, key=key)


@dataclass(frozen=True)
class Optimality:
    """The scores that decide whether a mask solves max s·m under a tree of bounds.

    Attributes:
        keep: number of ones of the mask.
        total: number of weights n.
        kept_min: min{sᵢ : mᵢ = 1}; None if nothing is kept.
        pruned_max: max{sᵢ : mᵢ = 0}; None if nothing is pruned.
        nodes: the exchange of each node by name, the root first; default: the root alone.
        parents: the name of each node's parent.
        fixed: the nodes with l = h.
        runs: of each tensor and each kind of its runs the exchange with the least gap, and what
            messages call that run.
        broken: the first bound that the mask breaks; None if it is allowed.
    """

    keep: int
    total: int
    kept_min: float | None
    pruned_max: float | None
    nodes: Mapping[Any, Exchange] = field(default_factory=dict, repr=False)
    parents: Mapping[Any, Any] = field(default_factory=dict, repr=False)
    fixed: frozenset[Any] = field(default=frozenset(), repr=False)
    runs: tuple[tuple[str, Exchange], ...] = field(default=(), repr=False)
    broken: str | None = field(default=None, repr=False)

    @property
    def fault(self) -> str | None:
        """Why the mask is not optimal: a bound that it breaks, or an exchange that gains."""
        if self.broken is not None:
            return self.broken
        for name, exchange in self._exchanges():
            if exchange.gap < 0:
                return f"{name} keeps {exchange.kept_min} and prunes {exchange.pruned_max}"
        return None

    @property
    def holds(self) -> bool:
        """Theorem 6: the mask is allowed, and no allowed mask has a larger score sum."""
        return self.fault is None

    @property
    def unique(self) -> bool:
        """No other allowed mask has as large a score sum: every exchange loses."""
        return self.holds and all(exchange.gap > 0 for _, exchange in self._exchanges())

    @property
    def dual_multiplier(self) -> float:
        """λ, the threshold of the root; with the root alone, of the dual interval (Theorem 2).

        Of several numbers it is the one nearest to the least kept score, so that no node binds
        needlessly; without a kept one, to the largest pruned one.
        """
        near = self.pruned_max if self.kept_min is None else self.kept_min
        if near is None or not self.holds:
            raise OptimalityError(f"no dual multiplier: {self.fault or 'there is no weight'}")
        root = next(iter(self.nodes.values()), Exchange(self.kept_min, self.pruned_max))
        return root.threshold(near)

    @property
    def thresholds(self) -> dict[Any, float]:
        """t_A by name of the node; of runs they are not held."""
        found = dict.fromkeys([*self.nodes][:1], self.dual_multiplier)
        for name, exchange in [*self.nodes.items()][1:]:
            found[name] = exchange.threshold(found[self.parents[name]])
        return found

    @property
    def binding(self) -> tuple[Any, ...]:
        """The nodes with l < h whose threshold is not that of their parent.

        Without runs and without nodes of l = h: empty iff the mask is also an optimum of Σm = k. Of
        tensors with minimums alone, or maximums alone, those without whose bound it would be worse.
        """
        found = self.thresholds
        return tuple(
            name
            for name, parent in self.parents.items()
            if name not in self.fixed and key(found[name]) != key(found[parent])
        )

    def _exchanges(self) -> Iterator[tuple[Any, Exchange]]:
        if not self.nodes:
            yield "the mask", Exchange(self.kept_min, self.pruned_max)
        yield from self.nodes.items()
        yield from self.runs


def optimality(
    importance: Mapping[str, Tensor],
    masks: Mapping[str, Tensor],
    group: Group = SINGLE_PROCESS,
    *,
    tree: Node | None = None,
) -> Optimality:
    """Compute the scores that decide: O(n) comparisons, hence exact.

    Args:
        importance: finite scores s by tensor name.
        masks: bool masks of the same names and shapes, True = keep.
        group: the ranks, each with its part of every tensor.
        tree: the competing masks; default: all with as many ones.

    Raises:
        ImportanceError: scores are no dense tensor of floats.
        MaskError: names or shapes differ.
    """
    require_same_tensors(importance, masks)
    if tree is not None and is_blocked(tree):
        importance, masks = block_scores(importance, tree, group), block_masks(masks, tree, group)
        tree = elements(tree)
    whole = {
        name: _of_tensor(_rankable(name, scores).reshape(-1), masks[name].reshape(-1))
        for name, scores in importance.items()
    }
    if tree is not None:
        require_over(tree, {name: part.total for name, part in whole.items()}, group)
    if group.size > 1:
        whole = _over_ranks(whole, group)
    if tree is None:
        nodes = [TensorNode(name, View(1, 1, part.total)) for name, part in whole.items()]
        tree = Node("the model", tuple(nodes))
    found = {}
    for node in tree.tensors:
        found[node.name] = whole[node.name]
        if node.inside:
            scores = in_view(node.view, _plain(importance[node.name]), group)
            mask = in_view(node.view, masks[node.name], group)
            found[node.name] = _inside(node, whole[node.name], scores, mask, group)
    return of_nodes(tree, found)


class Part(NamedTuple):
    """What a part of the tree keeps, and what it may lose and gain."""

    keep: int
    total: int
    kept_min: float | None
    pruned_max: float | None
    exchange: Exchange
    runs: tuple[tuple[str, Exchange], ...] = ()
    broken: str | None = None

    @classmethod
    def of(cls, keep: int, total: int, kept_min: float | None, pruned_max: float | None) -> "Part":
        """A part of which every weight may be exchanged."""
        return cls(keep, total, kept_min, pruned_max, Exchange(kept_min, pruned_max))


def of_nodes(root: Node, found: Mapping[Any, Part]) -> Optimality:
    """The optimality of a tree from what its tensors keep, or nodes without bounds inside.

    A bound inside such a node counts as broken: nothing says that it is not.
    """
    nodes: dict[Any, Exchange] = {}
    parents: dict[Any, Any] = {}
    fixed: set[Any] = set()

    def visit(node: Node | TensorNode) -> Part:
        nodes[node.name] = Exchange(None, None)  # its place is before the children's
        if node.maximum is not None and node.minimum >= min(node.maximum, node.size):
            fixed.add(node.name)
        own = found.get(node.name)
        if own is not None and isinstance(node, Node):
            own = own._replace(broken=_bounded_inside(node))
        if own is None:
            assert isinstance(node, Node), "every tensor was looked at"
            children = [(child, visit(child)) for child in node.children]
            parents.update({child.name: node.name for child, _ in children})
            own = Part(
                sum(each.keep for _, each in children),
                sum(each.total for _, each in children),
                *_ends(Exchange(each.kept_min, each.pruned_max) for _, each in children),
                _ends(_exchangeable(child, each) for child, each in children),
                tuple(run for _, each in children for run in each.runs),
                next((each.broken for _, each in children if each.broken), None),
            )
        nodes[node.name] = own.exchange
        return own if own.broken else own._replace(broken=_broken(node, own.keep))

    whole = visit(root)
    return Optimality(*whole[:4], nodes, parents, frozenset(fixed), whole.runs, whole.broken)


def _bounded_inside(node: Node) -> str | None:
    """Which node inside another one has a bound, if one has."""
    for child in node.children:
        bounded = child.minimum > 0 or child.upper < child.size
        if bounded or (isinstance(child, TensorNode) and child.inside):
            return f"{child.name} has bounds, and what it keeps was not read"
        if isinstance(child, Node) and (found := _bounded_inside(child)):
            return found
    return None


def _exchangeable(node: Node | TensorNode, own: Part) -> Exchange:
    """What a node may lose to another one, and gain from it."""
    return Exchange(
        own.exchange.kept_min if own.keep > node.minimum else None,
        own.exchange.pruned_max if own.keep < node.upper else None,
    )


def _broken(node: Node | TensorNode, keep: int) -> str | None:
    if node.minimum <= keep <= node.upper:
        return None
    return f"{node.name} keeps {keep} weights, its bounds are {node.minimum} and {node.upper}"


def _ends(parts: Iterable[Exchange]) -> Exchange:
    """The least kept and the largest pruned score; a Python float holds every dtype exactly."""
    parts = list(parts)
    return Exchange(
        min((p.kept_min for p in parts if p.kept_min is not None), key=key, default=None),
        max((p.pruned_max for p in parts if p.pruned_max is not None), key=key, default=None),
    )


def _inside(node: TensorNode, whole: Part, scores: Tensor, mask: Tensor, group: Group) -> Part:
    """A tensor with runs and frozen weights, of all ranks, in the order of its view."""
    zeros, fixed = (
        None if each is None else in_view(node.view, each, group)
        for each in (node.zeros, node.fixed)
    )
    broken = None
    for which, wrong, said in ((zeros, mask, "keeps"), (fixed, ~mask, "prunes")):
        if which is not None and (which & wrong).any():
            broken = f"{node.name!r} {said} a weight that is frozen otherwise"
    # a frozen weight is never the least kept or the largest pruned one
    for which, value in ((zeros, -math.inf), (fixed, math.inf)):
        if which is not None:
            scores = scores.masked_fill(which, value)
    length = node.runs[-1].length if node.runs else scores.numel()
    if not length:
        return whole
    least, most, kept = extremes_of_runs(scores, mask, length)
    bottom, top = float_keys.finite(scores.dtype)

    def exchange(i: int) -> Exchange:
        ends = torch.stack([least[i], most[i]]).clamp(bottom, top)
        low, high = float_keys.widened(
            float_keys.scores(ends, scores.dtype), torch.float64
        ).tolist()
        return Exchange(low if least[i] <= top else None, high if most[i] >= bottom else None)

    runs: list[tuple[str, Exchange]] = []
    kinds = [*reversed(node.runs)]
    lengths = [*(kind.length for kind in kinds), node.size]
    for each, longer in zip(kinds, lengths[1:], strict=True):
        low, high = each.minimum, each.upper
        outside = (kept < low) | (kept > high)
        if broken is None and outside.any():
            i = int(outside.nonzero()[0])
            broken = (
                f"{each.name} {i} of {node.name!r} keeps {int(kept[i])} weights, its bounds are "
                f"{low} and {high}"
            )
        nothing = (least > top) | (most < bottom)
        i = int(_gaps(least.long(), most.long()).masked_fill(nothing, FARTHEST).argmin())
        runs.append((f"{each.name} {i} of {node.name!r}", exchange(i)))
        parts = longer // each.length
        least = least.masked_fill(kept <= low, top + 1).view(-1, parts).amin(1)
        most = most.masked_fill(kept >= high, bottom - 1).view(-1, parts).amax(1)
        kept = kept.view(-1, parts).sum(1)
    return whole._replace(exchange=exchange(0), runs=tuple(runs), broken=broken)


def _gaps(least: Tensor, most: Tensor) -> Tensor:
    """Least − most; where int64 has no such number, the one of its sign that is farthest from 0."""
    gaps = least - most  # an overflow changes its sign
    gaps.masked_fill_((least > most) & (gaps < 0), FARTHEST)
    return gaps.masked_fill_((least < most) & (gaps > 0), -FARTHEST)


def _rankable(name: Any, scores: Tensor) -> Tensor:
    require_rankable(label(name), scores)
    return _plain(scores)


def _plain(scores: Tensor) -> Tensor:
    """Scores whose bits are those of their numbers; a view may negate them when it is read."""
    return scores.detach().resolve_neg()


def _of_tensor(scores: Tensor, mask: Tensor) -> Part:
    """The optimality of one tensor, flat, block by block."""
    kept, total = int(mask.count_nonzero()), scores.numel()
    if not total:
        return Part.of(0, 0, None, None)
    limits = torch.iinfo(float_keys.DTYPES[scores.dtype])
    size = BLOCK if scores.device.type == "cpu" else GPU_BLOCK
    least, most = [], []
    for block, own in zip(torch.split(scores, size), torch.split(mask, size), strict=True):
        keys = float_keys.keys(block)
        # filled, not indexed, which takes several times as long
        least.append(keys.masked_fill(~own, limits.max).min())
        most.append(keys.masked_fill(own, limits.min).max())

    def score(found: Tensor) -> float:
        return float_keys.widened(float_keys.scores(found, scores.dtype), torch.float64).item()

    return Part.of(
        keep=kept,
        total=total,
        kept_min=score(torch.stack(least).min()) if kept else None,
        pruned_max=score(torch.stack(most).max()) if kept < total else None,
    )


def _over_ranks(own: Mapping[str, Part], group: Group) -> dict[str, Part]:
    """The optimality of each tensor, of which every rank holds a part; None is sent as NaN."""
    rows = [
        [math.nan if x is None else x for x in (t.keep, t.total, t.kept_min, t.pruned_max)]
        for t in own.values()
    ]
    gathered = group.gathered(torch.tensor(rows, dtype=torch.float64).view(-1))
    by_tensor = torch.stack([part.view(-1, 4) for part in gathered], dim=1).tolist()
    return {
        name: Part.of(
            sum(int(keep) for keep, *_ in parts),
            sum(int(total) for _, total, *_ in parts),
            *_ends(
                Exchange(*(None if math.isnan(score) else score for score in scores))
                for _, _, *scores in parts
            ),
        )
        for name, parts in zip(own, by_tensor, strict=True)
    }
