"""The checker proves what is true and only that, whatever the files hold.

The files are made here, byte by byte, and truth is decided by enumerating all masks with k ones.
"""

import ast
import copy
import io
import json
import math
import re
import sys
from fractions import Fraction
from itertools import combinations
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from tests.verification.certificate_cases import (
    CHECKER,
    DTYPES,
    FINITE,
    Case,
    digest,
    ends_hold,
    exact,
    facts_hold,
    names_of,
    ones,
    rational,
    run,
    small_blocks,
    tensor_file,
    with_header,
)
from tests.verification.certificate_forgeries import (
    Edit,
    claims,
    evidence,
    forge,
    member,
    redigested,
    score,
)
from verification import checker
from verification.checker import Outcome, Verdict, check, main


def is_true(case: Case) -> bool:
    """Whether claim and evidence hold, by enumerating every mask with k ones."""
    claim, evidence = case.certificate["claim"], case.certificate["evidence"]
    names = names_of(case)
    values = exact(case, names)
    mask = [b for name in names for b in case.mask[name]]
    places = [(name, i) for name in names for i in range(len(case.scores[name]))]
    chosen = ones(case, names)
    if not facts_hold(case):
        return False
    by_value: dict[Fraction, list[tuple[int, ...]]] = {}
    for subset in combinations(range(len(values)), len(chosen)):
        by_value.setdefault(sum((values[i] for i in subset), Fraction(0)), []).append(subset)
    best = max(by_value)
    lam = Fraction(float.fromhex(evidence["lambda"]))
    if len(chosen) * lam + sum(max(Fraction(0), value - lam) for value in values) != best:
        return False  # λ is not dual optimal
    worst_kept = min((values[i] for i in chosen), default=None)
    best_pruned = max((v for v, bit in zip(values, mask, strict=True) if not bit), default=None)
    gap = best - sum((values[i] for i in chosen), Fraction(0))
    if claim["statement"] == "regret":
        violation = evidence["violation"]
        first = [
            next(i for i, v in enumerate(values) if v == value and mask[i] == bit)
            for value, bit in ((worst_kept, 1), (best_pruned, 0))
        ]
        pair = [(w["tensor"], w["index"]) for w in (violation["kept"], violation["pruned"])]
        scores = [Fraction(float.fromhex(violation[side]["score"])) for side in ("kept", "pruned")]
        return (
            gap == rational(claim["regret"])
            and pair == [places[i] for i in first]
            and scores == [worst_kept, best_pruned]
        )
    # combinations() come in lexicographic order, so the first optimum keeps the lowest indices.
    return (
        gap == 0
        and ends_hold(case)
        and claim["unique"] == (len(by_value[best]) == 1)
        and (claim["tie_rule"] == "none" or chosen == by_value[best][0])
    )


@st.composite
def cases(draw: st.DrawFn, *, optimal: bool | None = None, minimum: int = 0) -> Case:
    """Up to three tensors with eighths as scores, so that ties are common; shrinks to few zeros."""
    sizes = draw(st.lists(st.integers(0, 10), max_size=3).filter(lambda z: minimum <= sum(z) <= 11))
    dtype = draw(st.sampled_from(DTYPES))
    names = [f"layer.{i}" for i in range(len(sizes))]
    value = st.integers(-4, 4).map(lambda i: i / 8) | st.just(-0.0)
    scores = {
        n: draw(st.lists(value, min_size=z, max_size=z)) for n, z in zip(names, sizes, strict=True)
    }
    flat = [(name, i) for name in names for i in range(len(scores[name]))]
    if optimal is not False:
        keep = draw(st.integers(0, len(flat)))
        shuffled = draw(st.permutations(flat)) if draw(st.booleans()) else flat
        kept = set(sorted(shuffled, key=lambda place: -scores[place[0]][place[1]])[:keep])
    else:
        kept = {place for place in flat if draw(st.booleans())}
    mask = {n: [int((n, i) in kept) for i in range(len(scores[n]))] for n in names}
    return Case(scores, mask, dtype, draw(st.booleans())).certify()


# ---- Truth is proved, falsehood is not -----------------------------------------------------------


@given(cases())
@settings(deadline=None, max_examples=150)
def test_a_true_optimality_certificate_is_proved(case: Case) -> None:
    assert is_true(case)
    with small_blocks():
        verdict = case.verdict()
    assert verdict.outcome is Outcome.PROVED, verdict.message
    claim = case.certificate["claim"]
    assert f"keeps exactly {claim['keep']} of {claim['total']} weights" in verdict.message


@given(cases(optimal=False))
@settings(deadline=None, max_examples=150)
def test_any_mask_has_a_certificate_of_optimality_or_regret(case: Case) -> None:
    assert is_true(case)
    with small_blocks():
        verdict = case.verdict()
    assert verdict.outcome is Outcome.PROVED, verdict.message


@given(st.data(), cases(minimum=1) | cases(minimum=1, optimal=False))
@settings(deadline=None, max_examples=150)
def test_after_one_change_the_verdict_is_the_truth(data: st.DataObject, case: Case) -> None:
    for _ in range(4):
        changed = copy.deepcopy(case)
        forge(data.draw, changed)
        with small_blocks():
            verdict = changed.verdict()
        expected = Outcome.PROVED if is_true(changed) else Outcome.REFUTED
        assert verdict.outcome is expected, verdict.message


def example(dtype: str = "F32", *, packed: bool = True) -> Case:
    """Six weights, two tensors, k = 3: kept ≥ 0.5 ≥ 0.25 ≥ pruned."""
    scores = {"a": [0.5, -1.0, 2.0, 0.25], "b": [0.0, 0.75]}
    return Case(scores, {"a": [1, 0, 1, 0], "b": [0, 1]}, dtype, packed).certify()


def tied() -> Case:
    """k = 2 with three scores equal to the threshold 0; -0.0 is one of them."""
    return Case(
        {"a": [0.0, -1.0], "b": [1.0, -0.0, 0.0, -2.0]}, {"a": [1, 0], "b": [1, 0, 0, 0]}
    ).certify()


def lossy(dtype: str = "F32") -> Case:
    """k = 2: the mask keeps 0.5 − 1, the optimum 2 + 1, so the regret is 7/2."""
    scores = {"a": [0.5, -1.0, 2.0], "b": [0.25, 1.0]}
    return Case(scores, {"a": [1, 1, 0], "b": [0, 0]}, dtype).certify()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("packed", [True, False])
def test_every_dtype_and_mask_form(dtype: str, packed: bool) -> None:
    verdict = example(dtype, packed=packed).verdict()
    assert verdict == Verdict(
        Outcome.PROVED,
        "proved: the mask keeps exactly 3 of 6 weights in 2 tensors and no mask with as many has "
        "a larger score sum (λ = 0.5, unique); not checked: that the scores are 'made up'",
    )
    regret = lossy(dtype).verdict()
    assert regret.message == (
        "proved: the mask keeps exactly 2 of 5 weights in 2 tensors and falls short of the optimum "
        "by exactly 7/2 (≈ 3.500e+0), λ = 1.0; not checked: that the scores are 'made up'"
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_files_of_the_safetensors_package_are_read(tmp_path: Path, dtype: torch.dtype) -> None:
    values = torch.randn(3, 7, generator=torch.Generator().manual_seed(0)).to(dtype)
    keep = values > 0.3
    dtype_name = {"float16": "F16", "bfloat16": "BF16", "float32": "F32", "float64": "F64"}
    case = Case({"w": values.double().flatten().tolist()}, {"w": keep.int().flatten().tolist()})
    case.dtype = dtype_name[str(dtype).removeprefix("torch.")]
    path = case.certify().write(tmp_path)
    save_file({"w": values}, tmp_path / "scores.safetensors", metadata={"made": "here"})
    save_file({"w": keep}, tmp_path / "mask.safetensors")
    case.certificate["claim"]["scope"][0]["shape"] = [3, 7]
    for role in ("scores", "mask"):
        raw = (tmp_path / f"{role}.safetensors").read_bytes()
        case.certificate["evidence"][role]["sha256"] = digest(raw)
    path.write_text(json.dumps(case.certificate), encoding="utf-8")
    assert check(path).outcome is Outcome.PROVED, check(path).message


def test_blocks_join_without_a_seam() -> None:
    size = 2 * checker._BLOCK + 3
    values = [float(i % 1009) for i in range(size)]
    bits = [int(value >= 500) for value in values]
    assert Case({"w": values}, {"w": bits}).certify().verdict().outcome is Outcome.PROVED
    low = values.index(499.0, checker._BLOCK)  # in the second block
    high = values.index(500.0)
    bits[low], bits[high] = 1, 0
    case = Case({"w": values}, {"w": bits}).certify()
    assert case.certificate["evidence"]["violation"]["kept"]["index"] == low
    assert "by exactly 1 (≈ 1.000e+0)" in case.verdict().message


def test_a_lambda_inside_the_dual_interval_proves_and_one_outside_does_not() -> None:
    case = example()
    for lam, outcome in (
        (0.5, Outcome.PROVED),
        (0.375, Outcome.PROVED),
        (0.25, Outcome.PROVED),
        (math.nextafter(0.5, 1), Outcome.REFUTED),
        (math.nextafter(0.25, 0), Outcome.REFUTED),
    ):
        case.certificate["evidence"]["lambda"] = lam.hex()
        assert case.verdict().outcome is outcome


def test_float64_scores_whose_sums_overflow() -> None:
    huge = sys.float_info.max
    case = Case({"w": [huge, huge, huge, -huge]}, {"w": [1, 1, 0, 0]}, "F64").certify()
    assert "ties by lower index" in case.verdict().message
    worse = Case({"w": [huge, huge, -huge, -huge]}, {"w": [0, 0, 1, 1]}, "F64").certify()
    assert "by exactly the claimed fraction (≈ 7.191e+308)" in worse.verdict().message
    tiny = Case({"w": [5e-324, 1e308, 0.0]}, {"w": [0, 0, 1]}, "F64").certify()
    assert tiny.verdict().outcome is Outcome.PROVED


@given(st.lists(FINITE | st.sampled_from([1e308, -1e308, 5e-324, 1.0, -1.0])))
@settings(deadline=None)
def test_exact_sums_are_exact(terms: list[float]) -> None:
    assert checker._exact_sum(list(terms)) == sum(map(Fraction, terms), Fraction(0))


# ---- What is refuted, and in which words ---------------------------------------------------------


def _flip(*places: tuple[str, int]) -> Edit:
    def edit(case: Case) -> None:
        for name, index in places:
            case.mask[name][index] ^= 1

    return redigested(edit)


def _scope(index: int, **changes: Any) -> Edit:
    return lambda case: case.certificate["claim"]["scope"][index].update(changes)


def _outside(case: Case) -> None:
    case.certificate["claim"].update(total=4, scope=case.certificate["claim"]["scope"][:1])
    case.certificate["evidence"]["counts"].pop()


@pytest.mark.parametrize(
    ("case", "edit", "message"),
    [
        (example(), score("a", 2, math.nan), "a[2] has the score nan"),
        (example(), score("b", 1, math.inf), "b[1] has the score inf"),
        (example(), score("b", 0, -math.inf), "b[0] has the score -inf"),
        (example(), _flip(("a", 1)), "kept 4 of 6, the claim says 3"),
        (example(), claims(keep=2), "kept 3 of 6, the claim says 2"),
        (example(), claims(keep=99), "kept 3 of 6, the claim says 99"),
        (example(), claims(total=7), "the scope holds 6 weights, the claim says 7"),
        (example(), evidence(counts=[1, 2]), "kept 2 in a, the certificate says 1"),
        (
            example(),
            evidence(**{"lambda": (0.625).hex()}),
            "a[0] is kept with score 0.5, below λ = 0.625",
        ),
        (
            example(),
            evidence(**{"lambda": (0.125).hex()}),
            "a[3] is pruned with score 0.25, above λ = 0.125",
        ),
        (
            example(),
            _flip(("a", 1), ("a", 2)),
            "a[1] is kept with score -1.0, below λ = 0.5; "
            "a[2] is pruned with score 2.0, above λ = 0.5",
        ),
        (
            example(),
            evidence(kept_min=(0.75).hex()),
            "kept_min is 0.5, the certificate says 0.75",
        ),
        (example(), evidence(kept_min=None), "kept_min is 0.5, the certificate says None"),
        (
            example(),
            evidence(pruned_max=(0.0).hex()),
            "pruned_max is 0.25, the certificate says 0.0",
        ),
        (
            example(),
            claims(unique=False),
            "the optimum is unique; the claim says unique = False",
        ),
        (
            tied(),
            claims(unique=True),
            "the optimum is not unique, scores tie at 0.0; the claim says unique = True",
        ),
        (
            tied(),
            _flip(("a", 0), ("b", 2)),
            "kept 0 in a, the certificate says 1",
        ),
        (example(), _scope(0, shape=[4]), "a has the shape (2, 2) in scores.safetensors, (4,) in"),
        (example(), _scope(1, dtype="F64"), "b has the dtype F32 in scores.safetensors, F64 in"),
        (example(), _scope(1, name="c"), "scores.safetensors has no tensor c, the scope has"),
        (example(), _outside, "scores.safetensors holds b, which is outside the scope"),
        (
            lossy(),
            evidence(**{"lambda": (2.5).hex()}),
            "λ = 2.5 is not dual optimal for 2 kept: 0 scores exceed it and 0 reach it",
        ),
        (
            lossy(),
            evidence(**{"lambda": (0.375).hex()}),
            "λ = 0.375 is not dual optimal for 2 kept: 3 scores exceed it and 3 reach it",
        ),
        (
            lossy(),
            claims(regret={"numerator": "10", "denominator": "3"}),
            "the regret is 7/2 (≈ 3.500e+0), the claim says 10/3 (≈ 3.333e+0): "
            "they differ by 1/6 (≈ 1.667e-1)",
        ),
        (
            lossy(),
            lambda case: case.certificate["evidence"]["violation"]["kept"].update(index=0),
            "the lowest kept score is -1.0 at a[1], the certificate says -1.0 at a[0]",
        ),
    ],
)
def test_a_false_certificate_is_refuted_with_its_reason(
    case: Case, edit: Edit, message: str
) -> None:
    case = copy.deepcopy(case)
    edit(case)
    verdict = case.verdict()
    assert verdict.outcome is Outcome.REFUTED, verdict.message
    assert verdict.message.startswith(f"refuted: {message}")


def test_the_tie_rule_names_both_weights() -> None:
    case = tied()
    case.mask = {"a": [0, 0], "b": [1, 0, 1, 0]}
    case.certify()
    assert "(λ = 0.0, not unique)" in case.verdict().message
    case.certificate["claim"]["tie_rule"] = "lower-index"
    assert case.verdict() == Verdict(
        Outcome.REFUTED,
        "refuted: a[0] is pruned and b[2] kept, both with score 0.0, "
        "against the tie rule lower-index",
    )


def test_the_first_of_equals_is_named_across_blocks() -> None:
    """Twenty weights in blocks of eight; the third block repeats the extremes of the first."""
    case = Case({"w": [1.0, 0.0] * 10}, {"w": [0, 1] * 10}).certify()
    with small_blocks():
        assert case.verdict().outcome is Outcome.PROVED
        case.certificate["evidence"]["violation"]["kept"]["index"] = 17
        assert "score is 0.0 at w[1], the certificate says 0.0 at w[17]" in case.verdict().message
        flat = Case({"w": [0.0] * 20}, {"w": [1] * 9 + [0] + [1] * 9 + [0]}).certify()
        flat.certificate["claim"]["tie_rule"] = "lower-index"
        assert "w[9] is pruned and w[10] kept" in flat.verdict().message


@pytest.mark.parametrize("role", ["scores", "mask"])
def test_a_wrong_digest_is_refuted_with_both_digests(role: str) -> None:
    case = example()
    found = case.certificate["evidence"][role]["sha256"]
    case.certificate["evidence"][role]["sha256"] = "0" * 64
    assert case.verdict().message == (
        f"refuted: {role}.safetensors: sha256 is {found}, the certificate says {'0' * 64}"
    )


# ---- What cannot be read, and in which words -----------------------------------------------------


UNREADABLE_CERTIFICATES = [
    (member("version")(4), "certificate.version is 4, expected 1, 2 or 3, the ones known here"),
    (member("version")(0), "certificate.version is 0, expected 1, 2 or 3"),
    (member("version")(True), "certificate.version is True, expected an integer"),
    (member("format")("x"), "certificate.format is 'x', expected 'pins-certificate'"),
    (member("extra")(0), "certificate has the unknown key 'extra'"),
    (lambda case: case.certificate.pop("provenance"), "certificate lacks the key 'provenance'"),
    (member("provenance")(None), "certificate.provenance is None, expected an object"),
    (member("claim")([]), "certificate.claim is [], expected an object"),
    (
        member("claim", "statement")("best"),
        "claim.statement is 'best', expected 'optimal' or 'regret'",
    ),
    (member("claim", "statement")(["optimal"]), "claim.statement is ['optimal'], expected"),
    (member("claim", "statement")("regret"), "claim lacks the key 'regret'"),
    (member("claim", "total")(True), "claim.total is True, expected an integer"),
    (member("claim", "total")(6.0), "claim.total is 6.0, expected an integer"),
    (member("claim", "keep")(-1), "claim.keep is -1, expected an integer"),
    (member("claim", "keep")(2**63), "claim.keep is 9223372036854775808, expected an integer"),
    (member("claim", "unique")(1), "claim.unique is 1, expected true or false"),
    (member("claim", "tie_rule")("higher"), "claim.tie_rule is 'higher', expected 'lower-index'"),
    (member("claim", "criterion")(3), "claim.criterion is 3, expected a string"),
    (member("claim", "scope")({}), "claim.scope is {}, expected a list"),
    (member("claim", "scope", 1, "name")("a"), "claim.scope names a tensor twice"),
    (member("claim", "scope", 1, "dtype")("I64"), "claim.scope[1].dtype is 'I64', expected 'F16'"),
    (member("claim", "scope", 1, "shape")([True]), "claim.scope[1].shape[0] is True, expected"),
    (member("claim", "scope", 1, "shape")([1] * 65), "shape is [1, 1, 1, 1, 1, 1, ...], expected"),
    (member("evidence", "counts")([3]), "evidence.counts is (3,), expected one for each tensor"),
    (member("evidence", "kept_min")(0.5), "evidence.kept_min is 0.5, expected a float64"),
    (member("evidence", "scores", "sha256")("AB" * 32), "sha256 is 'ABAB"),
    (member("evidence", "mask")("m"), "evidence.mask is 'm', expected an object"),
]


@pytest.mark.parametrize(("edit", "message"), UNREADABLE_CERTIFICATES)
def test_a_malformed_certificate_is_unreadable(edit: Edit, message: str) -> None:
    case = example()
    edit(case)
    verdict = case.verdict()
    assert verdict.outcome is Outcome.UNREADABLE, verdict.message
    assert verdict.message.startswith("unreadable: certificate.json: ")
    assert message in verdict.message


@pytest.mark.parametrize(
    ("value", "accepted"),
    [
        ("0x1p-1", False),
        ("0x1.0p-1", True),
        ("0x1.0000000000000p-1", True),
        ("0X1.0p-1", False),
        ("0.5", False),
        ("nan", False),
        ("inf", False),
        (" 0x1.0p-1", False),
        ("0x1.0p-1\n", False),
        ("0x1.00000000000001p-1", False),  # more digits than a float64 has
        ("0x1.8p-1074", False),  # would be rounded
        ("0x1.0p+1024", False),  # beyond the largest
        ("0x1.0p-١", False),  # a digit, but not an ASCII one
        (0.5, False),
        (None, False),
    ],
)
def test_lambda_is_a_float64_written_exactly(value: object, accepted: bool) -> None:
    case = example()
    case.certificate["evidence"]["lambda"] = value
    verdict = case.verdict()
    assert (verdict.outcome is Outcome.PROVED) == accepted
    assert accepted or "evidence.lambda is" in verdict.message


@pytest.mark.parametrize(
    ("regret", "message"),
    [
        ({"numerator": "0", "denominator": "1"}, "numerator is '0', expected"),
        ({"numerator": "-7", "denominator": "2"}, "numerator is '-7', expected"),
        ({"numerator": "07", "denominator": "2"}, "numerator is '07', expected"),
        ({"numerator": "٧", "denominator": "2"}, "numerator is '٧', expected"),
        ({"numerator": 7, "denominator": 2}, "numerator is 7, expected"),
        ({"numerator": "7" * 1001, "denominator": "2"}, "numerator is '7777"),
        ({"numerator": "14", "denominator": "4"}, "regret is not in lowest terms"),
        ({"numerator": "7"}, "regret lacks the key 'denominator'"),
    ],
)
def test_a_regret_is_a_positive_fraction_in_lowest_terms(regret: object, message: str) -> None:
    case = lossy()
    case.certificate["claim"]["regret"] = regret
    verdict = case.verdict()
    assert verdict.outcome is Outcome.UNREADABLE
    assert message in verdict.message


@pytest.mark.parametrize(
    "file",
    [
        "/etc/passwd",
        "../scores.safetensors",
        "a/../../scores.safetensors",
        "..",
        ".",
        "./scores.safetensors",
        "a//b",
        "a/",
        "",
        "C:scores.safetensors",
        "..\\scores.safetensors",
        "scores\0",
    ],
)
def test_a_certificate_does_not_reach_outside_its_folder(tmp_path: Path, file: str) -> None:
    case = example()
    case.certificate["evidence"]["scores"]["file"] = file
    inner = tmp_path / "inner"
    inner.mkdir()
    (tmp_path / "scores.safetensors").write_bytes(case.score_bytes())
    verdict = check(case.write(inner))
    assert verdict.outcome is Outcome.UNREADABLE
    assert "evidence.scores.file is" in verdict.message
    assert "a path inside the certificate's folder" in verdict.message


def test_a_certificate_may_reach_into_a_folder_below(tmp_path: Path) -> None:
    case = example()
    path = case.write(tmp_path)
    (tmp_path / "..data").mkdir()
    (tmp_path / "scores.safetensors").rename(tmp_path / "..data" / ".scores")
    case.certificate["evidence"]["scores"]["file"] = "..data/.scores"
    path.write_text(json.dumps(case.certificate), encoding="utf-8")
    assert check(path).outcome is Outcome.PROVED


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "not JSON in UTF-8"),
        (b"\xff\xfe", "not JSON in UTF-8"),
        (b"{", "not JSON in UTF-8"),
        (b"[]", "certificate is [], expected an object"),
        (b'{"a": 1, "a": 2}', "the key 'a' appears twice"),
        (b'{"a": NaN}', "NaN is not a JSON value"),
        (b'{"a": -Infinity}', "-Infinity is not a JSON value"),
        (b"[" * 200_000, "nested too deeply"),
        (b'{"a":' * 200_000, "nested too deeply"),
        (b"1" * 5000, "not JSON in UTF-8"),
        (b" " * (16 * 2**20 + 1), "longer than 16777216 bytes"),
    ],
)
def test_a_certificate_that_is_not_strict_json_is_unreadable(
    tmp_path: Path, raw: bytes, message: str
) -> None:
    path = tmp_path / "certificate.json"
    path.write_bytes(raw)
    verdict = check(path)
    assert verdict.outcome is Outcome.UNREADABLE
    assert verdict.message.startswith("unreadable: certificate.json: ")
    assert message in verdict.message


def entry(dtype: str, shape: list[int], begin: int, end: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


BAD_TENSOR_FILES = [
    (b"", "0 bytes on disk, a header of 0 bytes"),
    (b"\0" * 7, "7 bytes on disk, a header of 0 bytes"),
    ((2000).to_bytes(8, "little") + b"{}", "10 bytes on disk, a header of 2000 bytes"),
    ((2**63).to_bytes(8, "little") + b"{}", "10 bytes on disk, a header of 9223372036854775808"),
    (with_header(b" {}"), "the header does not begin with '{'"),
    (with_header(b"[]"), "the header does not begin with '{'"),
    (with_header(b"{]"), "header: not JSON in UTF-8"),
    (with_header(b'{"\xff": 1}'), "header: not JSON in UTF-8"),
    (with_header(b'{"a":' * 200_000), "header: the JSON is nested too deeply"),
    (with_header(b'{"a": {}, "a": {}}'), "header: the key 'a' appears twice"),
    (with_header({"a": 3}), "a is 3, expected an object"),
    (with_header({"a": {"dtype": "F32", "shape": []}}), "a lacks the key 'data_offsets'"),
    (with_header({"a": entry("F32", [1], 0, 4) | {"x": 1}}), "a has the unknown key 'x'"),
    (with_header({"a": entry("Q4", [1], 0, 4)}), "a.dtype is 'Q4', expected 'BOOL'"),
    (with_header({"a": entry("F32", [-1], 0, 4)}), "a.shape[0] is -1, expected an integer"),
    (with_header({"a": entry("F32", [2**62] * 64, 0, 4)}), "a.data_offsets is (0, 4), expected"),
    (with_header({"a": entry("F32", [2], 0, 4)}), "a.data_offsets is (0, 4), expected (0, 8)"),
    (with_header({"a": entry("F32", [1], 4, 0)}), "a.data_offsets is (4, 0), expected (0, 4)"),
    (
        with_header({"a": entry("F32", [1], 0, 4) | {"data_offsets": [0]}}),
        "a.data_offsets is (0,), expected (0, 4)",
    ),
    (
        with_header({"a": entry("F32", [1], 0, 4), "b": entry("F32", [1], 8, 12)}, bytes(12)),
        "b.data_offsets is (8, 12), expected (4, 8)",
    ),
    (
        with_header({"a": entry("F32", [2], 0, 8), "b": entry("F32", [1], 4, 8)}, bytes(8)),
        "b.data_offsets is (4, 8), expected (8, 12)",
    ),
    (with_header({"a": entry("F32", [500], 0, 2000)}), "bytes on disk, the header says"),
    (with_header({}, b"\0"), "11 bytes on disk, the header says 10"),
    (with_header({"__metadata__": 1}), "__metadata__ is 1, expected an object"),
    (with_header({"__metadata__": {"a": 1}}), "__metadata__.a is 1, expected a string"),
]


@pytest.mark.parametrize(("raw", "message"), BAD_TENSOR_FILES)
@pytest.mark.parametrize("role", ["scores", "mask"])
def test_a_malformed_tensor_file_is_unreadable(
    tmp_path: Path, role: str, raw: bytes, message: str
) -> None:
    path = example().write(tmp_path)
    (tmp_path / f"{role}.safetensors").write_bytes(raw)
    verdict = check(path)
    assert verdict.outcome is Outcome.UNREADABLE
    assert verdict.message.startswith(f"unreadable: {role}.safetensors: ")
    assert message in verdict.message


META = {"format": "pins-mask", "version": "1", "shapes": '{"a": [2, 2], "b": [2, 1]}'}
PACKED = {"a": ("U8", [1], b"\x05"), "b": ("U8", [1], b"\x02")}


@pytest.mark.parametrize(
    ("raw", "outcome", "message"),
    [
        (tensor_file(PACKED, META), Outcome.PROVED, ""),
        (tensor_file(PACKED | {"b": ("BOOL", [2, 1], b"\0\1")}, META), Outcome.UNREADABLE, "'b'"),
        (
            tensor_file(
                PACKED | {"b": ("BOOL", [2, 1], b"\0\1")}, META | {"shapes": '{"a": [2, 2]}'}
            ),
            Outcome.PROVED,
            "",
        ),
        (tensor_file(PACKED), Outcome.UNREADABLE, "__metadata__.format is None"),
        (tensor_file(PACKED, META | {"format": "x"}), Outcome.UNREADABLE, "format is 'x'"),
        (tensor_file(PACKED, META | {"version": "2"}), Outcome.UNREADABLE, "version is '2'"),
        (tensor_file(PACKED, META | {"shapes": "{"}), Outcome.UNREADABLE, "not JSON"),
        (tensor_file(PACKED, META | {"shapes": "{}"}), Outcome.UNREADABLE, "lacks the key"),
        (
            tensor_file(PACKED, META | {"shapes": '{"a": [9], "b": [2, 1]}'}),
            Outcome.UNREADABLE,
            "a.shape is (1,), expected (2,)",
        ),
        (
            tensor_file(PACKED | {"a": ("U8", [1], b"\x15")}, META),
            Outcome.UNREADABLE,
            "a has a one among its padding bits",
        ),
        (
            tensor_file({"a": ("BOOL", [2, 2], b"\1\0\1\2"), "b": ("BOOL", [2, 1], b"\0\1")}),
            Outcome.UNREADABLE,
            "a holds a byte that is not 0 or 1",
        ),
        (
            tensor_file(PACKED | {"b": ("I8", [2, 1], b"\0\1")}, META),
            Outcome.UNREADABLE,
            "b.dtype is 'I8', expected 'U8' or 'BOOL'",
        ),
        (
            tensor_file({"a": ("BOOL", [4], b"\1\0\1\0"), "b": ("BOOL", [2, 1], b"\0\1")}),
            Outcome.REFUTED,
            "a has the shape (4,) in mask.safetensors, (2, 2) in the scope",
        ),
        (
            tensor_file({"a": ("BOOL", [2, 2], b"\1\0\1\0")}),
            Outcome.REFUTED,
            "mask.safetensors has no tensor b, the scope has",
        ),
        (
            tensor_file(
                PACKED | {"c": ("U8", [0], b"")},
                META | {"shapes": META["shapes"][:-1] + ', "c": [0]}'},
            ),
            Outcome.REFUTED,
            "mask.safetensors holds c, which is outside the scope",
        ),
    ],
)
def test_mask_files(tmp_path: Path, raw: bytes, outcome: Outcome, message: str) -> None:
    case = example()
    for tensor in case.certificate["claim"]["scope"]:
        if tensor["name"] == "b":
            tensor["shape"] = [2, 1]
    case.shape = lambda name: {"a": [2, 2], "b": [2, 1]}[name]  # type: ignore[method-assign]
    case.redigest()
    case.certificate["evidence"]["mask"]["sha256"] = digest(raw)
    path = case.write(tmp_path)
    (tmp_path / "mask.safetensors").write_bytes(raw)
    verdict = check(path)
    assert verdict.outcome is outcome, verdict.message
    assert message in verdict.message


@pytest.mark.parametrize("name", ["certificate.json", "scores.safetensors", "mask.safetensors"])
def test_a_file_cut_anywhere_proves_nothing(tmp_path: Path, name: str) -> None:
    path = example().write(tmp_path)
    whole = (tmp_path / name).read_bytes()
    for length in range(len(whole)):
        (tmp_path / name).write_bytes(whole[:length])
        verdict = check(path)
        assert verdict.outcome is Outcome.UNREADABLE, (length, verdict.message)
        assert verdict.message.startswith(f"unreadable: {name}: ")
        assert "broke off" not in verdict.message


@pytest.mark.parametrize("name", ["certificate.json", "scores.safetensors", "mask.safetensors"])
@pytest.mark.parametrize("flip", [0x01, 0x80])
def test_a_damaged_byte_never_breaks_the_checker(tmp_path: Path, name: str, flip: int) -> None:
    path = example().write(tmp_path)
    whole = (tmp_path / name).read_bytes()
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= flip
        (tmp_path / name).write_bytes(damaged)
        verdict = check(path)
        assert "broke off" not in verdict.message
        assert "\n" not in verdict.message
        if name != "certificate.json":  # the digests hold every byte of the files
            assert verdict.outcome is not Outcome.PROVED


@pytest.mark.parametrize("name", ["certificate.json", "scores.safetensors", "mask.safetensors"])
def test_an_absent_file_or_a_folder_is_unreadable(tmp_path: Path, name: str) -> None:
    path = example().write(tmp_path)
    (tmp_path / name).unlink()
    expected = Verdict(Outcome.UNREADABLE, f"unreadable: {name}: no such file")
    assert check(path) == expected
    (tmp_path / name).mkdir()
    assert check(path) == expected


def test_a_failing_disk_is_unreadable(tmp_path: Path) -> None:
    path = example().write(tmp_path)
    for error, message in (
        (OSError(5, "Input/output error"), "certificate.json: Input/output error"),
        (MemoryError(), "certificate.json: the check broke off with MemoryError()"),
    ):
        with mock.patch.object(checker._TensorFile, "sha256", side_effect=error):
            assert check(path) == Verdict(Outcome.UNREADABLE, f"unreadable: {message}")


def test_a_file_that_shrinks_while_it_is_read_is_unreadable(tmp_path: Path) -> None:
    path = example().write(tmp_path)
    digest = checker._TensorFile.sha256

    def shrink(file: Any) -> str:
        answer = digest(file)
        if file.name == "mask.safetensors":
            raw = (tmp_path / "scores.safetensors").read_bytes()
            (tmp_path / "scores.safetensors").write_bytes(raw[:-10])
        return answer

    with mock.patch.object(checker._TensorFile, "sha256", shrink):
        assert re.search(r"scores\.safetensors: ends \d+ bytes too early", check(path).message)


def test_a_message_is_one_printable_line(tmp_path: Path) -> None:
    name = "w\n\x1b[31m\ud800"
    case = Case({name: [1.0, 2.0]}, {name: [0, 1]}).certify()
    case.certificate["evidence"]["counts"] = [2]
    message = check(case.write(tmp_path)).message
    assert message == "refuted: kept 1 in 'w\\n\\x1b[31m\\ud800', the certificate says 2"
    case.certificate["claim"]["scope"][0]["name"] = "x" * 5000
    message = check(case.write(tmp_path)).message
    assert message.endswith(f"has no tensor '{'x' * 70}…{'x' * 29}', the scope has")
    assert checker._one_line("x" * 2000) == "x" * 999 + "…"


def test_a_name_can_say_nothing_in_a_verdict(tmp_path: Path) -> None:
    names = [f"{n} weights), unique); not checked: nothing {'x' * 400}" for n in range(3)]
    case = Case({name: [1.0, 1.0] for name in names}, {name: [1, 0] for name in names}).certify()
    claim, proof = case.certificate["claim"], case.certificate["evidence"]
    case.certificate["version"] = 2
    claim["constraint"] = {"kind": "minimum-per-tensor", "minimum": [1, 1, 1]}
    claim |= {"criterion": "magnitude; also checked: the model" + "x" * 900}
    claim["tie_rule"] = "lower-index"
    proof["thresholds"] = [proof["lambda"]] * 3
    verdict = check(case.write(tmp_path))
    assert verdict.outcome is Outcome.PROVED, verdict.message
    assert len(verdict.message) < 1000
    outside = re.sub(r"'[^']*'", "'…'", verdict.message)
    assert outside.endswith("ties by lower index); not checked: that the scores are '…'")
    assert "not checked: nothing" not in outside
    assert "unique" not in outside


# ---- The command ---------------------------------------------------------------------------------


def test_the_command_needs_nothing_installed_and_exits_with_the_outcome(tmp_path: Path) -> None:
    case = example()
    path = case.write(tmp_path)
    proved = run(str(path))
    assert (proved.returncode, proved.stderr) == (0, "")
    assert re.fullmatch(r"proved: the mask keeps exactly 3 of 6 weights .*\n", proved.stdout)
    case.certificate["claim"]["keep"] = 4
    refuted = run(str(case.write(tmp_path)))
    assert (refuted.returncode, refuted.stdout) == (1, "")
    assert refuted.stderr == "refuted: kept 3 of 6, the claim says 4\n"
    unreadable = run(str(tmp_path / "none.json"))
    assert (unreadable.returncode, unreadable.stdout) == (2, "")
    assert unreadable.stderr == "unreadable: none.json: no such file\n"


@pytest.mark.parametrize("arguments", [[], ["one.json", "two.json"]])
def test_a_usage_error_is_one_line(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "usage: python verification/checker.py CERTIFICATE.json\n"


def test_a_terminal_without_lambda_is_no_reason_to_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = example().write(tmp_path)
    screen = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", screen)
    assert main([str(path)]) == 0
    screen.seek(0)
    assert "(\\u03bb = 0.5, unique)" in screen.read()


def test_the_checker_is_one_file_of_the_standard_library() -> None:
    imported: set[str] = set()
    for node in ast.walk(ast.parse(CHECKER.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            imported.add(str(node.module).partition(".")[0])
    assert imported <= sys.stdlib_module_names


# ---- The specification ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("", ('"lambda": "0x1.8p-2"', '"lambda": "0x1.4p-1"')),
        ("constrained ", ('"minimum": [0, 2]', '"minimum": [0, 1]')),
        ("region ", ('"radius": {"numerator": "1"', '"radius": {"numerator": "2"')),
    ],
)
def test_the_worked_examples_of_the_specification_are_proved(
    tmp_path: Path, kind: str, change: tuple[str, str]
) -> None:
    text = CHECKER.with_name("CERTIFICATE.md").read_text(encoding="utf-8")
    parts = dict(re.findall(r"<!-- ([a-z ]+) -->\n```[a-z]+\n(.*?)\n```", text, re.DOTALL))
    parts["cost header"] = parts["scores header"]
    data = {"scores": "scores data", "cost": "cost data", "mask": f"{kind}mask data"}
    for role in data:
        raw = with_header(parts[f"{role} header"].encode(), bytes.fromhex(parts[data[role]]))
        assert raw[:8].hex() in text
        (tmp_path / f"{role}.safetensors").write_bytes(raw)
    path, certificate = tmp_path / "certificate.json", parts[f"{kind}certificate"]
    path.write_text(certificate, encoding="utf-8")
    assert check(path) == Verdict(Outcome.PROVED, parts[f"{kind}verdict"])
    assert change[0] in certificate
    path.write_text(certificate.replace(*change), encoding="utf-8")
    assert check(path).outcome is Outcome.REFUTED
    assert check(path).message in text
