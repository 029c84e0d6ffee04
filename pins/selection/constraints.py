"""Constraints on masks: k ones over all tensors, and a minimum or an exact number in each tensor.

Every constraint is a case of one program, with a number l_t for each tensor t:

    max s·m   s.t.   Σ mᵢ = k,   Σ_{i∈t} mᵢ ≥ l_t for each t,   m ∈ {0,1}ⁿ                      (C)

`Cardinality` is l = 0. `PerTensor` is Σ l_t = k, so each tensor keeps exactly l_t. The rows are
laminar (each tensor is a subset of the whole), hence totally unimodular: the LP relaxation of (C)
has an integral optimum. The allowed masks are the bases of a matroid, so the greedy algorithm is
exact:

**Theorem 4 (closed form).** The l_t largest scores of each tensor and the largest of all remaining
scores are an optimum of (C).

The dual has a multiplier λ of the first row and ν_t ≥ 0 of the other rows. With a threshold
λ_t = λ − ν_t for each tensor, every allowed mask satisfies

    s·m  =  kλ − Σ_t ν_t Σ_{i∈t} mᵢ + Σᵢ mᵢ(sᵢ − λ_t)  ≤  kλ − Σ_t ν_t l_t + Σᵢ max(0, sᵢ − λ_t)

with equality iff in each tensor min kept ≥ λ_t ≥ max pruned, and λ_t < λ only if the tensor keeps
exactly l_t. So λ and λ_t ≤ λ prove a mask optimal by counts and comparisons. They exist iff no
allowed exchange gains: within each tensor min kept ≥ max pruned, and no tensor that keeps more than
its l_t keeps a score below a score that any tensor prunes. The optimum is unique iff both hold
strictly (`pins.optimality` computes them). For `PerTensor` only the first condition remains: each
λ_t is free, and λ is any number that is at least every λ_t.

A minimum *binds* if ν_t > 0 is necessary: the tensor keeps a score below a score that is pruned in
another tensor. No minimum binds iff the mask is also an optimum without minimums.
"""

import math
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol, runtime_checkable

import torch

from pins.errors import CardinalityError, ScheduleError
from pins.selection.tree import Node, TensorNode, View


@runtime_checkable
class Constraint(Protocol):
    """The rows of (C): the number of ones of a mask, over all tensors and in each."""

    @property
    def keep(self) -> int:
        """The number k of ones over all tensors together."""

    @property
    def minimums(self) -> Mapping[str, int]:
        """l_t by tensor name: the smallest number of ones of the tensor; default 0."""

    @property
    def statement(self) -> str:
        """The program in one line."""

    def validate(self, shapes: Mapping[str, Sequence[int]]) -> None:
        """Check that tensors of these shapes have an allowed mask.

        Raises:
            CardinalityError: they have none; the message names the tensor and the reason.
        """

    def tree(self, views: Mapping[str, View]) -> Node:
        """The bounds of each set of weights, for tensors of these views.

        Raises:
            CardinalityError: as `validate`.
        """


@dataclass(frozen=True)
class Cardinality:
    """Σm = keep: one ranking of all weights."""

    keep: int

    @property
    def minimums(self) -> Mapping[str, int]:
        """Empty."""
        return {}

    @property
    def statement(self) -> str:
        """The program in one line."""
        return f"max s·m over masks with {self.keep} ones"

    def validate(self, shapes: Mapping[str, Sequence[int]]) -> None:
        """0 ≤ keep ≤ n."""
        cardinality(self.keep, _total(shapes))

    def tree(self, views: Mapping[str, View]) -> Node:
        """The root alone."""
        return _tree(self, views)


@dataclass(frozen=True)
class PerTensor:
    """Σ_{i∈t} mᵢ = keeps[t] for each tensor t: one ranking per tensor.

    Attributes:
        keeps: number of ones by tensor name, for every tensor.

    Raises:
        CardinalityError: a number is not an int ≥ 0.
    """

    keeps: Mapping[str, int]

    def __post_init__(self) -> None:
        object.__setattr__(self, "keeps", _counts(self.keeps, "keeps"))

    @property
    def keep(self) -> int:
        """k = Σ_t keeps[t]."""
        return sum(self.keeps.values())

    @property
    def minimums(self) -> Mapping[str, int]:
        """`keeps`: Σ l_t = k."""
        return self.keeps

    @property
    def statement(self) -> str:
        """The program in one line."""
        return (
            f"max s·m over masks with its own number of ones in each of {len(self.keeps)} tensors, "
            f"{self.keep} in all"
        )

    def validate(self, shapes: Mapping[str, Sequence[int]]) -> None:
        """`keeps` names exactly these tensors, and 0 ≤ keeps[t] ≤ n_t."""
        for name in shapes:
            if name not in self.keeps:
                raise CardinalityError(
                    f"PerTensor says nothing of {name!r}: give each tensor its number of weights"
                )
        _require_room(self.keeps, shapes, "keeps")

    def tree(self, views: Mapping[str, View]) -> Node:
        """l = h = keeps[t] in each tensor."""
        return _tree(self, views, exact=True)


@dataclass(frozen=True)
class MinimumPerTensor:
    """Σm = keep, and Σ_{i∈t} mᵢ ≥ minimums[t] for each tensor t: one ranking of all weights.

    Attributes:
        keep: number of ones over all tensors together.
        minimums: smallest number of ones by tensor name; default 0.

    Raises:
        CardinalityError: a number is not an int ≥ 0, or the minimums add up to more than `keep`.
    """

    keep: int
    minimums: Mapping[str, int]

    def __post_init__(self) -> None:
        object.__setattr__(self, "minimums", _counts(self.minimums, "minimums"))
        if (keep := _count(self.keep)) < 0:
            raise CardinalityError(
                f"keep is {self.keep!r}: it is the number of weights to keep, an int from 0"
            )
        object.__setattr__(self, "keep", keep)
        least = sum(self.minimums.values())
        if least > keep:
            raise CardinalityError(
                f"the minimums of {len(self.minimums)} tensors add up to {least} weights, "
                f"{least - keep} more than the {keep} kept in all: lower them, or keep more"
            )

    @property
    def statement(self) -> str:
        """The program in one line."""
        return (
            f"max s·m over masks with {self.keep} ones and a minimum in each tensor, "
            f"{sum(self.minimums.values())} in all"
        )

    def validate(self, shapes: Mapping[str, Sequence[int]]) -> None:
        """0 ≤ keep ≤ n, and `minimums` names only these tensors with 0 ≤ minimums[t] ≤ n_t."""
        cardinality(self.keep, _total(shapes))
        _require_room(self.minimums, shapes, "minimums")

    def tree(self, views: Mapping[str, View]) -> Node:
        """l = minimums[t] in each tensor."""
        return _tree(self, views)


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


def minimum_per_tensor(
    keep: int, ratio: float | Fraction, sizes: Mapping[str, int]
) -> MinimumPerTensor:
    """minimums[t] = ⌈ratio·n_t⌉, so for any ratio > 0 every tensor keeps a weight.

    Args:
        keep: number of ones over all tensors together.
        ratio: smallest kept ratio of each tensor.
        sizes: n_t by tensor name.

    Raises:
        CardinalityError: `ratio` is not in [0, 1], or the minimums add up to more than `keep`.
    """
    try:
        exact = exact_ratio(ratio)
    except ScheduleError:
        raise CardinalityError(
            f"the minimum kept of each tensor is {ratio!r}: it is a ratio from 0 to 1"
        ) from None
    return MinimumPerTensor(keep, {name: math.ceil(exact * size) for name, size in sizes.items()})


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


def _tree(constraint: Constraint, views: Mapping[str, View], *, exact: bool = False) -> Node:
    """k in the root and l_t in each tensor; `exact`: h_t = l_t."""
    constraint.validate({name: (view.size,) for name, view in views.items()})
    minimums = {name: constraint.minimums.get(name, 0) for name in views}
    tensors = (
        TensorNode(name, view, minimums[name], minimums[name] if exact else None)
        for name, view in views.items()
    )
    return Node("the model", tuple(tensors), constraint.keep, constraint.keep)


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


def _total(shapes: Mapping[str, Sequence[int]]) -> int:
    return sum(math.prod(shape) for shape in shapes.values())


def _require_room(
    numbers: Mapping[str, int], shapes: Mapping[str, Sequence[int]], what: str
) -> None:
    """Check that each number belongs to a tensor with at least as many weights."""
    for name, number in numbers.items():
        if name not in shapes:
            raise CardinalityError(
                f"{what}[{name!r}] is {number}, and there is no tensor {name!r}: leave it out"
            )
        if number > (size := math.prod(shapes[name])):
            raise CardinalityError(
                f"{what}[{name!r}] is {number}, and {name!r} has {size} weights: ask for fewer"
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
