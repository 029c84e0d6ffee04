"""In which words the checker judges trees, frozen weights, regrets and trust regions.

Truth is the matter of `test_checker_campaign`: here each bound has a certificate that breaks it.
"""

import json
import math
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from tests.verification.certificate_cases import (
    DTYPES,
    Case,
    Edit,
    claims,
    digest,
    drops,
    evidence,
    leaf,
    masks,
    member,
    node,
    run,
    scratch_folder,
    small_blocks,
)
from tests.verification.certificate_oracle import rational
from verification import checker
from verification.certificates.fast_checker import Arrays
from verification.checker import Outcome, Scan, Verdict

HUGE, TINY = sys.float_info.max, 5e-324


def rows() -> Case:
    """2 of each 4; with the rows' ends 3 > 1 and 6 > 5 no exchange within a row gains."""
    scores = {"w": [3.0, 1.0, 4.0, 0.0, 5.0, 4.0, 6.0, 7.0]}
    return Case(scores, {"w": [1, 0, 1, 0, 0, 0, 1, 1]}, tree=[leaf("w", (4, 2, 2))]).certify()


def layers() -> Case:
    """A layer of two tensors that keeps 1 to 2 of 4 and could use more, and a third tensor."""
    scores = {"a": [9.0, 8.0], "b": [7.0, 0.0], "c": [6.0, -1.0]}
    tree = [node("layer 0", 1, 2, leaf("a"), leaf("b")), leaf("c", minimum=1)]
    return Case(scores, {"a": [1, 1], "b": [0, 0], "c": [1, 0]}, tree=tree).certify()


def turned() -> Case:
    """Stored (inputs, outputs): a row is a column of the file, 1 of 2 in each."""
    case = Case({"w": [1.0, 4.0, 3.0, 5.0]}, {"w": [0, 0, 1, 1]}, shapes={"w": [2, 2]})
    case.tree = [leaf("w", (2, 1, 1), transposed=True)]
    return case.certify()


def frozen() -> Case:
    """The 9 must go and the −9 must stay; of the others the best is kept."""
    scores, kept = {"w": [9.0, 1.0, 2.0, -9.0]}, {"w": [0, 0, 1, 1]}
    case = Case(scores, kept, zeros={"w": [1, 0, 0, 0]}, fixed={"w": [0, 0, 0, 1]})
    return case.certify()


def tied() -> Case:
    """Zeros tie within rows, but 1 of 2 in each row leaves none to exchange between them."""
    tree = [leaf("w", (2, 1, 1))]
    return Case({"w": [0.0, 0.0, -0.0, 0.0]}, {"w": [1, 0, 1, 0]}, tree=tree).certify()


def region(dtype: str = "F32", *, packed: bool = True, radius: Fraction | None = None) -> Case:
    """k = 3 and μ = ½: c + s/2 is 1, −½, 2, 1¼ in a, ¼, ½, 2, 0 in b; what is removed is 1⅝."""
    scores = {"a": [0.5, -1.0, 3.0, 0.5], "b": [0.0, 0.75, -2.0, -1.0]}
    costs = {"a": [0.75, 0.0, 0.5, 1.0], "b": [0.25, 0.125, 3.0, 0.5]}
    kept = {"a": [0, 0, 1, 1], "b": [0, 0, 1, 0]}
    case = Case(scores, kept, dtype, packed, costs=costs, mu=0.5, radius=radius)
    return case.certify()


def short() -> Case:
    """A mask that falls short by 1 of the best one with 1 of 2 in each row."""
    tree = [leaf("w", (2, 1, 1))]
    return Case({"w": [1.0, 2.0, 4.0, 3.0]}, {"w": [1, 0, 1, 0]}, tree=tree).certify()


def bound(*path: object) -> Callable[[Any], Edit]:
    return member("claim", "tree", *path)


END = "; not checked: that the scores are 'made up'"
KEEPS = "proved: the mask keeps exactly {} of {} weights in {} and no mask with as many "


@pytest.mark.parametrize(
    ("case", "message"),
    [
        (
            rows(),
            KEEPS.format(4, 8, "1 tensor")
            + f"that keeps exactly 2 of each run of 4 has a larger score sum (unique){END}",
        ),
        (
            layers(),
            KEEPS.format(3, 6, "3 tensors")
            + "that keeps at least 1 and at most 2 of node 'layer 0', at least 1 of c has a larger "
            f"score sum (unique){END}",
        ),
        (
            frozen(),
            KEEPS.format(2, 4, "1 tensor")
            + "that keeps what zeros.safetensors says, what fixed.safetensors says has a larger "
            f"score sum (unique){END}",
        ),
        (
            tied(),
            KEEPS.format(2, 4, "1 tensor")
            + "that keeps exactly 1 of each run of 2 has a larger score sum (ties by lower index)"
            + END,
        ),
        (
            short(),
            "proved: the mask keeps exactly 2 of 4 weights in 1 tensor and falls short of the "
            "optimum by exactly 1 (≈ 1.000e+0), among masks with as many that keeps exactly 1 of "
            f"each run of 2{END}",
        ),
    ],
)
def test_the_program_that_was_proved_is_named(case: Case, message: str) -> None:
    assert case.verdict() == Verdict(Outcome.PROVED, message)


@pytest.mark.parametrize(
    ("case", "edit", "message"),
    [
        (
            rows(),
            masks(w=[1, 0, 1, 1, 0, 0, 0, 1]),
            "run 0 of 4 in w keeps 3, the tree allows at most 2",
        ),
        (
            rows(),
            bound(0, "runs", 0, "minimum")(3),
            "run 0 of 4 in w keeps 2, the tree allows at least 3",
        ),
        (rows(), bound(0, "maximum")(3), "w keeps 4, the tree allows at most 3"),
        (
            rows(),
            masks(w=[1, 0, 1, 0, 1, 0, 1, 0]),
            "w[7] is pruned and w[4] kept, with 7.0 and 5.0: exchanged, they gain within run 1 of "
            "4 in w",
        ),
        (
            rows(),
            bound(0, "runs", 0)({"length": 4, "minimum": 1, "maximum": 3}),
            "w[4] is pruned and w[0] kept, with 5.0 and 3.0: exchanged, they gain within w",
        ),
        (layers(), bound(0, "maximum")(1), "node 'layer 0' keeps 2, the tree allows at most 1"),
        (
            layers(),
            lambda case: (bound(0, "maximum")(3)(case), bound(1, "minimum")(0)(case)),
            "b[0] is pruned and c[0] kept, with 7.0 and 6.0: exchanged, they gain within the root",
        ),
        (
            turned(),
            bound(0, "transposed")(False),
            "run 0 of 2 in w keeps 0, the tree allows at least 1",
        ),
        (frozen(), masks(w=[1, 0, 0, 1]), "w[0] keeps 1, the tree allows at most 0"),
        (frozen(), masks(w=[0, 1, 1, 0]), "w[3] keeps 0, the tree allows at least 1"),
        (
            frozen(),
            masks(w=[0, 1, 0, 1]),
            "w[2] is pruned and w[1] kept, with 2.0 and 1.0: exchanged, they gain within w",
        ),
        (
            tied(),
            masks(w=[1, 0, 0, 1]),
            "w[2] is pruned and w[3] kept, both with score 0.0, against the tie rule lower-index",
        ),
        (
            tied(),
            claims(unique=True),
            "the optimum is not unique, w[1] and w[0] have equal scores, 0.0; the claim says "
            "unique = True",
        ),
        (
            short(),
            claims(gap={"numerator": "1", "denominator": "3"}),
            "the gap is 1 (≈ 1.000e+0), the claim says 1/3 (≈ 3.333e-1): they differ by 2/3",
        ),
        (
            short(),
            lambda case: (case.best.update(w=[1, 1, 0, 0]), case.redigest()),
            "best.safetensors: run 0 of 2 in w keeps 2, the tree allows at most 1",
        ),
        (
            short(),
            lambda case: (case.best.update(w=[1, 0, 0, 1]), case.redigest()),
            "best.safetensors: w[1] is pruned and w[0] kept, with 2.0 and 1.0: exchanged, they",
        ),
        (
            short(),
            lambda case: (case.best.update(w=[0, 1, 0, 0]), case.redigest()),
            "best.safetensors: run 1 of 2 in w keeps 0, the tree allows at least 1",
        ),
        (
            region(),
            masks(a=[0, 0, 0, 1], b=[0, 0, 1, 1]),
            "a[2] is pruned and a[3] kept, with 2 (≈ 2.000e+0) and 5/4 (≈ 1.250e+0): exchanged, "
            "they gain within a",
        ),
        (
            region(),
            claims(radius={"numerator": "3", "denominator": "2"}),
            "the mask removes a cost of 13/8 (≈ 1.625e+0), the radius is 3/2 (≈ 1.500e+0): it "
            "exceeds it by 1/8 (≈ 1.250e-1)",
        ),
        (
            region(),
            claims(radius={"numerator": "2", "denominator": "1"}),
            "the gap is 3/4 (≈ 7.500e-1), the claim says 0: they differ by 3/4 (≈ 7.500e-1)",
        ),
        (
            region(),
            claims(gap={"numerator": "1", "denominator": "1" + "0" * 100}),
            "the gap is 0, the claim says a long fraction (≈ 1.000e-100): they differ by a long",
        ),
        (
            region(),
            lambda case: (case.costs["a"].__setitem__(2, math.nan), case.redigest()),
            "a[2] has the cost nan",
        ),
        (
            region(),
            lambda case: (case.costs["a"].__setitem__(3, -0.5), case.redigest()),
            "a[3] has the cost -0.5, below 0",
        ),
        (
            region(),
            evidence(multiplier=(4.0).hex()),
            "b[1] is pruned and b[2] kept, with 25/8 (≈ 3.125e+0) and -5 (≈ -5.000e+0)",
        ),
    ],
)
def test_a_false_certificate_is_refuted_with_its_reason(
    case: Case, edit: Edit, message: str
) -> None:
    verdict = case.after(edit).verdict()
    assert verdict.outcome is Outcome.REFUTED, verdict.message
    assert verdict.message.startswith(f"refuted: {message}")


DEEP = leaf("w")
for _ in range(17):
    DEEP = node("n", 0, 9, DEEP)


@pytest.mark.parametrize(
    ("case", "edit", "message"),
    [
        (rows(), bound(0, "tensor")("v"), "claim.tree is ['v'], expected the tensors of the scope"),
        (rows(), bound(0)(None), "claim.tree[0] is None, expected an object"),
        (layers(), bound(0)(leaf("a")), "claim.tree is ['a', 'c'], expected the tensors"),
        (layers(), bound(0, "parts", 0, "minimum")(-1), "parts[0].minimum is -1, expected an"),
        (layers(), bound(0, "name")(None), "claim.tree[0].name is None, expected a string"),
        (rows(), bound(0, "runs", 0, "length")(3), "length is 3, expected a divisor of 8"),
        (rows(), bound(0, "runs", 0, "length")(0), "length is 0, expected a divisor of 8"),
        (
            rows(),
            lambda case: case.certificate["claim"]["tree"][0]["runs"].append(
                {"length": 4, "minimum": 0, "maximum": 4}
            ),
            "length is 4, expected a divisor of 4 below it",
        ),
        (rows(), bound(0, "transposed")(1), "tree[0].transposed is 1, expected true or false"),
        (
            Case({"w": [1.0]}, {"w": [1]}).certify(),
            bound(0, "transposed")(True),
            "tree: w is transposed, and has less than two dimensions",
        ),
        (rows(), bound(0)(DEEP), "is a node at depth 17, at most 16 are read"),
        (rows(), evidence(best={"file": "a", "sha256": "0" * 64}), "evidence.best is {"),
        (short(), evidence(best=None), "evidence.best is None, expected a file where a gap is"),
        (region(), evidence(cost=None), "evidence.cost is None, expected a value where a radius"),
        (region(), evidence(multiplier=None), "evidence.multiplier is None, expected a value"),
        (region(), claims(radius=None), "evidence.cost is {"),
        (region(), claims(unique=True), "claim.unique is True, expected None where a radius or a"),
        (region(), claims(tie_rule="lower-index"), "claim.tie_rule is 'lower-index', expected"),
        (short(), claims(unique=False), "claim.unique is False, expected None where a radius or"),
        (frozen(), drops("claim", "frozen"), "claim lacks the key 'frozen'"),
        (frozen(), member("claim", "frozen", "zeros")("m"), "frozen.zeros is 'm', expected an"),
    ],
)
def test_a_malformed_certificate_is_unreadable(case: Case, edit: Edit, message: str) -> None:
    verdict = case.after(edit).verdict()
    assert verdict.outcome is Outcome.UNREADABLE, verdict.message
    assert verdict.message.startswith("unreadable: certificate.json: ")
    assert message in verdict.message


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("packed", [True, False])
def test_a_region_of_every_dtype_and_mask_form(dtype: str, packed: bool) -> None:
    head = "proved: the mask keeps exactly 3 of 8 weights in 2 tensors and removes a cost of 13/8 "
    end = "(μ = 0.5); not checked: that the scores and costs are 'made up'"
    assert region(dtype, packed=packed).verdict().message == (
        f"{head}(≈ 1.625e+0), and no mask with as many that removes no more has a larger score "
        f"sum {end}"
    )
    assert region(dtype, packed=packed, radius=Fraction(2)).verdict().message == (
        f"{head}(≈ 1.625e+0), and no mask with as many that removes at most 2 (≈ 2.000e+0) has a "
        f"score sum larger by more than 3/4 (≈ 7.500e-1) {end}"
    )


def test_an_index_is_that_of_the_file_and_the_order_that_of_the_view() -> None:
    """Of six equal scores in 3 × 2, transposed, the first in the view are w[0], w[2] and w[4]."""
    part = leaf("w", transposed=True)
    case = Case({"w": [1.0] * 6}, {"w": [1, 0, 1, 0, 1, 0]}, tree=[part], shapes={"w": [3, 2]})
    assert "ties by lower index" in case.certify().verdict().message
    masks(w=[1, 1, 1, 0, 0, 0])(case)
    assert case.verdict().message.startswith("refuted: w[4] is pruned and w[1] kept")


@pytest.mark.parametrize("length", [3, 4, 12, 24, 96])
@pytest.mark.parametrize("scan", [Scan, Arrays])
def test_runs_of_any_length_join_without_a_seam(length: int, scan: Callable[[], Scan]) -> None:
    """In blocks of 8: runs inside a block, and longer than it, whose bits begin within a byte."""
    scores = [float(i * 7 % 96) for i in range(96)]
    best = [0] * 96
    for start in range(0, 96, length):
        order = sorted(range(start, start + length), key=scores.__getitem__)
        for i in order[-(length // 3) :]:
            best[i] = 1
    third = length // 3
    case = Case({"w": scores}, {"w": best}, tree=[leaf("w", (length, third, third))])
    path = case.certify(Fraction(0)).write(scratch_folder())
    with small_blocks():
        assert checker.check(path, scan()).outcome is Outcome.PROVED
        other = 96 - length
        low = min((i for i in range(other, 96) if best[i]), key=scores.__getitem__)
        high = max((i for i in range(other, 96) if not best[i]), key=scores.__getitem__)
        best[low], best[high] = 0, 1
        said = f"w[{low}] is pruned and w[{high}] kept"
        if third > 0 and scores[low] > scores[high]:
            message = checker.check(
                case.certify(Fraction(0)).write(scratch_folder()), scan()
            ).message
            assert said in message
            assert f"within run {96 // length - 1} of {length} in w" in message


def test_long_runs_of_runs_are_judged_in_post_order() -> None:
    """A fault of the second short run comes before that of the first long one, which ends later."""
    part = leaf("w", (4, 0, 1), (2, 0, 1))
    case = Case({"w": [1.0, 0.0, 5.0, 6.0]}, {"w": [1, 0, 1, 0]}, tree=[part])
    case.certify(Fraction(0))
    assert case.verdict().message == "refuted: run 0 of 4 in w keeps 2, the tree allows at most 1"
    part["runs"][0]["maximum"] = 2
    assert "within run 1 of 2 in w" in case.certify(Fraction(0)).verdict().message


# ---- Rounding ------------------------------------------------------------------------------------


def rounded_up() -> Case:
    """r = 1 − x² = 2⁻²⁶ − 2⁻⁵⁴ is pruned, just below 2⁻²⁶, which is kept; float64 sees a tie."""
    x = 1 - 2.0**-27
    scores, costs = {"w": [-x, 2.0**-26, 0.0]}, {"w": [1.0, 0.0, 2.0**-26]}
    return Case(scores, {"w": [0, 0, 1]}, "F64", costs=costs, mu=x).certify()


@pytest.mark.parametrize("scan", [Scan, Arrays])
def test_rounding_to_the_wrong_side_is_seen_through(scan: Callable[[], Scan]) -> None:
    case = rounded_up()
    assert case.certificate["evidence"]["best"] is None
    assert checker.check(case.write(scratch_folder()), scan()).outcome is Outcome.PROVED
    masks(w=[1, 0, 0])(case)
    claims(radius={"numerator": "9", "denominator": "1"})(case)
    message = checker.check(case.write(scratch_folder()), scan()).message
    assert "w[2] is pruned and w[0] kept" in message


def test_the_longest_gaps_can_be_stated_and_shown() -> None:
    """At the extremes of μ, with a radius as long as may be.

    Python refuses to write integers of more than 4300 digits, which the difference of two has.
    """
    for mu, mask, radius in (
        (TINY, [0, 1], Fraction(10**1000 - 1, 10**691 + 1)),
        (HUGE, [1, 0], Fraction(10**690 + 1, 10**1000 - 1)),
    ):
        costs = {"w": [HUGE, TINY]}
        case = Case({"w": [-TINY, TINY]}, {"w": mask}, "F64", costs=costs, mu=mu, radius=radius)
        if case.removed(case.mask) > radius:
            case.mask, case.best = {"w": [1, 0]}, None
        gap = case.certify().certificate["claim"]["gap"]
        assert max(map(len, gap.values())) > 900
        assert case.verdict().outcome is Outcome.PROVED, case.verdict().message
        gap |= {"numerator": "1" + "0" * 2998 + "1", "denominator": "9" * 2999 + "7"}
        verdict = case.verdict()
        assert verdict.outcome is Outcome.REFUTED, verdict.message
        assert "the claim says a long fraction (≈ 1.000e-1): they differ by" in verdict.message


# ---- The files -----------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["cost", "best", "zeros", "fixed"])
def test_every_file_has_a_digest_and_is_read_whole(tmp_path: Path, role: str) -> None:
    case = {"cost": region, "best": short, "zeros": frozen, "fixed": frozen}[role]()
    path, name = case.write(tmp_path), f"{role}.safetensors"
    stated = case.certificate["evidence"] | case.certificate["claim"]["frozen"]
    found = stated[role]["sha256"]
    stated[role]["sha256"] = "0" * 64
    assert case.verdict().message == (
        f"refuted: {name}: sha256 is {found}, the certificate says {'0' * 64}"
    )
    whole = (tmp_path / name).read_bytes()
    for length in range(0, len(whole), 5):
        (tmp_path / name).write_bytes(whole[:length])
        verdict = checker.check(path)
        assert verdict.outcome is Outcome.UNREADABLE, (length, verdict.message)
        assert verdict.message.startswith(f"unreadable: {name}: ")
        assert "broke off" not in verdict.message
    (tmp_path / name).unlink()
    assert checker.check(path).message == f"unreadable: {name}: no such file"


def test_costs_of_another_dtype_or_scope_are_refuted(tmp_path: Path) -> None:
    case = region()
    path = case.write(tmp_path)
    raw = Case(case.costs or {}, {}, "F64").float_bytes(case.costs or {})
    (tmp_path / "cost.safetensors").write_bytes(raw)
    case.certificate["evidence"]["cost"]["sha256"] = digest(raw)
    path.write_text(json.dumps(case.certificate), encoding="utf-8")
    assert checker.check(path).message == (
        "refuted: a has the dtype F64 in cost.safetensors, F32 in the scope"
    )
    case.costs = {"a": [1.0] * 4}
    case.redigest()
    assert case.verdict().message == "refuted: cost.safetensors has no tensor b, the scope has"


def test_the_command_checks_a_region_of_a_tree_with_nothing_installed(tmp_path: Path) -> None:
    case = region()
    proved = run(str(case.write(tmp_path)))
    assert (proved.returncode, proved.stderr) == (0, "")
    claims(radius={"numerator": "1", "denominator": "1"})(case)
    assert run(str(case.write(tmp_path))).returncode == 1
    assert run(str(rows().write(tmp_path))).returncode == 0


def test_radius_and_gap_are_rational() -> None:
    case = region(radius=Fraction(13, 8) + Fraction(1, 10**50))
    assert rational(case.certificate["claim"]["gap"]) == Fraction(2, 10**50)
    message = case.verdict().message
    assert "removes at most the claimed fraction (≈ 1.625e+0)" in message
    assert "by more than the claimed fraction (≈ 2.000e-50)" in message
