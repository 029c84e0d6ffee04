"""What the checker reads, and what it says of a certificate of a plain tree; the command.

The files are made here, byte by byte. Truth is the matter of `test_checker_campaign`.
"""

import ast
import io
import json
import math
import re
import sys
from fractions import Fraction
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
    Edit,
    claims,
    digest,
    drops,
    evidence,
    leaf,
    member,
    node,
    redigested,
    run,
    scratch_folder,
    small_blocks,
    tensor_file,
    with_header,
)
from verification import checker
from verification.checker import Outcome, Verdict, check, main


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
        "a larger score sum (unique); not checked: that the scores are 'made up'",
    )
    regret = lossy(dtype).verdict()
    assert regret.message == (
        "proved: the mask keeps exactly 2 of 5 weights in 2 tensors and falls short of the optimum "
        "by exactly 7/2 (≈ 3.500e+0), among masks with as many; not checked: that the scores are "
        "'made up'"
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_files_of_the_safetensors_package_are_read(tmp_path: Path, dtype: torch.dtype) -> None:
    values = torch.randn(3, 7, generator=torch.Generator().manual_seed(0)).to(dtype)
    keep = values > 0.3
    dtype_name = {"float16": "F16", "bfloat16": "BF16", "float32": "F32", "float64": "F64"}
    case = Case({"w": values.double().flatten().tolist()}, {"w": keep.int().flatten().tolist()})
    case.dtype = dtype_name[str(dtype).removeprefix("torch.")]
    path = case.certify(Fraction(0)).write(tmp_path)
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
    best = [int(value >= 500) for value in values]
    none = Fraction(0)
    assert Case({"w": values}, {"w": best}).certify(none).verdict().outcome is Outcome.PROVED
    bits = list(best)
    low = values.index(499.0, checker._BLOCK)  # in the second block
    bits[low], bits[values.index(500.0)] = 1, 0
    case = Case({"w": values}, {"w": bits}, best={"w": best}).certify(Fraction(1))
    assert "by exactly 1 (≈ 1.000e+0)" in case.verdict().message
    case.best = None
    said = f"w[500] is pruned and w[{low}] kept, with 500.0 and 499.0: exchanged, they gain"
    assert said in case.certify(none).verdict().message


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


def _score(name: str, index: int, value: float) -> Edit:
    return redigested(lambda case: case.scores[name].__setitem__(index, value))


def _scope(index: int, **changes: Any) -> Edit:
    return lambda case: case.certificate["claim"]["scope"][index].update(changes)


def _renamed(name: str, other: str) -> Edit:
    """In the scope and in the tree."""

    def edit(case: Case) -> None:
        claim = case.certificate["claim"]
        for part, key in ((claim["scope"], "name"), (claim["tree"], "tensor")):
            next(each for each in part if each[key] == name)[key] = other

    return edit


def _outside(case: Case) -> None:
    for key in ("scope", "tree"):
        case.certificate["claim"][key].pop()
    case.certificate["claim"]["total"] = 4
    case.certificate["evidence"]["counts"].pop()


@pytest.mark.parametrize(
    ("case", "edit", "message"),
    [
        (example(), _score("a", 2, math.nan), "a[2] has the score nan"),
        (example(), _score("b", 1, math.inf), "b[1] has the score inf"),
        (example(), _score("b", 0, -math.inf), "b[0] has the score -inf"),
        (example(), _flip(("a", 1)), "kept 4 of 6, the claim says 3"),
        (example(), claims(keep=2), "kept 3 of 6, the claim says 2"),
        (example(), claims(keep=99), "kept 3 of 6, the claim says 99"),
        (example(), claims(total=7), "the scope holds 6 weights, the claim says 7"),
        (example(), evidence(counts=[1, 2]), "kept 2 in a, the certificate says 1"),
        (
            example(),
            _flip(("a", 1), ("a", 2)),
            "a[2] is pruned and a[1] kept, with 2.0 and -1.0: exchanged, they gain within a",
        ),
        (
            example(),
            lambda case: (_flip(("a", 0), ("b", 0))(case), evidence(counts=[1, 2])(case)),
            "a[0] is pruned and b[0] kept, with 0.5 and 0.0: exchanged, they gain within the root",
        ),
        (
            example(),
            claims(unique=False),
            "the optimum is unique; the claim says unique = False",
        ),
        (
            tied(),
            claims(unique=True),
            "the optimum is not unique, b[1] and a[0] have equal scores, 0.0; the claim says "
            "unique = True",
        ),
        (
            tied(),
            _flip(("a", 0), ("b", 2)),
            "kept 0 in a, the certificate says 1",
        ),
        (example(), _scope(0, shape=[4]), "a has the shape (2, 2) in scores.safetensors, (4,) in"),
        (example(), _scope(1, dtype="F64"), "b has the dtype F32 in scores.safetensors, F64 in"),
        (example(), _renamed("b", "c"), "scores.safetensors has no tensor c, the scope has"),
        (example(), _outside, "scores.safetensors holds b, which is outside the scope"),
        (
            lossy(),
            claims(gap={"numerator": "10", "denominator": "3"}),
            "the gap is 7/2 (≈ 3.500e+0), the claim says 10/3 (≈ 3.333e+0): "
            "they differ by 1/6 (≈ 1.667e-1)",
        ),
    ],
)
def test_a_false_certificate_is_refuted_with_its_reason(
    case: Case, edit: Edit, message: str
) -> None:
    verdict = case.after(edit).verdict()
    assert verdict.outcome is Outcome.REFUTED, verdict.message
    assert verdict.message.startswith(f"refuted: {message}")


def test_the_tie_rule_names_both_weights() -> None:
    case = tied()
    case.mask = {"a": [0, 0], "b": [1, 0, 1, 0]}
    case.certify()
    assert "larger score sum (not unique)" in case.verdict().message
    case.certificate["claim"]["tie_rule"] = "lower-index"
    assert case.verdict() == Verdict(
        Outcome.REFUTED,
        "refuted: b[1] is pruned and b[2] kept, both with score 0.0, "
        "against the tie rule lower-index",
    )


def test_of_equal_scores_the_first_pruned_and_the_last_kept_are_named_across_blocks() -> None:
    case = Case({"w": [0.0] * 20}, {"w": [1] * 9 + [0] + [1] * 9 + [0]})
    case.certify(Fraction(0), unique=False)
    with small_blocks():
        assert "w[9] is pruned and w[18] kept" in case.verdict().message


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
    (member("version")(5), "certificate.version is 5, expected 4, the one known here"),
    (member("version")(0), "certificate.version is 0, expected 4"),
    (member("kind")("x"), "certificate.kind is 'x', expected 'selection' or 'budget'"),
    (member("kind")("budget"), "certificate.claim lacks the key 'layers'"),
    (member("kind")(["selection"]), "certificate.kind is ['selection'], expected 'selection'"),
    (member("version")(True), "certificate.version is True, expected an integer"),
    (member("format")("x"), "certificate.format is 'x', expected 'pins-certificate'"),
    (member("extra")(0), "certificate has the unknown key 'extra'"),
    (lambda case: case.certificate.pop("provenance"), "certificate lacks the key 'provenance'"),
    (member("provenance")(None), "certificate.provenance is None, expected an object"),
    (member("claim")([]), "certificate.claim is [], expected an object"),
    (member("claim", "total")(True), "claim.total is True, expected an integer"),
    (member("claim", "total")(6.0), "claim.total is 6.0, expected an integer"),
    (member("claim", "keep")(-1), "claim.keep is -1, expected an integer"),
    (member("claim", "keep")(2**63), "claim.keep is 9223372036854775808, expected an integer"),
    (member("claim", "unique")(1), "claim.unique is 1, expected true, false or null"),
    (member("claim", "tie_rule")("higher"), "claim.tie_rule is 'higher', expected 'lower-index'"),
    (member("claim", "criterion")(3), "claim.criterion is 3, expected a string"),
    (member("claim", "scope")({}), "claim.scope is {}, expected a list"),
    (member("claim", "scope", 1, "name")("a"), "claim.scope names a tensor twice"),
    (member("claim", "scope", 1, "dtype")("I64"), "claim.scope[1].dtype is 'I64', expected 'F16'"),
    (member("claim", "scope", 1, "shape")([True]), "claim.scope[1].shape[0] is True, expected"),
    (member("claim", "scope", 1, "shape")([1] * 65), "shape is [1, 1, 1, 1, 1, 1, ...], expected"),
    (member("evidence", "counts")([3]), "evidence.counts is (3,), expected one for each tensor"),
    (drops("evidence", "best"), "evidence lacks the key 'best'"),
    (member("claim", "statement")("optimal"), "claim has the unknown key 'statement'"),
    (member("claim", "radius")(0), "claim.radius is 0, expected an object"),
    (member("claim", "frozen")(None), "claim.frozen is None, expected an object"),
    (member("claim", "tree")({}), "claim.tree is {}, expected a list"),
    (member("evidence", "scores", "sha256")("AB" * 32), "sha256 is 'ABAB"),
    (member("evidence", "mask")("m"), "evidence.mask is 'm', expected an object"),
]


@pytest.mark.parametrize(("edit", "message"), UNREADABLE_CERTIFICATES)
def test_a_malformed_certificate_is_unreadable(edit: Edit, message: str) -> None:
    verdict = example().after(edit).verdict()
    assert verdict.outcome is Outcome.UNREADABLE, verdict.message
    assert verdict.message.startswith("unreadable: certificate.json: ")
    assert message in verdict.message


@pytest.mark.parametrize(
    ("value", "accepted"),
    [
        ("0x1p-1", False),
        ("0x1.0p-1", True),
        ("0x1.0000000000000p-1", True),
        ("-0x1.0p-1", False),
        ("0x0.0p+0", False),
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
def test_a_multiplier_is_a_float64_written_exactly(value: object, accepted: bool) -> None:
    case = Case({"w": [1.0]}, {"w": [0]}, costs={"w": [0.0]}, mu=0.5).certify()
    case.certificate["evidence"]["multiplier"] = value
    verdict = case.verdict()
    assert (verdict.outcome is Outcome.PROVED) == accepted
    assert accepted or "evidence.multiplier is" in verdict.message


@pytest.mark.parametrize(
    ("gap", "message"),
    [
        ({"numerator": "0", "denominator": "2"}, "gap is not in lowest terms"),
        ({"numerator": "00", "denominator": "1"}, "numerator is '00', expected"),
        ({"numerator": "1", "denominator": "0"}, "denominator is '0', expected"),
        ("7/2", "claim.gap is '7/2', expected an object"),
        ({"numerator": "-7", "denominator": "2"}, "numerator is '-7', expected"),
        ({"numerator": "07", "denominator": "2"}, "numerator is '07', expected"),
        ({"numerator": "٧", "denominator": "2"}, "numerator is '٧', expected"),
        ({"numerator": 7, "denominator": 2}, "numerator is 7, expected"),
        ({"numerator": "7" * 3001, "denominator": "2"}, "numerator is '7777"),
        ({"numerator": "14", "denominator": "4"}, "gap is not in lowest terms"),
        ({"numerator": "7"}, "gap lacks the key 'denominator'"),
    ],
)
def test_a_gap_is_a_fraction_in_lowest_terms(gap: object, message: str) -> None:
    case = lossy()
    case.certificate["claim"]["gap"] = gap
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
    (tmp_path / "scores.safetensors").write_bytes(case.files()["scores"])
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
    case.shapes["b"] = [2, 1]
    case.redigest()
    case.certificate["evidence"]["mask"]["sha256"] = digest(raw)
    path = case.write(tmp_path)
    (tmp_path / "mask.safetensors").write_bytes(raw)
    verdict = check(path)
    assert verdict.outcome is outcome, verdict.message
    assert message in verdict.message


@pytest.mark.parametrize("name", ["certificate.json", "scores.safetensors", "mask.safetensors"])
def test_a_file_cut_anywhere_proves_nothing(name: str) -> None:
    folder = scratch_folder()
    path = example().write(folder)
    whole = (folder / name).read_bytes()
    for length in range(len(whole)):
        (folder / name).write_bytes(whole[:length])
        verdict = check(path)
        assert verdict.outcome is Outcome.UNREADABLE, (length, verdict.message)
        assert verdict.message.startswith(f"unreadable: {name}: ")
        assert "broke off" not in verdict.message


@pytest.mark.parametrize("name", ["certificate.json", "scores.safetensors", "mask.safetensors"])
@pytest.mark.parametrize("flip", [0x01, 0x80])
def test_a_damaged_byte_never_breaks_the_checker(name: str, flip: int) -> None:
    folder = scratch_folder()
    path = example().write(folder)
    whole = (folder / name).read_bytes()
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= flip
        (folder / name).write_bytes(damaged)
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
    _renamed(name, "x" * 5000)(case)
    message = check(case.write(tmp_path)).message
    assert message.endswith(f"has no tensor '{'x' * 70}…{'x' * 29}', the scope has")
    assert checker._one_line("x" * 2000) == "x" * 999 + "…"


def test_a_name_can_say_nothing_in_a_verdict(tmp_path: Path) -> None:
    names = [f"{n} weights), unique); not checked: nothing {'x' * 400}" for n in range(3)]
    case = Case({name: [1.0, 1.0] for name in names}, {name: [1, 0] for name in names}).certify()
    case.certificate["claim"]["criterion"] = "magnitude; also checked: the model" + "x" * 900
    verdict = check(case.write(tmp_path))
    assert verdict.outcome is Outcome.PROVED, verdict.message
    assert len(verdict.message) < 1000
    case.tree = [node(name, 2, 2, leaf(name)) for name in names]
    case.certificate["claim"]["tree"] = case.tree
    said = [verdict.message, check(case.write(tmp_path)).message]
    outside = [re.sub(r"'[^']*'", "'…'", each) for each in said]
    assert outside[0].endswith(
        "larger score sum (not unique); not checked: that the scores are '…'"
    )
    assert outside[1] == "refuted: node '…' keeps 1, the tree allows at least 2"


@pytest.mark.parametrize("version", [1, 2, 3])
def test_an_earlier_version_is_told_its_checker(version: int) -> None:
    case = example()
    case.certificate = {"format": "pins-certificate", "version": version, "claim": 1}
    assert case.verdict_of_files() == Verdict(
        Outcome.UNREADABLE,
        f"unreadable: certificate.json: version {version} is read by the checker of PINS 0.1.0; "
        "this one reads version 4",
    )


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


def test_a_terminal_without_mu_is_no_reason_to_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = Case({"w": [1.0]}, {"w": [0]}, costs={"w": [0.0]}, mu=0.5).certify()
    path = case.write(tmp_path)
    screen = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", screen)
    assert main([str(path)]) == 0
    screen.seek(0)
    assert "(\\u03bc = 0.5)" in screen.read()


def test_the_checker_is_one_file_of_the_standard_library() -> None:
    imported: set[str] = set()
    for found in ast.walk(ast.parse(CHECKER.read_text(encoding="utf-8"))):
        if isinstance(found, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in found.names}
        elif isinstance(found, ast.ImportFrom):
            assert found.level == 0
            imported.add(str(found.module).partition(".")[0])
    assert imported <= sys.stdlib_module_names


# ---- The specification ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("", ('"minimum": 0, "maximum": 1', '"minimum": 0, "maximum": 2')),
        ("regret ", ('"numerator": "3"', '"numerator": "5"')),
        ("region ", ('"radius": {"numerator": "1"', '"radius": {"numerator": "2"')),
    ],
)
def test_the_worked_examples_of_the_specification_are_proved(
    tmp_path: Path, kind: str, change: tuple[str, str]
) -> None:
    text = CHECKER.with_name("CERTIFICATE.md").read_text(encoding="utf-8")
    parts = dict(re.findall(r"<!-- ([a-z ]+) -->\n```[a-z]+\n(.*?)\n```", text, re.DOTALL))
    parts["cost header"] = parts["scores header"]
    parts |= {"best header": parts["mask header"], "best data": parts["mask data"]}
    own = f"{kind}mask data"
    for role in ("scores", "cost", "mask", "best"):
        data = parts[own if role == "mask" else f"{role} data"]
        raw = with_header(parts[f"{role} header"].encode(), bytes.fromhex(data))
        assert raw[:8].hex() in text
        (tmp_path / f"{role}.safetensors").write_bytes(raw)
    path, certificate = tmp_path / "certificate.json", parts[f"{kind}certificate"]
    path.write_text(certificate, encoding="utf-8")
    assert check(path) == Verdict(Outcome.PROVED, parts[f"{kind}verdict"])
    assert change[0] in certificate
    path.write_text(certificate.replace(*change), encoding="utf-8")
    assert check(path).outcome is Outcome.REFUTED
    assert check(path).message in text
