"""Potentials of rows and columns: the dual of a transposable block, minimised approximately.

For any potentials a, b every mask with N ones in each row and each column has

    s·m  ≤  N(Σ a_i + Σ b_j) + Σ_ij max(0, s_ij − a_i − b_j)                                     (D)

The least bound over the a_i alone is reached between the N-th and the N+1-th largest s_ij − b_j of
each row: an exact *sweep* takes their midpoint, then does the same for the columns. Sweeps alone
stop early, since (D) has kinks. So before them max(0, x) is smoothed to ½(x + √(x² + τ²)), with a
falling temperature τ, and the rows and columns are scaled in turn, as by Sinkhorn. (The entropy of
Sinkhorn's transport would be max(0, x) smoothed to τ log(1 + e^{x/τ}). Roots and quotients are
rounded in one way only by IEEE 754, exponentials are not; and this one's bounds are tighter.)
"""

import functools

import torch
from torch import Tensor

TEMPERATURES = 10  # each with one step for the rows and one for the columns
WARMEST, COOLING = 4, 5 / 3  # 1/τ of the first one, and the factor from one to the next
SWEEPS = 5
LONGEST_STEP = 2.0  # in τ: a Newton step is no use where the curvature changes
SOFTEST = 1 / 16  # least curvature that a step divides by
STEPS = 1 << 14  # a probability in whole numbers, whose sums float32 holds exactly


def potentials(scores: Tensor, n: int, sweeps: int = SWEEPS) -> tuple[Tensor, Tensor]:
    """Integral potentials whose bound (D) is close to the optimum.

    Args:
        scores: integers, float64 of shape (M, M, B).
        n: number of ones of each row and column.
        sweeps: exact ones at the end.

    Returns:
        a and b, float64 of shape (M, B).
    """
    rows, columns = sweep(scores, torch.zeros_like(scores[0]), n)
    reduced = scores - rows[:, None] - columns
    spread = (reduced.abs().sum((0, 1)).long() // reduced[..., 0].numel()).clamp(min=1).double()
    more_rows, more_columns = _scaled((reduced / spread).float(), n)
    rows = rows + (more_rows * spread).round()
    columns = columns + (more_columns * spread).round()
    for _ in range(sweeps):
        rows, columns = sweep(scores, columns, n)
    return rows, columns


def sweep(scores: Tensor, columns: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """The best potentials of the rows for those of the columns, then of the columns for these."""
    rows = _midpoints((scores - columns).unbind(1), n)
    return rows, _midpoints((scores - rows[:, None]).unbind(0), n)


def _midpoints(values: tuple[Tensor, ...], n: int) -> Tensor:
    """The middle of the n-th and the n+1-th largest of M tensors, entry by entry, rounded down."""
    ascending = list(values)
    size = len(ascending)
    for low, high in _comparators(size):
        x, y = ascending[low], ascending[high]
        ascending[low], ascending[high] = torch.minimum(x, y), torch.maximum(x, y)
    return ((ascending[size - n] + ascending[size - n - 1]) / 2).floor()


@functools.cache
def _comparators(size: int) -> list[tuple[int, int]]:
    """Batcher's merge exchange sort (Knuth, 5.2.2M): pairs to put in order, one after another."""
    pairs = []
    top = p = 1 << max((size - 1).bit_length() - 1, 0)
    while p:
        q, r, distance = top, 0, p
        while True:
            pairs += [(i, i + distance) for i in range(size - distance) if i & p == r]
            if q == p:
                break
            distance, q, r = q - p, q // 2, p
        p //= 2
    return pairs


def _scaled(scores: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Minimise the smoothed (D) from a = b = 0, in float32, by a Newton step of each in turn."""
    rows = columns = torch.zeros_like(scores[0])
    for k in range(TEMPERATURES):
        cold = round(WARMEST * COOLING**k)  # 1/τ, an integer
        rows = rows + _step(scores - rows[:, None] - columns, n, cold, 1)
        columns = columns + _step(scores - rows[:, None] - columns, n, cold, 0)
    return rows, columns


def _step(reduced: Tensor, n: int, cold: int, dim: int) -> Tensor:
    """Change the potentials so that Σ p over `dim` comes near n, with p = ½(1 + x/√(x² + τ²))."""
    x = reduced * cold
    root = (x * x + 1).sqrt()
    # rounded to whole numbers, whose sums are the same in any order
    signed = (x / root * STEPS).round().sum(dim)
    curvature = (STEPS / (root * root * root)).round().sum(dim)
    excess = signed + float(STEPS * (reduced.shape[dim] - 2 * n))
    newton = excess / curvature.clamp(min=2 * SOFTEST * STEPS)
    return newton.clamp(-LONGEST_STEP, LONGEST_STEP) / torch.full_like(newton, cold)
