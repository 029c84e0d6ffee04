"""Scores that are claimed as a formula of files: both checkers recompute them bit for bit.

The files are made byte by byte. The right scores are computed in fractions here, and rounded after
each operation, so that neither torch nor the floats of Python or numpy say what is right.
"""

import copy
import itertools
import math
import random
import struct
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.verification.certificate_cases import (
    Case,
    digest,
    encode,
    leaf,
    scratch_folder,
    small_blocks,
    squares,
    tensor_file,
)
from tests.verification.certificate_oracle import numbers
from verification import checker
from verification.certificates.fast_checker import Arrays
from verification.checker import Outcome, Rounded, Verdict

FORMATS = {"F32": (24, -149, 128), "F64": (53, -1074, 1024)}
HUGE = {"F32": (2 - 2.0**-23) * 2.0**127, "F64": 1.7976931348623157e308}


class Number:
    """A float of the format: the exact result of an operation, rounded to even once."""

    def __init__(
        self, value: float | Fraction, dtype: str, *, negative: bool | None = None
    ) -> None:
        digits, least, beyond = FORMATS[dtype]
        size, self.dtype = abs(Fraction(value)), dtype
        self.negative = math.copysign(1.0, value) < 0 if negative is None else negative
        top = size.numerator.bit_length() - size.denominator.bit_length()
        top += size >= Fraction(2) ** top  # 2^(top−1) ≤ size < 2^top
        unit = Fraction(2) ** max(top - digits, least)
        self.size = round(size / unit) * unit  # Fraction rounds halves to even
        self.finite = self.size < Fraction(2) ** beyond

    def __mul__(self, other: "Number") -> "Number":
        return Number(self.size * other.size, self.dtype, negative=self.negative != other.negative)

    def __add__(self, other: "Number") -> "Number":
        exact = sum(-each.size if each.negative else each.size for each in (self, other))
        return Number(exact, self.dtype, negative=exact < 0 or (self.negative and other.negative))

    def __neg__(self) -> "Number":
        return Number(self.size, self.dtype, negative=not self.negative)

    def __abs__(self) -> "Number":
        return Number(self.size, self.dtype, negative=False)

    def __float__(self) -> float:
        assert self.finite
        return math.copysign(float(self.size), -1.0 if self.negative else 1.0)


# CERTIFICATE.md's table
HALF = Fraction(1, 2)
TABLE: dict[str, tuple[tuple[str, ...], Callable[..., Any]]] = {
    "magnitude": (("weights",), lambda w: (abs(w),)),
    "sensitivity": (("gradient", "before"), lambda g, b: (abs(g * b),)),
    "movement": (("gradient", "before"), lambda g, b: ((-g) * b,)),
    "pins": (("gradient", "weights"), lambda g, w: ((-g) * w,)),
    "abs-pins": (("gradient", "weights"), lambda g, w: (abs(g * w),)),
    "obd": (("curvature", "weights"), lambda h, w: ((Number(HALF, h.dtype) * h) * (w * w),)),
    "trust-region": (
        ("momentum", "curvature", "weights"),
        lambda v, h, w, d: ((-v) * w, (((h + d) * Number(HALF, h.dtype)) * w) * w),
    ),
}


def claimed(
    case: Case, name: str, inputs: dict[str, tuple[str, list[float]]], offset: float
) -> Any:
    """The certificate of a case with its inputs, and the files of the inputs."""
    region = name == "trust-region"
    case.certificate["claim"] |= {
        "criterion": None,
        "formula": {"name": name, "numbers": {"offset": offset.hex()} if region else {}},
    }
    files = {
        role: tensor_file({"w": (dtype, case.shape("w"), encode(values, dtype))})
        for role, (dtype, values) in inputs.items()
    }
    case.certificate["evidence"]["inputs"] = {
        role: {"file": f"{role}.safetensors", "sha256": digest(raw)} for role, raw in files.items()
    }
    return files


def formula_case(
    name: str, inputs: dict[str, tuple[str, list[float]]], dtype: str, offset: float = 0.1
) -> tuple[Case, dict[str, bytes]]:
    """A true certificate of half of the weights, and the files of its inputs by role."""
    reads, function = TABLE[name]
    delta = (Number(offset, dtype),) if name == "trust-region" else ()
    columns = zip(*(inputs[role][1] for role in reads), strict=True)
    rows = [function(*(Number(x, dtype) for x in row), *delta) for row in columns]
    scores, *costs = ([float(each) for each in column] for column in zip(*rows, strict=True))
    keep = len(scores) // 2
    ranks: list[Any] = scores
    if costs:
        ranks = [Fraction(c) + Fraction(s) for c, s in zip(costs[0], scores, strict=True)]
    best = sorted(range(len(ranks)), key=lambda i: (-ranks[i], i))[:keep]
    mask = {"w": [int(i in best) for i in range(len(ranks))]}
    cost = {"w": costs[0]} if costs else None
    case = Case({"w": scores}, mask, dtype, costs=cost, shapes={"w": [2, len(scores) // 2]})
    unique = len(ranks) == keep or sorted(ranks)[-keep - 1] < sorted(ranks)[-keep]
    case.certify(Fraction(0), unique=unique)
    return case, claimed(case, name, inputs, offset)


def drawn(draw: random.Random, name: str, dtype: str, size: int = 20) -> dict[str, Any]:
    """Values of each input over many orders of magnitude, with both zeros and subnormals."""
    stored = ["F64"] if dtype == "F64" else ["F16", "BF16", "F32"]
    found = {}
    for role in TABLE[name][0]:
        kind = draw.choice(stored)
        spread = {"F16": 24, "F64": 330}.get(kind, 40)
        values = [draw.gauss(0, 1) * 2.0 ** draw.randint(-spread, 3) for _ in range(size)]
        values[:2] = [0.0, -0.0]
        if role == "curvature":
            values = [abs(value) for value in values]
        found[role] = kind, numbers(encode(values, kind), kind)
    return found


def verdict(case: Case, files: dict[str, bytes]) -> Verdict:
    """On which both checkers agree."""
    folder = scratch_folder()
    path = case.write(folder)
    for role, raw in files.items():
        (folder / f"{role}.safetensors").write_bytes(raw)
    with small_blocks():
        plain, fast = checker.check(path), checker.check(path, Arrays())
    assert plain == fast
    assert "broke off" not in plain.message, plain.message
    return plain


@pytest.mark.parametrize("dtype", ["F32", "F64"])
@pytest.mark.parametrize("name", TABLE)
def test_a_formula_of_files_is_proved(name: str, dtype: str) -> None:
    draw = random.Random(name + dtype)
    for _ in range(5):
        found = verdict(*formula_case(name, drawn(draw, name, dtype), dtype))
        assert found.outcome is Outcome.PROVED, found.message
        assert f" are the formula {name} of " in found.message


@pytest.mark.parametrize("dtype", ["F32", "F64"])
@pytest.mark.parametrize("name", TABLE)
def test_a_bit_of_an_input_a_score_or_a_number_refutes(name: str, dtype: str) -> None:
    """Each a sound file, with its own digest."""
    inputs = {role: (dtype, [1.5, -2.25, 3.0, 0.75]) for role in TABLE[name][0]}
    if "curvature" in inputs:
        inputs["curvature"] = dtype, [0.5, 0.25, 1.0, 2.0]
    case, files = formula_case(name, inputs, dtype)
    assert verdict(case, files).outcome is Outcome.PROVED
    width = 4 if dtype == "F32" else 8
    # of the upper two bytes: lower bits of a factor may be lost in the product
    for role, end in itertools.product(files, (i for i in range(4 * width) if i % width in (1, 2))):
        raw = bytearray(files[role])
        raw[-end] ^= 1 << 6
        other = copy.deepcopy(case)
        other.certificate["evidence"]["inputs"][role]["sha256"] = digest(bytes(raw))
        said = verdict(other, files | {role: bytes(raw)})
        assert said.outcome is Outcome.REFUTED
        assert ", the formula gives " in said.message
        stale = verdict(case, files | {role: bytes(raw)})
        assert stale.message.startswith(f"refuted: {role}.safetensors: sha256 is")
    for index, score in enumerate(case.scores["w"]):
        other = copy.deepcopy(case)
        raw = bytearray(encode([score], dtype))
        raw[0] ^= 1
        other.scores["w"][index] = numbers(bytes(raw), dtype)[0]
        other.redigest()
        assert f"refuted: w[{index}] has the score " in verdict(other, files).message


@pytest.mark.parametrize(
    ("block", "mask", "part"),
    [
        ((2, 2), [1, 1, 1, 1, 0, 0, 0, 0] * 2, leaf("w", transposed=True)),
        ((1, 4), [1, 0] * 4 + [0, 0] * 4, leaf("w", transposed=True)),
        ((1, 1), [1, 0, 0, 1] * 4, squares("w", 2, 1, transposed=True)),
    ],
)
def test_a_formula_is_one_of_weights_whatever_is_decided_over(
    block: tuple[int, int], mask: list[int], part: dict[str, Any]
) -> None:
    inputs = drawn(random.Random(0), "pins", "F32", 16)
    scores = formula_case("pins", inputs, "F32")[0].scores
    case = Case(scores, {"w": mask}, block=block, tree=[part], shapes={"w": [8, 2]}).certify()
    files = claimed(case, "pins", inputs, 0.1)
    found = verdict(case, files)
    assert "; the scores are the formula pins of gradient" in found.message
    case.scores["w"][11] += 1.0
    case.redigest()
    assert verdict(case, files).message.startswith("refuted: w[11] has the score ")


OTHERS = [
    ("pins", "movement"),
    ("pins", "abs-pins"),
    ("sensitivity", "movement"),
    ("obd", "pins"),
    ("magnitude", "pins"),
]


@pytest.mark.parametrize(("name", "other"), OTHERS)
def test_another_formula_is_refuted(name: str, other: str) -> None:
    """With the files that it reads, of the same values where it reads others."""
    inputs = {role: ("F32", [1.5, 2.25, -3.0, 0.75]) for role in ("gradient", "curvature")}
    inputs |= {role: ("F32", [0.5, 1.25, 1.0, 2.0]) for role in ("weights", "before")}
    case, _ = formula_case(name, {r: inputs[r] for r in TABLE[name][0]}, "F32")
    inputs["before"] = "F32", [0.5, 1.25, 1.0, 4.0]
    files = claimed(case, other, {r: inputs[r] for r in TABLE[other][0]}, 0.0)
    said = verdict(case, files)
    assert said.outcome is Outcome.REFUTED
    assert ", the formula gives " in said.message


def test_another_offset_is_refuted() -> None:
    inputs = {r: ("F32", [1.5, 2.25, 3.0, 0.75]) for r in TABLE["trust-region"][0]}
    case, files = formula_case("trust-region", inputs, "F32", 0.25)
    case.certificate["claim"]["formula"]["numbers"]["offset"] = (0.5).hex()
    assert verdict(case, files).message == (
        "refuted: w[0] has the cost 1.96875, the formula gives 2.25"
    )


def test_the_sign_of_zero_counts() -> None:
    inputs = {"gradient": ("F32", [0.0, 1.0]), "weights": ("F32", [1.0, 1.0])}
    case, files = formula_case("pins", inputs, "F32")
    case.scores["w"][0] = 0.0
    case.redigest()
    assert verdict(case, files).message == (
        "refuted: w[0] has the score 0.0, the formula gives -0.0"
    )


@pytest.mark.parametrize("dtype", ["F32", "F64"])
def test_a_score_that_overflows_is_no_score(dtype: str) -> None:
    inputs = {"gradient": (dtype, [1.0, 1.0]), "weights": (dtype, [HUGE[dtype], 1.0])}
    case, files = formula_case("pins", inputs, dtype)
    inputs["gradient"] = dtype, [2.0, 1.0]
    files = claimed(case, "pins", inputs, 0.0)
    score = -HUGE[dtype]
    assert verdict(case, files).message == (
        f"refuted: w[0] has the score {score}, the formula gives -inf"
    )


def test_the_verdict_says_where_the_claim_begins() -> None:
    inputs = {r: ("BF16", [1.0, 2.0]) for r in TABLE["trust-region"][0]}
    case, files = formula_case("trust-region", inputs, "F32", 0.5)
    assert verdict(case, files).message.endswith(
        "; the scores and costs are the formula trust-region of momentum = momentum.safetensors, "
        "curvature = curvature.safetensors, weights = weights.safetensors and offset = 0.5; not "
        "checked: how momentum, curvature and weights were made"
    )


def test_a_file_of_inputs_may_hold_other_tensors() -> None:
    inputs = {"weights": ("F32", [1.0, 2.0])}
    case, _ = formula_case("magnitude", inputs, "F32")
    raw = tensor_file(
        {"v": ("I64", [1], bytes(8)), "w": ("F32", [2, 1], encode([1.0, 2.0], "F32"))}
    )
    case.certificate["evidence"]["inputs"]["weights"]["sha256"] = digest(raw)
    assert verdict(case, {"weights": raw}).outcome is Outcome.PROVED


def test_transposed_tensors_are_read_in_the_order_of_their_view() -> None:
    inputs = drawn(random.Random(0), "pins", "F32")
    case, files = formula_case("pins", inputs, "F32")
    case.certificate["claim"]["tree"][0]["transposed"] = True
    case.certificate["claim"] |= {"tie_rule": "none", "unique": None}
    assert verdict(case, files).outcome is Outcome.PROVED


REFUSED: list[tuple[Callable[[Any, Any], Any], str]] = [
    (lambda c, _: c.update(criterion="pins"), "criterion is 'pins', expected null where a formula"),
    (lambda c, _: c["formula"].update(name="fisher"), "formula.name is 'fisher', expected 'magn"),
    (lambda c, _: c["formula"].update(name="trust-region"), "numbers lacks the key 'offset'"),
    (lambda c, _: c["formula"].update(numbers={"offset": "0x1.0p+0"}), "unknown key 'offset'"),
    (lambda c, _: c["formula"].update(name="obd"), "expected files of curvature and weights"),
    (lambda c, _: c.update(formula=None), "['gradient', 'weights'], expected null without a"),
    (lambda _, e: e.update(inputs=None), "inputs is None, expected files of gradient and weights"),
    (lambda _, e: e["inputs"].pop("weights"), "['gradient'], expected files of gradient and"),
    (lambda _, e: e["inputs"].update(fisher={}), "inputs has the unknown key 'fisher'"),
    (lambda _, e: e.update(inputs=[]), "inputs is [], expected an object"),
]


@pytest.mark.parametrize(("change", "message"), REFUSED)
def test_parts_that_do_not_fit_together_are_unreadable(
    change: Callable[[Any, Any], Any], message: str
) -> None:
    inputs = {r: ("F32", [1.0, 2.0]) for r in ("gradient", "weights")}
    case, files = formula_case("pins", inputs, "F32")
    change(case.certificate["claim"], case.certificate["evidence"])
    said = verdict(case, files)
    assert said.outcome is Outcome.UNREADABLE
    assert message in said.message


def test_a_trust_region_has_its_own_formula_and_no_other() -> None:
    inputs = {r: ("F32", [1.0, 2.0]) for r in TABLE["trust-region"][0]}
    case, _ = formula_case("trust-region", inputs, "F32")
    files = claimed(case, "obd", {r: inputs[r] for r in TABLE["obd"][0]}, 0.0)
    expected = "formula.name is 'obd', expected 'trust-region' where a radius is claimed"
    assert expected in verdict(case, files).message


@pytest.mark.parametrize(
    ("dtype", "stored"), [("F32", "F64"), ("F64", "F32"), ("F16", "F16"), ("BF16", "BF16")]
)
def test_other_dtypes_give_no_scores(dtype: str, stored: str) -> None:
    """16-bit scores would have been rounded once more than the formula says."""
    case = Case({"w": [1.0, 2.0]}, {"w": [0, 1]}, dtype).certify()
    files = claimed(case, "magnitude", {"weights": (stored, [1.0, 2.0])}, 0.0)
    assert verdict(case, files).message == (
        f"refuted: w has the dtype {stored} in weights.safetensors, from which no score of dtype "
        f"{dtype} is computed"
    )


FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(FLOATS, FLOATS)
def test_float32_arithmetic_of_the_standard_library_is_rounded_once(x: float, y: float) -> None:
    a, b = (Rounded([each], "f") for each in (x, y))
    exact = [Number(each, "F32") for each in (x, y)]
    for found, right in ((a * b, exact[0] * exact[1]), (a + b, exact[0] + exact[1])):
        if right.finite:
            assert struct.pack("<d", found.values[0]) == struct.pack("<d", float(right))
        else:
            assert math.isinf(found.values[0])


def fused(v: Any, h: Any, w: Any, delta: Any) -> Any:
    """½h·w² + ½δ·w², the last product and the sum rounded once together, as torch's add(alpha=)."""
    size = Fraction(float(w)) ** 2
    rest = Number(HALF, h.dtype) * h * (w * w)
    return (-v) * w, Number(Fraction(float(rest)) + HALF * Fraction(float(delta)) * size, h.dtype)


def test_a_fused_operation_is_refuted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bits of the order and of every rounding are the claim."""
    monkeypatch.setitem(TABLE, "trust-region", (TABLE["trust-region"][0], fused))
    inputs = drawn(random.Random(1), "trust-region", "F32")
    said = verdict(*formula_case("trust-region", inputs, "F32"))
    assert said.outcome is Outcome.REFUTED
    assert ", the formula gives " in said.message


def test_the_checker_of_a_wrong_formula_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """With (h·½)·w·w in place of (h·½)·(w·w) the true certificates of `obd` are refuted."""
    right = checker._FORMULAS["obd"]
    wrong = right._replace(function=lambda h, w: (h * 0.5 * w * w,))
    monkeypatch.setitem(checker._FORMULAS, "obd", wrong)
    inputs = drawn(random.Random(2), "obd", "F32")
    assert verdict(*formula_case("obd", inputs, "F32")).outcome is Outcome.REFUTED
