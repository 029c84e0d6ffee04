"""The checker in numpy and the standard library's: the same verdicts in the same words.

Truth is the matter of `test_checker*.py`; here, whatever the files hold, true, forged or damaged,
the two answer alike, block by block and certificate by certificate.
"""

import copy
import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.verification import test_checker as version1
from tests.verification import test_checker_constraints as version2
from tests.verification import test_checker_trust_region as version3
from tests.verification.certificate_cases import (
    DTYPES,
    FINITE,
    Case,
    digest,
    encode,
    pack,
    scratch_folder,
    small_blocks,
)
from tests.verification.certificate_forgeries import forge
from tests.verification.test_checker_trust_region import EXTREMES, numbers_of
from verification import checker
from verification.certificates import fast_checker
from verification.certificates.fast_checker import Arrays, _ArrayBlock, exact_sum
from verification.checker import Block, Outcome, Scan, Stored, Verdict, Weight

ROOT = Path(__file__).parents[3]
TINIEST = 5e-324


def verdicts(case: Case, *scans: Scan) -> list[Verdict]:
    """What each way through the files says; they are read in blocks of eight."""
    with small_blocks():
        path = case.write(scratch_folder())
        return [checker.check(path, scan) for scan in scans]


def agreed(case: Case) -> Verdict:
    plain, fast = verdicts(case, Scan(), Arrays())
    assert fast == plain
    return fast


# ---- Block by block ------------------------------------------------------------------------------


@st.composite
def blocks(draw: st.DrawFn, *, valid: bool = True) -> tuple[Stored, float, float]:
    """Up to twenty weights of a few values of any size, as stored; a μ, and a λ near some r or s.

    Scores and costs that are not valid may be NaN, infinite or negative, and masks hold any byte.
    """
    dtype = draw(st.sampled_from(DTYPES))
    number = numbers_of(dtype)
    if dtype == "F64":
        number |= EXTREMES
    if not valid:
        number |= st.sampled_from([math.nan, math.inf, -math.inf])
    values = st.sampled_from(draw(st.lists(number, min_size=1, max_size=5)))
    size = draw(st.integers(1, 20))
    scores = draw(st.lists(values, min_size=size, max_size=size))
    costs = draw(st.lists(values, min_size=size, max_size=size) | st.just([]))
    if valid:
        costs = [abs(cost) for cost in costs]
    kept = draw(st.lists(st.integers(0, 1), min_size=size, max_size=size))
    packed = draw(st.booleans())
    flags = pack(kept) if packed else bytes(kept)
    if not valid:
        flags = draw(st.just(flags) | st.binary(min_size=len(flags), max_size=len(flags)))
    mu = draw(st.sampled_from([1.0, 0.5]) | FINITE.map(abs).filter(bool))
    near = [c + mu * s for c, s in zip(costs, scores, strict=False)] + scores
    lam = draw(st.sampled_from([each for each in near if math.isfinite(each)] or [0.0]) | FINITE)
    if draw(st.booleans()):
        beside = math.nextafter(lam, draw(st.sampled_from([math.inf, -math.inf])))
        lam = beside if math.isfinite(beside) else lam
    start = draw(st.integers(0, 99))
    raw, extra = encode(scores, dtype), encode(costs, dtype)
    return Stored(1, "w", start, dtype, raw, extra, flags, packed, "mask"), mu, lam


def answers(block: Block, mu: float, lam: float) -> list[Any]:
    """Everything that can be asked of a block; of a weight whose score is 0, the sign too."""
    assert isinstance(block, _ArrayBlock | checker._Block)
    found: list[Any] = [block.position, block.start, block.ones()]
    found += [block.above(lam), block.equal(lam), block.shortfall(lam)]
    for kept in (True, False):
        extreme = block.extreme(kept=kept)
        for score in (lam, 0.0, lam if extreme is None else extreme):
            for since in (0, block.start, block.start + 3):
                first = block.first(score, kept=kept, since=since)
                found += [first, first and math.copysign(1, first.score)]
        found.append(extreme)
    return [*found, block.removed(), block.misplaced(mu, lam)] if len(block.costs) else found


@given(blocks())
@settings(max_examples=400)
def test_a_block_gives_the_same_answers(drawn: tuple[Stored, float, float]) -> None:
    stored, mu, lam = drawn
    plain, fast = Scan().block(stored), Arrays().block(stored)
    assert type(fast) is not type(plain)
    assert answers(fast, mu, lam) == answers(plain, mu, lam)


@given(blocks(valid=False))
@settings(max_examples=400)
def test_a_block_is_refused_for_the_same_reason(drawn: tuple[Stored, float, float]) -> None:
    stored, mu, lam = drawn
    said: list[Any] = []
    for scan in (Scan(), Arrays()):
        try:
            said.append(answers(scan.block(stored), mu, lam))
        except Exception as error:  # which, is what is compared
            said.append(repr(error))
    assert said[0] == said[1]


@pytest.mark.parametrize("size", [65_536, 65_529, 1])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_whole_block_gives_the_same_answers(size: int, dtype: str) -> None:
    """So many terms, over so many orders of magnitude, that sums in floats would round."""
    rng = np.random.default_rng(size)
    spread = 8 if dtype == "F16" else 60
    scores = rng.standard_normal(size) * 2.0 ** rng.integers(-spread, 3, size)
    costs = rng.random(size) * 2.0 ** rng.integers(-spread, 3, size)
    wide = {"F16": "<f2", "F64": "<f8"}.get(dtype, "<f4")
    raw = [each.astype(wide).tobytes() for each in (scores, costs)]
    if dtype == "BF16":
        raw = [np.frombuffer(each, "<u2")[1::2].tobytes() for each in raw]
    flags = np.packbits(rng.random(size) < 0.3, bitorder="little").tobytes()
    stored = Stored(0, "w", 0, dtype, raw[0], raw[1], flags, True, "mask")
    plain, fast = Scan().block(stored), Arrays().block(stored)
    for mu, lam in ((1.0, 0.25), (3.0, 0.0)):
        assert answers(fast, mu, lam) == answers(plain, mu, lam)


@given(st.lists(FINITE | EXTREMES | st.sampled_from([1e308, -1e308])))
def test_sums_are_exact(terms: list[float]) -> None:
    assert exact_sum(np.array(terms, np.float64)) == sum(map(Fraction, terms), Fraction(0))
    many = np.array(terms * 50, np.float64)
    assert exact_sum(many) == 50 * sum(map(Fraction, terms), Fraction(0))


def test_sums_are_exact_up_to_the_largest_float() -> None:
    for exponent in range(1000, 1024):
        terms = [math.ldexp(1 + 2.0**-52, exponent), 1.0, -TINIEST] * 3
        assert exact_sum(np.array(terms)) == sum(map(Fraction, terms), Fraction(0))


def test_zeros_tied_at_the_threshold_are_decided_by_arrays() -> None:
    """A model that is pruned already: one by one, they would take minutes."""
    zeros = np.zeros(1000, "<f4").tobytes()
    block = Arrays().block(Stored(0, "w", 0, "F32", zeros, zeros, b"\x55" * 125, True, "mask"))
    with mock.patch.object(Scan, "block", side_effect=AssertionError):
        assert block.misplaced(1.0, 0.0) == 0
        assert block.misplaced(1.0, 0.5) == 250


# ---- Certificate by certificate ------------------------------------------------------------------


@st.composite
def ranked(draw: st.DrawFn) -> Case:
    """Scores of any size and sign, ties and both zeros among them; the best mask, or any."""
    dtype = draw(st.sampled_from(DTYPES))
    values = st.sampled_from([0.0, -0.0, *draw(st.lists(numbers_of(dtype), min_size=1))])
    sizes = draw(st.lists(st.integers(0, 20), min_size=1, max_size=3))
    scores = {f"w{i}": draw(st.lists(values, min_size=z, max_size=z)) for i, z in enumerate(sizes)}
    places = [(name, i) for name, column in scores.items() for i in range(len(column))]
    best = sorted(places, key=lambda place: -scores[place[0]][place[1]])
    kept = set(best[: draw(st.integers(0, len(best)))])
    if draw(st.booleans()):
        kept ^= set(draw(st.lists(st.sampled_from(places), max_size=3))) if places else set()
    mask = {name: [int((name, i) in kept) for i in range(len(scores[name]))] for name in scores}
    return Case(scores, mask, dtype, draw(st.booleans())).certify()


@given(ranked())
@settings(max_examples=200)
def test_true_certificates_of_any_numbers(case: Case) -> None:
    verdict = agreed(case)
    too_long = len(case.certificate["claim"].get("regret", {}).get("denominator", "")) > 1000
    assert verdict.outcome is (Outcome.UNREADABLE if too_long else Outcome.PROVED), verdict.message


CASES: dict[str, st.SearchStrategy[Any]] = {
    "optimal": version1.cases(minimum=1),
    "any mask": version1.cases(minimum=1, optimal=False),
    "rows": version2.cases(),
    "trust region": version3.regions().filter(lambda case: case.certificate["claim"]["total"]),
}


@pytest.mark.parametrize("cases", CASES.values(), ids=CASES)
def test_true_and_forged_certificates(cases: st.SearchStrategy[Case]) -> None:
    @given(st.data(), cases)
    @settings(max_examples=60)
    def law(data: st.DataObject, case: Case) -> None:
        assert agreed(case).outcome is Outcome.PROVED
        for _ in range(4):
            changed = copy.deepcopy(case)
            for _ in range(data.draw(st.integers(1, 2))):
                forge(data.draw, changed)
            agreed(changed)

    law()


@given(st.data())
@settings(max_examples=100)
def test_bytes_damaged_under_a_digest_that_fits(data: st.DataObject) -> None:
    """NaN, infinity, negative costs, bytes that are no mask: the first fault in order decides."""
    case = version3.example(data.draw(st.sampled_from(DTYPES)), packed=data.draw(st.booleans()))
    damaged = {role: bytearray(raw) for role, raw in case.files().items()}
    for role, raw in damaged.items():
        begin = 8 + int.from_bytes(raw[:8], "little")
        for _ in range(data.draw(st.integers(0, 2))):
            raw[data.draw(st.integers(begin, len(raw) - 1))] = data.draw(st.integers(0, 255))
        case.certificate["evidence"][role]["sha256"] = digest(raw)
    with small_blocks():
        path = case.write(scratch_folder())
        for role, raw in damaged.items():
            path.with_name(f"{role}.safetensors").write_bytes(raw)
        assert fast_checker.check(path) == checker.check(path)


def test_a_digest_decides_before_the_scores(tmp_path: Path) -> None:
    case = version1.example()
    case.scores["a"][0] = math.nan
    case.redigest()
    path = case.write(tmp_path)
    assert fast_checker.check(path).message == "refuted: a[0] has the score nan"
    case.certificate["evidence"]["mask"]["sha256"] = "0" * 64
    case.write(tmp_path)
    assert "mask.safetensors: sha256 is" in fast_checker.check(path).message
    case.certificate["evidence"]["scores"]["sha256"] = "0" * 64
    case.write(tmp_path)
    assert "scores.safetensors: sha256 is" in fast_checker.check(path).message


@pytest.mark.parametrize("name", ["certificate.json", "scores.safetensors", "mask.safetensors"])
def test_files_that_cannot_be_read(tmp_path: Path, name: str) -> None:
    path = version1.example().write(tmp_path)
    whole = (tmp_path / name).read_bytes()
    for length in range(0, len(whole), 7):
        (tmp_path / name).write_bytes(whole[:length])
        verdict = fast_checker.check(path)
        assert verdict == checker.check(path)
        assert verdict.outcome is Outcome.UNREADABLE
    (tmp_path / name).unlink()
    assert fast_checker.check(path).message == f"unreadable: {name}: no such file"


def test_an_error_while_a_digest_is_taken_is_not_lost(tmp_path: Path) -> None:
    path = version1.example().write(tmp_path)
    failing = mock.patch.object(checker._TensorFile, "sha256", side_effect=OSError(5, "I/O error"))
    with failing:
        assert fast_checker.check(path).message == "unreadable: certificate.json: I/O error"


def test_the_commands_print_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    case = version1.lossy()
    for keep, code in ((2, 0), (3, 1)):
        case.certificate["claim"]["keep"] = keep
        path = str(case.write(tmp_path))
        plain, fast = (
            (main([path]), *capsys.readouterr()) for main in (checker.main, fast_checker.main)
        )
        assert fast == plain
        assert fast[0] == code
    command = [
        sys.executable,
        "-m",
        "verification.certificates.fast_checker",
        str(tmp_path / "none.json"),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "unreadable: none.json: no such file\n")


def test_numpy_is_all_that_it_needs() -> None:
    code = "import sys, verification.certificates.fast_checker; print('torch' in sys.modules)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


# ---- The comparison can fail ---------------------------------------------------------------------


class RoundsTheLevel(_ArrayBlock):
    def above(self, lam: float) -> int:
        return int(np.count_nonzero(self.scores > np.float32(lam)))


class TakesTheLastOfEquals(_ArrayBlock):
    def first(self, score: float, *, kept: bool, since: int = 0) -> Weight | None:
        found = None
        while later := super().first(score, kept=kept, since=since):
            found, since = later, later.index + 1
        return found


class RoundsSums(_ArrayBlock):
    def shortfall(self, lam: float) -> Fraction:
        return Fraction(float(super().shortfall(lam)))


class TrustsFloat64(_ArrayBlock):
    def misplaced(self, mu: float, lam: float) -> Fraction:
        over = self.costs + mu * self.scores - lam
        return Fraction(float(np.maximum(np.where(self._kept, -over, over), 0).sum()))


def as_kind(kind: type[_ArrayBlock]) -> Callable[[_ArrayBlock], Block]:
    return lambda it: kind(it.position, it.tensor, it.start, it.scores, it.costs, it.bits)


class Wrong(Arrays):
    """Arrays of which something is wrong."""

    def __init__(self, spoil: Callable[[_ArrayBlock], Block]) -> None:
        self._spoil = spoil

    def block(self, stored: Stored) -> Block:
        found = super().block(stored)
        assert isinstance(found, _ArrayBlock)
        return self._spoil(found)


def below_the_level() -> Case:
    case = version1.lossy()
    case.certificate["evidence"]["lambda"] = math.nextafter(1.0, 0).hex()
    return case


CLOSE = Case({"w": [0.5, math.nextafter(0.5, 1), 1.0]}, {"w": [1, 0, 1]}, "F64").certify()
TINY = Case({"w": [2.0**-80, 1.0]}, {"w": [1, 0]}).certify()
EQUAL = Case({"w": [1.0, 0.0, 1.0]}, {"w": [0, 1, 0]}).certify()
WRONG: dict[str, tuple[Callable[[_ArrayBlock], Block], Case]] = {
    "scores are rounded": (
        lambda it: replace(it, scores=it.scores.astype(np.float32)),
        CLOSE,
    ),
    "bits are read from the other end": (
        lambda it: replace(it, bits=np.packbits(it._kept)),
        version1.example(),
    ),
    "pruning is free": (lambda it: replace(it, costs=0 * it.costs), version3.example()),
    "the last of equals is named": (as_kind(TakesTheLastOfEquals), EQUAL),
    "λ is rounded": (as_kind(RoundsTheLevel), below_the_level()),
    "sums are rounded": (as_kind(RoundsSums), TINY),
    "rounding is forgotten": (as_kind(TrustsFloat64), version3.rounded_up()),
}


@pytest.mark.parametrize("fault", WRONG)
def test_a_wrong_scan_is_found_by_the_comparison(fault: str) -> None:
    spoil, case = WRONG[fault]
    plain, fast, wrong = verdicts(case, Scan(), Arrays(), Wrong(spoil))
    assert fast == plain
    assert plain.outcome is Outcome.PROVED, plain.message
    assert wrong != plain
    assert "broke off" not in wrong.message


def test_a_scan_that_judges_before_the_digests_is_found_by_the_comparison() -> None:
    class Hasty(Arrays):
        def after(self, checks: Any, proof: Callable[[], str]) -> str:
            said = proof()
            for each in checks:
                each()
            return said

    case = version1.example()
    case.scores["a"][0] = math.nan
    case.certificate["evidence"]["scores"]["sha256"] = "0" * 64
    plain, fast, hasty = verdicts(case, Scan(), Arrays(), Hasty())
    assert fast == plain != hasty
