"""The checker on certificates of version 3: proved is what enumeration of the masks allowed proves.

As in `test_checker`, files and certificates are made without the code that makes them in earnest,
and V is computed in another way: as the difference of the dual value and r·m.
"""

import copy
import json
import math
import sys
from fractions import Fraction
from itertools import combinations
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.verification.certificate_cases import (
    DTYPES,
    FINITE,
    KEYS,
    RegionCase,
    digest,
    exact,
    facts_hold,
    fraction,
    names_of,
    numbers_of_constraint,
    ones,
    owners,
    rational,
    run,
    small_blocks,
)
from tests.verification.certificate_forgeries import (
    Edit,
    claims,
    costs,
    drops,
    evidence,
    forge,
    masks,
)
from verification import checker
from verification.checker import Outcome, Verdict

LEAST = "minimum-per-tensor"
HUGE = sys.float_info.max
TINY = 5e-324
EXTREMES = st.sampled_from([HUGE, -HUGE, TINY, -TINY, 1e-308, 1e-162, 1.0, -1.0, 0.0, -0.0])


def gap(case: RegionCase) -> Fraction:
    """(V + ρ − c·(1−m)) / μ at the multipliers of the certificate."""
    claim, evidence = case.certificate["claim"], case.certificate["evidence"]
    names = names_of(case)
    mu = Fraction(float.fromhex(evidence["multiplier"]))
    lam = Fraction(float.fromhex(evidence["lambda"]))
    thresholds = [Fraction(float.fromhex(each)) for each in evidence["thresholds"]]
    numbers = numbers_of_constraint(case)
    costs = [Fraction(cost) for name in names for cost in case.costs[name]]
    values = [c + mu * s for c, s in zip(costs, exact(case, names), strict=True)]
    dual = claim["keep"] * lam
    dual -= sum((lam - each) * n for each, n in zip(thresholds, numbers, strict=True))
    dual += sum(
        max(Fraction(0), value - thresholds[t])
        for value, t in zip(values, owners(case, names), strict=True)
    )
    violation: Fraction = dual - sum(values[i] for i in ones(case, names))
    return (violation + rational(claim["radius"]) - case.removed()) / mu


def certify(
    case: RegionCase,
    mu: float,
    thresholds: list[float],
    *,
    kind: str = LEAST,
    numbers: list[int] | None = None,
    radius: Fraction | None = None,
) -> RegionCase:
    """The certificate of version 3 that is true of the mask, at these multipliers."""
    case.certificate = {}
    case.certify()
    claim, evidence = case.certificate["claim"], case.certificate["evidence"]
    for key in ("tie_rule", "unique", "regret"):
        claim.pop(key, None)
    for key in ("kept_min", "pruned_max", "violation"):
        evidence.pop(key, None)
    case.certificate["version"] = 3
    claim |= {
        "statement": "region",
        "constraint": {"kind": kind, KEYS[kind]: numbers or [0] * len(thresholds)},
        "radius": fraction(case.removed() if radius is None else radius),
    }
    evidence |= {
        "lambda": max(thresholds, default=0.0).hex(),
        "thresholds": [each.hex() for each in thresholds],
        "multiplier": mu.hex(),
        "cost": {"file": "cost.safetensors", "sha256": ""},
    }
    case.redigest()
    claim["gap"] = fraction(gap(case))
    return case


def best(case: RegionCase) -> Fraction:
    """The largest s·m′ of the masks allowed, by trying all."""
    claim = case.certificate["claim"]
    names = names_of(case)
    values, owner = exact(case, names), owners(case, names)
    costs = [Fraction(cost) for name in names for cost in case.costs[name]]
    kind = claim["constraint"]["kind"]
    numbers = claim["constraint"][KEYS[kind]]
    spend = sum(costs) - rational(claim["radius"])
    sums = []
    for mask in combinations(range(len(values)), claim["keep"]):
        counts = [sum(owner[i] == t for i in mask) for t in range(len(names))]
        enough = all(count >= number for count, number in zip(counts, numbers, strict=True))
        allowed = counts == numbers or (enough and kind == LEAST)
        if allowed and sum(costs[i] for i in mask) >= spend:
            sums.append(sum((values[i] for i in mask), Fraction(0)))
    return max(sums)


def is_true(case: RegionCase) -> bool:
    """Whether claim and evidence hold; that the claim follows from the evidence is a test."""
    claim, evidence = case.certificate["claim"], case.certificate["evidence"]
    names = names_of(case)
    if any(not 0 <= cost < math.inf for costs in case.costs.values() for cost in costs):
        return False
    counts = [sum(case.mask[name]) for name in names]
    if not facts_hold(case):
        return False
    kind, numbers = claim["constraint"]["kind"], numbers_of_constraint(case)
    enough = all(count >= number for count, number in zip(counts, numbers, strict=True))
    lam = float.fromhex(evidence["lambda"])
    return (
        (counts == numbers or (enough and kind == LEAST))
        and all(float.fromhex(each) <= lam for each in evidence["thresholds"])
        and case.removed() <= rational(claim["radius"])
        and gap(case) == rational(claim["gap"])
    )


def follows(case: RegionCase) -> bool:
    """s·m′ ≤ s·m + gap for every mask allowed."""
    names = list(case.scores)
    values = exact(case, names)
    own = sum((values[i] for i in ones(case, names)), Fraction(0))
    return best(case) <= own + rational(case.certificate["claim"]["gap"])


def numbers_of(dtype: str) -> st.SearchStrategy[float]:
    """Eighths, so that ties are common, and numbers of any size; shrinks to 0."""
    eighths = st.integers(-4, 4).map(lambda i: i / 8) | st.just(-0.0)
    if dtype == "BF16":
        any_size = st.builds(math.ldexp, st.integers(-255, 255).map(float), st.integers(-133, 119))
    else:
        width = {"F16": 16, "F32": 32, "F64": 64}[dtype]
        any_size = st.floats(allow_nan=False, allow_infinity=False, width=width)  # type: ignore[arg-type]
    return st.one_of(eighths, any_size)


@st.composite
def regions(draw: st.DrawFn) -> RegionCase:
    """Up to three tensors and nine weights, any mask, any μ > 0 and λ_t, any radius it fits in."""
    sizes = draw(st.lists(st.integers(0, 4), min_size=1, max_size=3).filter(lambda z: sum(z) <= 9))
    dtype = draw(st.sampled_from(DTYPES))
    values = st.sampled_from(draw(st.lists(numbers_of(dtype), min_size=1, max_size=6)))
    names = [f"layer.{i}" for i in range(len(sizes))]

    def drawn() -> dict[str, list[float]]:
        return {
            name: draw(st.lists(values, min_size=size, max_size=size))
            for name, size in zip(names, sizes, strict=True)
        }

    scores, costs = drawn(), {name: [abs(v) for v in c] for name, c in drawn().items()}
    mask = {
        name: draw(st.lists(st.integers(0, 1), min_size=size, max_size=size))
        for name, size in zip(names, sizes, strict=True)
    }
    mu = draw(st.sampled_from([1.0, 0.5, 3.0]) | FINITE.map(abs).filter(bool))
    near = [0.0, *(c + mu * s for n in names for c, s in zip(costs[n], scores[n], strict=True))]
    level = st.sampled_from([value for value in near if math.isfinite(value)]) | FINITE
    one = draw(level)
    thresholds = [draw(level) for _ in names] if draw(st.booleans()) else [one] * len(names)
    case = RegionCase(scores, mask, dtype, draw(st.booleans()), costs=costs)
    counts = [sum(bits) for bits in mask.values()]
    kind = draw(st.sampled_from(list(KEYS)))
    least = [draw(st.integers(0, count)) for count in counts]
    more = Fraction(draw(st.integers(0, 9)), draw(st.integers(1, 9)))
    return certify(
        case,
        mu,
        thresholds,
        kind=kind,
        numbers=counts if kind == "per-tensor" else least,
        radius=case.removed() + more,
    )


# ---- Truth is proved, falsehood is not -----------------------------------------------------------


@given(regions())
@settings(max_examples=150)
def test_a_true_certificate_is_proved_and_no_mask_within_the_radius_is_better(
    case: RegionCase,
) -> None:
    assert is_true(case)
    with small_blocks():
        verdict = case.verdict()
    assert verdict.outcome is Outcome.PROVED, verdict.message
    assert follows(case)


@given(st.data(), regions().filter(lambda case: case.certificate["claim"]["total"]))
def test_after_one_change_the_verdict_is_the_truth(data: st.DataObject, case: RegionCase) -> None:
    for _ in range(8):
        changed = copy.deepcopy(case)
        forge(data.draw, changed)
        with small_blocks():
            verdict = changed.verdict()
        expected = Outcome.PROVED if is_true(changed) else Outcome.REFUTED
        assert verdict.outcome is expected, verdict.message
        assert expected is Outcome.REFUTED or follows(changed)


# ---- Rounding ------------------------------------------------------------------------------------


def block(costs: list[float], scores: list[float], kept: list[int]) -> checker._Block:
    flags = bytes(kept)
    pruned = flags.translate(checker._NEGATE)
    return checker._Block(0, "w", 0, tuple(scores), tuple(costs), flags, pruned)


def misplaced(
    costs: list[float], scores: list[float], kept: list[int], mu: float, lam: float
) -> Fraction:
    """V of these weights, term by term."""
    total = Fraction(0)
    for cost, score, bit in zip(costs, scores, kept, strict=True):
        over = Fraction(cost) + Fraction(mu) * Fraction(score) - Fraction(lam)
        total += max(Fraction(0), -over if bit else over)
    return total


@given(st.data())
@settings(max_examples=300)
def test_what_is_misplaced_is_summed_exactly(data: st.DataObject) -> None:
    """Of any float64: overflow, subnormal products, cancellation, λ beside a rounded r."""
    some = st.sampled_from(data.draw(st.lists(FINITE | EXTREMES, min_size=1, max_size=4)))
    size = data.draw(st.integers(1, 6))
    scores, costs = (data.draw(st.lists(some, min_size=size, max_size=size)) for _ in range(2))
    costs = [abs(cost) for cost in costs]
    mu = data.draw(st.sampled_from([1.0, TINY, HUGE]) | FINITE.map(abs).filter(bool))
    if data.draw(st.booleans()):  # c ≈ −μs
        products = [abs(mu * score) for score in scores]
        costs = [p if math.isfinite(p) else c for p, c in zip(products, costs, strict=True)]
    near = data.draw(st.sampled_from([c + mu * s for c, s in zip(costs, scores, strict=True)]))
    lam = near if math.isfinite(near) else data.draw(some)
    for _ in range(data.draw(st.integers(0, 2))):
        beside = math.nextafter(lam, data.draw(st.sampled_from([math.inf, -math.inf])))
        lam = beside if math.isfinite(beside) else lam
    kept = data.draw(st.lists(st.integers(0, 1), min_size=size, max_size=size))
    found = checker._misplaced(block(costs, scores, kept), mu, lam)
    assert found == misplaced(costs, scores, kept, mu, lam)


def rounded_up() -> RegionCase:
    """r = 1 − x² = 2⁻²⁶ − 2⁻⁵⁴ is kept, below the next float λ; float64 says 2⁻²⁶."""
    x = 1 - 2.0**-27
    case = RegionCase({"w": [-x, 0.0]}, {"w": [1, 0]}, "F64", costs={"w": [1.0, 0.0]})
    return certify(case, x, [math.nextafter(2.0**-26 - 2.0**-54, 1)])


def test_rounding_to_the_wrong_side_is_seen_through() -> None:
    case = rounded_up()
    assert float.fromhex(case.certificate["evidence"]["lambda"]) < 1 - (1 - 2.0**-27) ** 2
    assert rational(case.certificate["claim"]["gap"]) > 0
    assert case.verdict().outcome is Outcome.PROVED
    for bound in (0.0, 2.0**-55):  # checkers that trust float64 too much
        with mock.patch.object(checker, "_rounding", return_value=bound):
            assert case.verdict().outcome is Outcome.REFUTED


def test_zeros_tied_at_the_threshold_are_compared_once() -> None:
    """A model that is pruned already: looked at one by one, they would take minutes."""
    block_of_zeros = block([0.0] * 1000, [-0.0, 0.0] * 500, [1, 0] * 500)
    with mock.patch.object(checker, "_side", side_effect=checker._side) as side:
        assert checker._misplaced(block_of_zeros, 1.0, 0.0) == 0
    assert side.call_count == 1


def test_the_longest_gaps_can_be_stated_and_shown() -> None:
    """At the extremes of μ, with a radius as long as may be.

    Python refuses to write integers of more than 4300 digits, which the difference of two has.
    """
    for mu, mask, radius in (
        (TINY, [0, 1], Fraction(10**1000 - 1, 10**691 + 1)),
        (HUGE, [1, 0], Fraction(10**690 + 1, 10**1000 - 1)),
    ):
        case = RegionCase({"w": [-TINY, TINY]}, {"w": mask}, "F64", costs={"w": [HUGE, TINY]})
        certify(case, mu, [-HUGE], radius=radius)
        gap = case.certificate["claim"]["gap"]
        assert max(map(len, gap.values())) > 1300
        assert case.verdict().outcome is Outcome.PROVED, case.verdict().message
        gap |= {"numerator": "1" + "0" * 2998 + "1", "denominator": "9" * 2999 + "7"}
        verdict = case.verdict()
        assert verdict.outcome is Outcome.REFUTED, verdict.message
        assert (
            "the claim says a long fraction (≈ 1.000e-1): they differ by a long" in verdict.message
        )


# ---- In which words ------------------------------------------------------------------------------


def example(dtype: str = "F32", *, packed: bool = True) -> RegionCase:
    """k = 3 and μ = ½: c + s/2 is 1, −½, 2, 1¼ in a, ¼, ½, 2, 0 in b; V = 0, what is removed 1½."""
    scores = {"a": [0.5, -1.0, 3.0, 0.5], "b": [0.0, 0.75, -2.0, -1.0]}
    costs = {"a": [0.75, 0.0, 0.5, 1.0], "b": [0.25, 0.125, 3.0, 0.5]}
    case = RegionCase(scores, {"a": [0, 0, 1, 1], "b": [0, 0, 1, 0]}, dtype, packed, costs=costs)
    return certify(case, 0.5, [1.125, 1.125])


def own() -> RegionCase:
    """At least two of b: it keeps ½ for that, where a prunes 1."""
    case = example()
    case.mask = {"a": [0, 0, 1, 0], "b": [0, 1, 1, 0]}
    return certify(case, 0.5, [1.25, 0.5], numbers=[0, 2])


END = "; not checked: that the scores and costs are 'made up'"
HEAD = "proved: the mask keeps exactly 3 of 8 weights in 2 tensors and removes a cost of "


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("packed", [True, False])
def test_every_dtype_and_mask_form(dtype: str, packed: bool) -> None:
    assert example(dtype, packed=packed).verdict() == Verdict(
        Outcome.PROVED,
        f"{HEAD}13/8 (≈ 1.625e+0), and no mask with as many that removes no more has a larger "
        f"score sum (μ = 0.5, λ = 1.125){END}",
    )


def test_the_program_that_was_proved_is_named() -> None:
    case = certify(example(), 0.5, [1.125, 1.125], radius=Fraction(2))
    assert case.verdict().message == (
        f"{HEAD}13/8 (≈ 1.625e+0), and no mask with as many that removes at most 2 (≈ 2.000e+0) "
        f"has a score sum larger by more than 3/4 (≈ 7.500e-1) (μ = 0.5, λ = 1.125){END}"
    )
    assert own().verdict().message == (
        f"{HEAD}5/2 (≈ 2.500e+0), and no mask with as many that keeps at least the claimed minimum "
        "of each tensor (0 of a, 2 of b) and removes no more has a larger score sum (μ = 0.5, "
        f"λ = 1.25, a lower threshold in 1 tensor){END}"
    )
    case = certify(own(), 0.5, [1.25, 0.5], kind="per-tensor", numbers=[1, 2])
    assert case.verdict().message == (
        f"{HEAD}5/2 (≈ 2.500e+0), and no mask that keeps as many of each tensor and removes no "
        f"more has a larger score sum (μ = 0.5, a threshold for each tensor){END}"
    )
    case.certificate["claim"]["criterion"] = None
    assert case.verdict().message.endswith("; not checked: how the scores and costs were made")
    long = Fraction(1, 10**50)
    case = certify(example(), 0.5, [1.125, 1.125], radius=example().removed() + long)
    assert "removes at most the claimed fraction (≈ 1.625e+0)" in case.verdict().message
    assert "by more than the claimed fraction (≈ 2.000e-50)" in case.verdict().message
    nothing = certify(RegionCase({"w": [1.0]}, {"w": [1]}, costs={"w": [1.0]}), 1.0, [0.0])
    assert "removes a cost of 0, and no mask with as many" in nothing.verdict().message


def _cost(index: int, value: float) -> Edit:
    return costs(lambda named: named["a"].__setitem__(index, value))


@pytest.mark.parametrize(
    ("case", "edit", "message"),
    [
        (example(), _cost(2, math.nan), "a[2] has the cost nan"),
        (example(), _cost(0, math.inf), "a[0] has the cost inf"),
        (example(), _cost(3, -0.5), "a[3] has the cost -0.5, below 0"),
        (
            example(),
            costs(lambda costs: costs.pop("b")),
            "cost.safetensors has no tensor b, the scope has",
        ),
        (
            example(),
            costs(lambda costs: costs.update(a=[1.0] * 4, c=[])),
            "cost.safetensors holds c, which is outside the scope",
        ),
        (example(), masks(a=[1, 0, 1, 1]), "kept 4 of 8, the claim says 3"),
        (example(), evidence(counts=[1, 2]), "kept 2 in a, the certificate says 1"),
        (
            example(),
            claims(constraint={"kind": LEAST, "minimum": [0, 2]}),
            "kept 1 in b, the constraint asks for at least 2",
        ),
        (
            example(),
            claims(constraint={"kind": "per-tensor", "keep": [3, 0]}),
            "kept 2 in a, the constraint asks for exactly 3",
        ),
        (
            example(),
            evidence(thresholds=[(1.125).hex(), (1.25).hex()]),
            "the threshold of b is 1.25, above λ = 1.125",
        ),
        (
            example(),
            claims(radius={"numerator": "3", "denominator": "2"}),
            "the mask removes a cost of 13/8 (≈ 1.625e+0), the radius is 3/2 (≈ 1.500e+0): it "
            "exceeds it by 1/8 (≈ 1.250e-1)",
        ),
        (
            example(),
            claims(radius={"numerator": "0", "denominator": "1"}),
            "the mask removes a cost of 13/8 (≈ 1.625e+0), the radius is 0: it exceeds it by 13/8",
        ),
        (
            example(),
            claims(radius={"numerator": "2", "denominator": "1"}),
            "the gap is 3/4 (≈ 7.500e-1), the claim says 0: they differ by 3/4 (≈ 7.500e-1)",
        ),
        (
            example(),
            claims(gap={"numerator": "1", "denominator": "1" + "0" * 100}),
            "the gap is 0, the claim says a long fraction (≈ 1.000e-100): they differ by a long",
        ),
        (
            example(),
            evidence(multiplier=(1.0).hex()),
            "the gap is 1/4 (≈ 2.500e-1), the claim says 0",  # of a[0] and b[2]
        ),
        (
            example(),
            evidence(**{"lambda": (1.25).hex()}),  # with thresholds of 9/8, a keeps 2 and b 1
            "the gap is 3/4 (≈ 7.500e-1), the claim says 0",
        ),
        (
            example(),
            evidence(**{"lambda": (0.875).hex(), "thresholds": [(0.875).hex()] * 2}),
            "the gap is 1/4 (≈ 2.500e-1), the claim says 0",  # a[0] is pruned with 1
        ),
    ],
)
def test_a_false_certificate_is_refuted_with_its_reason(
    case: RegionCase, edit: Edit, message: str
) -> None:
    case = copy.deepcopy(case)
    edit(case)
    verdict = case.verdict()
    assert verdict.outcome is Outcome.REFUTED, verdict.message
    assert verdict.message.startswith(f"refuted: {message}")


def test_an_exchanged_pair_is_refuted() -> None:
    case = example()
    masks(a=[0, 0, 0, 1], b=[0, 0, 1, 1])(case)  # r = 0 in place of 2, at the same cost
    assert case.verdict().message.startswith("refuted: the gap is 4 (≈ 4.000e+0), the claim says 0")
    case = certify(example(), 0.5, [1.125, 1.125], radius=Fraction(3))
    masks(a=[1, 0, 1, 0])(case)  # 1 in place of 1¼, for the cost alone: the bound is the same
    assert case.verdict().outcome is Outcome.PROVED
    assert follows(case)


def test_costs_of_another_shape_or_dtype_are_refuted(tmp_path: Path) -> None:
    case = example()
    case.costs["a"].append(0.0)
    case.redigest()
    assert case.verdict().message.startswith(
        "refuted: a has the shape (5,) in cost.safetensors, (2, 2) in the scope"
    )
    case = example()
    path = case.write(tmp_path)
    case.dtype = "F64"
    (tmp_path / "cost.safetensors").write_bytes(raw := case.cost_bytes())
    case.certificate["evidence"]["cost"]["sha256"] = digest(raw)
    path.write_text(json.dumps(case.certificate), encoding="utf-8")
    assert checker.check(path).message == (
        "refuted: a has the dtype F64 in cost.safetensors, F32 in the scope"
    )


def test_a_wrong_digest_of_the_costs_is_refuted() -> None:
    case = example()
    found = case.certificate["evidence"]["cost"]["sha256"]
    case.certificate["evidence"]["cost"]["sha256"] = "0" * 64
    assert case.verdict().message == (
        f"refuted: cost.safetensors: sha256 is {found}, the certificate says {'0' * 64}"
    )


def test_the_first_weight_at_fault_is_named_across_blocks() -> None:
    case = RegionCase({"w": [0.0] * 20}, {"w": [0, 1] * 10}, costs={"w": [1.0] * 20})
    certify(case, 1.0, [1.0])
    with small_blocks():
        assert case.verdict().outcome is Outcome.PROVED
        case.costs["w"][13] = case.costs["w"][18] = -1.0
        case.redigest()
        assert case.verdict().message == "refuted: w[13] has the cost -1.0, below 0"


# ---- What cannot be read -------------------------------------------------------------------------

NUMBER = {"numerator": "1", "denominator": "2"}


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda case: case.certificate.update(version=2), "claim.statement is 'region', expected"),
        (claims(statement="optimal"), "claim.statement is 'optimal', expected 'region'"),
        (claims(unique=True), "claim has the unknown key 'unique'"),
        (drops("claim", "radius"), "claim lacks the key 'radius'"),
        (drops("claim", "gap"), "claim lacks the key 'gap'"),
        (drops("claim", "constraint"), "claim lacks the key 'constraint'"),
        (drops("evidence", "multiplier"), "evidence lacks the key 'multiplier'"),
        (drops("evidence", "thresholds"), "evidence lacks the key 'thresholds'"),
        (drops("evidence", "cost"), "evidence lacks the key 'cost'"),
        (evidence(kept_min=None), "evidence has the unknown key 'kept_min'"),
        (evidence(multiplier="0x0.0p+0"), "multiplier is '0x0.0p+0', expected a float64 above 0"),
        (evidence(multiplier="-0x1.0p+0"), "multiplier is '-0x1.0p+0', expected a float64 above"),
        (evidence(multiplier="inf"), "evidence.multiplier is 'inf', expected a float64 in hex"),
        (evidence(multiplier=0.5), "evidence.multiplier is 0.5, expected a float64 in hex"),
        (evidence(cost="c"), "evidence.cost is 'c', expected an object"),
        (evidence(thresholds=["0x1.0p+0"]), "thresholds is (1.0,), expected one for each tensor"),
        (claims(radius=NUMBER | {"numerator": "-1"}), "radius.numerator is '-1', expected"),
        (claims(radius=NUMBER | {"numerator": "2"}), "claim.radius is not in lowest terms"),
        (claims(radius=NUMBER | {"numerator": "0"}), "claim.radius is not in lowest terms"),
        (claims(radius=NUMBER | {"denominator": "0"}), "radius.denominator is '0', expected"),
        (claims(radius=NUMBER | {"numerator": "1" * 1001}), "radius.numerator is '1111"),
        (claims(radius="1/2"), "claim.radius is '1/2', expected an object"),
        (claims(gap=NUMBER | {"numerator": "00"}), "gap.numerator is '00', expected"),
        (claims(gap=NUMBER | {"numerator": "1" * 3001}), "gap.numerator is '1111"),
        (claims(gap=0), "claim.gap is 0, expected an object"),
    ],
)
def test_a_malformed_certificate_is_unreadable(edit: Edit, message: str) -> None:
    case = example()
    edit(case)
    verdict = case.verdict()
    assert verdict.outcome is Outcome.UNREADABLE, verdict.message
    assert verdict.message.startswith("unreadable: certificate.json: ")
    assert message in verdict.message


def test_a_cost_file_that_is_absent_or_torn_is_unreadable(tmp_path: Path) -> None:
    path = example().write(tmp_path)
    whole = (tmp_path / "cost.safetensors").read_bytes()
    for length in range(len(whole)):
        (tmp_path / "cost.safetensors").write_bytes(whole[:length])
        verdict = checker.check(path)
        assert verdict.outcome is Outcome.UNREADABLE, (length, verdict.message)
        assert verdict.message.startswith("unreadable: cost.safetensors: ")
        assert "broke off" not in verdict.message
    (tmp_path / "cost.safetensors").unlink()
    assert checker.check(path).message == "unreadable: cost.safetensors: no such file"


def test_the_command_checks_a_region_with_nothing_installed(tmp_path: Path) -> None:
    case = example()
    proved = run(str(case.write(tmp_path)))
    assert (proved.returncode, proved.stderr) == (0, "")
    assert proved.stdout.startswith(HEAD)
    case.certificate["claim"]["radius"] = {"numerator": "1", "denominator": "1"}
    assert run(str(case.write(tmp_path))).returncode == 1
    (tmp_path / "cost.safetensors").unlink()
    assert run(str(tmp_path / "certificate.json")).returncode == 2
