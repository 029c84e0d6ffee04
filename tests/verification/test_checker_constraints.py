"""The checker on certificates of version 2: proved is what enumeration of the masks allowed proves.

As in `test_checker`, files and certificates are made without the code that makes them in earnest.
"""

import copy
import json
import math
from fractions import Fraction
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.verification.certificate_cases import (
    CHECKER,
    KEYS,
    Case,
    Mask,
    ends_hold,
    exact,
    facts_hold,
    names_of,
    numbers_of_constraint,
    ones,
    owners,
    run,
    small_blocks,
)
from tests.verification.certificate_forgeries import (
    Edit,
    claims,
    drops,
    evidence,
    forge,
    masks,
    number,
    threshold,
    thresholds,
    version,
)
from tests.verification.test_checker import example
from verification.checker import Outcome, Verdict


def optima(case: Case, names: list[str], keep: int, numbers: list[int], kind: str) -> list[Mask]:
    """The best masks allowed, those that keep lower indices first; by trying all."""
    values, owner = exact(case, names), owners(case, names)
    best: dict[Fraction, list[Mask]] = {}
    for mask in combinations(range(len(values)), keep):
        counts = [sum(owner[i] == t for i in mask) for t in range(len(names))]
        enough = all(count >= number for count, number in zip(counts, numbers, strict=True))
        if counts == numbers or (enough and kind == "minimum-per-tensor"):
            best.setdefault(sum((values[i] for i in mask), Fraction(0)), []).append(mask)
    return best[max(best)] if best else []


def constrain(case: Case, kind: str, numbers: list[int]) -> Case:
    """The certificate of version 2 that is true of an optimal mask."""
    names = list(case.scores)
    flat = [value for name in names for value in case.scores[name]]
    kept = {n: [v for v, b in zip(case.scores[n], case.mask[n], strict=True) if b] for n in names}
    keep = sum(map(len, kept.values()))
    pruned = [flat[i] for i in range(len(flat)) if i not in ones(case, names)]
    low = [min(values) for values in kept.values() if values]
    lam = min((v for v in low if not pruned or v >= max(pruned)), default=max(pruned, default=0.0))
    best = optima(case, names, keep, numbers, kind)
    assert ones(case, names) in best
    case.certify()
    claim, evidence = case.certificate["claim"], case.certificate["evidence"]
    claim.pop("regret", None)
    evidence.pop("violation", None)
    case.certificate["version"] = 2
    claim |= {
        "statement": "optimal",
        "constraint": {"kind": kind, KEYS[kind]: numbers},
        "tie_rule": "lower-index" if ones(case, names) == best[0] else "none",
        "unique": len(best) == 1,
    }
    evidence |= {
        "lambda": lam.hex(),
        "thresholds": [min([lam, *kept[name]]).hex() for name in names],
        "kept_min": min(low).hex() if low else None,
        "pruned_max": max(pruned).hex() if pruned else None,
    }
    return case


def is_true(case: Case) -> bool:
    """Whether claim and evidence hold: by enumeration, and by the value of the dual."""
    claim, evidence = case.certificate["claim"], case.certificate["evidence"]
    names = names_of(case)
    values, owner, mask = exact(case, names), owners(case, names), ones(case, names)
    numbers = numbers_of_constraint(case)
    if not facts_hold(case):
        return False
    best = optima(case, names, claim["keep"], numbers, claim["constraint"]["kind"])
    if mask not in best:
        return False
    lam = Fraction(float.fromhex(evidence["lambda"]))
    thresholds = [Fraction(float.fromhex(each)) for each in evidence["thresholds"]]
    dual = len(mask) * lam
    dual -= sum((lam - each) * n for each, n in zip(thresholds, numbers, strict=True))
    dual += sum(max(Fraction(0), v - thresholds[t]) for v, t in zip(values, owner, strict=True))
    if max(thresholds) > lam or dual != sum(values[i] for i in mask):
        return False
    return (
        ends_hold(case)
        and claim["unique"] == (len(best) == 1)
        and (claim["tie_rule"] == "none" or mask == best[0])
    )


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Up to three tensors, eighths as scores, some optimal mask of some constraint."""
    sizes = draw(st.lists(st.integers(0, 4), min_size=1, max_size=3).filter(any))
    names = [f"layer.{i}" for i in range(len(sizes))]
    value = st.integers(-3, 3).map(lambda i: i / 8) | st.just(-0.0)
    scores = {
        n: draw(st.lists(value, min_size=z, max_size=z)) for n, z in zip(names, sizes, strict=True)
    }
    numbers = [draw(st.integers(0, size)) for size in sizes]
    kind = draw(st.sampled_from(list(KEYS)))
    least = sum(numbers)
    keep = least if kind == "per-tensor" else draw(st.integers(least, sum(sizes)))
    blank = {name: [0] * size for name, size in zip(names, sizes, strict=True)}
    case = Case(scores, blank, draw(st.sampled_from(["F32", "F16"])), draw(st.booleans()))
    chosen = draw(st.sampled_from(optima(case, names, keep, numbers, kind)))
    bits = [int(i in chosen) for i in range(sum(sizes))]
    for name in names:
        case.mask[name] = [bits.pop(0) for _ in case.mask[name]]
    return constrain(case, kind, numbers)


@given(cases())
def test_a_true_certificate_is_proved(case: Case) -> None:
    assert is_true(case)
    with small_blocks():
        verdict = case.verdict()
    assert verdict.outcome is Outcome.PROVED, verdict.message
    assert f"keeps exactly {case.certificate['claim']['keep']} of " in verdict.message


@given(st.data(), cases())
def test_after_one_change_the_verdict_is_the_truth(data: st.DataObject, case: Case) -> None:
    for _ in range(8):
        changed = copy.deepcopy(case)
        forge(data.draw, changed)
        with small_blocks():
            verdict = changed.verdict()
        expected = Outcome.PROVED if is_true(changed) else Outcome.REFUTED
        assert verdict.outcome is expected, verdict.message


# ---- In which words ------------------------------------------------------------------------------


def minimum() -> Case:
    """k = 3 with at least two of b: b keeps 0 and 0.25 though a prunes 0.5."""
    scores = {"a": [0.5, -1.0, 2.0, 0.375], "b": [0.0, 0.25, -3.0], "c": [0.125]}
    case = Case(scores, {"a": [0, 0, 1, 0], "b": [1, 1, 0], "c": [0]})
    return constrain(case, "minimum-per-tensor", [0, 2, 0])


def each() -> Case:
    """One of a, two of b, none of c."""
    case = minimum()
    return constrain(case, "per-tensor", [1, 2, 0])


def tied() -> Case:
    """k = 3 with at least one of b; 0 is kept in a and pruned in a, b and c."""
    scores = {"a": [0.0, 0.0, 1.0], "b": [-0.0, 0.0, -1.0], "c": [0.0]}
    case = Case(scores, {"a": [1, 0, 1], "b": [1, 0, 0], "c": [0]})
    return constrain(case, "minimum-per-tensor", [0, 1, 0])


def test_the_program_that_was_proved_is_named() -> None:
    head = "proved: the mask keeps exactly 3 of 8 weights in 3 tensors and no mask "
    tail = "has a larger score sum "
    end = "; not checked: that the scores are 'made up'"
    assert minimum().verdict().message == (
        f"{head}with as many that keeps at least the claimed minimum of each tensor (0 of a, 2 of "
        f"b, 0 of c) {tail}(λ = 2.0, a lower threshold in 1 tensor, unique){end}"
    )
    assert each().verdict().message == (
        f"{head}that keeps as many of each tensor {tail}(a threshold for each tensor, unique){end}"
    )
    message = tied().verdict().message
    assert "(λ = 0.0, a lower threshold in 0 tensors, ties by lower index)" in message
    many = Case({n: [1.0, 2.0] for n in "abcd"}, {n: [0, 1] for n in "abcd"})
    message = constrain(many, "minimum-per-tensor", [1, 0, 0, 1]).verdict().message
    assert "minimum of each tensor (0 to 1, 2 in all) has" in message


@pytest.mark.parametrize(
    ("case", "edit", "message"),
    [
        (minimum(), threshold(0, 2.5), "the threshold of a is 2.5, above λ = 2.0"),
        (minimum(), threshold(2, 3.0), "the threshold of c is 3.0, above λ = 2.0"),
        (each(), threshold(1, 2.5), "the threshold of b is 2.5, above λ = 2.0"),
        (
            minimum(),
            threshold(0, 1.0),
            "the threshold of a is 1.0, below λ = 2.0, and it keeps more than its minimum",
        ),
        (
            minimum(),
            number(1, 1),
            "the threshold of b is 0.0, below λ = 2.0, and it keeps more than its minimum",
        ),
        (minimum(), number(1, 3), "kept 2 in b, the constraint asks for at least 3"),
        (minimum(), number(2, 2**62), f"kept 0 in c, the constraint asks for at least {2**62}"),
        (each(), number(2, 1), "kept 0 in c, the constraint asks for exactly 1"),
        (each(), number(0, 0), "kept 1 in a, the constraint asks for exactly 0"),
        (
            minimum(),
            threshold(1, 0.125),
            "b[0] is kept with score 0.0, below its tensor's λ = 0.125",
        ),
        (
            minimum(),
            thresholds(0.4, 0.0, 0.4),
            "a[0] is pruned with score 0.5, above its tensor's λ = 0.4",
        ),
        (
            minimum(),
            masks(a=[0, 0, 0, 1]),
            "a[3] is kept with score 0.375, below its tensor's λ = 2.0",
        ),
        (
            minimum(),
            lambda case: (masks(a=[0, 1, 0, 0])(case), thresholds(1.0, 0.0, 1.0)(case)),
            "a[1] is kept with score -1.0, below its tensor's λ = 1.0; "
            "a[2] is pruned with score 2.0, above its tensor's λ = 1.0",
        ),
        (minimum(), masks(a=[1, 0, 1, 0]), "kept 4 of 8, the claim says 3"),
        (minimum(), masks(b=[1, 0, 0], c=[1]), "kept 1 in b, the constraint asks for at least 2"),
        (minimum(), evidence(counts=[2, 1, 0]), "kept 1 in a, the certificate says 2"),
        (minimum(), evidence(kept_min=(0.5).hex()), "kept_min is 0.0, the certificate says 0.5"),
        (minimum(), evidence(pruned_max=None), "pruned_max is 0.5, the certificate says None"),
        (minimum(), claims(unique=False), "the optimum is unique; the claim says unique = False"),
        (
            tied(),
            claims(unique=True),
            "the optimum is not unique, scores tie at 0.0; the claim says unique = True",
        ),
        (
            tied(),
            masks(a=[0, 1, 1]),
            "a[0] is pruned and a[1] kept, both with score 0.0, against the tie rule lower-index",
        ),
        (
            tied(),
            masks(b=[0, 1, 0]),
            "b[0] is pruned and b[1] kept, both with score 0.0, against the tie rule lower-index",
        ),
        (
            tied(),
            masks(a=[0, 0, 1], c=[1]),
            "a[0] is pruned and c[0] kept, both with score 0.0, against the tie rule lower-index",
        ),
    ],
)
def test_a_false_certificate_is_refuted_with_its_reason(
    case: Case, edit: Edit, message: str
) -> None:
    case = copy.deepcopy(case)
    edit(case)
    assert case.verdict() == Verdict(Outcome.REFUTED, f"refuted: {message}")


def test_what_a_minimum_keeps_needs_not_come_first() -> None:
    """b keeps its 0 for its minimum, though c[0], with 0 as well, is pruned before: no exchange."""
    case = Case({"c": [0.0], "a": [1.0], "b": [0.0]}, {"c": [0], "a": [1], "b": [1]})
    assert (
        constrain(case, "minimum-per-tensor", [0, 0, 1])
        .verdict()
        .message.endswith(
            "lower threshold in 0 tensors, unique); not checked: that the scores are 'made up'"
        )
    )
    loose = constrain(case, "minimum-per-tensor", [0, 0, 0])
    assert loose.certificate["claim"]["tie_rule"] == "none"
    loose.certificate["claim"]["tie_rule"] = "lower-index"
    assert "c[0] is pruned and b[0] kept" in loose.verdict().message


def test_thresholds_inside_their_intervals_prove_and_others_do_not() -> None:
    case = minimum()
    for lam, own, outcome in (
        (2.0, 0.0, Outcome.PROVED),
        (0.5, -3.0, Outcome.PROVED),
        (1.0, -1.0, Outcome.PROVED),
        (math.nextafter(0.5, 0), 0.0, Outcome.REFUTED),
        (math.nextafter(2.0, 3), 0.0, Outcome.REFUTED),
        (1.0, 5e-324, Outcome.REFUTED),
        (1.0, math.nextafter(-3.0, -4), Outcome.REFUTED),
    ):
        thresholds(lam, own, lam)(case)
        assert case.verdict().outcome is outcome


# ---- What cannot be read -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("case", "edit", "message"),
    [
        (minimum(), version(1), "certificate.claim has the unknown key 'constraint'"),
        (minimum(), version(3), "claim.statement is 'optimal', expected 'region'"),
        (minimum(), version(4), "certificate.version is 4, expected 1, 2 or 3"),
        (example(), version(2), "certificate.claim lacks the key 'constraint'"),
        (minimum(), claims(statement="regret"), "claim.statement is 'regret', expected 'optimal'"),
        (minimum(), drops("claim", "constraint"), "certificate.claim lacks the key 'constraint'"),
        (minimum(), drops("evidence", "thresholds"), "evidence lacks the key 'thresholds'"),
        (minimum(), drops("evidence", "lambda"), "evidence lacks the key 'lambda'"),
        (example(), evidence(thresholds=[]), "evidence has the unknown key 'thresholds'"),
        (minimum(), claims(constraint=None), "claim.constraint is None, expected an object"),
        (minimum(), claims(constraint={}), "claim.constraint.kind is None, expected 'per-tensor'"),
        (
            minimum(),
            claims(constraint={"kind": "cardinality"}),
            "constraint.kind is 'cardinality', expected 'per-tensor' or 'minimum-per-tensor'",
        ),
        (
            minimum(),
            claims(constraint={"kind": "minimum-per-tensor", "keep": [0, 2, 0]}),
            "claim.constraint lacks the key 'minimum'",
        ),
        (
            each(),
            claims(constraint={"kind": "per-tensor", "keep": [1, 2, 0], "minimum": [0, 0, 0]}),
            "claim.constraint has the unknown key 'minimum'",
        ),
        (minimum(), number(0, -1), "constraint.minimum[0] is -1, expected an integer"),
        (minimum(), number(0, True), "constraint.minimum[0] is True, expected an integer"),
        (
            minimum(),
            lambda case: case.certificate["claim"]["constraint"]["minimum"].pop(),
            "claim.constraint.minimum is (0, 2), expected one for each tensor",
        ),
        (
            each(),
            lambda case: case.certificate["claim"]["constraint"]["keep"].append(0),
            "claim.constraint.keep is (1, 2, 0, 0), expected one for each tensor",
        ),
        (
            minimum(),
            lambda case: case.certificate["evidence"]["thresholds"].pop(),
            "evidence.thresholds is (2.0, 0.0), expected one for each tensor",
        ),
        (minimum(), evidence(counts=[3]), "evidence.counts is (3,), expected one for each tensor"),
        (minimum(), evidence(thresholds=2.0), "evidence.thresholds is 2.0, expected a list"),
        (
            minimum(),
            evidence(thresholds=[0.5, 0.5, 0.5]),
            "evidence.thresholds[0] is 0.5, expected a float64 in hexadecimal",
        ),
        (minimum(), evidence(thresholds=["nan"] * 3), "evidence.thresholds[0] is 'nan', expected"),
    ],
)
def test_a_malformed_certificate_is_unreadable(case: Case, edit: Edit, message: str) -> None:
    case = copy.deepcopy(case)
    edit(case)
    verdict = case.verdict()
    assert verdict.outcome is Outcome.UNREADABLE, verdict.message
    assert verdict.message.startswith("unreadable: certificate.json: ")
    assert message in verdict.message


def test_the_command_exits_with_the_outcome(tmp_path: Path) -> None:
    case = minimum()
    assert run(str(case.write(tmp_path))).returncode == 0
    threshold(0, 2.5)(case)
    refuted = run(str(case.write(tmp_path)))
    assert refuted.returncode == 1
    assert refuted.stderr == "refuted: the threshold of a is 2.5, above λ = 2.0\n"
    version(1)(case)
    assert run(str(case.write(tmp_path))).returncode == 2
    assert CHECKER.is_file()
    assert json.loads((tmp_path / "certificate.json").read_text())["version"] == 1
