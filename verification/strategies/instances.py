"""Strategies of (importance, keep), the instances of a law."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from hypothesis import strategies as st

from verification.laminar import Program
from verification.laws import Law, flat
from verification.scopes import TREE, Given, Keep, Scope
from verification.strategies.tensors import DTYPES, score_mappings, scores
from verification.strategies.trees import Tree, trees

Instance = tuple[Any, Any]
"""(importance, keep); of a scope of matrices (matrix, keep), of trees (importance, root)."""


@st.composite
def selections(
    draw: st.DrawFn,
    *,
    max_tensors: int = 4,
    max_size: int = 16,
    dtypes: Sequence[torch.dtype] = DTYPES,
    zero_size: bool = False,
) -> Instance:
    """(importance, keep): `score_mappings` of at most `max_size` entries a tensor, 0 ≤ keep ≤ n.

    Shrinks to one tensor with a single zero, nothing kept.
    """
    mappings = score_mappings(
        max_tensors=max_tensors, max_size=max_size, dtypes=dtypes, zero_size=zero_size
    )
    importance = draw(mappings)
    total = sum(tensor.numel() for tensor in importance.values())
    return importance, draw(st.integers(0, total))


@st.composite
def integer_selections(
    draw: st.DrawFn,
    *,
    max_tensors: int = 3,
    max_total: int = 12,
    max_value: int = 100,
    distinct: bool = False,
    zero_size: bool = False,
) -> Instance:
    """(importance, keep): float32 scores that are integers of [−max_value, max_value].

    With `distinct`, no score occurs twice; with `zero_size`, tensors may be empty. Differences
    exceed every tolerance of a floating-point solver. Shrinks to one tensor with a single zero,
    nothing kept.
    """
    integers = st.integers(-max_value, max_value)
    values = draw(st.lists(integers, min_size=1, max_size=max_total, unique=distinct))
    cuts = sorted(draw(st.lists(st.integers(0, len(values)), max_size=max_tensors - 1)))
    pieces = torch.tensor(values, dtype=torch.float32).tensor_split(cuts)
    given = [piece.clone() for piece in pieces if zero_size or piece.numel()]
    importance = {f"layer.{i}": piece for i, piece in enumerate(given)}
    return importance, draw(st.integers(0, len(values)))


def instances(
    law: Law, *, ties: bool = True, zero_size: bool = False, max_total: int = 12
) -> st.SearchStrategy[Instance]:
    """The instances of a law: `selections`, or `integer_selections` if `law.integers`.

    In other scopes a matrix, or a tree and its tensors, of at most `max_total` weights, or of two
    elements: blocks, groups. Without `ties`, a law that needs the tie rule gets distinct integers,
    so that a selector with another tie rule can satisfy it. With `zero_size`, tensors without an
    entry are among them.
    """
    distinct = law.tie_rule and not ties
    integers = law.integers or distinct
    if law.scope.matrix:
        found = matrix_selections(law.scope, max_total=max_total, integers=integers)
    elif law.scope is TREE:
        tensors = max(max_total // 3, 1)
        found = trees(
            max_tensors=tensors, max_total=max_total, integers=integers, allowed=True
        ).map(_not_the_largest)
    elif integers:
        return integer_selections(distinct=distinct, zero_size=zero_size)
    else:
        return selections(zero_size=zero_size)
    return found.map(_ranked).filter(lambda i: _distinct(law.scope, *i)) if distinct else found


@st.composite
def matrix_selections(
    draw: st.DrawFn, scope: Scope, *, max_total: int = 12, integers: bool = False
) -> Instance:
    """(matrix, keep) of a scope of matrices, of at most `max_total` weights or two elements."""
    matrix = draw(matrices(multiples=scope.sides, max_total=max_total, integers=integers))
    if scope.number is not None:
        return matrix, scope.number
    return matrix, draw(st.integers(0, scope.room(scope.named(matrix))))


@st.composite
def matrices(
    draw: st.DrawFn,
    *,
    multiples: tuple[int, int] = (1, 1),
    max_total: int = 12,
    dtypes: Sequence[torch.dtype] = DTYPES,
    integers: bool = False,
) -> torch.Tensor:
    """One matrix of finite scores; its sides are multiples of `multiples`.

    It has at most `max_total` entries, or twice the product of `multiples`. With `integers`, they
    are float32 integers of [−9, 9]. Shrinks to the smallest matrix of zeros.
    """
    rows, columns = multiples
    size = rows * columns
    most = max(max_total // size, 2)
    inputs = draw(st.integers(1, most))
    outputs = draw(st.integers(1, most // inputs))
    tiles = outputs * inputs
    if size == 1:
        return draw(_vectors(tiles, dtypes, integers)).view(outputs, inputs)
    # of blocks with scores of their own hardly two have equal or nearly equal sums
    if draw(st.booleans()):
        first = draw(_vectors(size + tiles - 1, dtypes, integers))
        drawn = first[:size].repeat(tiles, 1)
        places = draw(st.lists(st.integers(0, size - 1), min_size=tiles, max_size=tiles))
        for i in range(1, tiles):
            drawn[i, places[i]] = first[size + i - 1]
    else:
        drawn = draw(_vectors(size * tiles, dtypes, integers))
    blocks = drawn.view(outputs, inputs, rows, columns)
    return blocks.transpose(1, 2).reshape(outputs * rows, inputs * columns)


def _vectors(
    size: int, dtypes: Sequence[torch.dtype], integers: bool
) -> st.SearchStrategy[torch.Tensor]:
    if not integers:
        return scores(min_size=size, max_size=size, dtypes=dtypes)
    values = st.lists(st.integers(-9, 9), min_size=size, max_size=size)
    return values.map(partial(torch.tensor, dtype=torch.float32))


def _not_the_largest(instance: Tree) -> Tree:
    """No score is the largest float: the selection under bounds needs one beyond all scores."""
    importance, root = instance
    halves = {name: torch.finfo(each.dtype).max / 2 for name, each in importance.items()}
    return {n: each.clamp(-halves[n], halves[n]) for n, each in importance.items()}, root


def _ranked(instance: Instance) -> Instance:
    """The scores as distinct integers in the same order."""
    given, keep = instance
    named = {"": given} if isinstance(given, torch.Tensor) else given
    values = flat(named)
    ranks = (values.argsort(stable=True).argsort() - values.numel() // 2).float()
    parts = torch.split(ranks, [each.numel() for each in named.values()])
    found = {
        name: part.view(each.shape) for (name, each), part in zip(named.items(), parts, strict=True)
    }
    return (found[""] if isinstance(given, torch.Tensor) else found), keep


def _distinct(scope: Scope, given: Given, keep: Keep) -> bool:
    """Whether no two elements have one score, such as two blocks of one sum."""
    importance = scope.named(given)
    return Program.of(scope.tree(importance, keep), importance).distinct
