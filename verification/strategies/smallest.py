"""The smallest instances of a law, one by one: Hypothesis takes longer to start than they take."""

import itertools
from collections.abc import Iterable, Iterator

import torch

from verification.laws import Law
from verification.scopes import FLAT, ROW, TREE, Scope
from verification.strategies.instances import Instance

_INTEGERS = (0.0, 1.0, -1.0, 2.0, -2.0)
_NEAR = 1 + torch.finfo(torch.float32).eps  # the float after 1
_FLOATS = ((0.0, -0.0), (-0.0, 0.0), (1.0, _NEAR), (_NEAR, 1.0))


def smallest(law: Law) -> Iterator[Instance]:
    """All instances of one or two integers of [−2, 2], the simplest first.

    Then come, unless `law.integers`, the two zeros and two neighbouring floats. In scope flat the
    numbers are in one or two tensors; in scopes of matrices, of [−1, 1], each fills one half of the
    columns, of one row and then of two. Trees are those of the scopes flat and row.
    """
    if law.scope is TREE:
        for scope in (FLAT, ROW):
            for given, keep in _of(scope, integers=law.integers):
                importance = scope.named(given)
                yield importance, scope.tree(importance, keep)
    else:
        yield from _of(law.scope, integers=law.integers)


def _of(scope: Scope, *, integers: bool) -> Iterator[Instance]:
    floats = () if integers else _FLOATS
    if scope.matrix:
        pairs, fours = (itertools.product(_INTEGERS[:3], repeat=size) for size in (2, 4))
        yield from _filled(scope, itertools.chain(pairs, floats, fours))
        return
    singles, pairs = (itertools.product(_INTEGERS, repeat=size) for size in (1, 2))
    for values in itertools.chain(singles, pairs, floats):
        for tensors in range(1, len(values) + 1):
            pieces = torch.tensor(values).tensor_split(tensors)
            for keep in range(len(values) + 1):
                yield {f"layer.{i}": piece.clone() for i, piece in enumerate(pieces)}, keep


def _filled(scope: Scope, choices: Iterable[tuple[float, ...]]) -> Iterator[Instance]:
    """Matrices of one or two times the least height, with two numbers a row."""
    rows, columns = scope.sides
    width = columns if scope.cut and columns > 1 else 2 * columns  # a group, or two blocks
    half = torch.arange(width) * 2 // width
    for values in choices:
        matrix = torch.tensor(values).view(-1, 2)[:, half].repeat_interleave(rows, 0)
        room = scope.room(scope.named(matrix))
        for keep in range(room + 1) if scope.number is None else (scope.number,):
            yield matrix.clone(), keep
