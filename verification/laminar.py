"""A tree of bounds spelled out: elements, and for each node the list of its elements.

    max s·m   s.t.   l_A ≤ m(A) ≤ h_A for each node A,   m ∈ {0,1}ⁿ                              (T)

The laws read their right masks here, with loops over lists: nothing of the selection is used.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from pins.selection.tree import Node, Runs, TensorNode

Score = float | Fraction
Shuffle = Callable[[Sequence[Any]], Sequence[Any]]


@dataclass
class Part:
    """A node: l ≤ number of its kept elements ≤ h.

    Attributes:
        minimum: l.
        maximum: h.
        own: its elements that are in no smaller part.
        parts: the smaller parts; those whose bounds say nothing are dissolved into this one.
    """

    minimum: int = 0
    maximum: int | None = None
    own: list[int] = field(default_factory=list)
    parts: list["Part"] = field(default_factory=list)

    def add(self, part: "Part") -> None:
        """Put a part inside this one."""
        if part.minimum <= 0 and part.most >= len(part.elements):
            self.own += part.own
            self.parts += part.parts
        else:
            self.parts.append(part)

    @property
    def most(self) -> int:
        """H; the number of elements if there is no bound."""
        return len(self.elements) if self.maximum is None else self.maximum

    @property
    def elements(self) -> list[int]:
        """All elements."""
        return [*self.own, *(each for part in self.parts for each in part.elements)]

    def walk(self) -> Iterator["Part"]:
        """All parts, the inner ones first."""
        for part in self.parts:
            yield from part.walk()
        yield self

    def arranged(self, shuffle: Shuffle) -> tuple[Any, list[int]]:
        """Its form, equal for parts of equal structure; its elements in an order of that form."""
        own = shuffle(self.own)
        parts = sorted((part.arranged(shuffle) for part in shuffle(self.parts)), key=_form)
        form = (self.minimum, self.most, len(own), tuple(form for form, _ in parts))
        return form, [*own, *(each for _, elements in parts for each in elements)]


def _form(arranged: tuple[Any, list[int]]) -> Any:
    return arranged[0]


@dataclass(frozen=True)
class Program:
    """(T) for some scores.

    Attributes:
        weights: the flat indices of the weights of each element: of one weight, or of a block.
        scores: s of each element, exactly: the sum of a block's.
        root: the whole.
    """

    weights: list[list[int]]
    scores: list[Score]
    root: Part

    @classmethod
    def of(cls, tree: Node, importance: Mapping[str, Tensor]) -> "Program":
        """The program of a tree over the tensors of `importance`."""
        nodes = {node.name: node for node in tree.tensors}
        weights: list[list[int]] = []
        ordered: dict[str, list[int]] = {}
        frozen: dict[int, bool] = {}
        start = 0
        for name, scores in importance.items():
            own, order = _elements(nodes[name], start)
            ordered[name] = [len(weights) + i for i in order]
            for kept, which in ((False, nodes[name].zeros), (True, nodes[name].fixed)):
                if which is not None:
                    frozen |= {len(weights) + i: kept for i in _true(which)}
            weights += own
            start += scores.numel()
        values = [v for s in importance.values() for v in s.detach().double().reshape(-1).tolist()]
        sums = [
            values[each[0]] if len(each) == 1 else sum(map(Fraction, map(values.__getitem__, each)))
            for each in weights
        ]
        return cls(weights, sums, _part(tree, ordered, frozen))

    @property
    def distinct(self) -> bool:
        """Whether no two elements have one score."""
        return len(set(self.scores)) == len(self.scores)

    def kept(self, mask: Tensor) -> list[bool]:
        """Whether each element is kept, all of it."""
        bits = mask.tolist()
        return [all(bits[i] for i in each) for each in self.weights]

    def mask(self, kept: set[int]) -> Tensor:
        """The mask of these elements, (n,) bool."""
        mask = torch.zeros(sum(map(len, self.weights)), dtype=torch.bool)
        mask[[i for each in kept for i in self.weights[each]]] = True
        return mask

    def allows(self, mask: Tensor) -> bool:
        """Whether each node keeps a number within its bounds, of elements kept or pruned whole."""
        kept = self.kept(mask)
        whole = sum(len(each) for each, own in zip(self.weights, kept, strict=True) if own)
        return whole == int(mask.sum()) and all(
            part.minimum <= sum(kept[i] for i in part.elements) <= part.most
            for part in self.root.walk()
        )

    def gaining_exchange(self, mask: Tensor) -> tuple[int, int] | None:
        """A kept element and a pruned one of larger score whose exchange the bounds allow.

        An allowed mask without one is an optimum: the allowed masks with as many ones are the
        bases of a matroid.
        """
        kept = self.kept(mask)
        parts = [(part, set(part.elements)) for part in self.root.walk()]
        counts = [sum(kept[i] for i in inside) for _, inside in parts]

        def allowed(out: int, into: int) -> bool:
            return all(
                part.minimum <= count + (into in inside) - (out in inside) <= part.most
                for (part, inside), count in zip(parts, counts, strict=True)
                if (into in inside) != (out in inside)
            )

        elements = range(len(kept))
        for out, into in itertools.product(elements, elements):
            gains = kept[out] and not kept[into] and self.scores[into] > self.scores[out]
            if gains and allowed(out, into):
                return out, into
        return None

    def optimum(self, like: Tensor | None = None) -> Tensor:
        """The optimum, (n,) bool; of equal scores those that `like` keeps, then the lower index.

        From the inside to the outside each node forces its l best elements and excludes all but
        its h best.
        """
        likes = [True] * len(self.scores) if like is None else self.kept(like)
        rank = sorted(range(len(likes)), key=lambda i: (-self.scores[i], not likes[i], i))
        place = {element: i for i, element in enumerate(rank)}
        forced: set[int] = set()
        excluded: set[int] = set()
        for part in self.root.walk():
            best = sorted(
                (i for i in part.elements if i not in excluded),
                key=lambda i: (i not in forced, place[i]),
            )
            forced |= set(best[: max(part.minimum, 0)])
            excluded |= set(best[max(part.most, 0) :])
        return self.mask(forced)

    def permutation(self, seed: int) -> Tensor:
        """A permutation of the weights, (n,), that maps allowed masks to allowed masks.

        It permutes the elements of a node, and nodes of equal structure, at random.
        """
        generator = torch.Generator().manual_seed(seed)

        def shuffled(items: Sequence[Any]) -> Sequence[Any]:
            order = torch.randperm(len(items), generator=generator)
            if torch.equal(order, torch.arange(len(items))):
                order = order.roll(1)
            return [items[i] for i in order.tolist()]

        _, before = self.root.arranged(lambda items: items)
        _, after = self.root.arranged(shuffled)
        places, moved = ([i for e in each for i in self.weights[e]] for each in (before, after))
        order = torch.empty(len(places), dtype=torch.int64)
        order[places] = torch.tensor(moved, dtype=torch.int64)
        return order


def _part(
    node: Node | TensorNode, ordered: Mapping[str, list[int]], frozen: Mapping[int, bool]
) -> Part:
    """The part of a node; `ordered` has the elements of each tensor in the order of its view."""
    if isinstance(node, TensorNode):
        return _inside(node, node.runs, ordered[node.name], frozen)
    part = Part(node.minimum, node.maximum)
    for child in node.children:
        part.add(_part(child, ordered, frozen))
    return part


def _inside(
    bounds: TensorNode | Runs,
    runs: Sequence[Runs],
    elements: list[int],
    frozen: Mapping[int, bool],
) -> Part:
    """A tensor, or one of its runs, with the shorter runs that are inside."""
    part = Part(bounds.minimum, bounds.maximum)
    if runs:
        for i in range(0, len(elements), runs[0].length):
            inside = elements[i : i + runs[0].length]
            part.add(_inside(runs[0], runs[1:], inside, frozen))
        return part
    part.own = [i for i in elements if i not in frozen]
    part.parts = [Part(frozen[i], frozen[i], [i]) for i in elements if i in frozen]
    return part


def _elements(node: TensorNode, start: int) -> tuple[list[list[int]], list[int]]:
    """The weights of each element, and the order of the elements in the view."""
    view = node.view
    rows, columns = view.block
    places = torch.arange(view.weights.size).reshape(view.weights.shape)
    flat = view.weights.apply(places).view(view.groups, view.outputs, rows, view.inputs, columns)
    blocks = flat.permute(0, 1, 3, 2, 4).reshape(view.size, rows * columns)
    if rows * columns == 1:  # numbered as they are stored: ties go to the lower flat index
        return [[start + i] for i in range(view.size)], blocks.view(-1).tolist()
    return (start + blocks).tolist(), [*range(view.size)]


def _true(which: Tensor) -> list[int]:
    return [int(i) for i in which.reshape(-1).nonzero()]
