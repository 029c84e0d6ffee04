"""The checker on numpy arrays: the same verdicts and messages, many times faster.

This is the standalone reader with faster blocks, and no second opinion: format, claims, checks and
messages are those of `checker.py`. Here a block is a set of arrays, with equally exact results:
comparisons use the stored floats, sums are free of rounding, and where float64 cannot decide,
integers do. Threads compute the digests at the same time; SHA-256 on one core is
then the limit.

    python -m verification.certificates.fast_checker CERTIFICATE.json       same exit codes
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from math import frexp, inf, ldexp
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from verification import checker
from verification.checker import Formula, Scan, Stored, Verdict

Floats = npt.NDArray[np.floating[Any]]
Bools = npt.NDArray[np.bool_]

_BITS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little")
_LIMITS: Mapping[Any, Floats] = {
    np.dtype(kind): np.where(_BITS == 1, -np.inf, np.inf).astype(kind)
    for kind in (np.float32, np.float64)
}
_STORED = {"F16": "<f2", "F32": "<f4", "F64": "<f8"}


def check(path: Path) -> Verdict:
    """Return the verdict on the certificate at `path` with its files; never raises."""
    return checker.check(path, Arrays())


def main(arguments: Sequence[str]) -> int:
    """Print the verdict on the one certificate in `arguments` and return its exit code."""
    return checker.main(arguments, Arrays())


class _Vectors(Scan):
    """Vectors as arrays: float32 or float64, and bools."""

    def decode(self, raw: bytes, dtype: str) -> Floats:
        if dtype == "BF16":  # the upper half of a float32
            return (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32)
        stored: Floats = np.frombuffer(raw, _STORED[dtype])
        with np.errstate(invalid="ignore"):  # a signalling NaN, which is rejected
            return stored.astype(np.float64 if dtype == "F64" else np.float32, copy=False)

    def flags(self, stored: Stored, role: str) -> Bools:
        (raw, packed), first, size = stored.flags[role], stored.first % 8, stored.weights
        bits = np.frombuffer(raw, np.uint8)
        padding = stored.last and first + size < 8 * bits.size
        if not packed and bits.max() <= 1:
            return bits.view(np.bool_)
        if packed and not (padding and int(bits[-1]) >> (first + size) % 8):
            found = np.unpackbits(bits, count=first + size, bitorder="little")[first:]
            return found.view(np.bool_)
        super().flags(stored, role)
        raise AssertionError("the standard library says what is wrong")

    def computed(self, stored: Stored, formula: Formula) -> tuple[bytes, ...]:
        # numpy rounds each operation on float32s to float32, and a float beside them is one of them
        with np.errstate(all="ignore"):  # what is not finite differs from every score
            read = (self.decode(*each) for each in stored.inputs)
            return tuple(made.tobytes() for made in formula.function(*read, *formula.numbers))

    def prices(self, stored: Stored) -> Floats:
        side = stored.view.tile[0]
        lines = np.frombuffer(stored.potentials, "<i8").reshape(-1, 2 * side + 1)
        both, e = lines[:, :-1], lines[:, -1:]
        if (np.abs(both) >> 52).any() or (e < -1074).any() or (e > 970).any():
            super().prices(stored)
        scaled = np.ldexp(both.astype(np.float64), e)
        found: Floats = (scaled[:, :side, None] + scaled[:, None, side:]).reshape(-1)
        return found

    def within(self, values: Floats, least: float) -> bool:
        if not values.size:
            return True
        low, high = values.min(), values.max()  # comparisons with NaN are False
        return bool(-inf < low and low >= least and high < inf)

    def total(self, values: Floats, flags: Bools) -> Fraction:
        return exact_sum(np.float64(values) * flags) if len(values) else Fraction(0)

    def ranks(self, costs: Floats, mu: float, scores: Floats, each: int) -> tuple[Floats, float]:
        with np.errstate(all="ignore"):
            near: Floats = mu * scores.astype(np.float64)
            size = float(np.abs(near).sum())
            near = near + costs if costs.size else near
            slack = 2 * each * checker._rounding(float(costs.sum(dtype=np.float64)), size)
        if not slack < inf:
            return np.zeros(len(scores) // each), inf
        return near if each == 1 else near.reshape(-1, each).sum(1), slack

    def extreme(self, pick: Any, values: Floats, flags: Bools) -> float:
        among = _masked(pick, values, flags)
        return float(among.max() if pick is max else among.min())

    def place(self, values: Floats, flags: Bools, value: float, *, last: bool) -> int:
        equal = (values == value) & flags
        return len(equal) - 1 - int(equal[::-1].argmax()) if last else int(equal.argmax())

    def extremes(self, values: Floats, gain: Bools, lose: Bools, length: int) -> tuple[Any, Any]:
        highs, lows = _masked(max, values, gain), _masked(min, values, lose)
        return _fold(np.maximum, highs, length), _fold(np.minimum, lows, length)

    def plus(self, values: Floats, number: float) -> Floats:
        with np.errstate(invalid="ignore", over="ignore"):  # −∞ + ∞ is above nothing
            return values + number

    def compare(self, how: Any, values: Any, others: Any) -> Bools:
        found: Bools = how(values, others)
        return found

    def negate(self, flags: Bools) -> Bools:
        return ~flags

    def both(self, one: Bools, other: Bools) -> Bools:
        return one & other

    def count(self, flags: Bools, length: int) -> Any:
        if length == flags.size:
            return np.array([np.count_nonzero(flags)])
        return _fold(np.add, flags.astype(np.uint32), length)

    def ends(self, counts: Any) -> tuple[int, int]:
        return int(counts.min()), int(counts.max())

    def places(self, flags: Bools) -> Sequence[int]:
        found: Sequence[int] = np.flatnonzero(flags).tolist()
        return found

    def alike(self, values: Floats, places: Sequence[int]) -> bool:
        return bool((values[places] == values[places[0]]).all())

    def first(self, flags: Bools) -> int | None:
        i = int(flags.argmax())
        return i if flags[i] else None

    def matches(self, values: Floats, of_runs: Floats, length: int) -> Bools:
        found: Bools = (values.reshape(-1, length) == of_runs[:, None]).reshape(-1)
        return found

    def spread(self, flags: Bools, length: int) -> Bools:
        return flags.repeat(length)

    def turned(self, flags: Bools, side: int) -> Bools:
        return flags.reshape(-1, side, side).transpose(0, 2, 1).reshape(-1)

    def disordered(self, before: Bools, after: Bools, length: int) -> int | None:
        runs = np.flatnonzero(
            _fold(np.logical_or, before, length) & _fold(np.logical_or, after, length)
        )
        first = before.reshape(-1, length)[runs].argmax(1)
        last = after.reshape(-1, length)[runs, ::-1].argmax(1)  # from the end
        wrong = runs[first + last < length - 1]
        return int(wrong[0]) if wrong.size else None


class Arrays(_Vectors):
    """Blocks as arrays, and threads for the digests."""

    def after(self, checks: Sequence[Callable[[], None]], proof: Callable[[], str]) -> str:
        """Run the checks in threads beside `proof` and return its result.

        Of several errors, the first in the order of the checks, then `proof`, is raised.
        """
        with ThreadPoolExecutor(max(1, len(checks))) as pool:
            running = [pool.submit(each) for each in checks]
            try:
                return proof()
            finally:
                for each in running:
                    each.result()  # raises instead of the proof


def _masked(pick: Any, values: Floats, flags: Bools) -> Floats:
    """The flagged values, and ∓inf for the others.

    By a table for each byte of flags, which takes a tenth of the time of `np.where`.
    """
    packed, table = np.packbits(flags, bitorder="little"), _LIMITS[values.dtype]
    limits = (-table if pick is max else table).take(packed, axis=0).reshape(-1)[: flags.size]
    found: Floats = np.minimum(values, limits) if pick is max else np.maximum(values, limits)
    return found


def _fold(ufunc: np.ufunc, values: Any, parts: int) -> Any:
    """`ufunc` over each `parts` consecutive values."""
    while parts % 2 == 0:  # numpy is slow along a short axis
        values, parts = ufunc(values[::2], values[1::2]), parts // 2
    return values if parts == 1 else ufunc.reduce(values.reshape(-1, parts), axis=1)


def exact_sum(terms: npt.NDArray[np.float64]) -> Fraction:
    """Σ terms, finite float64s, without rounding; `terms` is changed.

    For n < 2ᵇ terms below 2ᵉ and σ = 2ᵇ⁺ᵉ, the parts hᵢ = (σ + tᵢ) − σ are multiples of 2⁻⁵³σ of
    size up to 2ᵉ, so every sum of them is below σ and a float; tᵢ − hᵢ is a float too, of size
    up to 2⁻⁵³σ. Each round removes 53 − b bits from the terms and sums them exactly, in any order.
    (S. M. Rump, T. Ogita and S. Oishi, Accurate floating-point summation I, 2008, ExtractVector.)
    """
    total, parts = Fraction(0), np.empty_like(terms)
    while terms.size and (most := max(float(terms.max()), -float(terms.min()))):
        exponent = frexp(most)[1] + terms.size.bit_length()
        if exponent > 1023:  # σ would overflow
            large = np.abs(terms) > 1
            return total + exact_sum(large * terms * 2.0**-100) * 2**100 + exact_sum(~large * terms)
        sigma = ldexp(1.0, exponent)
        np.add(sigma, terms, out=parts)
        parts -= sigma
        total += Fraction(float(parts.sum()))
        terms -= parts
    return total


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
