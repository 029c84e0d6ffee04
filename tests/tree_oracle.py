"""Trees of bounds by brute force, and Theorem 6 written once more, slowly, over plain sets.

Two second opinions that share no code with `pins` nor with one another: `enumerate_tree` and
`judge` try every mask; `greedy` and `gaps` are the closed form and its check. A mask is an integer:
bit n−1−i is the weight i in flat order (the tensors in the order of the mapping, each in the order
of its view), so of two masks the larger keeps the lower index where they first differ.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import torch
from torch import Tensor

from pins.selection.tree import Node, TensorNode

Masks = Mapping[str, Tensor]
Key = tuple[Fraction, int]
"""(sᵢ, −i): the order of the tie rule, larger = keep."""


@dataclass(frozen=True)
class Set:
    """A node: l ≤ Σ mᵢ ≤ h over its indices.

    Attributes:
        name: of the node, or of a part of a tensor.
        indices: in flat order.
        low: l.
        high: h, at most the number of indices.
        children: disjoint parts of it.
    """

    name: str
    indices: tuple[int, ...]
    low: int
    high: int
    children: tuple["Set", ...] = ()

    def __iter__(self) -> Iterator["Set"]:
        """The node and all nodes within it."""
        yield self
        for child in self.children:
            yield from child

    @property
    def own(self) -> list[int]:
        """The indices that are in no child."""
        return sorted({*self.indices} - {i for child in self.children for i in child.indices})


@dataclass(frozen=True)
class Program:
    """The scores of all weights in flat order, and the nodes of a tree over them."""

    importance: Masks
    root: Node

    @cached_property
    def places(self) -> dict[str, list[tuple[int, ...]]]:
        """Where each weight of a tensor is stored, in the order of its view."""
        views = {tensor.name: tensor.view for tensor in self.root.tensors}
        return {
            name: _stored(tuple(scores.shape), transposed=views[name].transposed)
            for name, scores in self.importance.items()
        }

    @cached_property
    def scores(self) -> list[Fraction]:
        """All scores in flat order, exactly."""
        return [
            Fraction(scores[place].item())
            for name, scores in self.importance.items()
            for place in self.places[name]
        ]

    @cached_property
    def tree(self) -> Set:
        """The nodes as sets of indices."""
        starts, start = {}, 0
        for name, places in self.places.items():
            starts[name], start = start, start + len(places)
        return _set(self.root, starts, self.places)

    def key(self, i: int) -> Key:
        """(sᵢ, −i)."""
        return self.scores[i], -i

    def keeps(self, mask: int, i: int) -> bool:
        """Whether a mask keeps index i."""
        return bool(mask >> (len(self.scores) - 1 - i) & 1)

    def count(self, mask: int, node: Set) -> int:
        """m(A)."""
        return (mask & self.bits(node.indices)).bit_count()

    def masks(self, kept: int) -> dict[str, Tensor]:
        """A mask as bool tensors by name."""
        bits = iter(f"{kept:0{len(self.scores)}b}")
        masks = {name: torch.zeros_like(s, dtype=torch.bool) for name, s in self.importance.items()}
        for name, places in self.places.items():
            for place in places:
                masks[name][place] = next(bits) == "1"
        return masks

    def number(self, masks: Masks) -> int:
        """Bool tensors by name as a mask."""
        bits = [
            str(int(masks[name][place])) for name, places in self.places.items() for place in places
        ]
        return int("".join(bits), 2)

    def bits(self, indices: tuple[int, ...] | list[int] | set[int]) -> int:
        """The mask that keeps these indices."""
        return sum(1 << (len(self.scores) - 1 - i) for i in indices)


def _stored(shape: tuple[int, ...], *, transposed: bool) -> list[tuple[int, ...]]:
    """The index tuples of a tensor of this shape, row by row, or column by column."""
    places: list[tuple[int, ...]] = [()]
    for size in shape:
        places = [(*place, i) for place in places for i in range(size)]
    if transposed:
        places.sort(key=lambda place: (*place[:-2], place[-1], place[-2]))
    return places


def _set(
    node: Node | TensorNode, starts: Mapping[str, int], places: Mapping[str, list[tuple[int, ...]]]
) -> Set:
    if isinstance(node, Node):
        children = tuple(_set(child, starts, places) for child in node.children)
        indices = tuple(i for child in children for i in child.indices)
        return _bounded(node.name, indices, node.minimum, node.maximum, children)
    indices = tuple(starts[node.name] + j for j in range(len(places[node.name])))
    nodes: list[Set] = []
    for which, bound in ((node.zeros, 0), (node.fixed, 1)):
        for i, place in zip(indices, places[node.name], strict=True):
            if which is not None and which[place]:
                # twice frozen, a weight is a node within a node
                inner = tuple(each for each in nodes if each.indices == (i,))
                nodes = [each for each in nodes if each.indices != (i,)]
                nodes.append(Set(f"weight {i}", (i,), bound, bound, inner))
    for runs in sorted(node.runs, key=lambda each: each.length):
        outer = []
        for j in range(0, len(indices), runs.length):
            run = indices[j : j + runs.length]
            inner = tuple(each for each in nodes if {*each.indices} <= {*run})
            outer.append(_bounded(f"{runs.name} {j}", run, runs.minimum, runs.maximum, inner))
        nodes = outer
    return _bounded(node.name, indices, node.minimum, node.maximum, tuple(nodes))


def _bounded(
    name: str, indices: tuple[int, ...], low: int, high: int | None, children: tuple[Set, ...]
) -> Set:
    size = len(indices)
    return Set(name, indices, low, size if high is None else min(high, size), children)


@dataclass(frozen=True)
class Enumerated:
    """All allowed masks, by brute force.

    Attributes:
        program: the scores and the tree.
        values: s·m by allowed mask; empty if the tree is infeasible.
    """

    program: Program
    values: Mapping[int, Fraction]

    @cached_property
    def best(self) -> Fraction:
        """The largest s·m of an allowed mask."""
        return max(self.values.values())

    @cached_property
    def optima(self) -> list[int]:
        """All optimal masks."""
        return [mask for mask, value in self.values.items() if value == self.best]

    @property
    def first(self) -> int:
        """The optimal mask of the tie rule: lexicographically first, the lower index kept."""
        return max(self.optima)

    @property
    def first_masks(self) -> dict[str, Tensor]:
        """`first` as bool tensors by name."""
        return self.program.masks(self.first)


def enumerate_tree(importance: Masks, *roots: Node) -> Enumerated:
    """All masks that the bounds allow; of several trees, those that all allow.

    The flat order is of the first tree. Small programs only: all 2ⁿ masks are tried.
    """
    program = Program(importance, roots[0])
    size = len(program.scores)
    bounds = [(program.bits(node.indices), node.low, node.high) for node in program.tree]
    for root in roots[1:]:
        other = Program(importance, root)
        for node in other.tree:
            kept = program.number(other.masks(other.bits(node.indices)))
            bounds.append((kept, node.low, node.high))
    values = {0: Fraction(0)}
    for i in reversed(range(size)):  # the last index is the lowest bit
        bit = 1 << (size - 1 - i)
        values |= {mask | bit: value + program.scores[i] for mask, value in values.items()}
    allowed = {
        mask: value
        for mask, value in values.items()
        if all(low <= (mask & node).bit_count() <= high for node, low, high in bounds)
    }
    return Enumerated(program, allowed)


@dataclass(frozen=True)
class Judgement:
    """What is true of a mask; all False and no regret if it is not allowed.

    Attributes:
        allowed: it satisfies all bounds.
        optimal: no allowed mask is better.
        unique: every other allowed mask is worse.
        tie_rule: it is the lexicographically first optimum.
        regret: the optimum − s·m.
    """

    allowed: bool
    optimal: bool = False
    unique: bool = False
    tie_rule: bool = False
    regret: Fraction | None = None


def judge(found: Enumerated, masks: Masks | int) -> Judgement:
    """The truth about a mask, by comparison with all."""
    mask = masks if isinstance(masks, int) else found.program.number(masks)
    if mask not in found.values:
        return Judgement(allowed=False)
    regret = found.best - found.values[mask]
    optimal = regret == 0
    alone = optimal and len(found.optima) == 1
    return Judgement(True, optimal, alone, optimal and mask == found.first, regret)


@dataclass(frozen=True)
class Greedy:
    """The closed form of Theorem 6.

    Attributes:
        mask: the optimum of the tie rule; None if the tree is infeasible.
        thresholds: t_A in the order of `Program.tree`.
    """

    mask: int | None
    thresholds: tuple[Fraction, ...] = ()


def greedy(program: Program) -> Greedy:
    """Bottom-up force the best and exclude the worst; top-down t_A = clip(t_parent, θhi, θlo)."""
    nodes = [*_with_parents(program.tree)]
    forced: list[set[int]] = [set() for _ in nodes]
    free = [{*node.own} for node, _ in nodes]
    ends: list[tuple[Fraction | None, Fraction | None]] = [(None, None)] * len(nodes)
    for place in reversed(range(len(nodes))):  # parents come first
        node, parent = nodes[place]
        ranked = sorted(free[place], key=program.key, reverse=True)
        need, room = max(0, node.low - len(forced[place])), node.high - len(forced[place])
        if need > len(ranked) or room < need:
            return Greedy(None)
        chosen, excluded = {*ranked[:need]}, {*ranked[room:]}
        ends[place] = (
            max((program.scores[i] for i in excluded), default=None),
            min((program.scores[i] for i in chosen), default=None),
        )
        if place:
            forced[parent] |= forced[place] | chosen
            free[parent] |= free[place] - chosen - excluded
        else:
            kept = forced[0] | chosen  # l = h in the root, so nothing is left free
    thresholds: list[Fraction] = []
    for (low, high), (_, parent) in zip(ends, nodes, strict=True):
        own = thresholds[parent] if thresholds else Fraction(0)
        own = own if low is None else max(own, low)
        thresholds.append(own if high is None else min(own, high))
    return Greedy(program.bits(kept), tuple(thresholds))


def regret(program: Program, mask: int, thresholds: tuple[Fraction, ...]) -> Fraction:
    """V: the optimum − s·m is at most this for any thresholds, and this for those of `greedy`."""
    total = Fraction(0)
    for place, (node, parent) in enumerate(_with_parents(program.tree)):
        t = thresholds[place]
        for i in node.own:
            loss = t - program.scores[i] if program.keeps(mask, i) else program.scores[i] - t
            total += max(Fraction(0), loss)
        kept, step = program.count(mask, node), t - thresholds[parent] if place else Fraction(0)
        total += step * (node.high - kept) if step > 0 else -step * (kept - node.low)
    return total


def verdict(program: Program, mask: int) -> Judgement:
    """The check of Theorem 6, which stores no threshold: a_A and b_A in every node, bottom-up."""
    nodes = [*_with_parents(program.tree)]
    if not all(node.low <= program.count(mask, node) <= node.high for node, _ in nodes):
        return Judgement(allowed=False)
    pruned: list[list[Key]] = [[] for _ in nodes]
    kept: list[list[Key]] = [[] for _ in nodes]
    optimal = unique = tie_rule = True
    for place in reversed(range(len(nodes))):
        node, parent = nodes[place]
        for i in node.own:
            (kept if program.keeps(mask, i) else pruned)[place].append(program.key(i))
        count = program.count(mask, node)
        if place and pruned[place] and count < node.high:
            pruned[parent].append(max(pruned[place]))
        if place and kept[place] and count > node.low:
            kept[parent].append(min(kept[place]))
        if pruned[place] and kept[place]:
            a, b = max(pruned[place]), min(kept[place])
            optimal, unique = optimal and a[0] <= b[0], unique and a[0] < b[0]
            tie_rule = tie_rule and a < b
    value = regret(program, mask, greedy(program).thresholds)
    return Judgement(True, optimal, unique, tie_rule, value)


def _with_parents(tree: Set) -> Iterator[tuple[Set, int]]:
    """Each node and the place of its parent, parents first; −1 of the root."""
    waiting, place = [(tree, -1)], 0
    while waiting:
        node, parent = waiting.pop()
        yield node, parent
        waiting += [(child, place) for child in reversed(node.children)]
        place += 1
