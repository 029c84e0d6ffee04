"""Programs with a number of ones for each tensor, drawn and enumerated."""

from collections.abc import Mapping
from fractions import Fraction

import torch
from hypothesis import assume
from hypothesis import strategies as st
from torch import Tensor

from pins.selection.constraints import Bounds, Cardinality, Constraint, LayerBounds, PerTensor
from pins.selection.select import tree_of
from tests.tree_oracle import enumerate_tree
from verification.strategies import score_mappings

Program = tuple[dict[str, Tensor], Bounds]


@st.composite
def constrained(draw: st.DrawFn, *, max_tensors: int = 3, max_size: int = 3) -> Program:
    """Scores with ties, and a constraint that some masks meet; shrinks to nothing kept."""
    importance = draw(score_mappings(max_tensors=max_tensors, max_size=max_size, zero_size=True))
    assume(solvable(importance))
    numbers = {name: draw(st.integers(0, s.numel())) for name, s in importance.items()}
    if draw(st.booleans()):
        return importance, PerTensor(numbers)
    total = sum(scores.numel() for scores in importance.values())
    keep = draw(st.integers(sum(numbers.values()), total))
    return importance, Cardinality(keep) & LayerBounds(minimum=numbers)


def solvable(importance: dict[str, Tensor]) -> bool:
    """Whether no score is the largest float64, which nothing finite is above."""
    most = torch.finfo(torch.float64).max
    return all(bool((scores.double().abs() < most).all()) for scores in importance.values())


def least(importance: dict[str, Tensor], constraint: Constraint) -> dict[str, int]:
    """l of each tensor."""
    return {node.name: node.minimum for node in tree_of(constraint, importance).tensors}


def flat(importance: dict[str, Tensor]) -> list[Fraction]:
    """All scores in flat order, exactly."""
    return [Fraction(s) for scores in importance.values() for s in scores.reshape(-1).tolist()]


def ones(masks: Mapping[str, Tensor]) -> tuple[int, ...]:
    """The flat indices that are kept."""
    bits = [bit for mask in masks.values() for bit in mask.reshape(-1).tolist()]
    return tuple(i for i, bit in enumerate(bits) if bit)


def optima(importance: dict[str, Tensor], constraint: Constraint) -> list[tuple[int, ...]]:
    """All optimal sets of kept indices, in lexicographic order, by trying every mask."""
    found = enumerate_tree(importance, tree_of(constraint, importance))
    return sorted(ones(found.program.masks(mask)) for mask in found.optima)
