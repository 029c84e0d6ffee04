"""`pins verify`: the ledger as tables, and its exit code."""

from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pins.errors import ClaimError
from pins.models.pretrained import DEMO_MODEL
from pins.utils.io import require_replaceable, write_json
from pins.utils.lookup import choose_one
from pins.utils.output import print_json
from pins.utils.progress import Progress
from verification.claims import ALL_CLAIMS, Setting
from verification.claims.claim import Profile
from verification.claims.ledger import FORMAT, Entry, Outcome, document, exit_code, run
from verification.empirical import Verdict
from verification.empirical.ledger import (
    EmpiricalEntry,
    choose_folder,
    counts,
    rule_folder,
    rules,
)

COLOURS = {Verdict.HOLDS: "green", Verdict.FAILS: "yellow", Verdict.UNTESTED: "dim"}


def run_ledger(
    console: Console,
    *,
    profile: str,
    file: Path | None,
    model: str | None,
    seed: int,
    results: Path | None = None,
    json: bool = False,
) -> int:
    """Run every claim and print the ledger; 0 iff each claim holds and each control fails.

    1 if a claim does not hold or its check is unsound; else 2: a solver could not be tried.

    Empirical claims are ruled on from the results files in the folder `results` (default: the
    folder of the checkout). They do not change the exit code. With `json` the ledger is printed as
    one JSON object, and `console` gets the progress only.

    Raises:
        PinsError: a setting is invalid, a file cannot be read, or a check cannot run.
    """
    profiles: tuple[Profile, ...] = get_args(Profile)
    if profile not in profiles:
        raise ClaimError(f"there is no profile {profile!r}: {choose_one(profile, profiles)}")
    if file is not None:
        require_replaceable(file, FORMAT)
    folder = choose_folder(results)
    empirical = rule_folder(folder)
    setting = Setting(profile, seed=seed, model=model or DEMO_MODEL)
    entries: list[Entry] = []
    shown = Progress(console, transient=True)
    with shown as progress, progress.phase("claims", len(ALL_CLAIMS)) as advance:
        for entry in run(ALL_CLAIMS, setting):
            entries.append(entry)
            advance()
    ledger = document(entries, setting, empirical)
    if file is not None:
        write_json(ledger, file)
    if json:
        print_json(ledger)
    else:
        held = sum(entry.outcome is Outcome.HOLDS for entry in entries)
        seconds = sum(entry.seconds for entry in entries)
        console.print(ledger_table(entries))
        console.print(f"{held} of {len(entries)} claims hold; {seconds:.0f} s", highlight=False)
        print_empirical(console, empirical, folder)
    return exit_code(ledger)


def ledger_table(entries: list[Entry]) -> Table:
    """One row per claim: outcome, statement, evidence; the control's evidence if it holds."""
    table = Table("outcome", "claim", "evidence", show_lines=True)
    for entry in entries:
        colour = {Outcome.HOLDS: "green", Outcome.UNTRIED: "yellow"}.get(entry.outcome, "red")
        evidence = entry.check.evidence
        if entry.outcome is Outcome.UNSOUND or not entry.control.tried:
            evidence += f"\ncontrol: {entry.control.evidence}"
        table.add_row(
            Text(entry.outcome.name.lower(), style=colour),
            Text(entry.claim.statement).append(f"\n{entry.claim.id}", style="dim"),
            evidence,
        )
    return table


def print_empirical(
    console: Console, entries: Sequence[EmpiricalEntry], folder: Path | None
) -> None:
    """Print the rulings, the number of each verdict, and the rules of the rulings."""
    where = "no results files" if folder is None else str(folder)
    console.print(Text(f"\nEmpirical claims, ruled on from {where}"))
    console.print(empirical_table(entries))
    verdicts = (f"{number} {verdict.value}" for verdict, number in counts(entries).items())
    console.print("; ".join(verdicts), highlight=False)
    for rule, ids in rules(entries).items():
        console.print(Text(f"{', '.join(ids)}: {rule}", style="dim"))


def empirical_table(entries: Sequence[EmpiricalEntry]) -> Table:
    """One row per claim: verdict with the scope found, statement with its domain, evidence."""
    table = Table("verdict", "claim", "evidence", show_lines=True)
    for entry in entries:
        claim, ruling = entry.claim, entry.ruling
        said = Text(str(ruling), style=COLOURS[ruling.verdict])
        about = Text(f"\n{claim.scope}\n{claim.id}, {claim.source}", style="dim")
        table.add_row(said, Text(claim.statement).append(about), Text(ruling.evidence))
    return table
