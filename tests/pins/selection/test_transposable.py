"""Transposable N:M: optimal masks, proofs that hold, the same bits everywhere."""

import itertools
import re
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
import torch
from torch import Tensor

from pins.errors import CardinalityError, ImportanceError, MaskError, OptimalityError
from pins.selection.transposable import select
from pins.selection.transposable.augmentation import augment
from pins.selection.transposable.blocks import LEAST, Blocks, join, precision, split
from pins.selection.transposable.potentials import _comparators, potentials
from pins.selection.transposable.proof import Proof, prove
from pins.selection.transposable.select import Transposable, transposable
from solvers import Highs, TransposableFormulation, Verdict, compare
from tests.flushing import flushing

PATTERNS = ((1, 4), (2, 4), (3, 4), (1, 2), (4, 8), (2, 6), (5, 7))


def drawn(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=dtype)


def hostile(shape: tuple[int, ...]) -> dict[str, Tensor]:
    """Scores on which floats lie: by what is wrong with them."""
    normal, double = drawn(shape), drawn(shape, torch.float64)
    first = normal > 0
    return {
        "plain": normal.abs(),
        "signed": normal,
        "negative": -normal.abs() - 3,
        "ties": (2 * normal).round(),
        "mostly zeros": normal * (normal > 1),
        "two values": first.float(),
        "equal": torch.full(shape, -0.7),
        "zeros of both signs": torch.where(first, 0.0, -0.0),
        "outliers": normal * torch.where(normal > 1.5, 1e30, 1.0),
        "huge range": 10.0 ** (100 * double).clamp(-300, 300),
        "both ends": torch.where(first, 1.7e308, 4e-308 * double),
        "denormals": (9 * double).round() * 5e-324,
        "denormals of float32": (9 * normal).round() * 1e-45,
        "sums that round": torch.where(first, 1.0, 2.0**-60 * (3 * double).round()),
        "float16": normal.half(),
        "bfloat16": normal.bfloat16(),
        "float64": double,
    }


FAMILIES = [*hostile((2, 2))]


def blocks_of(matrix: Tensor, m: int) -> list[list[list[Fraction]]]:
    """The blocks in exact numbers, row of blocks by row of blocks."""
    return [
        [[*map(Fraction, row)] for row in matrix[i : i + m, j : j + m].tolist()]
        for i in range(0, matrix.shape[0], m)
        for j in range(0, matrix.shape[1], m)
    ]


def total(scores: Tensor, mask: Tensor) -> Fraction:
    return sum(map(Fraction, scores[mask].tolist()), Fraction(0))


def dual_value(scores: Tensor, proof: Proof, n: int) -> Fraction:
    """N(Σa + Σb) + Σ max(0, s − a − b) of all blocks, in rational arithmetic."""
    m = proof.row_potentials.shape[-1]
    bound = Fraction(0)
    for block, rows, columns, exponent in zip(
        blocks_of(scores, m),
        proof.row_potentials.reshape(-1, m).tolist(),
        proof.column_potentials.reshape(-1, m).tolist(),
        proof.exponents.flatten().tolist(),
        strict=True,
    ):
        unit = Fraction(2) ** exponent
        a, b = [unit * each for each in rows], [unit * each for each in columns]
        bound += n * (sum(a) + sum(b))
        bound += sum(
            max(s - i - j, Fraction(0))
            for row, i in zip(block, a, strict=True)
            for s, j in zip(row, b, strict=True)
        )
    return bound


def best_by_enumeration(scores: Tensor, n: int, m: int) -> Fraction:
    """Σ over the blocks of the best of all masks, in rational arithmetic."""
    rows = [*itertools.combinations(range(m), n)]
    masks = [
        mask
        for mask in itertools.product(rows, repeat=m)
        if all(sum(j in row for row in mask) == n for j in range(m))
    ]
    zero = Fraction(0)
    best = (
        max(sum((block[i][j] for i in range(m) for j in mask[i]), zero) for mask in masks)
        for block in blocks_of(scores, m)
    )
    return sum(best, zero)


def require_allowed(mask: Tensor, n: int, m: int) -> None:
    cut = split(mask, m)
    assert (cut.sum(0) == n).all()
    assert (cut.sum(1) == n).all()


def require_proved(scores: Tensor, found: Transposable, n: int) -> None:
    """The numbers of a proof are what rational arithmetic makes of its potentials."""
    proof, kept = found.proof, total(scores, found.mask)
    dual = dual_value(scores, proof, n)
    assert kept <= dual <= proof.bound
    assert dual - kept <= proof.regret <= 2 * proof.rounding
    if not proof.rounding:
        assert proof.regret == 0
        assert dual == proof.bound


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("n", "m"), PATTERNS)
def test_masks_are_allowed_and_bounds_hold_in_rational_arithmetic(
    n: int, m: int, family: str
) -> None:
    scores = hostile((2 * m, m))[family]
    found = transposable(scores, n, m)
    require_allowed(found.mask, n, m)
    require_proved(scores, found, n)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("n", [1, 2, 3])
def test_blocks_of_four_are_the_best_of_all_masks(n: int, family: str) -> None:
    scores = hostile((12, 8))[family]
    found = transposable(scores, n, 4)
    best = best_by_enumeration(scores, n, 4)
    assert total(scores, found.mask) == best
    assert best <= found.proof.bound


@pytest.mark.parametrize("family", ["plain", "signed", "ties", "bfloat16", "float64"])
@pytest.mark.parametrize(("n", "m"), [(4, 8), (2, 6), (8, 16)])
def test_highs_finds_no_better_mask(n: int, m: int, family: str) -> None:
    formulation = TransposableFormulation(hostile((m, 2 * m))[family], n, m)
    mask = transposable(formulation.importance, n, m).mask
    result = Highs().solve(formulation.program)
    found = compare(formulation.program, formulation.apply(mask), result)
    assert found.verdict is Verdict.AGREES


def exchanged(mask: Tensor, m: int) -> Tensor:
    """An allowed mask with two ones and two zeros of the first block in each other's place."""
    wrong, block = mask.clone(), mask[:m, :m]
    for i, k in itertools.combinations(range(m), 2):
        mine, other = block[i] & ~block[k], block[k] & ~block[i]
        if mine.any():
            columns = [int(mine.nonzero()[0]), int(other.nonzero()[0])]
            for row in (i, k):
                wrong[row, columns] = ~wrong[row, columns]
            return wrong
    raise AssertionError("all rows are equal")


@pytest.mark.parametrize(("n", "m"), [(2, 4), (4, 8)])
def test_a_wrong_mask_has_its_own_regret(n: int, m: int) -> None:
    scores = drawn((2 * m, m))
    right = transposable(scores, n, m)
    assert right.proof.regret == 0
    assert right.proof.gap == 0
    wrong = exchanged(right.mask, m)
    require_allowed(wrong, n, m)
    proof = prove(scores, wrong, right.proof.row_potentials, right.proof.column_potentials, n)
    assert proof.regret == total(scores, right.mask) - total(scores, wrong) > 0
    assert 0 < proof.regret / proof.bound < Fraction(proof.gap)


@pytest.mark.parametrize(("n", "m"), [(2, 4), (4, 8)])
def test_swapped_potentials_prove_nothing_false_and_no_optimum(n: int, m: int) -> None:
    scores = drawn((2 * m, m))
    right = transposable(scores, n, m)
    rows, columns = right.proof.row_potentials.flip(0), right.proof.column_potentials
    proof = prove(scores, right.mask, rows, columns, n)
    assert proof.regret > 0
    assert proof.bound == dual_value(scores, proof, n) > right.proof.bound
    huge = prove(scores, right.mask, rows + 2**62, columns, n)
    assert huge.bound > proof.bound


def test_a_gap_is_infinite_where_the_bound_is_not_positive() -> None:
    scores = -drawn((4, 4)).abs()
    right = transposable(scores, 2, 4)
    wrong = exchanged(right.mask, 4)
    proof = prove(scores, wrong, right.proof.row_potentials, right.proof.column_potentials, 2)
    assert right.proof.gap == 0
    assert proof.gap == float("inf")


def test_a_mask_that_is_not_allowed_is_refused() -> None:
    scores = drawn((8, 12))
    found = transposable(scores, 2, 4)
    found.mask[4, 8] ^= True
    message = "does not keep 2 weights in each row and each column of the 4 × 4 block (1, 2)"
    with pytest.raises(MaskError, match=re.escape(message)):
        prove(scores, found.mask, found.proof.row_potentials, found.proof.column_potentials, 2)
    message = "the mask is torch.float32 of shape (8, 12): the mask of these scores is bool"
    with pytest.raises(MaskError, match=re.escape(message)):
        prove(scores, scores, found.proof.row_potentials, found.proof.column_potentials, 2)


def test_a_mask_without_proof_is_not_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    def swapped(*given: Any) -> tuple[Tensor, Tensor, Tensor]:
        mask, rows, columns = augment(*given)
        return mask, rows.flip(1), columns

    monkeypatch.setattr(select, "augment", swapped)
    message = r"transposable 4:8 mask of w has a gap of 0\.\d+, of which 0% is due to rounding"
    with pytest.raises(OptimalityError, match=message):
        transposable(drawn((8, 8)), 4, 8, name="w")


def same(one: Transposable, other: Transposable) -> bool:
    mine, others = ((each.mask, *vars(each.proof).values()) for each in (one, other))
    return all(
        torch.equal(a, b) if isinstance(a, Tensor) else a == b
        for a, b in zip(mine, others, strict=True)
    )


@pytest.mark.parametrize(
    ("n", "m", "family"),
    [(2, 4, "plain"), (2, 4, "huge range"), (4, 8, "ties"), (5, 12, "huge range")],
)
def test_bits_do_not_depend_on_chunks_threads_or_flushed_denormals(
    n: int, m: int, family: str
) -> None:
    scores = hostile((3 * m, 4 * m))[family]
    found = transposable(scores, n, m)
    threads = torch.get_num_threads()
    try:
        for room, number in ((1, 1), (8 * m * m, 2)):
            torch.set_num_threads(number)
            assert same(transposable(scores, n, m, room=room), found)
    finally:
        torch.set_num_threads(threads)
    with flushing():
        assert same(transposable(scores, n, m), found)
    alone = transposable(scores[m : 2 * m, 3 * m : 4 * m], n, m)
    assert torch.equal(alone.mask, found.mask[m : 2 * m, 3 * m : 4 * m])
    assert torch.equal(alone.proof.row_potentials[0, 0], found.proof.row_potentials[1, 3])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(("n", "m"), [(2, 4), (8, 16), (5, 12)])
@pytest.mark.parametrize("family", ["plain", "ties", "huge range", "bfloat16"])
def test_bits_do_not_depend_on_the_device(n: int, m: int, family: str) -> None:
    scores = hostile((16 * m, 16 * m))[family]
    found, there = transposable(scores, n, m), transposable(scores.cuda(), n, m)
    assert torch.equal(there.mask.cpu(), found.mask)
    assert torch.equal(there.proof.row_potentials.cpu(), found.proof.row_potentials)
    assert (there.proof.bound, there.proof.regret) == (found.proof.bound, found.proof.regret)


def test_experts_and_views_are_solved_matrix_by_matrix() -> None:
    scores = drawn((2, 3, 8, 16))
    found = transposable(scores, 4, 8)
    assert found.mask.shape == scores.shape
    assert found.proof.row_potentials.shape == (2, 3, 1, 2, 8)
    assert torch.equal(found.mask[1, 2], transposable(scores[1, 2], 4, 8).mask)
    turned = transposable(scores[0, 0].T, 4, 8)
    assert turned.proof.bound == transposable(scores[0, 0], 4, 8).proof.bound


def test_the_potentials_alone_are_close_and_paths_close_the_gap() -> None:
    blocks = Blocks.of(split(drawn((128, 128)).abs(), 16))
    scores = blocks.scores

    def bound(rows: Tensor, columns: Tensor) -> float:
        above = (scores - rows[:, None] - columns).clamp(min=0)
        return float(8 * (rows.sum() + columns.sum()) + above.sum())

    none, five = (potentials(scores, 8, sweeps) for sweeps in (0, 5))
    batch = scores.permute(2, 0, 1)
    mask, rows, columns = augment(batch, five[0].T, five[1].T, 8)
    optimum = bound(rows.T, columns.T)
    assert float((batch * mask).sum()) == optimum
    assert optimum < bound(*five) < bound(*none)
    assert bound(*five) < 1.00001 * optimum
    assert bound(*none) < 1.001 * optimum


def test_paths_repair_potentials_that_are_far_off() -> None:
    scores = Blocks.of(split(drawn((32, 32)), 8)).scores.permute(2, 0, 1).contiguous()
    zeros = torch.zeros(16, 8, dtype=torch.float64)
    mask, rows, columns = augment(scores, zeros, zeros, 3)
    above = (scores - rows[:, :, None] - columns[:, None]).clamp(min=0)
    dual = 3 * (rows.sum(1) + columns.sum(1)) + above.sum((1, 2))
    assert torch.equal(dual, (scores * mask).sum((1, 2)))


@pytest.mark.parametrize("size", range(1, 40))
def test_comparators_sort_every_order_of_zeros_and_ones_that_is_tried(size: int) -> None:
    draw = torch.Generator().manual_seed(size)
    values = [*torch.randint(2, (size, 200), generator=draw).float()]
    expected = torch.stack(values).sort(0).values
    for low, high in _comparators(size):
        values[low], values[high] = (
            torch.minimum(values[low], values[high]),
            torch.maximum(values[low], values[high]),
        )
    assert torch.equal(torch.stack(values), expected)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("m", [2, 8, 16])
def test_integers_are_the_nearest_multiples_and_those_that_differ_are_counted(
    m: int, family: str
) -> None:
    given = split(hostile((m, m))[family], m)
    scores, exponents, rounded = Blocks.of(given)
    unit = Fraction(2) ** int(exponents[0])
    off = [
        abs(Fraction(s) - int(r) * unit)
        for s, r in zip(given.flatten().tolist(), scores.flatten().tolist(), strict=True)
    ]
    assert max(off) <= unit / 2
    assert sum(map(bool, off)) == int(rounded[0])
    assert scores.abs().max() <= 2 ** precision(m)
    assert exponents.min() >= LEAST


def test_no_unit_is_below_the_least_float() -> None:
    """So (a_i + b_j)·2^e is a float64: the proof of a certificate compares it with the scores."""
    tiny = (9 * drawn((8, 8), torch.float64)).round() * 5e-324
    assert Blocks.of(split(torch.stack([tiny, 0 * tiny]).view(16, 8), 8)).exponents.tolist() == [
        LEAST,
        LEAST,
    ]
    proof = transposable(tiny, 4, 8).proof
    assert proof.exponents.tolist() == [[LEAST]]
    assert proof.regret == proof.rounding == 0


def test_splitting_has_an_inverse() -> None:
    matrix = torch.arange(6 * 8).view(6, 8)
    assert torch.equal(join(split(matrix, 2), 8), matrix)
    assert split(matrix, 2)[:, :, 1].tolist() == [[2, 3], [10, 11]]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: transposable(torch.ones(8, 12), 4, 8, name="layer.0.weight"),
            CardinalityError,
            "layer.0.weight has 12 columns, which 8 does not divide: choose an m that divides both "
            "sides of 8 × 12, or leave the tensor dense",
        ),
        (
            lambda: transposable(torch.ones(12, 8), 4, 8),
            CardinalityError,
            "scores has 12 rows, which 8 does not divide",
        ),
        (
            lambda: transposable(torch.ones(8, 8), 8, 8),
            CardinalityError,
            "transposable 8:8 was asked for: it keeps n of m weights, 0 < n < m ≤ 64",
        ),
        (lambda: transposable(torch.ones(8, 8), 0, 4), CardinalityError, "transposable 0:4"),
        (lambda: transposable(torch.ones(128, 128), 64, 128), CardinalityError, "64:128"),
        (
            lambda: transposable(torch.ones(8), 2, 4),
            ImportanceError,
            "scores has the shape (8,): transposable 2:4 is for matrices",
        ),
        (lambda: transposable(torch.ones(0, 4), 2, 4), ImportanceError, "shape (0, 4)"),
        (
            lambda: transposable(torch.eye(4).log(), 2, 4, name="w"),
            ImportanceError,
            "w at index (0, 1) is -inf: importance must be finite",
        ),
        (
            lambda: transposable(torch.ones(4, 4, dtype=torch.int64), 2, 4),
            ImportanceError,
            "scores is torch.int64",
        ),
    ],
)
def test_what_cannot_be_solved_is_said(
    call: Callable[[], Transposable], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=re.escape(message)):
        call()
