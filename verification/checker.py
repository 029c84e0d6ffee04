"""Check a proof that a pruning mask is optimal: max s·m over masks m ∈ {0,1}ⁿ with Σm = k.

A mask with Σm = k is optimal iff min{sᵢ : mᵢ = 1} ≥ max{sᵢ : mᵢ = 0}, and every λ between the two
is a dual proof of it. For every λ and every mask with Σm = k,

    s·m  =  kλ + Σ mᵢ(sᵢ − λ)  ≤  kλ + Σ max(0, sᵢ − λ)                          (weak duality)

with equality iff every score above λ is kept and every score below λ is pruned. So the checker
counts the ones and compares every score with λ: O(n), one pass, no sort, no rounding. For a mask
that is not optimal, the difference of the two sides at a dual optimal λ is its exact regret.

If the masks m′ must also keep at least l_t weights of each tensor t, each tensor has its own
threshold λ_t ≤ λ, with λ_t < λ only if the tensor keeps exactly l_t:

    s·m′  ≤  kλ − Σ_t (λ − λ_t)·l_t + Σ max(0, sᵢ − λ_t)

If they must also satisfy the trust region c·(1−m′) ≤ ρ, one multiplier μ > 0 adds the cost to the
score, r = c + μs. With V for the difference of the two sides in r,

    s·m′  ≤  s·m + (V + ρ − c·(1−m)) / μ

This file is self-contained: it needs Python's standard library, and nothing of the project that it
checks. CERTIFICATE.md specifies the format and every check, in the order used here. A proof reads
the numbers through a `Block`; `fast_checker.py` implements it with numpy, with the same verdicts.

    python verification/checker.py CERTIFICATE.json        exit 0 proved, 1 refuted, 2 unreadable

Not checked: how the scores were computed, and from which model.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import reprlib
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from functools import partial
from io import FileIO
from itertools import accumulate, compress, count, islice
from math import fsum, gcd, inf, isfinite, prod
from operator import add, and_, gt, lt
from os import fstat
from pathlib import Path
from struct import unpack
from threading import Lock
from typing import Any, NamedTuple, Protocol

# ---- Verdicts ------------------------------------------------------------------------------------


class Outcome(Enum):
    """The outcome of a check; the value is the exit code."""

    PROVED = 0
    REFUTED = 1
    UNREADABLE = 2


@dataclass(frozen=True)
class Verdict:
    """The outcome, and one line that explains it."""

    outcome: Outcome
    message: str


class _RefutedError(Exception):
    """The files are readable, and the claim or its evidence is false."""


class _UnreadableError(Exception):
    """A file is absent, damaged or not in the format: the claim is neither proved nor refuted."""


def check(path: Path, scan: Scan | None = None) -> Verdict:
    """Return the verdict on the certificate at `path` with its files; never raises."""
    path = Path(path)
    try:
        _require_denormals()
        try:
            outcome, text = Outcome.PROVED, _prove(path, scan or Scan())
        finally:
            _require_denormals()  # this thread may have been told meanwhile
    except _RefutedError as reason:
        outcome, text = Outcome.REFUTED, str(reason)
    except _UnreadableError as reason:
        outcome, text = Outcome.UNREADABLE, str(reason)
    except OSError as error:
        name = _name(Path(str(error.filename or path)).name)
        outcome, text = Outcome.UNREADABLE, f"{name}: {error.strerror or error}"
    except Exception as error:  # such as MemoryError: a failed check proves nothing
        broke = f"the check broke off with {reprlib.repr(error)}"
        outcome, text = Outcome.UNREADABLE, f"{_name(path.name)}: {broke}"
    return Verdict(outcome, _one_line(f"{outcome.name.lower()}: {text}"))


def _one_line(text: str) -> str:
    """`text` with escapes for what is not printable, and at most 1000 characters."""
    head = text if len(text) <= 1000 else text[:999] + "…"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in head)


def _name(text: str) -> str:
    """Text from a file as a word of a message: quoted unless it is one word, and shortened."""
    return text if re.fullmatch(r"[A-Za-z0-9_./-]{1,100}", text) else _quoted(text)


def _quoted(text: str) -> str:
    return repr(text if len(text) <= 100 else f"{text[:70]}…{text[-29:]}")


def _require_denormals() -> None:
    """Require that this thread tells the least positive float from 0, and does not round to 0.

    Libraries built with -ffast-math, and PyTorch on request, have the processor flush denormals:
    scores below 2.3e-308 would all be equal. Blocks are compared in the thread that checks.
    """
    (least,), normal = unpack("<d", b"\1" + bytes(7)), sys.float_info.min
    if not (least > 0.0 and normal / 2.0 > 0.0):
        raise _UnreadableError(
            "could not be decided: this process takes the floats below 2.3e-308 for 0"
        )


# ---- The proof -----------------------------------------------------------------------------------


def _prove(path: Path, scan: Scan) -> str:
    """Return a sentence that states the proof; raises if the claim is refuted or unreadable."""
    claim, evidence = _read_certificate(path)
    names = {role: evidence[role]["file"] for role in _ROLES if role in evidence}
    with ExitStack() as stack:
        paths = {role: path.parent / name for role, name in names.items()}
        streams = [stack.enter_context(_open(paths[role], names[role])) for role in names]
        opened = zip(names.values(), streams, strict=True)
        files = dict(zip(names, [_TensorFile(*each) for each in opened], strict=True))
        mask = files["mask"]
        shapes = _mask_shapes(mask)
        floats = [file for file in files.values() if file is not mask]
        prove = {"optimal": _prove_optimal, "regret": _prove_regret, "region": _prove_trust_region}[
            claim["statement"]
        ]
        if prove is _prove_optimal and "constraint" in claim:
            prove = _prove_constrained

        def conclude() -> str:
            _check_scope(claim, floats, mask.name, shapes)
            return prove(
                claim, evidence, lambda: map(scan.block, _stream(claim["scope"], mask, *floats))
            )

        digests = [
            partial(_check_digest, file, evidence[role]["sha256"]) for role, file in files.items()
        ]
        conclusion = scan.after(digests, conclude)
        for file in files.values():
            file.require_unchanged()
    what = "scores and costs" if "cost" in files else "scores"
    made = (
        f"that the {what} are {_quoted(claim['criterion'])}"
        if claim["criterion"]
        else f"how the {what} were made"
    )
    tensors = len(claim["scope"])
    return (
        f"the mask keeps exactly {claim['keep']} of {claim['total']} weights in {tensors} "
        f"tensor{'s' * (tensors != 1)} and {conclusion}; not checked: {made}"
    )


def _check_digest(file: _TensorFile, said: str) -> None:
    if (found := file.sha256()) != said:
        raise _RefutedError(f"{file.name}: sha256 is {found}, the certificate says {said}")


def _check_scope(
    claim: dict[str, Any],
    floats: list[_TensorFile],
    mask: str,
    shapes: dict[str, tuple[int, ...]],
) -> None:
    """Require exactly the tensors of the scope in each file, with their shapes and dtypes."""
    held = [(f.name, {key: stored["shape"] for key, stored in f.tensors.items()}) for f in floats]
    held.append((mask, shapes))
    for name, shape, dtype in (tensor.values() for tensor in claim["scope"]):
        said = _name(name)
        for file, found in held:
            if name not in found:
                raise _RefutedError(f"{file} has no tensor {said}, the scope has")
        for file, found in held:
            if (have := found[name]) != shape:
                sizes = f"{reprlib.repr(have)} in {file}, {reprlib.repr(shape)} in the scope"
                raise _RefutedError(f"{said} has the shape {sizes}")
        for numbers in floats:
            if (have := numbers.tensors[name]["dtype"]) != dtype:
                raise _RefutedError(
                    f"{said} has the dtype {have} in {numbers.name}, {dtype} in the scope"
                )
    inside = {tensor["name"] for tensor in claim["scope"]}
    for file, found in held:
        for name in sorted(found.keys() - inside):
            raise _RefutedError(f"{file} holds {_name(name)}, which is outside the scope")
    size = sum(prod(tensor["shape"]) for tensor in claim["scope"])
    if size != claim["total"]:
        raise _RefutedError(f"the scope holds {size} weights, the claim says {claim['total']}")


def _check_counts(claim: dict[str, Any], evidence: dict[str, Any], counts: list[int]) -> None:
    """Require Σm = k, and the stated number of ones in each tensor."""
    if (kept := sum(counts)) != claim["keep"]:
        raise _RefutedError(f"kept {kept} of {claim['total']}, the claim says {claim['keep']}")
    for tensor, found, said in zip(claim["scope"], counts, evidence["counts"], strict=True):
        if found != said:
            where = _name(tensor["name"])
            raise _RefutedError(f"kept {found} in {where}, the certificate says {said}")


def _prove_optimal(claim: dict[str, Any], evidence: dict[str, Any], weights: _Weights) -> str:
    """min{sᵢ : mᵢ = 1} ≥ λ ≥ max{sᵢ : mᵢ = 0}, with the claimed ends, uniqueness and tie rule."""
    lam, counts = evidence["lambda"], [0] * len(claim["scope"])
    lowest, highest = _Extreme(kept=True), _Extreme(kept=False)
    for block in weights():
        counts[block.position] += block.ones()
        lowest.add(block)
        highest.add(block)
    _check_counts(claim, evidence, counts)

    kept, pruned = lowest.weight, highest.weight
    _check_sides(kept, pruned, lam, f"λ = {lam}")
    _check_ends(evidence, kept, pruned)
    threshold = _tie(kept, pruned)
    _check_unique(claim, threshold)
    by_index = claim["tie_rule"] == "lower-index"
    if threshold is not None and by_index:
        ties = _Ties(threshold)
        for block in weights():
            ties.add(block)
    return f"no mask with as many has a larger score sum (λ = {lam}, {_ties(threshold, by_index)})"


def _prove_constrained(claim: dict[str, Any], evidence: dict[str, Any], weights: _Weights) -> str:
    """`_prove_optimal` in each tensor with its own λ_t ≤ λ, equal unless the minimum is tight."""
    scope, lam, thresholds = claim["scope"], evidence["lambda"], evidence["thresholds"]
    counts = [0] * len(scope)
    lowest, highest = ([_Extreme(kept=kept) for _ in scope] for kept in (True, False))
    for block in weights():
        counts[block.position] += block.ones()
        lowest[block.position].add(block)
        highest[block.position].add(block)
    _check_counts(claim, evidence, counts)
    spare = _check_constraint(claim, counts)
    _check_thresholds(claim, evidence)

    for tensor, threshold, may_lose in zip(scope, thresholds, spare, strict=True):
        if threshold < lam and may_lose:
            its = f"the threshold of {_name(tensor['name'])} is {threshold}"
            raise _RefutedError(f"{its}, below λ = {lam}, and it keeps more than its minimum")
    kept, pruned = ([extreme.weight for extreme in side] for side in (lowest, highest))
    for low, high, threshold in zip(kept, pruned, thresholds, strict=True):
        _check_sides(low, high, threshold, f"its tensor's λ = {threshold}")
    top = _most(max, pruned)
    _check_ends(evidence, _most(min, kept), top)

    own = [_tie(low, high) for low, high in zip(kept, pruned, strict=True)]
    across = _tie(_most(min, compress(kept, spare)), top)
    tied = next((score for score in (across, *own) if score is not None), None)
    _check_unique(claim, tied)
    by_index = claim["tie_rule"] == "lower-index"
    if tied is not None and by_index:
        _check_lower_index(weights, own, across, spare)
    of, at = _rivals(claim, evidence)
    return f"no mask {of} has a larger score sum ({at}, {_ties(tied, by_index)})"


def _rivals(claim: dict[str, Any], evidence: dict[str, Any]) -> tuple[str, str]:
    """Phrases for the competing masks and for the thresholds of the proof."""
    if claim["constraint"]["kind"] == "per-tensor":
        return "that keeps as many of each tensor", "a threshold for each tensor"
    lam = evidence["lambda"]
    lower = sum(threshold < lam for threshold in evidence["thresholds"])
    least = f"the claimed minimum of each tensor ({_minimums(claim)})"
    where = f"a lower threshold in {lower} tensor{'s' * (lower != 1)}"
    return f"with as many that keeps at least {least}", f"λ = {lam}, {where}"


def _check_thresholds(claim: dict[str, Any], evidence: dict[str, Any]) -> None:
    """Require λ_t ≤ λ for every tensor t."""
    lam = evidence["lambda"]
    for tensor, threshold in zip(claim["scope"], evidence["thresholds"], strict=True):
        if threshold > lam:
            its = f"the threshold of {_name(tensor['name'])} is {threshold}"
            raise _RefutedError(f"{its}, above λ = {lam}")


def _check_constraint(claim: dict[str, Any], counts: list[int]) -> list[int]:
    """Require the number or the minimum of each tensor; return how many more each keeps."""
    exact = claim["constraint"]["kind"] == "per-tensor"
    spare = []
    for tensor, found, number in zip(
        claim["scope"], counts, claim["constraint"]["numbers"], strict=True
    ):
        if found < number or (exact and found > number):
            asked = f"{'exactly' if exact else 'at least'} {number}"
            where = _name(tensor["name"])
            raise _RefutedError(f"kept {found} in {where}, the constraint asks for {asked}")
        spare.append(found - number)
    return spare


def _check_sides(kept: Weight | None, pruned: Weight | None, lam: float, called: str) -> None:
    """Require min kept ≥ λ ≥ max pruned."""
    faults = []
    if kept and kept.score < lam:
        faults.append(f"{kept} is kept with score {kept.score}, below {called}")
    if pruned and pruned.score > lam:
        faults.append(f"{pruned} is pruned with score {pruned.score}, above {called}")
    if faults:
        raise _RefutedError("; ".join(faults))


def _check_ends(evidence: dict[str, Any], kept: Weight | None, pruned: Weight | None) -> None:
    """Require the stated least kept and greatest pruned score."""
    for key, weight in (("kept_min", kept), ("pruned_max", pruned)):
        found, said = weight.score if weight else None, evidence[key]
        if found != said:
            raise _RefutedError(f"{key} is {found}, the certificate says {said}")


def _check_unique(claim: dict[str, Any], tied: float | None) -> None:
    """Another mask is optimal too iff two exchangeable weights, one kept, have equal scores."""
    if claim["unique"] != (tied is None):
        fact = "unique" if tied is None else f"not unique, scores tie at {tied}"
        raise _RefutedError(f"the optimum is {fact}; the claim says unique = {claim['unique']}")


def _check_lower_index(
    weights: _Weights, own: list[float | None], across: float | None, spare: list[int]
) -> None:
    """Require that among exchangeable equal scores, in a tensor or across, the first are kept."""
    ties = [None if score is None else _Ties(score) for score in own]
    ties_across = None if across is None else _Ties(across)
    for block in weights():
        if within := ties[block.position]:
            within.add(block)
        if ties_across:
            ties_across.add(block, may_lose=spare[block.position] > 0)


@dataclass
class _Ties:
    """The weights of one score in flat order: after a pruned weight, none may be kept."""

    score: float
    pruned: Weight | None = None

    def add(self, block: Block, *, may_lose: bool = True) -> None:
        """Check the next block; its kept weights count only if `may_lose`."""
        since = block.start
        if not self.pruned and (found := block.first(self.score, kept=False)):
            self.pruned, since = found, found.index
        if self.pruned and may_lose and (late := block.first(self.score, kept=True, since=since)):
            both = f"{self.pruned} is pruned and {late} kept"
            raise _RefutedError(
                f"{both}, both with score {self.score}, against the tie rule lower-index"
            )


def _tie(kept: Weight | None, pruned: Weight | None) -> float | None:
    """The common score of the two weights; None if they differ or one is None."""
    return kept.score if kept and pruned and kept.score == pruned.score else None


def _ties(tied: float | None, by_index: bool) -> str:
    return "unique" if tied is None else "ties by lower index" if by_index else "not unique"


def _most(pick: Callable[..., Weight | None], among: Iterable[Weight | None]) -> Weight | None:
    """The weight of least (min) or greatest (max) score, the first among equals; None if none."""
    present = (weight for weight in among if weight)
    return pick(present, key=lambda weight: weight.score, default=None)


def _minimums(claim: dict[str, Any]) -> str:
    """A phrase for the minimums: one number for each of up to three tensors, else a summary."""
    names, numbers = [_name(t["name"]) for t in claim["scope"]], claim["constraint"]["numbers"]
    if len(names) <= 3:
        return ", ".join(f"{n} of {name}" for n, name in zip(numbers, names, strict=True))
    return f"{min(numbers)} to {max(numbers)}, {sum(numbers)} in all"


def _prove_regret(claim: dict[str, Any], evidence: dict[str, Any], weights: _Weights) -> str:
    """s·m* − s·m = Σ{sᵢ − λ : pruned, sᵢ > λ} + Σ{λ − sᵢ : kept, sᵢ < λ} at a dual optimal λ."""
    lam, counts = evidence["lambda"], [0] * len(claim["scope"])
    lowest, highest = _Extreme(kept=True), _Extreme(kept=False)
    above, equal, regret = 0, 0, Fraction(0)
    for block in weights():
        counts[block.position] += block.ones()
        lowest.add(block)
        highest.add(block)
        above += block.above(lam)
        equal += block.equal(lam)
        regret += block.shortfall(lam)
    _check_counts(claim, evidence, counts)

    if not above <= claim["keep"] <= above + equal:
        sides = f"{above} scores exceed it and {above + equal} reach it"
        raise _RefutedError(f"λ = {lam} is not dual optimal for {claim['keep']} kept: {sides}")
    if regret != claim["regret"]:
        off = f"they differ by {_show(abs(regret - claim['regret']))}"
        said = _show(claim["regret"])
        raise _RefutedError(f"the regret is {_show(regret)}, the claim says {said}: {off}")
    for side, weight in (("kept", lowest.weight), ("pruned", highest.weight)):
        stated = Weight(**evidence["violation"][side])
        if stated != weight:
            rank = "lowest" if side == "kept" else "highest"
            raise _RefutedError(
                f"the {rank} {side} score is {weight and weight.score} at {weight}, "
                f"the certificate says {stated.score} at {stated}"
            )
    return f"falls short of the optimum by exactly {_claimed(regret)}, λ = {lam}"


def _prove_trust_region(claim: dict[str, Any], evidence: dict[str, Any], weights: _Weights) -> str:
    """s·m′ − s·m ≤ (V + ρ − c·(1−m)) / μ for every allowed mask m′ with c·(1−m′) ≤ ρ."""
    mu, lam, thresholds = (evidence[key] for key in ("multiplier", "lambda", "thresholds"))
    counts, cost, violation = [0] * len(claim["scope"]), Fraction(0), Fraction(0)
    for block in weights():
        counts[block.position] += block.ones()
        cost += block.removed()
        violation += block.misplaced(mu, thresholds[block.position])
    _check_counts(claim, evidence, counts)
    spare = _check_constraint(claim, counts)
    _check_thresholds(claim, evidence)
    for threshold, number in zip(thresholds, spare, strict=True):
        violation += (Fraction(lam) - Fraction(threshold)) * number

    radius, said = claim["radius"], claim["gap"]
    if cost > radius:
        raise _RefutedError(
            f"the mask removes a cost of {_show(cost)}, the radius is {_show(radius)}: it exceeds "
            f"it by {_show(cost - radius)}"
        )
    gap = (violation + radius - cost) / Fraction(mu)
    if gap != said:
        raise _RefutedError(
            f"the gap is {_show(gap)}, the claim says {_show(said)}: they differ by "
            f"{_show(abs(gap - said))}"
        )
    of, at = _rivals(claim, evidence)
    if set(claim["constraint"]["numbers"]) <= {0} and set(thresholds) <= {lam}:
        of, at = "with as many", f"λ = {lam}"
    removed, most = _show(cost), f"at most {_claimed(radius)}"
    if radius == cost:
        removed, most = _claimed(cost), "no more"
    rivals = f"{of} {'and' if 'that' in of else 'that'} removes {most}"
    better = f"score sum larger by more than {_claimed(gap)}" if gap else "larger score sum"
    return f"removes a cost of {removed}, and no mask {rivals} has a {better} (μ = {mu}, {at})"


def _misplaced(block: _Block, mu: float, lam: float) -> Fraction:
    """Σ{rᵢ − λ : pruned, rᵢ > λ} + Σ{λ − rᵢ : kept, rᵢ < λ} for r = c + μs, without rounding.

    Float64 decides the side of λ on which rᵢ lies if an error bound allows it: first the bound for
    the whole block, then the bound for the weight. Otherwise rational arithmetic decides.
    """
    products = [mu * score for score in block.scores]
    near = list(map(add, block.costs, products))
    error = _rounding(max(block.costs), max(map(abs, products)))
    low, high = lam - error, lam + error
    highest = max(compress(near, block.pruned), default=-inf)
    lowest = min(compress(near, block.kept), default=inf)
    if highest < low and high < lowest:
        return Fraction(0)

    pairs = list(zip(block.costs, block.scores, strict=True))
    # a set, because many pairs may be equal: the zeros of a model that is pruned already
    unsure = {pair for pair, value in zip(pairs, near, strict=True) if low <= value <= high}
    side = {pair: _side(pair, mu, lam) for pair in unsure}
    missed = [
        pair
        for pair, value in compress(zip(pairs, near, strict=True), block.pruned)
        if value > high or (value >= low and side[pair] > 0)
    ]
    excess = [
        pair
        for pair, value in compress(zip(pairs, near, strict=True), block.kept)
        if value < low or (value <= high and side[pair] < 0)
    ]
    total = (len(excess) - len(missed)) * Fraction(lam)
    for sign, wrong in (
        (1, missed),
        (-1, excess),
    ):  # r is linear in c and s, so its sum is exact too
        total += _exact_sum([sign * c for c, _ in wrong])
        total += Fraction(mu) * _exact_sum([sign * s for _, s in wrong])
    return total


def _side(pair: tuple[float, float], mu: float, lam: float) -> int:
    """The sign of c + μs − λ."""
    cost, product = pair[0], mu * pair[1]
    error = _rounding(cost, abs(product))
    if cost + product > lam + error:
        return 1
    if cost + product < lam - error:
        return -1
    exact = Fraction(cost) + Fraction(mu) * Fraction(pair[1])
    return (exact > lam) - (exact < lam)


def _rounding(cost: float, product: float) -> float:
    """An upper bound for the float64 error of c + μs, given upper bounds for c and |μs|.

    With p for the float of μs,

        |p − μs| ≤ 2⁻⁵³·|μs| + 2⁻¹⁰⁷⁵                        (the second term if p is subnormal)
        |fl(c + p) − (c + p)| ≤ 2⁻⁵³·(c + |p|)              (a sum does not underflow)

    so fl(c + p) is within 2⁻⁵²·(1 + 2⁻⁵²)·(c + |p|) + 2⁻¹⁰⁷⁴ of r = c + μs. The bound returned is
    four times as large, which covers its own rounding. Rounding is monotone, so a float below
    fl(λ − error) is below λ − error, hence r < λ; likewise above. If a product or a sum overflows,
    the bound is infinite, and float64 decides nothing.
    """
    return 2.0**-50 * (cost + product) + 2.0**-1072


def _exact_sum(terms: list[float]) -> Fraction:
    """Σ terms, without rounding; `terms` is changed.

    fsum rounds only its result, so the sum of the terms and of the negated results so far is the
    remaining error. It shrinks by 2⁵³ in each round and reaches 0: every term is a multiple of
    2⁻¹⁰⁷⁴, so a remainder cannot underflow.
    """
    total, unit = Fraction(0), 2**1074
    try:
        while part := fsum(terms):
            total += Fraction(part)
            terms.append(-part)
    except OverflowError:  # near the largest float64: slower, in integer multiples of 2⁻¹⁰⁷⁴
        ratios = map(float.as_integer_ratio, terms)
        multiples = sum(numerator * (unit // denominator) for numerator, denominator in ratios)
        total += Fraction(multiples, unit)
    return total


def _show(value: Fraction) -> str:
    """p/q if it is short, else its leading digits; by Decimal, because a float may overflow."""
    if not value:
        return "0"
    near = f"≈ {Decimal(value.numerator) / Decimal(value.denominator):.3e}"
    bits = max(value.numerator.bit_length(), value.denominator.bit_length())
    short = bits < 200 and len(str(value)) <= 40  # str() refuses thousands of digits
    return f"{value} ({near})" if short else f"a long fraction ({near})"


def _claimed(value: Fraction) -> str:
    """`_show` of a value that the certificate states in full."""
    return _show(value).replace("a long", "the claimed")


# ---- The weights, streamed -----------------------------------------------------------------------

_BLOCK = (
    2**16
)  # weights held at a time; a multiple of 8, so that a block of bits begins with a byte
_BITS = [bytes(byte >> i & 1 for i in range(8)) for byte in range(256)]  # least significant first
_NEGATE = bytes([1, 0]) + bytes(254)  # a table for bytes.translate: 0 to 1, 1 to 0


@dataclass(frozen=True)
class Weight:
    """One weight: its tensor, its flat index in the tensor, its score."""

    tensor: str
    index: int
    score: float

    def __str__(self) -> str:
        return f"{_name(self.tensor)}[{self.index}]"


class Stored(NamedTuple):
    """Consecutive weights of one tensor as stored in the files.

    `costs` is empty if the certificate names no costs.
    """

    position: int  # of the tensor in the scope
    tensor: str
    start: int  # flat index of the first weight in the tensor
    dtype: str  # of scores and costs
    scores: bytes
    costs: bytes
    flags: bytes  # of the mask: a bit for each weight if packed, else a byte
    packed: bool
    mask: str  # the file's name


class Block(Protocol):
    """Consecutive weights of one tensor, sᵢ and cᵢ finite, cᵢ ≥ 0, and the sums that proofs need.

    Every result is exact. `kept` selects the weights: True = kept, False = pruned.
    """

    @property
    def position(self) -> int:
        """Index of the tensor in the scope."""

    @property
    def start(self) -> int:
        """Flat index of the first weight in the tensor."""

    def ones(self) -> int:
        """Σ mᵢ."""

    def extreme(self, *, kept: bool) -> float | None:
        """The least kept or the greatest pruned score (0 of either sign); None without a weight."""

    def first(self, score: float, *, kept: bool, since: int = 0) -> Weight | None:
        """The first kept or pruned weight of this score with a flat index ≥ `since`."""

    def above(self, lam: float) -> int:
        """#{sᵢ > λ}."""

    def equal(self, lam: float) -> int:
        """#{sᵢ = λ}."""

    def shortfall(self, lam: float) -> Fraction:
        """Σ{sᵢ − λ : pruned, sᵢ > λ} + Σ{λ − sᵢ : kept, sᵢ < λ}."""

    def removed(self) -> Fraction:
        """Σ{cᵢ : pruned}."""

    def misplaced(self, mu: float, lam: float) -> Fraction:
        """Σ{rᵢ − λ : pruned, rᵢ > λ} + Σ{λ − rᵢ : kept, rᵢ < λ} for r = c + μs."""


_Weights = Callable[[], Iterable[Block]]  # each call streams all weights again, in flat order


class Scan:
    """The standard library's way to read the files: one after the other."""

    def block(self, stored: Stored) -> Block:
        """The weights of `stored`; raises if a score, a cost or a mask byte is not allowed."""
        return _read_block(stored)

    def after(self, checks: Sequence[Callable[[], None]], proof: Callable[[], str]) -> str:
        """Run the checks in order, then `proof`; return its result or raise the first error."""
        for check in checks:
            check()
        return proof()


class _Block(NamedTuple):
    """A block in Python's floats; `kept` and `pruned` hold a byte, 0 or 1, for each weight."""

    position: int
    tensor: str
    start: int
    scores: tuple[float, ...]
    costs: tuple[float, ...]
    kept: bytes
    pruned: bytes

    def ones(self) -> int:
        return self.kept.count(1)

    def extreme(self, *, kept: bool) -> float | None:
        pick, chosen = (min, self.kept) if kept else (max, self.pruned)
        return pick(compress(self.scores, chosen), default=None)

    def first(self, score: float, *, kept: bool, since: int = 0) -> Weight | None:
        rank = max(since - self.start, 0)
        chosen = (self.kept if kept else self.pruned)[rank:]
        tied = map(score.__eq__, islice(self.scores, rank, None))  # floats: -0.0 ties with 0.0
        found = next(compress(count(rank), map(and_, tied, chosen)), None)
        if found is None:
            return None
        return Weight(self.tensor, self.start + found, self.scores[found])

    def above(self, lam: float) -> int:
        return len([score for score in self.scores if score > lam])

    def equal(self, lam: float) -> int:
        return self.scores.count(lam)

    def shortfall(self, lam: float) -> Fraction:
        missed = [score for score in compress(self.scores, self.pruned) if score > lam]
        excess = [-score for score in compress(self.scores, self.kept) if score < lam]
        return _exact_sum(missed + excess) + (len(excess) - len(missed)) * Fraction(lam)

    def removed(self) -> Fraction:
        return _exact_sum(list(compress(self.costs, self.pruned)))

    def misplaced(self, mu: float, lam: float) -> Fraction:
        return _misplaced(self, mu, lam)


def _stream(
    scope: Sequence[Any], mask: _TensorFile, scores: _TensorFile, cost: _TensorFile | None = None
) -> Iterator[Stored]:
    """All weights in flat order."""
    for position, tensor in enumerate(scope):
        name, dtype, total = tensor["name"], tensor["dtype"], prod(tensor["shape"])
        starts = range(0, total, _BLOCK)
        sizes = [min(_BLOCK, total - start) for start in starts]
        packed = mask.tensors[name]["dtype"] == "U8"
        widths = [size * _DTYPE_BYTES[dtype] for size in sizes]
        floats = scores.blocks(name, widths)
        more = cost.blocks(name, widths) if cost else [b""] * len(sizes)
        flags = mask.blocks(name, [-(-size // 8) if packed else size for size in sizes])
        for start, raw, extra, flag in zip(starts, floats, more, flags, strict=True):
            yield Stored(position, name, start, dtype, raw, extra, flag, packed, mask.name)


def _read_block(stored: Stored) -> _Block:
    """The block in Python's floats, which represent the stored numbers exactly."""
    name, start = stored.tensor, stored.start
    values, costs = (_decode(raw, stored.dtype) for raw in (stored.scores, stored.costs))
    for what, numbers in (("score", values), ("cost", costs)):
        _check_finite(numbers, name, start, what)
    if min(costs, default=0.0) < 0.0:
        index = next(i for i, value in enumerate(costs) if value < 0.0)
        raise _RefutedError(f"{_name(name)}[{start + index}] has the cost {costs[index]}, below 0")
    where, kept = f"{stored.mask}: {_name(name)}", stored.flags
    if stored.packed:
        kept = _unpack(kept, len(values), where)
    if kept.translate(None, b"\0\1"):
        raise _UnreadableError(f"{where} holds a byte that is not 0 or 1")
    return _Block(stored.position, name, start, values, costs, kept, kept.translate(_NEGATE))


def _check_finite(values: tuple[float, ...], tensor: str, start: int, what: str) -> None:
    """Require finite values.

    A sum with a NaN or an infinity is never finite. A sum of finite float64 values may overflow
    too, so each value is checked if the sum is not finite.
    """
    if not isfinite(sum(values)):
        for index, value in enumerate(values, start):
            if not isfinite(value):
                raise _RefutedError(f"{_name(tensor)}[{index}] has the {what} {value}")


def _decode(raw: bytes, dtype: str) -> tuple[float, ...]:
    if dtype == "BF16":  # the upper half of a float32 whose lower half is zero
        wide = bytearray(2 * len(raw))
        wide[2::4], wide[3::4] = raw[0::2], raw[1::2]
        raw, dtype = bytes(wide), "F32"
    return unpack(f"<{len(raw) // _DTYPE_BYTES[dtype]}{_SCORE_LETTERS[dtype]}", raw)


def _unpack(packed: bytes, size: int, where: str) -> bytes:
    """One byte for each of the first `size` bits; bit i % 8 of byte i // 8 is weight i."""
    flags = b"".join(map(_BITS.__getitem__, packed))
    if any(flags[size:]):
        raise _UnreadableError(f"{where} has a one among its padding bits")
    return flags[:size]


@dataclass
class _Extreme:
    """The kept weight of least score, or the pruned weight of greatest; the first among equals."""

    kept: bool
    weight: Weight | None = None

    def add(self, block: Block) -> None:
        """Include the weights of `block`."""
        score = block.extreme(kept=self.kept)
        if score is None:
            return
        best, beats = self.weight, lt if self.kept else gt
        if best is None or beats(score, best.score):
            self.weight = block.first(score, kept=self.kept)


# ---- JSON: a reader takes a value and its path, and returns the parsed value or raises -----------

_Reader = Callable[[Any, str], Any]


def _parse_json(raw: bytes | str, where: str) -> Any:
    """The JSON value in `raw`: UTF-8, unique keys, no NaN or Infinity."""

    def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        unique: dict[str, Any] = {}
        for key, value in pairs:
            if key in unique:
                raise _UnreadableError(f"{where}: the key {reprlib.repr(key)} appears twice")
            unique[key] = value
        return unique

    def no_constant(name: str) -> Any:
        raise _UnreadableError(f"{where}: {name} is not a JSON value")

    try:
        text = raw.decode("utf-8") if isinstance(raw, bytes) else raw
        return json.loads(text, object_pairs_hook=unique_keys, parse_constant=no_constant)
    except ValueError as error:  # bad UTF-8, bad JSON, an integer of thousands of digits
        raise _UnreadableError(f"{where}: not JSON in UTF-8: {error}") from None
    except RecursionError:
        raise _UnreadableError(f"{where}: the JSON is nested too deeply") from None


def _unexpected(value: Any, where: str, expected: str) -> _UnreadableError:
    return _UnreadableError(f"{where} is {reprlib.repr(value)}, expected {expected}")


def _typed(kind: type, expected: str) -> _Reader:
    def read(value: Any, where: str) -> Any:
        if type(value) is not kind:  # not isinstance, for which True is an int
            raise _unexpected(value, where, expected)
        return value

    return read


def _pattern(regex: str, expected: str) -> _Reader:
    def read(value: Any, where: str) -> Any:
        if type(value) is not str or not re.fullmatch(regex, value):
            raise _unexpected(value, where, expected)
        return value

    return read


def _choice(*values: str) -> _Reader:
    return _pattern("|".join(map(re.escape, values)), " or ".join(map(repr, values)))


def _nullable(reader: _Reader) -> _Reader:
    return lambda value, where: None if value is None else reader(value, where)


def _sequence(item: _Reader, longest: int) -> _Reader:
    def read(value: Any, where: str) -> tuple[Any, ...]:
        if type(value) is not list or len(value) > longest:
            raise _unexpected(value, where, f"a list of at most {longest} entries")
        return tuple(item(entry, f"{where}[{i}]") for i, entry in enumerate(value))

    return read


def _record(readers: dict[str, _Reader]) -> _Reader:
    """A reader of an object with these keys and no others."""

    def read(value: Any, where: str) -> dict[str, Any]:
        _object(value, where)
        for key in (*readers, *value):
            if (key in readers) != (key in value):
                fault = "lacks the key" if key in readers else "has the unknown key"
                raise _UnreadableError(f"{where} {fault} {reprlib.repr(key)}")
        return {key: reader(value[key], f"{where}.{_name(key)}") for key, reader in readers.items()}

    return read


def _natural(value: Any, where: str) -> int:
    if type(value) is not int or not 0 <= value < 2**63:
        raise _unexpected(value, where, "an integer from 0 to 2**63 - 1")
    return value


def _float64(value: Any, where: str) -> float:
    """A finite float64 in the notation of float.hex, exactly representable."""
    text = value if type(value) is str else ""
    form = re.fullmatch(r"(-?)0x([01])\.([0-9a-f]{1,13})p([+-][0-9]{1,4})", text)
    try:
        if form:
            sign, lead, digits, power = form.groups()
            exact = int(sign + lead + digits, 16) * Fraction(2) ** (int(power) - 4 * len(digits))
            if (number := float.fromhex(text)) == exact:
                return number
    except OverflowError:  # beyond the largest float64
        pass
    raise _unexpected(value, where, "a float64 in hexadecimal such as '0x1.8p-3'")


def _positive_float64(value: Any, where: str) -> float:
    if (number := _float64(value, where)) <= 0:
        raise _unexpected(value, where, "a float64 above 0")
    return number


def _rational(longest: int, *, zero: bool) -> _Reader:
    """A rational > 0, or ≥ 0 if `zero`, in lowest terms."""
    form = f"[1-9][0-9]{{0,{longest - 1}}}"
    positive = _pattern(form, "a string of decimal digits, at least '1'")
    natural = _pattern(f"0|{form}", "a string of decimal digits") if zero else positive

    def read(value: Any, where: str) -> Fraction:
        parts = _record({"numerator": natural, "denominator": positive})(value, where)
        numerator, denominator = int(parts["numerator"]), int(parts["denominator"])
        if gcd(numerator, denominator) != 1:
            raise _UnreadableError(f"{where} is not in lowest terms")
        return Fraction(numerator, denominator)

    return read


_text, _object = _typed(str, "a string"), _typed(dict, "an object")
_shape = _sequence(_natural, longest=64)


# ---- safetensors ---------------------------------------------------------------------------------

# Each tensor is in the certificate's scope too, which has at most as many bytes. Parsed, they take
# up to 25 times as much memory; the format allows 100 MB.
_HEADER_BYTES = 16 * 2**20
_CHUNK = 2**20  # bytes digested at a time
_DTYPE_BYTES = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 1),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 2),
    **dict.fromkeys(("U32", "I32", "F32"), 4),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 8),
}
_STORED = _record(
    {
        "dtype": _choice(*_DTYPE_BYTES),
        "shape": _shape,
        "data_offsets": _sequence(_natural, longest=2),  # counted from the end of the header
    }
)


def _open(path: Path, name: str) -> FileIO:
    if not path.is_file():  # a pipe would block, and a device may be endless
        raise _UnreadableError(f"{_name(name)}: no such file")
    return path.open("rb", buffering=0)


class _TensorFile:
    """A safetensors file whose header describes every byte exactly once."""

    def __init__(self, name: str, stream: FileIO) -> None:
        self.name, self._stream, self._lock = _name(name), stream, Lock()
        name, self._opened = self.name, self._state()
        on_disk = stream.seek(0, 2)
        length = int.from_bytes(self._some(0, 8), "little")
        if not 2 <= length <= min(_HEADER_BYTES, on_disk - 8):
            found = f"{on_disk} bytes on disk, a header of {length} bytes"
            raise _UnreadableError(f"{name}: {found}; at most {_HEADER_BYTES} are read")
        raw = self._read(8, length)
        if not raw.startswith(b"{"):
            raise _UnreadableError(f"{name}: the header does not begin with '{{'")
        header = _parse_json(raw, f"{name}: header")
        self.metadata: dict[str, Any] = header.pop("__metadata__", {})
        for key, value in _object(self.metadata, f"{name}: __metadata__").items():
            _text(value, f"{name}: __metadata__.{_name(key)}")
        self.tensors = {
            key: _STORED(value, f"{name}: {_name(key)}") for key, value in header.items()
        }
        self._origin = end = 8 + length
        for key, stored in sorted(self.tensors.items(), key=lambda item: item[1]["data_offsets"]):
            begin, end = end, end + prod(stored["shape"]) * _DTYPE_BYTES[stored["dtype"]]
            lies, belongs = stored["data_offsets"], (begin - self._origin, end - self._origin)
            if lies != belongs:  # a hole, an overlap, or a size that is not the shape's
                raise _unexpected(lies, f"{name}: {_name(key)}.data_offsets", reprlib.repr(belongs))
        if on_disk != end:
            raise _UnreadableError(f"{name}: {on_disk} bytes on disk, the header says {end}")

    def _state(self) -> tuple[int, int, int]:
        found = fstat(self._stream.fileno())
        return found.st_size, found.st_mtime_ns, found.st_ctime_ns

    def require_unchanged(self) -> None:
        """Require that nobody wrote to the file, or replaced it, since it was opened."""
        if self._state() != self._opened:
            raise _UnreadableError(f"{self.name}: changed while it was read")

    def _some(self, start: int, size: int) -> bytes:
        """Up to `size` bytes; threads may read at the same time."""
        with self._lock:
            self._stream.seek(start)
            return self._stream.read(size)

    def _read(self, start: int, size: int) -> bytes:
        data = self._some(start, size)
        if len(data) != size:
            raise _UnreadableError(f"{self.name}: ends {size - len(data)} bytes too early")
        return data

    def sha256(self) -> str:
        """SHA-256, in hexadecimal, of the very file of which `blocks` reads: of its descriptor."""
        digest = hashlib.sha256()
        for start in count(0, _CHUNK):
            if not (chunk := self._some(start, _CHUNK)):
                break
            digest.update(chunk)
        return digest.hexdigest()

    def blocks(self, tensor: str, sizes: Sequence[int]) -> Iterator[bytes]:
        """The bytes of the tensor in blocks of these sizes."""
        start = self._origin + self.tensors[tensor]["data_offsets"][0]
        return map(self._read, accumulate(sizes[:-1], initial=start), sizes)


def _mask_shapes(mask: _TensorFile) -> dict[str, tuple[int, ...]]:
    """The mask's shape for each tensor: of the BOOL tensor, or as recorded for packed bits."""
    shapes = {key: s["shape"] for key, s in mask.tensors.items() if s["dtype"] == "BOOL"}
    packed = {key: s["shape"] for key, s in mask.tensors.items() if s["dtype"] == "U8"}
    for key in sorted(mask.tensors.keys() - shapes.keys() - packed.keys()):
        dtype = mask.tensors[key]["dtype"]
        raise _unexpected(dtype, f"{mask.name}: {_name(key)}.dtype", "'U8' or 'BOOL'")
    if packed:
        where = f"{mask.name}: __metadata__"
        _choice("pins-mask")(mask.metadata.get("format"), f"{where}.format")
        _choice("1")(mask.metadata.get("version"), f"{where}.version")
        recorded = _parse_json(_text(mask.metadata.get("shapes"), f"{where}.shapes"), where)
        shapes |= _record(dict.fromkeys(packed, _shape))(recorded, f"{where}.shapes")
    for key, shape in packed.items():
        if shape != (size := -(-prod(shapes[key]) // 8),):
            raise _unexpected(shape, f"{mask.name}: {_name(key)}.shape", reprlib.repr((size,)))
    return shapes


# ---- The certificate -----------------------------------------------------------------------------

_ROLES = ("scores", "cost", "mask")  # the files, by their keys in the evidence
_CERTIFICATE_BYTES = 16 * 2**20  # a few lines for each tensor: more than any model needs
_SCORE_LETTERS = {"F16": "e", "BF16": "f", "F32": "f", "F64": "d"}  # struct's; BF16 once widened
# A path at or below the certificate's folder on any system: no root, drive, backslash, '.' or '..'.
_INSIDE = r"(?!\.{1,2}(/|$))[^/\\:\0]+(/(?!\.{1,2}(/|$))[^/\\:\0]+)*"

_TENSORS = _sequence(
    _record({"name": _text, "shape": _shape, "dtype": _choice(*_SCORE_LETTERS)}), longest=2**20
)
_FILE = _record(
    {
        "file": _pattern(_INSIDE, "a path inside the certificate's folder"),
        "sha256": _pattern("[0-9a-f]{64}", "64 lower-case hexadecimal digits"),
    }
)
_WEIGHT = _record({"tensor": _text, "index": _natural, "score": _float64})
_CLAIM: dict[str, _Reader] = {
    "statement": _text,
    "total": _natural,
    "keep": _natural,
    "scope": _TENSORS,
    "criterion": _nullable(_text),
}
_EVIDENCE: dict[str, _Reader] = {
    "lambda": _float64,
    "counts": _sequence(_natural, longest=2**20),
    "scores": _FILE,
    "mask": _FILE,
}
_NUMBERS = {"per-tensor": "keep", "minimum-per-tensor": "minimum"}  # the key, by kind


def _constraint(value: Any, where: str) -> dict[str, Any]:
    kind = _choice(*_NUMBERS)(_object(value, where).get("kind"), f"{where}.kind")
    readers = {"kind": _text, _NUMBERS[kind]: _sequence(_natural, longest=2**20)}
    return {"kind": kind, "numbers": _record(readers)(value, where)[_NUMBERS[kind]]}


_STATEMENTS = {1: ("optimal", "regret"), 2: ("optimal",), 3: ("region",)}  # by version
_CONSTRAINED: dict[str, _Reader] = {"constraint": _constraint}
_THRESHOLDS: dict[str, _Reader] = {"thresholds": _sequence(_float64, longest=2**20)}
_VERSION_CLAIM = {1: {}, 2: _CONSTRAINED, 3: _CONSTRAINED}
_VERSION_EVIDENCE = {1: {}, 2: _THRESHOLDS, 3: _THRESHOLDS}
_OWN_CLAIM: dict[str, dict[str, _Reader]] = {
    "optimal": {
        "tie_rule": _choice("lower-index", "none"),
        "unique": _typed(bool, "true or false"),
    },
    "regret": {"regret": _rational(1000, zero=False)},
    # a gap has fewer than 2,700 digits if its radius has at most 1,000
    "region": {"radius": _rational(1000, zero=True), "gap": _rational(3000, zero=True)},
}
_OWN_EVIDENCE: dict[str, dict[str, _Reader]] = {
    "optimal": {"kept_min": _nullable(_float64), "pruned_max": _nullable(_float64)},
    "regret": {"violation": _record({"kept": _WEIGHT, "pruned": _WEIGHT})},
    "region": {"multiplier": _positive_float64, "cost": _FILE},
}


def _read_certificate(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The claim and the evidence, with the keys and types of CERTIFICATE.md."""
    name = _name(path.name)
    with _open(path, path.name) as stream:
        raw = stream.read(_CERTIFICATE_BYTES + 1)
    if len(raw) > _CERTIFICATE_BYTES:
        raise _UnreadableError(f"{name}: longer than {_CERTIFICATE_BYTES} bytes")
    where = f"{name}: certificate"
    document = _object(_parse_json(raw, name), where)
    # Format, version and statement are read first, because they determine the other keys.
    _choice("pins-certificate")(document.get("format"), f"{where}.format")
    version = _natural(document.get("version"), f"{where}.version")
    if version not in _STATEMENTS:
        raise _unexpected(version, f"{where}.version", "1, 2 or 3, the ones known here")
    statement = _object(document.get("claim"), f"{where}.claim").get("statement")
    _choice(*_STATEMENTS[version])(statement, f"{where}.claim.statement")
    certificate = _record(
        {
            "format": _text,
            "version": _natural,
            "claim": _record(_CLAIM | _VERSION_CLAIM[version] | _OWN_CLAIM[statement]),
            "evidence": _record(_EVIDENCE | _VERSION_EVIDENCE[version] | _OWN_EVIDENCE[statement]),
            "provenance": _object,
        }
    )(document, where)
    claim, evidence = certificate["claim"], certificate["evidence"]
    if len({tensor["name"] for tensor in claim["scope"]}) < len(claim["scope"]):
        raise _UnreadableError(f"{where}.claim.scope names a tensor twice")
    lists = {
        f"evidence.{key}": evidence[key] for key in ("counts", "thresholds") if key in evidence
    }
    if "constraint" in claim:
        constraint = claim["constraint"]
        lists[f"claim.constraint.{_NUMBERS[constraint['kind']]}"] = constraint["numbers"]
    for key, values in lists.items():
        if len(values) != len(claim["scope"]):
            raise _unexpected(values, f"{where}.{key}", "one for each tensor")
    return claim, evidence


# ---- The command ---------------------------------------------------------------------------------


def main(arguments: Sequence[str], scan: Scan | None = None) -> int:
    """Print the verdict on the one certificate in `arguments` and return its exit code."""
    if len(arguments) != 1:
        print("usage: python verification/checker.py CERTIFICATE.json", file=sys.stderr)
        return Outcome.UNREADABLE.value
    verdict = check(Path(arguments[0]), scan)
    stream = sys.stdout if verdict.outcome is Outcome.PROVED else sys.stderr
    if stream is None:  # closed before the start
        return Outcome.UNREADABLE.value
    encoding = stream.encoding or "utf-8"  # the terminal may be unable to print λ
    text = verdict.message.encode(encoding, "backslashreplace").decode(encoding)
    try:
        print(text, file=stream, flush=True)
    except OSError:  # a verdict that nobody can read is none
        with suppress(OSError):  # the interpreter would try again, and end with 120
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return Outcome.UNREADABLE.value
    return verdict.outcome.value


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
