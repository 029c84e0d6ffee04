"""A budget from files: the choice, an allocation to compare, and their certificates.

This is what `pins budget` does.
"""

from collections import Counter
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from pins.errors import FileError
from pins.selection.budget.allocation import LevelAllocation, allocation
from pins.selection.budget.choice import Choice, judged, solve
from pins.selection.budget.document import CHOICE, ON_PAPER, document
from pins.selection.budget.program import BudgetProgram
from pins.selection.budget.spec import Budget
from pins.selection.budget.table import ERRORS, ErrorTable
from pins.utils.io import write_json
from verification.certificates.budget import certify_choice
from verification.certificates.document import require_new

CERTIFICATE, AUDIT = "certificate.json", "audit.certificate.json"


@dataclass(frozen=True)
class Budgeted:
    """What was chosen, and the document that says it.

    Attributes:
        choice: an optimum, or the best found with its gap.
        audited: an allocation that was asked for, and how far it is from the optimum.
        document: budget.json.
    """

    choice: Choice
    audited: tuple[LevelAllocation, Choice] | None
    document: dict[str, Any]


def budget_files(
    table: Path, budget: Budget, out: Path, *, error: str = "relative", audit: str | None = None
) -> Budgeted:
    """Choose, write budget.json and the certificates.

    Args:
        table: an error table.
        budget: the cost, and its limit.
        out: the folder; what is there is not overwritten.
        error: "relative", "absolute" or "loss".
        audit: an allocation to compare, see `allocation`.

    Raises:
        FileError, CertificateError: a file cannot be read, or exists.
        SettingError: the table or the allocation lacks something, or the budget is too small.
    """
    if (out / CHOICE).exists():
        raise FileError(f"{out / CHOICE} exists: give another folder")
    for name in (CERTIFICATE, AUDIT):
        require_new(out / name)
    program = BudgetProgram.of(ErrorTable.read(table), budget, error)
    best = solve(program)
    audited = None
    if audit is not None:
        other = allocation(program, audit)
        audited = other, judged(best, other.options)
    facts = document(best, budget, table, error, audited)
    criterion = f"{ERRORS[error]} and {budget.cost} of {table.name}"
    certify_choice(best, out / CERTIFICATE, criterion=criterion)
    if audited is not None:
        certify_choice(audited[1], out / AUDIT, criterion=criterion)
    write_json(facts, out / CHOICE)
    return Budgeted(best, audited, facts)


def headline(made: Budgeted, budget: Budget) -> list[tuple[str, str]]:
    """The result as lines of name and value."""
    choice, program = made.choice, made.choice.program
    levels = Counter(map(str, choice.levels.values()))
    lines = [
        ("layers", f"{len(program.names)}, {sum(map(len, program.levels))} options"),
        ("budget", f"{_shown(program.cost_unit * program.budget)} {budget.cost}"),
        ("cost", f"{_shown(choice.cost)} {budget.cost}"),
        ("error", f"{_shown(choice.error)}, {_distance(choice)}"),
        ("levels", ", ".join(f"{level} in {times}" for level, times in levels.most_common())),
        ("searched", f"{choice.states:,} partial choices"),
    ]
    if made.audited is not None:
        other, judgement = made.audited
        moved = f" ({len(other.moved)} layers have the nearest level)" if other.moved else ""
        lines += [
            ("audited", f"{other.name}{moved}"),
            ("its cost", f"{_shown(judgement.cost)} {budget.cost}"),
            ("its error", f"{_shown(judgement.error)}, {_distance(judgement)}"),
        ]
    if budget.cost == "flops":
        lines.append(("note", ON_PAPER))
    return lines


def _shown(value: Fraction) -> str:
    return f"{float(value):,.10g}"


def _distance(choice: Choice) -> str:
    """How far from the optimum, at most, in words; percents are rounded up."""
    if choice.optimal:
        return "an optimum"
    excess = choice.excess
    if excess is None or excess > 10**6:
        return f"at most {_shown(choice.gap)} above the optimum"
    thousandths = -(-excess * 10**5 // 1)
    return f"at most {int(thousandths) / 1000:,.3f} % above the optimum"
