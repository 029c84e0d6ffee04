"""Programs with a number of ones for each tensor, drawn and enumerated."""

from collections.abc import Mapping
from fractions import Fraction
from itertools import combinations

from hypothesis import strategies as st
from torch import Tensor

from pins.selection.constraints import Constraint, MinimumPerTensor, PerTensor
from verification.strategies import score_mappings

Program = tuple[dict[str, Tensor], Constraint]


@st.composite
def constrained(draw: st.DrawFn, *, max_tensors: int = 3, max_size: int = 3) -> Program:
    """Scores with ties, and a constraint that some masks meet; shrinks to nothing kept."""
    importance = draw(score_mappings(max_tensors=max_tensors, max_size=max_size, zero_size=True))
    numbers = {name: draw(st.integers(0, s.numel())) for name, s in importance.items()}
    if draw(st.booleans()):
        return importance, PerTensor(numbers)
    total = sum(scores.numel() for scores in importance.values())
    keep = draw(st.integers(sum(numbers.values()), total))
    return importance, MinimumPerTensor(keep, numbers)


def flat(importance: dict[str, Tensor]) -> list[Fraction]:
    """All scores in flat order, exactly."""
    return [Fraction(s) for scores in importance.values() for s in scores.reshape(-1).tolist()]


def ones(masks: Mapping[str, Tensor]) -> tuple[int, ...]:
    """The flat indices that are kept."""
    bits = [bit for mask in masks.values() for bit in mask.reshape(-1).tolist()]
    return tuple(i for i, bit in enumerate(bits) if bit)


def optima(importance: dict[str, Tensor], constraint: Constraint) -> list[tuple[int, ...]]:
    """All optimal sets of kept indices, in lexicographic order, by trying every mask."""
    scores = flat(importance)
    owner = [name for name, each in importance.items() for _ in range(each.numel())]
    best: dict[Fraction, list[tuple[int, ...]]] = {}
    for kept in combinations(range(len(scores)), constraint.keep):
        counts = {name: [owner[i] for i in kept].count(name) for name in importance}
        if isinstance(constraint, PerTensor):
            allowed = counts == constraint.keeps
        else:
            allowed = all(counts[n] >= least for n, least in constraint.minimums.items())
        if allowed:
            best.setdefault(sum((scores[i] for i in kept), Fraction(0)), []).append(kept)
    return best[max(best)]
