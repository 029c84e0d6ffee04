"""The checker on numpy arrays: the same verdicts and messages, many times faster.

Format, claims, checks and messages come from `checker.py`. Here a block is a set of arrays, with
equally exact results: comparisons use the stored floats, sums are free of rounding, and where
float64 cannot decide, the standard library's block does. Threads compute the digests at the same
time; SHA-256 on one core is then the limit.

    python -m verification.certificates.fast_checker CERTIFICATE.json       same exit codes
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from math import frexp, isfinite, ldexp
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from verification import checker
from verification.checker import Block, Scan, Stored, Verdict, Weight

Floats = npt.NDArray[np.floating[Any]]
Doubles = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

_STORED = {"F16": "<f2", "F32": "<f4", "F64": "<f8"}
_BITS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little")
# for each byte of a mask, −∞ for a kept and +∞ for a pruned weight: the maximum with the scores
# leaves the kept scores unchanged
_LIMITS: Mapping[Any, Floats] = {
    np.dtype(kind): np.where(_BITS == 1, -np.inf, np.inf).astype(kind)
    for kind in (np.float32, np.float64)
}


def check(path: Path) -> Verdict:
    """Return the verdict on the certificate at `path` with its files; never raises."""
    return checker.check(path, Arrays())


def main(arguments: Sequence[str]) -> int:
    """Print the verdict on the one certificate in `arguments` and return its exit code."""
    return checker.main(arguments, Arrays())


class Arrays(Scan):
    """Blocks as arrays, and threads for the digests."""

    def block(self, stored: Stored) -> Block:
        """The weights of `stored`; raises if a score, a cost or a byte of the mask is not allowed.

        The standard library's block raises the error, so that the message is the same.
        """
        with np.errstate(invalid="ignore"):  # a signalling NaN, which is rejected
            scores, costs = (_decode(raw, stored.dtype) for raw in (stored.scores, stored.costs))
            bits = np.frombuffer(stored.flags, np.uint8)
            sound = _finite(scores) and (not costs.size or (_finite(costs) and costs.min() >= 0))
            if not stored.packed:
                sound = sound and bits.max() <= 1
                bits = np.packbits(bits, bitorder="little")
            elif over := scores.size % 8:
                sound = sound and not int(bits[-1]) >> over
        if not sound:
            return super().block(stored)
        return _ArrayBlock(stored.position, stored.tensor, stored.start, scores, costs, bits)

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


@dataclass(frozen=True)
class _ArrayBlock:
    """A block as arrays: scores and costs in float32 or float64, one mask bit for each weight."""

    position: int
    tensor: str
    start: int
    scores: Floats
    costs: Floats
    bits: npt.NDArray[np.uint8]

    def ones(self) -> int:
        return int(np.bitwise_count(self.bits).sum(dtype=np.int64))

    def extreme(self, *, kept: bool) -> float | None:
        score = float(self._extreme(self.scores, kept=kept))
        return score if isfinite(score) else None

    def first(self, score: float, *, kept: bool, since: int = 0) -> Weight | None:
        rank = max(since - self.start, 0)
        tied = (self._scores[rank:] == score) & (self._kept[rank:] == kept)
        if not tied.any():
            return None
        index = rank + int(tied.argmax())
        return Weight(self.tensor, self.start + index, float(self.scores[index]))

    def above(self, lam: float) -> int:
        return int(np.count_nonzero(self._scores > lam))

    def equal(self, lam: float) -> int:
        return int(np.count_nonzero(self._scores == lam))

    def shortfall(self, lam: float) -> Fraction:
        missed = (self._scores > lam) & ~self._kept
        excess = (self._scores < lam) & self._kept
        signs = _signs(missed, excess)
        if not signs.any():
            return Fraction(0)
        return exact_sum(signs * self._scores) - int(signs.sum(dtype=np.int64)) * Fraction(lam)

    def removed(self) -> Fraction:
        return exact_sum(self._costs * ~self._kept)

    def misplaced(self, mu: float, lam: float) -> Fraction:
        with np.errstate(all="ignore"):
            return self._misplaced(mu, lam)

    def _misplaced(self, mu: float, lam: float) -> Fraction:
        products = mu * self._scores
        near = self._costs + products
        most = max(float(products.max()), -float(products.min()))
        error = _rounding(float(self.costs.max()), most)
        highest, lowest = (float(self._extreme(near, kept=kept)) for kept in (False, True))
        if highest < lam - error and lam + error < lowest:
            return Fraction(0)

        inexact = self.scores != 0  # a score of 0 gives r = c without rounding
        errors = _rounding(self._costs, np.abs(products)) * inexact
        over, under = near > lam + errors, near < lam - errors
        total = self._undecided(inexact & ~over & ~under, mu, lam)
        signs = _signs(over & ~self._kept, under & self._kept)
        if signs.any():
            total -= int(signs.sum(dtype=np.int64)) * Fraction(lam)
            # r is linear in c and s, so its sum is exact too
            total += exact_sum(signs * self._costs)
            total += Fraction(mu) * exact_sum(signs * self._scores)
        return total

    def _undecided(self, which: Bools, mu: float, lam: float) -> Fraction:
        """V of the weights that float64 cannot decide, by the standard library's block."""
        few = np.flatnonzero(which)
        if not few.size:
            return Fraction(0)
        scores, costs = (part[few].astype("<f8").tobytes() for part in (self.scores, self.costs))
        flags = self._kept[few].tobytes()
        stored = Stored(self.position, self.tensor, 0, "F64", scores, costs, flags, False, "")
        return Scan().block(stored).misplaced(mu, lam)

    @cached_property
    def _kept(self) -> Bools:
        return np.unpackbits(self.bits, count=self.scores.size, bitorder="little").view(np.bool_)

    @cached_property
    def _limits(self) -> Floats:
        table = _LIMITS[self.scores.dtype]
        return table.take(self.bits, axis=0).reshape(-1)[: self.scores.size]

    @cached_property
    def _scores(self) -> Doubles:
        # a comparison of float32 scores with λ would round λ to float32
        return self.scores.astype(np.float64)

    @cached_property
    def _costs(self) -> Doubles:
        return self.costs.astype(np.float64)

    def _extreme(self, values: Floats, *, kept: bool) -> Any:
        """The least kept or the greatest pruned value; ∞ or −∞ without such a weight."""
        if kept:
            return np.maximum(values, self._limits).min()
        return np.minimum(values, self._limits).max()


def exact_sum(terms: Doubles) -> Fraction:
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


def _signs(missed: Bools, excess: Bools) -> npt.NDArray[np.int8]:
    """1 for a missed weight, −1 for an excess weight, else 0."""
    return missed.view(np.int8) - excess.view(np.int8)


def _rounding(cost: Any, product: Any) -> Any:
    """An upper bound for the float64 error of c + μs; see `checker._rounding`."""
    return 2.0**-50 * (cost + product) + 2.0**-1072


def _decode(raw: bytes, dtype: str) -> Floats:
    """The stored numbers exactly: F64 in float64, the others in float32."""
    if dtype == "BF16":  # the upper half of a float32
        return (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32)
    stored: Floats = np.frombuffer(raw, _STORED[dtype])
    return stored.astype(np.float64 if dtype == "F64" else np.float32, copy=False)


def _finite(values: Floats) -> bool:
    """True if no value is NaN or infinite; comparisons with NaN are False."""
    return bool(values.min() > -np.inf) and bool(values.max() < np.inf)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
