"""budget.json: a choice in words and exact numbers."""

from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

from pins.selection.budget.allocation import LevelAllocation
from pins.selection.budget.choice import Choice
from pins.selection.budget.core import LIMIT
from pins.selection.budget.spec import Budget
from pins.utils.io import sha256

FORMAT = "pins-budget"
CHOICE = "budget.json"
ON_PAPER = "flops are on paper: no speed-up"


def document(
    best: Choice,
    budget: Budget,
    table: Path,
    error: str = "relative",
    audited: tuple[LevelAllocation, Choice] | None = None,
) -> dict[str, Any]:
    """What was chosen of a table; rationals as "p/q", and as floats where these can hold them.

    Args:
        best: the choice.
        budget: as it was asked for.
        table: the file of the error table.
        error: the kind of its errors.
        audited: an allocation, and its distance from the optimum.
    """
    program = best.program
    facts = {
        "format": FORMAT,
        "version": 1,
        "table": {"file": table.name, "sha256": sha256(table)},
        "error_kind": error,
        "budget": {"cost": budget.cost, **_number(program.cost_unit * program.budget)},
        **_stated(best),
        "states": best.states,
        "limit": LIMIT,
        "multiplier": _number(best.multiplier * program.error_unit / program.cost_unit),
    }
    if budget.cost == "flops":
        facts["note"] = ON_PAPER
    if audited is not None:
        other, judgement = audited
        facts["audit"] = {"name": other.name, "moved": [*other.moved], **_stated(judgement)}
    return facts


def _stated(choice: Choice) -> dict[str, Any]:
    excess = choice.excess
    return {
        "choice": choice.levels,
        "error": _number(choice.error),
        "cost": _number(choice.cost),
        "gap": _number(choice.gap),
        "excess": None if excess is None else _number(excess),
        "optimal": choice.optimal,
    }


def _number(exact: Fraction) -> Mapping[str, Any]:
    try:
        about = float(exact)
    except OverflowError:
        about = None
    return {"exact": str(exact), "value": about}
