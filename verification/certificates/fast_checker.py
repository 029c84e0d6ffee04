"""The checker on numpy arrays: the same verdicts and messages, many times faster.

This is the standalone reader with faster blocks, and no second opinion: format, claims, checks and
messages are those of `checker.py`. Here a block is a set of arrays, with equally exact results:
comparisons use the stored floats, sums are free of rounding, and where float64 cannot decide, the
standard library's block does. Threads compute the digests at the same time; SHA-256 on one core is
then the limit.

    python -m verification.certificates.fast_checker CERTIFICATE.json       same exit codes
"""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from functools import cached_property
from math import frexp, inf, ldexp
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from verification import checker
from verification.checker import Block, Node, Runs, Scan, Stored, Verdict, Weight

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


class Arrays(Scan):
    """Blocks as arrays, and threads for the digests."""

    def block(self, stored: Stored, mu: float | None) -> Block:
        """The weights of `stored`; raises if a score, a cost or a byte of a mask is not allowed.

        The standard library's block raises the error, so that the message is the same.
        """
        with np.errstate(invalid="ignore"):  # a signalling NaN, which is rejected
            scores, costs = (_decode(raw, stored.dtype) for raw in (stored.scores, stored.costs))
            sound = _finite(scores) and (not costs.size or (_finite(costs) and costs.min() >= 0))
        sound = sound and _as_formula(stored, (scores, costs))
        masks = {role: _mask(stored, role) for role in stored.flags}
        if not sound or any(mask is None for mask in masks.values()):
            return super().block(stored, mu)
        return _ArrayBlock(stored, mu, scores, costs, masks)

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


class _UndecidedError(Exception):
    """Float64 cannot tell which score is greater."""


class _ArrayBlock(Block):
    """A block as arrays: scores and costs in float32 or float64, masks as bools.

    `high` has the scores of the candidates to gain, else −∞, and `low` those to lose, else ∞;
    `highs`, `lows` and `counts` are the same of each of the runs judged last.
    """

    def __init__(
        self, stored: Stored, mu: float | None, scores: Floats, costs: Floats, masks: Any
    ) -> None:
        self.stored, self.mu, self.masks = stored, mu or 0.0, masks
        self.scores, self.costs = scores, costs

    def removed(self, role: str) -> Fraction:
        if not len(self.costs):
            return Fraction(0)
        return exact_sum(np.float64(self.costs) * ~self.masks[role])

    def difference(self, more: str, less: str) -> Fraction:
        if more == less:
            return Fraction(0)
        signs = self.masks[more].view(np.int8) - self.masks[less].view(np.int8)
        return exact_sum(np.float64(self.scores) * signs)

    def part(
        self, role: str, ranked: bool, by_index: bool, node: Node
    ) -> tuple[list[Node], int, Weight | None, Weight | None]:
        try:
            return super().part(role, ranked, by_index, node)
        except _UndecidedError:
            return self._exact.part(role, ranked, by_index, node)

    @cached_property
    def _exact(self) -> Block:
        return Block(self.stored, self.mu)

    def mark(self, role: str, ranked: bool) -> Iterator[tuple[int, int]]:
        self.kept = kept = self.masks[role]
        gain, lose = None, kept  # None: all that are pruned
        if not ranked:
            gain = lose = np.zeros_like(kept)
        for frozen, bit in (("zeros", 0), ("fixed", 1)):
            if frozen in self.masks:
                wrong, free = self.masks[frozen] & (kept != bool(bit)), ~self.masks[frozen]
                gain, lose = (~kept if gain is None else gain) & free, lose & free
                if wrong.any():
                    yield int(wrong.argmax()), bit
        upper = lower = self.scores
        if ranked and len(self.costs):
            with np.errstate(all="ignore"):
                products = self.mu * np.float64(self.scores)
                near = self.costs + products
                errors = checker._rounding(self.costs, np.abs(products))
                upper, lower = near + errors, near - errors
            if not (_finite(upper) and _finite(lower)):
                raise _UndecidedError
        self.upper, self.lower, self.exact = upper, lower, upper is lower
        self.width, self.counts = 1, kept.view(np.uint8)
        within = _limits(lose, upper.dtype)
        self.low = self.lows = np.maximum(lower, within)
        if gain is not None:
            within = _limits(~gain, upper.dtype)
        self.high = self.highs = np.minimum(upper, within)
        self.pending: list[tuple[int, Bools, Bools]] = []

    def ones(self, start: int, stop: int) -> int:
        return int(np.count_nonzero(self.kept[start:stop]))

    def judge(self, runs: Runs, by_index: bool) -> list[int]:
        parts, self.width = runs.length // self.width, runs.length
        self.counts = _fold(np.add, self.counts.astype(np.uint32, copy=False), parts)
        self.highs = highs = _fold(np.maximum, self.highs, parts)
        self.lows = lows = _fold(np.minimum, self.lows, parts)
        if not self.exact and bool((highs >= lows).any()):
            raise _UndecidedError
        ties = highs == lows
        found = [
            int(wrong.argmax())
            for wrong in (
                (self.counts < runs.minimum) | (self.counts > runs.maximum),
                highs > lows,
                ties,
            )
            if wrong.any()
        ]
        if by_index and ties.any():
            self._settle()
            tied = np.flatnonzero(ties)
            equal = highs[tied, None]
            first = (self.high.reshape(-1, runs.length)[tied] == equal).argmax(1)
            last = (self.low.reshape(-1, runs.length)[tied, ::-1] == equal).argmax(1)
            found += tied[first + last < runs.length - 1][:1].tolist()
        return found

    def settle(self, runs: Runs) -> None:
        full, least = self.counts >= runs.maximum, self.counts <= runs.minimum
        self.highs, self.lows = _without(self.highs, full, -1), _without(self.lows, least, 1)
        self.pending.append((runs.length, full, least))

    def _settle(self) -> None:
        """Take full runs from the candidates to gain, runs at their minimum from those to lose."""
        for length, full, least in self.pending:
            self.high = _without(self.high, full.repeat(length), -1)
            self.low = _without(self.low, least.repeat(length), 1)
        self.pending.clear()

    def end(self, start: int, stop: int, kept: bool, rival: Weight | None = None) -> Weight | None:
        values = self.lows if kept else self.highs
        if stop - start < self.stored.size:
            self._settle()
            values = (self.low if kept else self.high)[start:stop]
        best = float(values.min() if kept else values.max())
        if abs(best) == inf:
            return None
        if rival and (best > rival.score if kept else best <= rival.score):
            return None
        self._settle()
        values = (self.low if kept else self.high)[start:stop]
        if self.exact:
            equal = values == best
            i = len(equal) - 1 - equal[::-1].argmax() if kept else equal.argmax()
            return self.weight(start + int(i))
        if kept:
            hits = np.flatnonzero(values <= self.upper[start:stop][values < inf].min())
        else:
            hits = np.flatnonzero(values >= self.lower[start:stop][values > -inf].max())
        hits += start
        if any((each[hits] != each[hits[0]]).any() for each in (self.costs, self.scores)):
            raise _UndecidedError
        return self.weight(int(hits[-1 if kept else 0]))


def _without(values: Floats, flags: Bools, sign: int) -> Floats:
    """±∞ where flagged."""
    if not flags.any():
        return values
    if sign > 0:
        return np.maximum(values, -_limits(flags, values.dtype))
    return np.minimum(values, _limits(flags, values.dtype))


def _limits(flags: Bools, dtype: Any) -> Floats:
    """−∞ where flagged, else ∞: the minimum or maximum with values leaves some of them unchanged.

    By a table for each byte of flags, which takes a tenth of the time of `np.where`.
    """
    packed = np.packbits(flags, bitorder="little")
    found: Floats = _LIMITS[dtype].take(packed, axis=0).reshape(-1)[: flags.size]
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


def _mask(stored: Stored, role: str) -> Bools | None:
    """One bool for each weight; None if a byte or a padding bit is not allowed."""
    (raw, packed), size = stored.flags[role], stored.size
    bits = np.frombuffer(raw, np.uint8)
    if not packed:
        return bits.view(np.bool_) if bits.max() <= 1 else None
    first = stored.start % 8
    if stored.last and first + size < 8 * bits.size and int(bits[-1]) >> (first + size) % 8:
        return None
    return np.unpackbits(bits, count=first + size, bitorder="little")[first:].view(np.bool_)


def _decode(raw: bytes, dtype: str) -> Floats:
    """The stored numbers exactly: F64 in float64, the others in float32."""
    if dtype == "BF16":  # the upper half of a float32
        return (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32)
    stored: Floats = np.frombuffer(raw, _STORED[dtype])
    return stored.astype(np.float64 if dtype == "F64" else np.float32, copy=False)


def _as_formula(stored: Stored, said: tuple[Floats, Floats]) -> bool:
    """True if all have the bits that the formula gives, or there is none.

    Numpy rounds each operation on float32s to float32, and a float beside them is one of them.
    """
    if stored.formula is None:
        return True
    with np.errstate(all="ignore"):  # what is not finite differs from every score
        read = (_decode(*each) for each in stored.inputs)
        made = stored.formula.function(*read, *stored.formula.numbers)
    words = f"u{said[0].itemsize}"
    return all(
        found.dtype == numbers.dtype and np.array_equal(found.view(words), numbers.view(words))
        for numbers, found in zip(said, made, strict=False)
    )


def _finite(values: Floats) -> bool:
    """True if no value is NaN or infinite; comparisons with NaN are False."""
    return bool(values.min() > -np.inf) and bool(values.max() < np.inf)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
