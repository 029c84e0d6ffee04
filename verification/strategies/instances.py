"""Strategies of (importance, keep), the instances of a law."""

from collections.abc import Sequence

import torch
from hypothesis import strategies as st
from torch import Tensor

from verification.laws import Law
from verification.strategies.tensors import DTYPES, score_mappings

Instance = tuple[dict[str, Tensor], int]
"""(importance, keep)."""


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
    law: Law, *, ties: bool = True, zero_size: bool = False
) -> st.SearchStrategy[Instance]:
    """The instances of a law: `selections`, or `integer_selections` if `law.integers`.

    Without `ties`, a law that needs the tie rule gets distinct integers, so that a selector with
    another tie rule can satisfy it. With `zero_size`, tensors without an entry are among them.
    """
    distinct = law.tie_rule and not ties
    if law.integers or distinct:
        return integer_selections(distinct=distinct, zero_size=zero_size)
    return selections(zero_size=zero_size)
