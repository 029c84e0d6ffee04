"""The checker in numpy and the standard library's: the same verdicts in the same words.

Truth is the matter of `test_checker_campaign`; here, whatever the files hold, true or damaged, the
two answer alike, block by block and certificate by certificate.
"""

import math
import struct
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
from tests.verification.test_checker import example, lossy
from verification import checker
from verification.certificates import fast_checker
from verification.certificates.fast_checker import Arrays, exact_sum
from verification.checker import Block, Node, Outcome, Runs, Scan, Stored, View

ROOT = Path(__file__).parents[3]
TINIEST, HUGE = 5e-324, sys.float_info.max
EXTREMES = st.sampled_from([HUGE, -HUGE, TINIEST, -TINIEST, 1e-308, 1e-162, 1.0, -1.0, 0.0, -0.0])


# ---- Block by block ------------------------------------------------------------------------------


def numbers_of(dtype: str) -> st.SearchStrategy[float]:
    """Eighths, so that ties are common, and numbers of any size; shrinks to 0."""
    eighths = st.integers(-4, 4).map(lambda i: i / 8) | st.just(-0.0)
    if dtype == "BF16":
        any_size = st.builds(math.ldexp, st.integers(-255, 255).map(float), st.integers(-133, 119))
    else:
        width = {"F16": 16, "F32": 32, "F64": 64}[dtype]
        any_size = st.floats(allow_nan=False, allow_infinity=False, width=width)  # type: ignore[arg-type]
    return (
        st.one_of(eighths, any_size, EXTREMES) if dtype == "F64" else st.one_of(eighths, any_size)
    )


@st.composite
def blocks(draw: st.DrawFn, *, valid: bool = True) -> tuple[Stored, float]:
    """Up to 24 elements of a few values of any size, in runs of runs or in squares, and a μ.

    Scores and costs that are not valid may be NaN, infinite or negative, masks hold any byte, and
    potentials any number.
    """
    dtype = draw(st.sampled_from(DTYPES))
    number = numbers_of(dtype)
    if not valid:
        number |= st.sampled_from([math.nan, math.inf, -math.inf])
    values = st.sampled_from(draw(st.lists(number, min_size=1, max_size=5)))
    side = draw(st.sampled_from([0, 0, 1, 2, 3]))  # of squares, if any
    each = 1 if side else draw(st.sampled_from([1, 1, 2, 3]))
    long = side**2 or draw(st.sampled_from([1, 2, 4, 6, 8, 12]))
    short = draw(st.sampled_from([i for i in range(1, long) if long % i == 0] or [0]))
    size = long * draw(st.integers(1, 24 // long))
    weights = size * each
    scores = draw(st.lists(values, min_size=weights, max_size=weights))
    costs = draw(st.lists(values, min_size=weights, max_size=weights) | st.just([]))
    if valid:
        costs = [abs(cost) for cost in costs]
    inner = [
        Runs(length, draw(st.integers(0, 2)), draw(st.integers(1, length + 1)))
        for length in draw(st.sampled_from([[], [long], [long, short], [short]]))
        if length and not side
    ]
    packed = draw(st.booleans())
    start = draw(st.integers(0, 9)) * long
    flags = {}
    for role in ("mask", *draw(st.sets(st.sampled_from(["zeros", "fixed"])))):
        kept = draw(st.lists(st.integers(0, 1), min_size=size, max_size=size))
        kept = [bit for bit in kept for _ in range(each)]
        raw = pack([0] * (start * each % 8) + kept) if packed else bytes(kept)
        if not valid:
            raw = draw(st.just(raw) | st.binary(min_size=len(raw), max_size=len(raw)))
        flags[role] = raw, packed
    mu = draw(st.sampled_from([1.0, 0.5]) | FINITE.map(abs).filter(bool))
    potential = st.integers(-9, 9) if valid else st.integers(-(2**63), 2**63 - 1)
    lines = size // long * (2 * side + 1) if side else 0
    potentials = draw(st.lists(potential, min_size=lines, max_size=lines))
    total = (start + size) * each + draw(st.integers(0, 1)) * each
    found = Stored(
        position=1,
        tensor="w",
        view=View((side, total // side), False, (side, side))
        if side
        else View((total,), False, (1, each)),
        start=start,
        size=size,
        each=each,
        dtype=dtype,
        scores=encode(scores, dtype),
        costs=encode(costs, dtype),
        flags=flags,
        names=dict.fromkeys((*flags, "potentials"), "mask"),
        inner=tuple(inner),
        squares=draw(st.integers(0, side)) if side else None,
        potentials=struct.pack(f"<{lines}q", *potentials),
    )
    return found, mu


def one_block(**parts: Any) -> Stored:
    """All of a tensor of single weights."""
    whole: dict[str, Any] = {
        "position": 0,
        "tensor": "w",
        "start": 0,
        "each": 1,
        "names": {"mask": "mask"},
    }
    return Stored(**whole | {"view": View((parts["size"],), False, (1, 1)), "costs": b""} | parts)


def answers(scan: Scan, stored: Stored, mu: float) -> list[Any]:
    """What a block says, or why it is refused."""
    node = Node("w", 0, 9)
    try:
        block = scan.block(stored, mu)
        said = [block.part("mask", ranked, True, node) for ranked in (True, False)]
        sums = block.removed("mask"), block.difference("mask", list(stored.flags)[-1])
        return [said, *sums, block.excess("mask")]
    except Exception as error:  # which, is what is compared
        return [repr(error)]


@given(blocks() | blocks(valid=False))
@settings(max_examples=150)
def test_a_block_gives_the_same_answers(drawn: tuple[Stored, float]) -> None:
    assert answers(Arrays(), *drawn) == answers(Scan(), *drawn)


@pytest.mark.parametrize(
    ("size", "dtype"),
    [(65_536, "F64"), (6_552, "F32"), (4_096, "F16"), (4_092, "BF16"), (12, "F32")],
)
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
    flags = {"mask": (np.packbits(rng.random(size) < 0.3, bitorder="little").tobytes(), True)}
    for inner in ((), (Runs(size, 0, size), Runs(12 if size % 12 == 0 else 16, 0, 4))):
        for costed in (raw[1], b""):
            stored = one_block(
                size=size, dtype=dtype, scores=raw[0], costs=costed, flags=flags, inner=inner
            )
            plain, fast = answers(Scan(), stored, 3.0), answers(Arrays(), stored, 3.0)
            assert fast == plain
            assert len(plain) == 4


@given(st.lists(FINITE | EXTREMES | st.sampled_from([1e308, -1e308])))
def test_sums_are_exact(terms: list[float]) -> None:
    assert exact_sum(np.array(terms, np.float64)) == sum(map(Fraction, terms), Fraction(0))
    many = np.array(terms * 50, np.float64)
    assert exact_sum(many) == 50 * sum(map(Fraction, terms), Fraction(0))


def test_sums_are_exact_up_to_the_largest_float() -> None:
    for exponent in range(1000, 1024):
        terms = [math.ldexp(1 + 2.0**-52, exponent), 1.0, -TINIEST] * 3
        assert exact_sum(np.array(terms)) == sum(map(Fraction, terms), Fraction(0))


@pytest.mark.parametrize("scan", [Scan, Arrays])
def test_zeros_tied_at_the_threshold_are_no_work_for_integers(scan: type[Scan]) -> None:
    """A model that is pruned already: one by one, they would take minutes."""
    zeros, flags = np.zeros(1000, "<f4").tobytes(), {"mask": (b"\x55" * 125, True)}
    stored = one_block(size=1000, dtype="F32", scores=zeros, costs=zeros, flags=flags)
    block = scan().block(stored, 1.0)
    with mock.patch.object(Block, "_rank", side_effect=block._rank) as ranks:
        assert block.part("mask", True, True, Node("w", 0, 9))[1] == 500
    assert ranks.call_count == 2


# ---- Certificate by certificate ------------------------------------------------------------------


@pytest.mark.parametrize("name", ["certificate.json", "scores.safetensors", "mask.safetensors"])
def test_a_damaged_file_is_refused_in_the_same_words(tmp_path: Path, name: str) -> None:
    path = example().write(tmp_path)
    whole = (tmp_path / name).read_bytes()
    for place in range(0, len(whole), 3):
        for damaged in (
            whole[:place],
            whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :],
        ):
            (tmp_path / name).write_bytes(damaged)
            assert fast_checker.check(path) == checker.check(path)
    (tmp_path / name).unlink()
    assert fast_checker.check(path).message == f"unreadable: {name}: no such file"


def test_an_error_while_a_digest_is_taken_is_not_lost(tmp_path: Path) -> None:
    path = example().write(tmp_path)
    failing = mock.patch.object(checker._TensorFile, "sha256", side_effect=OSError(5, "I/O error"))
    with failing:
        assert fast_checker.check(path).message == "unreadable: certificate.json: I/O error"


def test_the_commands_print_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    case = lossy()
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


class ReadsBackwards(Arrays):
    """Of equal kept scores the first."""

    def place(self, *given: Any, last: bool) -> int:
        return super().place(*given, last=not last)


class TrustsFloat64(Arrays):
    """Rounding is forgotten."""

    def ranks(self, *given: Any) -> Any:
        return super().ranks(*given)[0], 0.0


class RoundsSums(Arrays):
    def total(self, *given: Any) -> Fraction:
        return Fraction(float(super().total(*given)))


def equal_scores() -> Case:
    case = Case({"w": [1.0, 0.0, 1.0, 1.0]}, {"w": [1, 0, 0, 1]}).certify()
    case.certificate["claim"]["tie_rule"] = "lower-index"
    return case


def close() -> Case:
    """Of two pruned r, float64 takes 1 − x² = 2⁻²⁶ − 2⁻⁵⁴ for the greater; kept is one between."""
    x = 1 - 2.0**-27
    scores, costs = {"w": [-x, 0.0, 0.0]}, {"w": [1.0, 2.0**-26 - 2.0**-56, 2.0**-26 - 2.0**-55]}
    case = Case(scores, {"w": [0, 1, 0]}, "F64", costs=costs, mu=x, radius=Fraction(2)).certify()
    case.mask = {"w": [0, 0, 1]}
    case.redigest()
    return case


TINY_COST = Case({"w": [0.0, 0.0, 1.0]}, {"w": [0, 0, 1]}, costs={"w": [1.0, 2.0**-80, 0.0]})


@pytest.mark.parametrize(
    ("kind", "case"),
    [
        (ReadsBackwards, equal_scores()),
        (TrustsFloat64, close()),
        (RoundsSums, TINY_COST.certify()),
    ],
)
def test_a_wrong_scan_is_found_by_the_comparison(kind: type[Arrays], case: Case) -> None:
    with small_blocks():
        path = case.write(scratch_folder())
        plain, fast, wrong = (checker.check(path, scan) for scan in (Scan(), Arrays(), kind()))
    assert fast == plain
    assert wrong != plain
    assert "broke off" not in wrong.message


def test_a_scan_that_judges_before_the_digests_is_found_by_the_comparison() -> None:
    class Hasty(Arrays):
        def after(self, checks: Any, proof: Any) -> str:
            said: str = proof()
            for each in checks:
                each()
            return said

    case = example()
    case.scores["a"][0] = math.nan
    case.certificate["evidence"]["scores"]["sha256"] = digest(b"")
    path = case.write(scratch_folder())
    plain, fast, hasty = (checker.check(path, scan) for scan in (Scan(), Arrays(), Hasty()))
    assert fast == plain != hasty
    assert plain.outcome is Outcome.REFUTED
