"""Forgeries of a certificate, its mask, its scores and its costs, for every version.

`forge` applies one at random, `Edit`s apply a given one.
"""

import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

from hypothesis import strategies as st

from tests.verification.certificate_cases import (
    KEYS,
    Case,
    digest,
    fraction,
    numbers_of_constraint,
    rational,
)

Edit = Callable[[Any], object]
"""A change of a case in place."""


# ---- Given changes -------------------------------------------------------------------------------


def claims(**changes: Any) -> Edit:
    """State other values in the claim."""
    return lambda case: case.certificate["claim"].update(changes)


def evidence(**changes: Any) -> Edit:
    """State other values in the evidence."""
    return lambda case: case.certificate["evidence"].update(changes)


def drops(part: str, key: str) -> Edit:
    """Leave out a key."""
    return lambda case: case.certificate[part].pop(key)


def version(number: int) -> Edit:
    """State another version."""
    return lambda case: case.certificate.update(version=number)


def member(*keys: Any) -> Callable[[Any], Edit]:
    """Set the member of the certificate at this path."""

    def set_to(value: Any) -> Edit:
        def edit(case: Case) -> None:
            holder = case.certificate
            for key in keys[:-1]:
                holder = holder[key]
            holder[keys[-1]] = value

        return edit

    return set_to


def redigested(change: Edit) -> Edit:
    """Change the files, and state their new digests."""

    def edit(case: Case) -> None:
        change(case)
        case.redigest()

    return edit


def score(name: str, index: int, value: float) -> Edit:
    """Another score."""
    return redigested(lambda case: case.scores[name].__setitem__(index, value))


def costs(change: Callable[[dict[str, list[float]]], object]) -> Edit:
    """Other costs."""
    return redigested(lambda case: change(case.costs))


def masks(**masks: list[int]) -> Edit:
    """Another mask with its counts."""

    def edit(case: Case) -> None:
        case.mask.update(masks)
        case.certificate["evidence"]["counts"] = [sum(bits) for bits in case.mask.values()]
        case.redigest()

    return edit


def number(position: int, value: int) -> Edit:
    """Another number or minimum of one tensor."""
    return lambda case: numbers_of_constraint(case).__setitem__(position, value)


def threshold(position: int, value: float) -> Edit:
    """Another threshold of one tensor."""
    return member("evidence", "thresholds", position)(value.hex())


def thresholds(*values: float) -> Edit:
    """Other thresholds, with the largest as λ."""
    return evidence(**{"lambda": max(values).hex(), "thresholds": [v.hex() for v in values]})


# ---- Random changes ------------------------------------------------------------------------------

_ANY = ("bit", "reverse", "score", "keep", "total", "lambda", "count", "order", "digest")
_ROWS = ("number", "kind", "threshold", "all thresholds")
_OPTIMAL = ("unique", "tie rule", "end")
_COSTS = ("cost", "bad cost", "exchange", "multiplier", "radius", "gap")
FORGERIES: Mapping[tuple[int, str], tuple[str, ...]] = {
    (1, "optimal"): (*_ANY, *_OPTIMAL),
    (1, "regret"): (*_ANY, "regret", "violation"),
    (2, "optimal"): (*_ANY, *_ROWS, *_OPTIMAL),
    (3, "region"): (*_ANY, *_ROWS, *_COSTS),
}
"""The forgeries of each version and statement."""


def forge(draw: Callable[..., Any], case: Any) -> None:
    """Change one thing at random; the stated digests follow, unless the change is a digest."""
    claim, stated = case.certificate["claim"], case.certificate["evidence"]
    name = draw(st.sampled_from([n for n, values in case.scores.items() if values]))
    index = draw(st.integers(0, len(case.scores[name]) - 1))
    position = draw(st.integers(0, len(claim["scope"]) - 1))
    near, sign = draw(st.integers(-9, 9)) / 16, draw(st.sampled_from([1, -1]))
    numbers = numbers_of_constraint(case) if "constraint" in claim else []
    kind = draw(st.sampled_from(FORGERIES[case.certificate["version"], claim["statement"]]))
    match kind:
        case "bit":
            case.mask[name][index] ^= 1
        case "reverse":
            case.mask[name].reverse()
        case "score":
            case.scores[name][index] = near * 2
        case "cost":
            case.costs[name][index] = abs(near)
        case "bad cost":
            case.costs[name][index] = draw(st.sampled_from([-0.5, -math.inf, math.inf, math.nan]))
        case "exchange":
            case.scores, case.costs = case.costs, case.scores
        case "keep" | "total":
            claim[kind] = abs(claim[kind] + sign * draw(st.integers(1, 2)))
        case "lambda":
            stated["lambda"] = near.hex()
        case "count":
            stated["counts"][position] += 1
        case "number":
            numbers[position] = abs(numbers[position] + sign)
        case "kind":
            other = next(each for each in KEYS if each != claim["constraint"]["kind"])
            claim["constraint"] = {"kind": other, KEYS[other]: numbers}
        case "order":
            claim["scope"].reverse()
            if draw(st.booleans()):
                for values in (stated["counts"], stated.get("thresholds", []), numbers):
                    values.reverse()
        case "threshold":
            stated["thresholds"][position] = near.hex()
        case "all thresholds":
            lower = [min(near, float.fromhex(each)).hex() for each in stated["thresholds"]]
            stated |= {"lambda": near.hex(), "thresholds": lower}
        case "multiplier":
            stated["multiplier"] = math.nextafter(float.fromhex(stated["multiplier"]), 1).hex()
        case "radius" | "gap":
            step = Fraction(sign, 10 ** draw(st.integers(0, 600)))
            claim[kind] = fraction(max(Fraction(0), rational(claim[kind]) + step))
        case "unique":
            claim["unique"] = not claim["unique"]
        case "tie rule":
            claim["tie_rule"] = draw(st.sampled_from(["lower-index", "none"]))
        case "end":
            stated[draw(st.sampled_from(["kept_min", "pruned_max"]))] = near.hex()
        case "regret":
            claim["regret"] = fraction(Fraction(draw(st.integers(1, 9)), 8))
        case "violation":
            side = draw(st.sampled_from(["kept", "pruned"]))
            stated["violation"][side]["index"] = draw(st.integers(0, 11))
    case.redigest()
    if kind == "digest":
        role = draw(st.sampled_from(sorted(case.files())))
        stated[role]["sha256"] = digest(b"something else")
