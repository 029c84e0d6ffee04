"""Σ vᵢ with no rounding, and scaling by powers of two.

Every finite float is a dyadic rational M·2^e with integers M and e, so sums of floats can be
evaluated exactly. All comparisons of objectives use this module.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from pins.errors import ProgramError

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
Exponents = npt.NDArray[np.int64]

MANTISSA_BITS = 53
"""Digits of a float64: |M| < 2⁵³."""

LOW_BITS = 27
"""M = high·2²⁷ + low with 0 ≤ low < 2²⁷ and |high| ≤ 2²⁶."""

SMALLEST_EXPONENT = -1074
"""2⁻¹⁰⁷⁴ is the smallest positive float64, and every float64 is a multiple of it."""

LARGEST_EXPONENT = 1024
"""Every float64 is below 2¹⁰²⁴."""

CHUNK = 1 << 20
"""Entries summed at a time: 2²⁰·2²⁷ < 2⁵³, so a float64 holds each partial sum exactly."""

TARGET_EXPONENT = 10
"""Scaled objectives have 2⁹ ≤ max|cᵢ| < 2¹⁰, far above the solvers' tolerances of about 1e-7."""

LARGE_ROW = 2.0**20
"""Rows with entries of this size are scaled down if `UNITS` allows it. A heuristic: HiGHS and CBC
call feasible programs with entries of 1e7 infeasible."""

UNITS = 1 << 20
"""The largest entry of such a row, in units of all its numbers' greatest common divisor."""


def exact_sum(values: npt.NDArray[np.floating[Any]]) -> Fraction:
    """Σ vᵢ as a rational number, without rounding.

    Derivation: write vᵢ = Mᵢ·2^eᵢ with a 53-bit integer Mᵢ = highᵢ·2²⁷ + lowᵢ. For each exponent e
    the sums of the highs and of the lows are integers below 2⁵³ within one chunk, which float64
    arithmetic holds exactly, and below 2⁶³ over all chunks, which int64 holds exactly up to
    n = 2³⁶. The roughly 2,100 sums per exponent are then added as Python integers.

    Args:
        values: any shape, dtype float16, float32 or float64; subnormals are summed exactly too.

    Returns:
        The exact sum; 0 for an empty array. O(n), about a second for 10⁷ entries.

    Raises:
        ProgramError: another dtype, or an entry that is NaN or infinite.
    """
    if values.dtype not in (np.float16, np.float32, np.float64):
        raise ProgramError(
            f"exact_sum: dtype {values.dtype} came; pass float16, float32 or float64 values"
        )
    flat = values.reshape(-1)
    # frexp gives −1073 ≤ exponent ≤ 1024, so exponents become bins 0 … 2097.
    bins = 1024 - (SMALLEST_EXPONENT + 1) + 1
    highs, lows = np.zeros(bins, np.int64), np.zeros(bins, np.int64)
    for start in range(0, flat.size, CHUNK):
        chunk = flat[start : start + CHUNK].astype(np.float64)
        if not np.isfinite(chunk).all():
            index = start + int(np.flatnonzero(~np.isfinite(chunk))[0])
            raise ProgramError(
                f"exact_sum: entry {index} is {flat[index]}; pass finite values only"
            )
        fraction, exponent = np.frexp(chunk)
        bin_index = exponent - (SMALLEST_EXPONENT + 1)
        mantissa = np.ldexp(fraction, MANTISSA_BITS).astype(np.int64)
        # An arithmetic shift rounds down, so low = mantissa − high·2²⁷ is never negative.
        high = mantissa >> LOW_BITS
        low = mantissa & ((1 << LOW_BITS) - 1)
        highs += np.bincount(bin_index, weights=high, minlength=bins).astype(np.int64)
        lows += np.bincount(bin_index, weights=low, minlength=bins).astype(np.int64)
    total = 0
    for index in np.flatnonzero(highs | lows).tolist():
        total += ((int(highs[index]) << LOW_BITS) + int(lows[index])) << index
    return Fraction(total, 1 << (MANTISSA_BITS - SMALLEST_EXPONENT - 1))


def objective(c: FloatArray, x: BoolArray) -> Fraction:
    """Σ cᵢ xᵢ as a rational number, without rounding.

    Args:
        c: (n,) float64, finite where xᵢ = 1.
        x: (n,) bool, xᵢ = 1 = keep.

    Raises:
        ProgramError: the shapes differ, `x` is not bool, or a kept entry of `c` is not finite.
    """
    if x.dtype != np.bool_ or x.shape != c.shape:
        raise ProgramError(
            f"objective: x of shape {x.shape} and dtype {x.dtype} came; "
            f"pass a bool array of shape {c.shape}"
        )
    return exact_sum(c[x])


def integers(values: Sequence[float]) -> list[int]:
    """(Nᵢ) with vᵢ = Nᵢ / D for one common D = 2^d > 0: the same order relations, in integers.

    Args:
        values: finite floats.

    Raises:
        ProgramError: a value is NaN or infinite.
    """
    if not np.isfinite(values).all():
        raise ProgramError("integers: a value is NaN or infinite; pass finite values only")
    ratios = [float(value).as_integer_ratio() for value in values]
    # Denominators are powers of two, so the largest is a multiple of all.
    common = max((denominator for _, denominator in ratios), default=1)
    return [numerator * (common // denominator) for numerator, denominator in ratios]


def power_of_two_exponent(c: FloatArray) -> int:
    """e with 2⁹ ≤ max|cᵢ|·2^e < 2¹⁰ and every cᵢ·2^e a float64 exactly.

    Multiplying by 2^e changes the exponent only, unless a result falls below the smallest float64.
    Scaling up (e > 0) is always exact. Scaling down (e < 0) is not if c spans more than about 300
    orders of magnitude: then e is the smallest exact exponent, and max|cᵢ|·2^e stays above 2¹⁰. A
    solver may refuse such numbers and reports it in its status.

    Args:
        c: (n,) float64, finite.

    Returns:
        The exponent; 0 when c is empty or zero everywhere.
    """
    fraction, exponent = np.frexp(c[c != 0])
    if exponent.size == 0:
        return 0
    wanted = TARGET_EXPONENT - int(exponent.max())
    if wanted >= 0:
        return wanted
    mantissa = np.ldexp(fraction, MANTISSA_BITS).astype(np.int64)
    # mantissa & −mantissa is the lowest set bit, a power of two: frexp reads its exponent.
    trailing_zeros = np.frexp((mantissa & -mantissa).astype(np.float64))[1] - 1
    lowest_bit = int((exponent - MANTISSA_BITS + trailing_zeros).min())
    return max(wanted, SMALLEST_EXPONENT - lowest_bit)


def scaled(c: FloatArray) -> tuple[FloatArray, int]:
    """(c·2^e, e) with e = `power_of_two_exponent(c)`; ldexp(c·2^e, −e) == c bit for bit."""
    exponent = power_of_two_exponent(c)
    return np.ldexp(c, exponent), exponent


def row_exponents(
    starts: npt.NDArray[np.integer[Any]], entries: FloatArray, rhs: FloatArray
) -> Exponents:
    """e for each row: 2⁹ ≤ max|aⱼ|·2^e < 2¹⁰ if the row is scaled, else 0.

    Solvers apply absolute tolerances to a row, and drop small entries: they would ignore a budget
    of costs near 1e-13. Such rows are scaled up, which is exact. Scaled down are large rows of one
    size: multiples of one unit, at most 2²⁰ of it, such as (6, 4, 4) ≤ 8 times 1e15. A left side
    that exceeds the right one then does so by a unit, which is far above the tolerances; of
    15,000,000,001 ≤ 15,000,000,000 scaling would leave nothing. Not scaled: other rows of integers
    and of large numbers; rows of zeros; and a row whose right side would overflow.

    Args:
        starts: (r + 1,), the index of each row's first entry, as `indptr` of a CSR matrix.
        entries: the stored entries of all rows in order.
        rhs: (r,), the right sides.
    """
    exponents = np.zeros(rhs.size, dtype=np.int64)
    for row, bound in enumerate(rhs.tolist()):
        coefficients = entries[starts[row] : starts[row + 1]]
        most = float(np.abs(coefficients).max(initial=0))
        if most >= LARGE_ROW:
            *numbers, side = integers([*coefficients.tolist(), bound])
            unit = math.gcd(*numbers, side)
            if max(map(abs, numbers)) <= unit * UNITS:
                exponents[row] = TARGET_EXPONENT - math.frexp(most)[1]
        elif not np.array_equal(coefficients, np.rint(coefficients)):
            exponent = max(power_of_two_exponent(coefficients), 0)
            if math.frexp(bound)[1] + exponent <= LARGEST_EXPONENT:
                exponents[row] = exponent
    return exponents
