"""Constraints: the masks that a decision may choose, as trees of bounds (`pins.selection.tree`).

A constraint tightens a tree: it adds bounds to the model, to each tensor, or to the runs inside
them. So constraints are put together by `&`, and every combination is one laminar program:

    Cardinality(k) & LayerBounds(minimum=0.1) & AtMostNofM(2, 4)

A mask is allowed iff each of them allows it. The number of kept weights must follow from all of
them together; `Rows`, `NofM` and `PerTensor` say it alone.
"""

import math
import operator
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from pins.errors import CardinalityError, ScheduleError
from pins.selection.tree import Node, Runs, TensorNode, View, change_each


@runtime_checkable
class Constraint(Protocol):
    """The masks that are allowed."""

    def tree(self, views: Mapping[str, View]) -> Node:
        """The tree of bounds over tensors of these views.

        Raises:
            CardinalityError: these tensors have no allowed mask; names the tensor and the reason.
        """


class Bounds(ABC):
    """A constraint that can be put together with others by `&`."""

    @abstractmethod
    def tighten(self, tree: Node) -> Node:
        """The tree with these bounds too.

        Raises:
            CardinalityError: the bounds do not fit the tensors of the tree.
        """

    def tree(self, views: Mapping[str, View]) -> Node:
        """As `Constraint.tree`."""
        nodes = tuple(TensorNode(name, view) for name, view in views.items())
        # without runs a view only takes time
        return change_each(
            self.tighten(Node("the model", nodes)),
            lambda node: node if node.runs else replace(node, view=node.view.stored),
        )

    def __and__(self, other: "Bounds") -> "Bounds":
        """The masks that both allow."""
        return Both(self, other) if isinstance(other, Bounds) else NotImplemented


@dataclass(frozen=True)
class Both(Bounds):
    """The masks that two constraints allow."""

    first: Bounds
    second: Bounds

    def tighten(self, tree: Node) -> Node:
        """First the one, then the other."""
        return self.second.tighten(self.first.tighten(tree))


@dataclass(frozen=True)
class Cardinality(Bounds):
    """Σm = keep over all tensors."""

    keep: int

    def tighten(self, tree: Node) -> Node:
        """0 ≤ keep ≤ n."""
        keep = cardinality(self.keep, tree.size)
        return replace(tree, minimum=max(tree.minimum, keep), maximum=_least(tree.maximum, keep))


@dataclass(frozen=True)
class _Keeps(Bounds):
    """A number of ones for every tensor, by name."""

    keeps: Mapping[str, int]

    def __post_init__(self) -> None:
        object.__setattr__(self, "keeps", _counts(self.keeps, "keeps"))

    def _keep(self, node: TensorNode) -> int:
        if node.name not in self.keeps:
            raise CardinalityError(
                f"{type(self).__name__} says nothing of {node.name!r}: give each tensor its number "
                "of weights"
            )
        return self.keeps[node.name]


@dataclass(frozen=True)
class PerTensor(_Keeps):
    """Σ_{i∈t} mᵢ = keeps[t] for each tensor t.

    Attributes:
        keeps: number of ones by tensor name, for every tensor.

    Raises:
        CardinalityError: a number is not an int ≥ 0.
    """

    def tighten(self, tree: Node) -> Node:
        """`keeps` names exactly these tensors, and 0 ≤ keeps[t] ≤ n_t."""
        _require_room(self.keeps, tree, "keeps")
        return change_each(tree, lambda node: _within(node, keep := self._keep(node), keep))


@dataclass(frozen=True)
class LayerBounds(Bounds):
    """l_t ≤ Σ_{i∈t} mᵢ ≤ h_t for each tensor t: against the collapse of layers.

    Attributes:
        minimum: l_t: numbers by tensor name, default 0; or a ratio r of each tensor, ⌈r·n_t⌉, so
            that for r > 0 each keeps a weight.
        maximum: h_t: numbers by tensor name, default n_t; or a ratio r of each tensor, ⌊r·n_t⌋.

    Raises:
        CardinalityError: a number is not an int ≥ 0, or a ratio is not in [0, 1].
    """

    minimum: float | Fraction | Mapping[str, int] = 0
    maximum: float | Fraction | Mapping[str, int] = 1

    def __post_init__(self) -> None:
        for name in ("minimum", "maximum"):
            value = getattr(self, name)
            object.__setattr__(
                self,
                name,
                _counts(value, name) if isinstance(value, Mapping) else _ratio(value, name),
            )

    def tighten(self, tree: Node) -> Node:
        """The numbers name only tensors of the tree, with at least as many weights."""
        for name in ("minimum", "maximum"):
            if isinstance(numbers := getattr(self, name), Mapping):
                _require_room(numbers, tree, name)

        def bounded(node: TensorNode) -> TensorNode:
            least, most = self.minimum, self.maximum
            return _within(
                node,
                least.get(node.name, 0)
                if isinstance(least, Mapping)
                else math.ceil(least * node.size),
                most.get(node.name, node.size)
                if isinstance(most, Mapping)
                else math.floor(most * node.size),
            )

        return change_each(tree, bounded)


@dataclass(frozen=True)
class Rows(Bounds):
    """Each row of each matrix keeps `keep_count(sparsity, inputs)` weights, as Wanda does.

    A row holds the weights of one output. Each is rounded by itself, so the sum may differ from
    `keep_count(sparsity, n)` by half a weight for each row.

    Raises:
        ScheduleError: `sparsity` is not in [0, 1].
    """

    sparsity: float | Fraction

    def __post_init__(self) -> None:
        exact_ratio(self.sparsity)

    def tighten(self, tree: Node) -> Node:
        """As above."""
        return change_each(
            tree, lambda node: _by_row(node, keep_count(self.sparsity, node.view.inputs))
        )


@dataclass(frozen=True)
class PerRow(_Keeps):
    """Each row of tensor t keeps keeps[t] weights.

    Attributes:
        keeps: number of ones of a row by tensor name, for every tensor.

    Raises:
        CardinalityError: a number is not an int ≥ 0.
    """

    def tighten(self, tree: Node) -> Node:
        """`keeps` names every tensor."""
        return change_each(tree, lambda node: _by_row(node, self._keep(node)))


@dataclass(frozen=True)
class AtMostNofM(Bounds):
    """Each m consecutive inputs of a row keep at most n weights: `n`:`m` sparsity.

    Attributes:
        n: number of *kept* weights; SparseGPT's `prunen` is the number of pruned ones.
        m: length of a group.
        skip_indivisible: keep all weights of a tensor whose rows m does not divide.

    Raises:
        CardinalityError: not 0 ≤ n ≤ m, or m is 0.
    """

    n: int
    m: int
    skip_indivisible: bool = False

    def __post_init__(self) -> None:
        if not 0 <= _count(self.n) <= _count(self.m) or not self.m:
            raise CardinalityError(
                f"N:M is {self.n!r}:{self.m!r}: N of each M weights are kept, 0 ≤ N ≤ M and M ≥ 1"
            )

    def tighten(self, tree: Node) -> Node:
        """M divides the inputs of every tensor."""

        def groups(node: TensorNode) -> TensorNode:
            indivisible = node.size and node.view.inputs % self.m
            if indivisible and self.skip_indivisible:
                return _within(node, node.size, node.size)
            if indivisible:
                raise CardinalityError(
                    f"{node.name!r} has rows of {node.view.inputs} weights, which {self.m} does "
                    f"not divide: leave it out of {self.n}:{self.m}, or skip what is indivisible"
                )
            return _with(node, Runs(self.m, self._least, self.n, f"{self.n}:{self.m} group"))

        return change_each(tree, groups)

    @property
    def _least(self) -> int:
        return 0


class NofM(AtMostNofM):
    """Each m consecutive inputs of a row keep exactly n weights."""

    @property
    def _least(self) -> int:
        return self.n


@dataclass(frozen=True, eq=False)
class Frozen(Bounds):
    """Single weights that are decided already.

    Attributes:
        zeros: bool by tensor name, in its shape: True = pruned. Of a sharded tensor this rank's
            part.
        weights: likewise: True = kept.
    """

    zeros: Mapping[str, Tensor] = field(default_factory=dict)
    weights: Mapping[str, Tensor] = field(default_factory=dict)

    def tighten(self, tree: Node) -> Node:
        """Every name is a tensor of the tree."""
        for name in {*self.zeros, *self.weights} - {node.name for node in tree.tensors}:
            raise CardinalityError(f"weights of {name!r} are frozen, and there is no such tensor")
        return change_each(
            tree,
            lambda node: replace(
                node,
                zeros=_either(node.zeros, self.zeros.get(node.name)),
                fixed=_either(node.fixed, self.weights.get(node.name)),
            ),
        )


def _either(first: Tensor | None, second: Tensor | None) -> Tensor | None:
    if first is None or second is None:
        return second if first is None else first
    return first | second


def per_tensor(sparsity: float | Fraction, sizes: Mapping[str, int]) -> PerTensor:
    """keeps[t] = the integer nearest to (1 − sparsity)·n_t, halves rounded up.

    Each tensor is rounded separately, so Σ keeps may differ from `keep_count(sparsity, n)` of all n
    weights: with T tensors by at most (T + 1)/2.

    Args:
        sparsity: 1 − kept ratio.
        sizes: n_t by tensor name.

    Raises:
        ScheduleError: `sparsity` is not in [0, 1].
    """
    return PerTensor({name: keep_count(sparsity, size) for name, size in sizes.items()})


def _within(node: TensorNode, minimum: int, maximum: int) -> TensorNode:
    """The node with these bounds too."""
    return replace(node, minimum=max(node.minimum, minimum), maximum=_least(node.maximum, maximum))


def _by_row(node: TensorNode, keep: int) -> TensorNode:
    """The node of which each row keeps so many weights too."""
    return _with(node, Runs(node.view.inputs, keep, keep, "row"))


def _with(node: TensorNode, runs: Runs) -> TensorNode:
    """The node with these runs too; of two kinds of one length, with the bounds of both."""
    if not node.size:
        return node
    found = {each.length: each for each in node.runs}
    if (other := found.get(runs.length)) is not None:
        runs = replace(
            runs,
            minimum=max(runs.minimum, other.minimum),
            maximum=_least(runs.maximum, other.maximum),
        )
    found[runs.length] = runs
    return replace(node, runs=tuple(found[length] for length in sorted(found, reverse=True)))


def _least(first: int | None, second: int | None) -> int | None:
    return min((each for each in (first, second) if each is not None), default=None)


def cardinality(keep: int, total: int) -> int:
    """`keep` as an int in [0, total].

    Raises:
        CardinalityError: it is not an int in [0, total].
    """
    number = _count(keep)
    if not 0 <= number <= total:
        raise CardinalityError(
            f"keep is {keep!r}: it is the number of weights to keep, an int from 0 to {total}"
        )
    return number


def _count(number: object) -> int:
    """`number` as an int, −1 if it is not an integer; numpy's integers are, booleans are not."""
    if isinstance(number, bool) or getattr(number, "dtype", None) == torch.bool:
        return -1
    try:
        return operator.index(number)  # type: ignore[arg-type]
    except TypeError:
        return -1


def _counts(numbers: Mapping[str, int], what: str) -> dict[str, int]:
    """A copy with ints ≥ 0."""
    for name, number in numbers.items():
        if _count(number) < 0:
            raise CardinalityError(
                f"{what}[{name!r}] is {number!r}: it is a number of weights, an int from 0"
            )
    return {name: _count(number) for name, number in numbers.items()}


def _ratio(value: float | Fraction, name: str) -> Fraction:
    try:
        return exact_ratio(value)
    except ScheduleError:
        raise CardinalityError(
            f"the {name} kept of each tensor is {value!r}: it is a ratio from 0 to 1"
        ) from None


def _require_room(numbers: Mapping[str, int], tree: Node, what: str) -> None:
    """Check that each number belongs to a tensor with at least as many weights."""
    sizes = {node.name: node.size for node in tree.tensors}
    for name, number in numbers.items():
        if name not in sizes:
            raise CardinalityError(
                f"{what}[{name!r}] is {number}, and there is no tensor {name!r}: leave it out"
            )
        if number > sizes[name]:
            raise CardinalityError(
                f"{what}[{name!r}] is {number}, and {name!r} has {sizes[name]} weights: ask for "
                "fewer"
            )


def exact_ratio(value: float | Fraction, name: str = "sparsity") -> Fraction:
    """The written decimal as a fraction in [0, 1].

    Raises:
        ScheduleError: not a number in [0, 1].
    """
    try:
        if isinstance(value, Fraction):
            ratio = value
        else:
            # repr() of a numpy float is not a decimal
            ratio = Fraction(repr(float(value) if isinstance(value, float) else value))
    except (TypeError, ValueError):
        ratio = Fraction(-1)
    if not 0 <= ratio <= 1:
        raise ScheduleError(f"{name} is {value!r}: it is a ratio from 0 (dense) to 1 (all zero)")
    return ratio


def keep_count(sparsity: float | Fraction, total: int) -> int:
    """k = the integer nearest to (1 − sparsity)·n, halves rounded up."""
    return math.floor((1 - exact_ratio(sparsity)) * total + Fraction(1, 2))
