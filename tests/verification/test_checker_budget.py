"""What the checker says of certificates of budgets: true ones, and forged ones.

The certificates are made here, key by key; all choices are tried to say whether a claim is true.
"""

import copy
import json
import time
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pins.selection.budget.program import BudgetProgram
from tests.pins.selection.budget.tables import allowed, least_error, programs
from tests.verification.certificate_cases import scratch_folder
from verification.certificates import fast_checker
from verification.checker import Outcome, Verdict, check

Edit = Callable[[dict[str, Any]], object]


def rational(value: Fraction | int) -> dict[str, str]:
    value = Fraction(value)
    return {"numerator": str(value.numerator), "denominator": str(value.denominator)}


def stated(
    program: BudgetProgram, options: tuple[int, ...], gap: Fraction, mu: Fraction, states: int
) -> dict[str, Any]:
    """The certificate of a choice, its sums true."""
    layers = zip(program.names, program.errors, program.costs, strict=True)
    return {
        "format": "pins-certificate",
        "version": 4,
        "kind": "budget",
        "claim": {
            "layers": [
                {
                    "name": name,
                    "levels": [f"level {j}" for j in range(len(errors))],
                    "errors": [*map(str, errors)],
                    "costs": [*map(str, costs)],
                }
                for name, errors, costs in layers
            ],
            "units": {"error": rational(program.error_unit), "cost": rational(program.cost_unit)},
            "budget": str(program.budget),
            "choice": [*options],
            "error": str(program.error(options)),
            "cost": str(program.cost(options)),
            "gap": rational(gap),
            "criterion": "made up",
        },
        "evidence": {"multiplier": rational(mu), "states": states},
        "provenance": {},
    }


def verdict(certificate: object) -> Verdict:
    """On which both checkers agree."""
    path = scratch_folder() / "certificate.json"
    path.write_text(json.dumps(certificate), encoding="utf-8")
    found = check(path)
    assert fast_checker.check(path) == found
    return found


# three layers: 2 + 2 + 1 options cost 8 and err by 4 in units of 1/2; the LP would take a half
EXAMPLE = BudgetProgram(
    ("a", "b", "c"),
    ((0, 1),) * 3,
    ((9, 0), (7, 0), (4, 1)),
    ((0, 5), (0, 4), (0, 4)),
    budget=8,
    error_unit=Fraction(1, 2),
)
BEST, WORSE, MU = (0, 1, 1), (1, 0, 0), Fraction(7, 4)


def example(**changes: Any) -> dict[str, Any]:
    certificate = stated(EXAMPLE, BEST, Fraction(0), MU, 100)
    certificate["claim"] |= changes
    return certificate


def test_an_optimum_and_a_gap_are_proved() -> None:
    assert verdict(example()).message == (
        "proved: the choice of 3 of 6 options, one for each layer, costs 8 (≈ 8.000e+0) and has "
        "the error 5 (≈ 5.000e+0), and no choice that costs at most 8 (≈ 8.000e+0) has a smaller "
        "error: it is an optimum; not checked: that the numbers are 'made up'"
    )
    worse = stated(EXAMPLE, WORSE, Fraction(1), MU, 100)
    worse["claim"]["criterion"] = None
    assert verdict(worse).message == (
        "proved: the choice of 3 of 6 options, one for each layer, costs 5 (≈ 5.000e+0) and has "
        "the error 11/2 (≈ 5.500e+0), and no choice that costs at most 8 (≈ 8.000e+0) has an error "
        "smaller by more than 1/2 (≈ 5.000e-1): it is at most 10.000 % above the optimum; not "
        "checked: how the numbers were made"
    )
    worse["evidence"]["states"] = 0  # of a gap as large as V no partial choice is formed
    worse["claim"]["gap"] = rational(Fraction(21, 4))
    assert "at most 91.305 % above" in verdict(worse).message
    worse["claim"]["gap"] = rational(12)
    assert verdict(worse).message.endswith(
        "smaller by more than 6 (≈ 6.000e+0); not checked: how the numbers were made"
    )


@given(programs(), st.data())
@settings(max_examples=40)
def test_a_claim_is_proved_iff_it_is_true(program: BudgetProgram, data: st.DataObject) -> None:
    options = data.draw(st.sampled_from(allowed(program)))
    short = Fraction(program.error(options) - least_error(program))
    gap = data.draw(
        st.fractions(0, 10) | st.sampled_from([Fraction(short), short + Fraction(1, 3)])
    )
    mu = data.draw(st.fractions(0, 10) | st.just(program.multiplier))
    found = verdict(stated(program, options, gap, mu, 10**6))
    assert found.outcome is (Outcome.PROVED if short <= gap else Outcome.REFUTED), found
    if short > gap:
        assert "a choice within the budget has the error" in found.message
        assert "than the claim allows" in found.message


def put(*keys: str | int, value: object) -> Edit:
    def edit(certificate: dict[str, Any]) -> None:
        *path, last = keys
        inner: Any = certificate
        for key in path:
            inner = inner[key]
        inner[last] = value

    return edit


def choose(*options: int) -> Edit:
    return lambda c: c["claim"].update(
        choice=[*options],
        error=str(EXAMPLE.error(options)),
        cost=str(EXAMPLE.cost(options)),
    )


LAYERS = ("claim", "layers")
REFUTED: list[tuple[Edit, str]] = [
    (choose(*WORSE), "has the error 5 (≈ 5.000e+0), less by 1/2 (≈ 5.000e-1) than the"),
    (choose(1, 1, 0), "the choice costs 9 (≈ 9.000e+0), and the budget is 8 (≈ 8.000e+0)"),
    (
        put("claim", "error", value="9"),
        "errors of the choice sum to 5 (≈ 5.000e+0), the claim",
    ),
    (put("claim", "cost", value="7"), "the costs of the choice sum to 8 (≈ 8.000e+0), the claim"),
    (put("claim", "choice", value=[0, 0, 1]), "the errors of the choice sum to 17/2"),
    (put("claim", "budget", value="7"), "the choice costs 8 (≈ 8.000e+0), and the budget is 7"),
    (put("claim", "budget", value="9"), "has the error 2 (≈ 2.000e+0), less by 3 "),
    (put("evidence", "states", value=1), "forms more than the 1 partial choices that the"),
    (put(*LAYERS, 0, "errors", value=["2", "0"]), "the errors of the choice sum to 3/2"),
    (put(*LAYERS, 0, "costs", value=["0", "3"]), "has the error 2 "),
]


@pytest.mark.parametrize(("edit", "message"), REFUTED)
def test_a_false_claim_is_refuted(edit: Edit, message: str) -> None:
    certificate = example()
    edit(certificate)
    found = verdict(certificate)
    assert found.outcome is Outcome.REFUTED
    assert message in found.message


@pytest.mark.parametrize(("mu", "formed"), [(MU, 12), (Fraction(0), 6), (Fraction(2), 11)])
def test_any_multiplier_proves_within_the_partial_choices_that_it_needs(
    mu: Fraction, formed: int
) -> None:
    certificate = example()
    certificate["evidence"] = {"multiplier": rational(mu), "states": formed}
    assert verdict(certificate).outcome is Outcome.PROVED
    certificate["evidence"]["states"] -= 1
    assert f"forms more than the {formed - 1} partial choices" in verdict(certificate).message


UNREADABLE: list[tuple[Edit, str]] = [
    (
        put("evidence", "multiplier", "numerator", value="-7"),
        "numerator is '-7', expected a string",
    ),
    (put("evidence", "multiplier", "denominator", value="0"), "denominator is '0', expected"),
    (put("evidence", "multiplier", value=1.75), "multiplier is 1.75, expected an object"),
    (put("evidence", "states", value=10**6 + 1), "states is 1000001, expected at most 1000000"),
    (put("evidence", "states", value=-1), "states is -1, expected an integer from 0"),
    (put("evidence", "states", value=True), "states is True, expected an integer"),
    (put("claim", "gap", "numerator", value="-1"), "gap.numerator is '-1', expected"),
    (put("claim", "gap", value=rational(0) | {"denominator": "2"}), "gap is not in lowest terms"),
    (
        put("claim", "budget", value=8),
        "budget is 8, expected a string of up to 1000 dec",
    ),
    (put("claim", "budget", value="-8"), "budget is '-8', expected a string"),
    (put("claim", "budget", value="08"), "budget is '08', expected a string"),
    (put("claim", "error", value="1" * 1001), "error is '111111111111...1111111111111', expected"),
    (put("claim", "error", value="-0"), "error is '-0', expected a string"),
    (
        put("claim", "units", "cost", value=rational(0)),
        "cost is Fraction(0, 1), expected a ra",
    ),
    (put("claim", "choice", value=[0, 1]), "choice is (0, 1), expected a number for each layer"),
    (
        put("claim", "choice", value=[0, 1, 2]),
        "c has the choice, which is 2, expected below",
    ),
    (put("claim", "choice", value=[0, 1, 1.0]), "choice[2] is 1.0, expected an integer"),
    (put("claim", "layers", value=[]), "claim.layers names no layer"),
    (put(*LAYERS, 1, "name", value="a"), "claim.layers names a layer twice"),
    (put(*LAYERS, 1, "name", value=3), "layers[1].name is 3, expected a string"),
    (put(*LAYERS, 1, "levels", value=["x"]), "claim: b has not as many errors and costs as levels"),
    (put(*LAYERS, 1, "costs", value=["1"]), "claim: b has not as many errors and costs as levels"),
    (put(*LAYERS, 1, "costs", value=["0", "-4"]), "costs[1] is '-4', expected a string"),
    (put(*LAYERS, 1, "errors", value=["0", 4]), "errors[1] is 4, expected a string"),
    (put(*LAYERS, 1, "errors", value=["0", "1e9"]), "errors[1] is '1e9', expected a string"),
    (put(*LAYERS, 1, "more", value=1), "layers[1] has the unknown key 'more'"),
    (put("claim", "scope", value=[]), "certificate.claim has the unknown key 'scope'"),
    (put("evidence", "scores", value={}), "certificate.evidence has the unknown key 'scores'"),
    (put("kind", value="selection"), "certificate.claim lacks the key 'total'"),
]


@pytest.mark.parametrize(("edit", "message"), UNREADABLE)
def test_a_malformed_claim_is_unreadable(edit: Edit, message: str) -> None:
    certificate = copy.deepcopy(example())
    edit(certificate)
    found = verdict(certificate)
    assert found.outcome is Outcome.UNREADABLE
    assert message in found.message


def test_the_work_is_bounded_whatever_the_numbers_are() -> None:
    """Costs that are powers of two have no sums in common; and numbers may be long."""
    layers, long = 40, 10**900
    errors = tuple((long * 3**t, 0) for t in range(layers))
    costs = tuple((0, 2**t) for t in range(layers))
    program = BudgetProgram(
        tuple(map(str, range(layers))), ((0, 1),) * layers, errors, costs, 2 ** (layers - 1)
    )
    certificate = stated(program, (0,) * layers, Fraction(0), Fraction(0), 10**5)
    start = time.monotonic()
    found = verdict(certificate)
    assert time.monotonic() - start < 20
    assert "forms more than the 100000 partial choices" in found.message
    certificate["claim"]["gap"] = rational(program.error((0,) * layers))
    assert verdict(certificate).outcome is Outcome.PROVED
