"""The exact order of sums of floats, as scores that can be selected from.

A score may be a sum: of the scores of a block, or r = c + μs. Rounded to a float, two different
sums may be equal, or in the wrong order. Sums whose intervals of rounding errors overlap are a
cluster; only inside clusters rational arithmetic decides. The result is the rank of each sum: an
integer, as float64 exact, and equal iff the sums are equal.
"""

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from pins.errors import ImportanceError

Doubles = NDArray[np.float64]

ROUNDING = 2.0**-50  # relative to Σ|term|, for each term: more than twice the error
SMALLEST = 2.0**-1060  # absolute, of products and sums below the least normal number


def exact_ranks(terms: Sequence[Doubles], factors: Sequence[float]) -> Doubles:
    """rankᵢ < rankⱼ iff Σ_t factor_t·term_tᵢ < Σ_t factor_t·term_tⱼ, without rounding.

    Args:
        terms: (n,) each, finite.
        factors: one for each term, finite.

    Returns:
        (n,), integers from 0.

    Raises:
        ImportanceError: a term is not finite.
    """
    if not all(np.isfinite(term).all() for term in terms):
        raise ImportanceError("a term of a score is not finite: look for overflow in it")
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        high, error = np.zeros((2, len(terms[0])))  # few arrays: there may be 10⁸ sums
        for factor, term in zip(factors, terms, strict=True):
            product = factor * term
            high += product
            error += np.abs(product, out=product)
        del product
        unknown = ~np.isfinite(error)  # it overflowed: rational arithmetic alone decides
        error *= ROUNDING * len(terms)
        error += SMALLEST
        low = high - error
        high += error
    del error
    low[unknown], high[unknown] = -np.inf, np.inf
    order = np.argsort(low, kind="stable")
    low, high = low[order], np.maximum.accumulate(high[order])
    step = np.ones(len(order), dtype=np.bool_)  # False: equal to the one before
    step[1:] = low[1:] > high[:-1]
    del low, high
    starts = np.flatnonzero(step)
    # equal rows are equal sums: a model that is pruned already has many zeros
    same = np.ones(len(order), dtype=np.bool_)
    for term in terms:
        same[1:] &= term[order[1:]] == term[order[:-1]]
    open_ = np.logical_or.reduceat(~(step | same), starts) if len(order) else starts > 0
    sizes = np.diff(starts, append=len(order))[open_]
    for start, size in zip(starts[open_].tolist(), sizes.tolist(), strict=True):
        members = order[start : start + size]
        ranked, ranks = _ranked(np.stack([term[members] for term in terms], 1), factors)
        order[start : start + size] = members[ranked]
        step[start + 1 : start + size] = np.diff(ranks)
    found = np.empty(len(order))
    found[order] = step.cumsum() - 1
    return found


def _ranked(rows: Doubles, factors: Sequence[float]) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
    """The places of sums in ascending order, and the rank of each of them."""
    exact = [Fraction(factor) for factor in factors]
    unique, which = np.unique(rows + 0.0, axis=0, return_inverse=True)
    sums = [
        sum((f * Fraction(x) for f, x in zip(exact, row, strict=True)), Fraction(0))
        for row in unique.tolist()
    ]
    ranks = {value: rank for rank, value in enumerate(sorted(set(sums)))}
    own = np.array([ranks[value] for value in sums], dtype=np.int64)[which.reshape(-1)]
    order = np.argsort(own, kind="stable")
    return order, own[order]
