"""`pins verify`: the ledger as a table, and its exit code."""

from pathlib import Path
from typing import get_args

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from pins.errors import ClaimError
from pins.files import require_replaceable, write_json
from pins.huggingface import DEMO_MODEL
from verification.claims import ALL_CLAIMS, Setting
from verification.claims.claim import Profile
from verification.ledger import FORMAT, Entry, Outcome, document, run


def run_ledger(
    console: Console, *, profile: str, file: Path | None, model: str | None, seed: int
) -> int:
    """Run every claim and print the ledger; 0 iff each claim and each control ends as it should."""
    profiles: tuple[Profile, ...] = get_args(Profile)
    if profile not in profiles:
        raise ClaimError(f"there is no profile {profile!r}: choose one of {', '.join(profiles)}")
    if file is not None:
        require_replaceable(file, FORMAT)
    setting = Setting(profile, seed=seed, model=model or DEMO_MODEL)
    entries: list[Entry] = []
    with Progress(console=console, transient=True) as progress:
        bar = progress.add_task("claims", total=len(ALL_CLAIMS))
        for entry in run(ALL_CLAIMS, setting):
            entries.append(entry)
            progress.advance(bar)
    console.print(ledger_table(entries))
    held = sum(entry.outcome is Outcome.HOLDS for entry in entries)
    seconds = sum(entry.seconds for entry in entries)
    console.print(f"{held} of {len(entries)} claims hold; {seconds:.0f} s", highlight=False)
    if file is not None:
        write_json(document(entries, setting), file)
    return 0 if held == len(entries) else 1


def ledger_table(entries: list[Entry]) -> Table:
    """One line a claim: outcome, statement, evidence, control."""
    table = Table(show_lines=True)
    for heading in ("outcome", "claim", "evidence"):
        table.add_column(heading)
    for entry in entries:
        colour = "green" if entry.outcome is Outcome.HOLDS else "red"
        evidence = entry.check.evidence
        if entry.outcome is Outcome.UNSOUND:
            evidence += f"\ncontrol: {entry.control.evidence}"
        table.add_row(
            f"[{colour}]{entry.outcome.name.lower()}[/]",
            f"{entry.claim.statement}\n[dim]{entry.claim.id}[/]",
            evidence,
        )
    return table
