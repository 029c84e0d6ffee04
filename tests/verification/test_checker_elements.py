"""In which words both checkers judge blocks as elements, and squares with their potentials.

Truth is the matter of `test_checker_campaign`.
"""

import random
import sys
from fractions import Fraction
from typing import Any

import pytest

from tests.verification.certificate_cases import (
    DTYPES,
    Case,
    Edit,
    claims,
    drops,
    evidence,
    leaf,
    masks,
    member,
    node,
    redigested,
    scratch_folder,
    small_blocks,
    squares,
)
from verification import checker
from verification.certificates.fast_checker import Arrays

HUGE, TINY = sys.float_info.max, 5e-324
END = "; not checked: that the scores are 'made up'"


def said(case: Case) -> str:
    """What both checkers say, with a few weights in each block of the stream and with many."""
    path = case.write(scratch_folder())
    verdict = checker.check(path)
    assert "broke off" not in verdict.message
    assert checker.check(path, Arrays()) == verdict
    with small_blocks():
        assert checker.check(path) == checker.check(path, Arrays()) == verdict
    return verdict.message


def bound(*path: object) -> Any:
    return member("claim", "tree", *path)


# ---- Blocks --------------------------------------------------------------------------------------


def pairs(dtype: str = "F32", *, packed: bool = True) -> Case:
    """Of the pairs 3, 1, 4, 1 in w and 2, 0 in v the greatest three, two of them in w."""
    scores = {"w": [1.0, 2.0, 0.5, 0.5, 4.0, 0.0, -1.0, 2.0], "v": [0.0, 2.0, 1.0, -1.0]}
    kept = {"w": [1, 1, 0, 0, 1, 1, 0, 0], "v": [1, 1, 0, 0]}
    case = Case(scores, kept, dtype, packed, block=(1, 2), shapes={"v": [4]})
    case.tree = [leaf("w", (2, 1, 1)), leaf("v")]
    return case.certify()


def turned() -> Case:
    """The blocks of 2 × 2 begin at w[0], w[8], w[2] and w[10] and sum to 10, 42, 18 and 50."""
    case = Case({"w": [float(i) for i in range(16)]}, {"w": [0] * 8 + [1] * 8})
    case.block, case.shapes, case.tree = (2, 2), {"w": [4, 4]}, [leaf("w", transposed=True)]
    return case.certify()


def tied() -> Case:
    """1 + 1 = 2 + 0."""
    return Case({"w": [1.0, 1.0, 2.0, 0.0]}, {"w": [1, 1, 0, 0]}, block=(1, 2)).certify()


def short() -> Case:
    """The lesser one of two blocks, by 3."""
    return Case({"w": [1.0, 2.0, 4.0, 2.0]}, {"w": [1, 1, 0, 0]}, block=(1, 2)).certify()


def region() -> Case:
    """μ = ½: r is 1 + 1½ and 1 + ½."""
    costs = {"w": [0.5, 0.5, 1.0, 0.0]}
    case = Case({"w": [1.0, 2.0, 0.0, 1.0]}, {"w": [1, 1, 0, 0]}, block=(1, 2), costs=costs, mu=0.5)
    return case.certify()


def frozen() -> Case:
    kept = {"w": [0, 0, 1, 1, 1, 1]}
    case = Case({"w": [9.0, 9.0, 1.0, 2.0, -9.0, 0.0]}, kept, block=(1, 2), shapes={"w": [1, 6]})
    case.zeros, case.fixed = {"w": [1, 1, 0, 0, 0, 0]}, {"w": [0, 0, 0, 0, 1, 1]}
    return case.certify()


KEEPS = "proved: the mask keeps exactly {} blocks of {} in {} and "


@pytest.mark.parametrize(
    ("case", "message"),
    [
        (
            pairs(),
            KEEPS.format("3 of 6", "1 × 2", "2 tensors") + "no mask with as many that keeps exactly"
            f" 1 of each run of 2 has a larger score sum (unique){END}",
        ),
        (
            turned(),
            KEEPS.format("2 of 4", "2 × 2", "1 tensor")
            + f"no mask with as many has a larger score sum (unique){END}",
        ),
        (
            tied(),
            KEEPS.format("1 of 2", "1 × 2", "1 tensor")
            + f"no mask with as many has a larger score sum (ties by lower index){END}",
        ),
        (
            short(),
            KEEPS.format("1 of 2", "1 × 2", "1 tensor")
            + "falls short of the optimum by exactly 3 (≈ 3.000e+0), among masks with as many"
            + END,
        ),
        (
            region(),
            KEEPS.format("1 of 2", "1 × 2", "1 tensor")
            + "removes a cost of 1 (≈ 1.000e+0), and no mask with as many that removes no more has "
            "a larger score sum (μ = 0.5); not checked: that the scores and costs are 'made up'",
        ),
        (
            frozen(),
            KEEPS.format("2 of 3", "1 × 2", "1 tensor") + "no mask with as many that keeps what "
            "zeros.safetensors says, what fixed.safetensors says has a larger score sum (unique)"
            + END,
        ),
    ],
)
def test_a_decision_over_blocks_is_proved(case: Case, message: str) -> None:
    assert said(case) == message


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("packed", [True, False])
def test_blocks_of_every_dtype_and_mask_form(dtype: str, packed: bool) -> None:
    assert said(pairs(dtype, packed=packed)).startswith("proved: ")


def flip(role: str, index: int) -> Edit:
    """One bit of a mask."""

    def edit(case: Case) -> None:
        getattr(case, role)["w"][index] ^= 1

    return redigested(edit)


@pytest.mark.parametrize(
    ("case", "edit", "message"),
    [
        (pairs(), flip("mask", 4), "mask.safetensors: w keeps a part of the block of w[4]"),
        (pairs(), flip("mask", 7), "mask.safetensors: w keeps a part of the block of w[6]"),
        (turned(), flip("mask", 15), "mask.safetensors: w keeps a part of the block of w[10]"),
        (turned(), flip("mask", 1), "mask.safetensors: w keeps a part of the block of w[0]"),
        (short(), flip("best", 3), "best.safetensors: w keeps a part of the block of w[2]"),
        (frozen(), flip("zeros", 5), "zeros.safetensors: w keeps a part of the block of w[4]"),
        (frozen(), flip("fixed", 4), "fixed.safetensors: w keeps a part of the block of w[4]"),
        (pairs(), claims(total=12), "the scope holds 6 blocks of 1 × 2, the claim says 12"),
        (pairs(), claims(keep=6), "kept 3 of 6, the claim says 6"),
        (pairs(), evidence(counts=[4, 2]), "kept 2 in w, the certificate says 4"),
        (pairs(), claims(block=[1, 1], total=12), "kept 6 of 12, the claim says 3"),
        (
            pairs(),
            claims(block=[1, 4], total=3),
            "mask.safetensors: w keeps a part of the block of",
        ),
        (
            pairs(),
            masks(w=[0, 0, 1, 1, 0, 0, 1, 1]),
            "w[0] is pruned and w[2] kept, with 3 (≈ 3.000e+0) and 1 (≈ 1.000e+0): exchanged, they "
            "gain within run 0 of 2 in w",
        ),
        (
            pairs(),
            masks(w=[1, 1, 1, 1, 0, 0, 0, 0]),
            "run 0 of 2 in w keeps 2, the tree allows at most 1",
        ),
        (
            turned(),
            masks(w=[0, 0, 1, 1] * 4),
            "w[8] is pruned and w[2] kept, with 42 (≈ 4.200e+1) and 18 (≈ 1.800e+1): exchanged, "
            "they gain within w",
        ),
        (
            tied(),
            masks(w=[0, 0, 1, 1]),
            "w[0] is pruned and w[2] kept, both with score 2 (≈ 2.000e+0), against the tie rule "
            "lower-index",
        ),
        (
            tied(),
            claims(unique=True),
            "the optimum is not unique, w[2] and w[0] have equal scores, 2 (≈ 2.000e+0); the claim "
            "says unique = True",
        ),
        (
            region(),
            masks(w=[0, 0, 1, 1]),
            "w[0] is pruned and w[2] kept, with 5/2 (≈ 2.500e+0) and",
        ),
        (frozen(), masks(w=[1, 1, 0, 0, 1, 1]), "w[0] keeps 1, the tree allows at most 0"),
        (frozen(), masks(w=[0, 0, 1, 1, 0, 0]), "kept 1 of 3, the claim says 2"),
    ],
)
def test_a_false_certificate_of_blocks_is_refuted(case: Case, edit: Edit, message: str) -> None:
    assert said(case.after(edit)).startswith(f"refuted: {message}")


def table(rows: int, columns: int) -> Case:
    size = rows * columns
    return Case({"w": [0.0] * size}, {"w": [0] * size}, shapes={"w": [rows, columns]}).certify()


@pytest.mark.parametrize(
    ("case", "edit", "message"),
    [
        (table(6, 9), claims(block=[2, 2]), "tree: w has 6 × 9 weights, which blocks of 2 × 2 do"),
        (table(6, 9), claims(block=[4, 1]), "tree: w has 6 × 9 weights, which blocks of 4 × 1 do"),
        (pairs(), claims(block=[2, 1]), "tree: v has 1 × 4 weights, which blocks of 2 × 1 do not"),
        (
            table(6, 9).after(bound(0, "transposed")(True)),
            claims(block=[2, 6]),
            "tree: w has 9 × 6 weights, which blocks of 2 × 6 do not divide",
        ),
        (pairs(), claims(block=[0, 1]), "claim.block is (0, 1), expected two sides of at least 1"),
        (pairs(), claims(block=[2]), "claim.block is (2,), expected two sides of at least 1"),
        (pairs(), claims(block=[1, 1, 1]), "claim.block is"),
        (pairs(), claims(block=None), "claim.block is None, expected a list"),
        (pairs(), claims(block=[1, True]), "claim.block[1] is True, expected an integer"),
        (pairs(), drops("claim", "block"), "claim lacks the key 'block'"),
        (pairs(), bound(0, "runs", 0, "length")(8), "length is 8, expected a divisor of 4"),
    ],
)
def test_malformed_blocks_are_unreadable(case: Case, edit: Edit, message: str) -> None:
    found = said(case.after(edit))
    assert found.startswith("unreadable: certificate.json: ")
    assert message in found


@pytest.mark.parametrize(
    "scores",
    [
        [1.0, 0.0, 1.0, 2.0**-60],
        [HUGE, HUGE / 2, HUGE, HUGE],
        [HUGE, -HUGE, TINY, 0.0],
        [-TINY, 0.0, HUGE, -HUGE],
        [2.0**53, 1.0, 2.0**53, 1.0 + 2.0**-52],
        [1.0, 2.0**-53, 2.0**-53, 1.0 + 2.0**-52],
    ],
)
def test_sums_of_blocks_are_compared_exactly(scores: list[float]) -> None:
    """Though float64 rounds them to the same number or to infinity."""
    case = Case({"w": scores}, {"w": [0, 0, 1, 1]}, "F64", block=(1, 2)).certify()
    assert "has a larger score sum (unique)" in said(case)
    assert "refuted: w[2] is pruned and w[0] kept" in said(case.after(masks(w=[1, 1, 0, 0])))


@pytest.mark.parametrize("costs", [None, {"w": [0.0] * 8}])
def test_a_run_without_a_candidate_where_bounds_of_rounding_overflow(costs: Any) -> None:
    scores, kept = {"w": [HUGE] * 4 + [1.0, 2.0, 1.0, 1.0]}, {"w": [1, 1, 1, 1, 1, 1, 0, 0]}
    case = Case(scores, kept, "F64", block=(1, 2), tree=[leaf("w", (2, 1, 2))], shapes={"w": [8]})
    case.costs, case.mu = costs, 3.0
    assert "has a larger score sum" in said(case.certify())


def test_a_score_that_overflows_with_the_bound_of_its_rounding() -> None:
    case = Case({"w": [HUGE, 0.0, 1.0, 0.0]}, {"w": [0, 0, 1, 1]}, "F64", block=(1, 2))
    case.tree, case.shapes = [leaf("w", (1, 0, 1))], {"w": [4]}
    assert "w[0] is pruned and w[2] kept" in said(case.certify(Fraction(0)))


def test_blocks_larger_than_those_of_the_stream_join_without_a_seam() -> None:
    """4 × 4 and 8 × 2 blocks of 16 × 16, against 8 weights at a time."""
    draw = random.Random(0)
    for block, matrix in (((4, 4), [16, 16]), ((8, 2), [2, 8, 16]), ((1, 16), [16, 16])):
        case = Case({"w": [draw.random() for _ in range(256)]}, {}, "F64", block=block)
        case.shapes, case.tree = {"w": matrix}, [leaf("w", (4, 1, 1), transposed=True)]
        program = case.program()
        sums = program.sums(case.scores)
        orders = [sorted(range(i, i + 4), key=sums.__getitem__) for i in range(0, 16, 4)]
        kept = sum(1 << order[-1] for order in orders)
        case.mask = program.spread(kept, case.scores)
        assert "exactly 1 of each run of 4 has a larger" in said(case.certify(Fraction(0)))
        low, *_, high = orders[-1]
        case.mask = program.spread(kept ^ 1 << low ^ 1 << high, case.scores)
        names = [f"w[{program.order[i][1][0]}]" for i in (high, low)]
        found = said(case.certify(Fraction(0)))
        assert "{} is pruned and {} kept, ".format(*names) in found
        assert found.endswith("exchanged, they gain within run 3 of 4 in w")


# ---- Squares -------------------------------------------------------------------------------------


def even(**changes: Any) -> Case:
    """Two 2 × 2 squares of w that keep 1 of each row and column, and one of three in v."""
    scores = {"w": [5.0, 1.0, 0.0, 4.0, 2.0, 3.0, 3.0, 0.0], "v": [1.0, 0.0, 9.0]}
    kept = {"w": [1, 0, 0, 1, 0, 1, 1, 0], "v": [0, 0, 1]}
    case = Case(scores, kept, tree=[squares("w", 2, 1), leaf("v")], shapes={"w": [2, 4]})
    for key, value in changes.items():
        setattr(case, key, value)
    return case.certify()


EVEN = "exactly 1 of each row and column of 2 × 2 squares"
HEAD = (
    "proved: the mask keeps exactly 5 of 11 weights in 2 tensors and no mask with as many that "
    "keeps"
)


@pytest.mark.parametrize(
    ("case", "message"),
    [
        (even(), f"{HEAD} {EVEN} has a larger score sum{END}"),
        (
            even(potentials={"w": [[0, 0, 0, 0, 0]] * 2}),
            f"{HEAD} {EVEN} has a score sum larger by more than 3 (≈ 3.000e+0){END}",
        ),
        (
            even(potentials={"w": [[-1, 0, 0, 0, -2], [0] * 5]}),
            f"{HEAD} {EVEN} has a score sum larger by more than 13/4 (≈ 3.250e+0){END}",
        ),
        (
            even(tree=[node("both", 5, 5, squares("w", 2, 1, minimum=3), leaf("v"))]),
            f"{HEAD} at least 3 of w, {EVEN}, exactly 5 of node both has a larger score sum{END}",
        ),
        (
            even(zeros={"w": [0, 1, *[0] * 6], "v": [0, 1, 0]}),
            f"{HEAD} {EVEN}, what zeros.safetensors says has a larger score sum{END}",
        ),
    ],
)
def test_squares_are_proved(case: Case, message: str) -> None:
    assert said(case).startswith(message)


def lines(*changed: list[int]) -> Edit:
    """Other potentials of w."""

    def edit(case: Any) -> None:
        case.potentials["w"] = [list(each) for each in changed]

    return redigested(edit)


def places(square: int, place: int, value: int) -> Edit:
    """Another number among the potentials of w."""

    def edit(case: Any) -> None:
        case.potentials["w"][square][place] = value

    return redigested(edit)


def swapped(case: Any) -> None:
    """Potentials of rows are those of columns."""
    for line in case.potentials["w"]:
        line[:4] = line[2:4] + line[:2]
    case.redigest()


def stored(dtype: str, shape: list[int]) -> Edit:
    """Another form of the potentials of w."""
    return redigested(lambda case: case.forms.update(w=(dtype, shape)))


FAR = "potentials.safetensors: square {} of w has a potential or an exponent out of range"
DIFFER = "potentials.safetensors and the squares of the claim differ in the tensor {}"
FORM = "w has the dtype {} and the shape {} in potentials.safetensors, expected I64 and (2, 5)"


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            masks(w=[0, 1, 0, 1, 0, 1, 1, 0]),
            "column 0 of square 0 in w keeps 0, the tree allows at least 1",
        ),
        (
            masks(w=[1, 1, 0, 1, 0, 0, 1, 0]),
            "row 0 of square 0 in w keeps 2, the tree allows at most 1",
        ),
        (
            masks(w=[0, 0, 0, 1, 1, 1, 1, 0]),
            "row 0 of square 0 in w keeps 0, the tree allows at least 1",
        ),
        (
            masks(w=[1, 0, 0, 1, 0, 1, 0, 1]),
            "column 0 of square 1 in w keeps 0, the tree allows at least 1",
        ),
        (
            masks(w=[0, 1, 0, 0, 0, 1, 1, 1]),  # a row of square 1 too
            "column 0 of square 0 in w keeps 0, the tree allows at least 1",
        ),
        (
            bound(0, "squares", "keep")(2),
            "row 0 of square 0 in w keeps 1, the tree allows at least 2",
        ),
        (
            bound(0, "squares", "keep")(0),
            "row 0 of square 0 in w keeps 1, the tree allows at most 0",
        ),
        (masks(w=[0, 1, 0, 1, 1, 0, 1, 0]), "the gap is 5 (≈ 5.000e+0), the claim says 0"),
        (swapped, "the gap is "),
        (lines([0] * 5, [0] * 5), "the gap is 3 (≈ 3.000e+0), the claim says 0: they differ by 3"),
        (
            masks(v=[1, 0, 0]),
            "v[2] is pruned and v[0] kept, with 9.0 and 1.0: exchanged, they gain within v",
        ),
        (bound(0, "maximum")(3), "w keeps 4, the tree allows at most 3"),
        (places(1, 0, 2**52), FAR.format(1)),
        (places(0, 3, -(2**52)), FAR.format(0)),
        (places(0, 3, -(2**63)), FAR.format(0)),
        (places(0, 0, 2**63 - 1), FAR.format(0)),
        (places(1, 4, 971), FAR.format(1)),
        (places(1, 4, -1075), FAR.format(1)),
        (places(1, 4, -(2**63)), FAR.format(1)),
        (lines([2**52 - 1, 0, 0, 0, 970], [1 - 2**52, 0, 0, 0, -1074]), "the gap is a long fract"),
        (redigested(lambda case: case.potentials.clear()), DIFFER.format("w")),
        (redigested(lambda case: case.potentials.update(v=[[0, 0, 0]])), DIFFER.format("v")),
        (stored("F64", [2, 5]), FORM.format("F64", "(2, 5)")),
        (stored("U64", [2, 5]), FORM.format("U64", "(2, 5)")),
        (stored("I64", [5, 2]), FORM.format("I64", "(5, 2)")),
        (stored("I64", [10]), FORM.format("I64", "(10,)")),
        (lines([0] * 5), FORM.format("I64", "(1, 5)")),
    ],
)
def test_a_false_certificate_of_squares_is_refuted(edit: Edit, message: str) -> None:
    assert said(even().after(edit)).startswith(f"refuted: {message}")


def test_frozen_weights_of_squares_are_bounds() -> None:
    case = even(zeros={"w": [0, 1, *[0] * 6], "v": [0, 0, 0]})
    other = case.after(masks(w=[0, 1, 0, 1, 1, 0, 1, 0]))
    assert said(other) == "refuted: w[1] keeps 1, the tree allows at most 0"


def test_nothing_is_exchanged_with_squares() -> None:
    """Every pruned weight of w has a greater score than the one that v keeps."""
    case = even(scores=even().scores | {"v": [-9.0, -8.0, -7.0]})
    assert "has a larger score sum; " in said(case)


@pytest.mark.parametrize("role", ["scores", "mask", "potentials", "zeros"])
def test_potentials_have_a_digest_in_its_place(role: str) -> None:
    """Wrong from this one on; the first is named."""
    case = even(zeros={"w": [0] * 8, "v": [0] * 3})
    files = case.certificate["evidence"] | case.certificate["claim"]["frozen"]
    order = ["scores", "mask", "potentials", "zeros"]
    for each in order[order.index(role) :]:
        files[each]["sha256"] = "0" * 64
    assert said(case).startswith(f"refuted: {role}.safetensors: sha256 is ")


SHAPED = bound(0, "squares")
NOT_BESIDE = "claim.tree: w has squares beside a radius, blocks or runs"


def with_runs(case: Case) -> None:
    run = {"length": 4, "minimum": 0, "maximum": 4}
    case.certificate["claim"]["tree"][0]["runs"].append(run)


def one_row(case: Case) -> None:
    case.certificate["claim"]["scope"][0]["shape"] = [8]


ONE, FILE = {"numerator": "1", "denominator": "1"}, {"file": "mask.safetensors", "sha256": "0" * 64}


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (SHAPED({"side": 4, "keep": 1}), "w has 2 × 4 weights, which squares of 4 × 4 do not"),
        (
            SHAPED({"side": 0, "keep": 0}),
            "w has squares, which is {'keep': 0, 'side': 0}, expected",
        ),
        (SHAPED({"side": 65, "keep": 1}), "a side from 1 to 64, and at most as many to keep"),
        (SHAPED({"side": 2, "keep": 3}), "a side from 1 to 64, and at most as many to keep"),
        (SHAPED({"side": 2}), "squares lacks the key 'keep'"),
        (SHAPED({"side": 2, "keep": 1, "x": 0}), "squares has the unknown key 'x'"),
        (SHAPED({"side": 2, "keep": True}), "squares.keep is True, expected an integer"),
        (SHAPED([2, 1]), "squares is [2, 1], expected an object"),
        (lambda case: case.certificate["claim"]["tree"][0].pop("squares"), "the key 'squares'"),
        (SHAPED(None), "evidence.potentials is {"),
        (evidence(potentials=None), "evidence.potentials is None, expected a file where squares"),
        (drops("evidence", "potentials"), "evidence lacks the key 'potentials'"),
        (evidence(best=FILE), "evidence.best is {"),
        (claims(tie_rule="lower-index"), "claim.tie_rule is 'lower-index', expected 'none' where"),
        (claims(unique=True), "claim.unique is True, expected None where squares are claimed"),
        (claims(block=[1, 2]), NOT_BESIDE),
        (claims(radius=ONE), NOT_BESIDE),
        (with_runs, NOT_BESIDE),
        (one_row, "w is cut into squares, and has less than two dimensions"),
    ],
)
def test_malformed_squares_are_unreadable(edit: Edit, message: str) -> None:
    found = said(even().after(edit))
    assert found.startswith("unreadable: certificate.json: ")
    assert message in found


def test_no_gap_but_that_of_squares_goes_without_a_best_mask() -> None:
    case = even(potentials={"w": [[0] * 5] * 2}).after(evidence(best=FILE))
    assert "evidence.best is {" in said(case)


@pytest.mark.parametrize(
    ("side", "keep"), [(1, 1), (3, 0), (3, 2), (4, 4), (8, 4), (16, 1), (64, 32)]
)
def test_squares_of_any_side_join_without_a_seam(side: int, keep: int) -> None:
    """Three squares, viewed in one row, whose potentials are known: the scores are made by them."""
    draw = random.Random(side)
    line, row = 3 * side, range(side)
    case = Case({"w": [0.0] * (line * side)}, {"w": [0] * (line * side)}, "F64")
    case.shapes, case.tree = {"w": [line, side]}, [squares("w", side, keep, transposed=True)]
    case.potentials = {"w": []}
    for square in range(3):
        both, e = [draw.randint(-(2**20), 2**20) for _ in range(2 * side)], draw.randint(-30, 30)
        case.potentials["w"].append([*both, e])
        for i in row:
            for j in row:
                kept = (i + j) % side < keep
                place = (square * side + j) * side + i
                case.mask["w"][place] = int(kept)
                over = draw.choice([0, 1, 2**12]) * (1 if kept else -1)
                case.scores["w"][place] = (both[i] + both[side + j] + over) * 2.0**e
    assert "has a larger score sum;" in said(case.certify())
    case.potentials["w"][2][0] += 2**13 if keep else -(2**13)
    found = said(case.after(redigested(lambda _: None)))
    assert found.startswith("refuted: the gap is ")
