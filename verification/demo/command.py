"""`pins demo`: the run with its progress bars, the printed summary, the report."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from pins.importance.criteria import find_criterion
from pins.runs.export import finite
from pins.utils.output import print_json
from pins.utils.progress import Progress
from verification.claims.ledger import exit_code
from verification.demo import report
from verification.demo.pipeline import DemoSettings, run, timed
from verification.experiments.loss_change import by_fraction
from verification.formatting import count, percent, signed


def run_demo(
    console: Console,
    folder: Path,
    given: Mapping[str, Any],
    *,
    full: bool = False,
    json: bool = False,
) -> int:
    """Run the demo into `folder` with the settings given, and print the results.

    Args:
        console: for progress and the results; with `json` for progress alone.
        folder: for the report.
        given: settings by name.
        full: whether the settings that are not given are those of a full run.
        json: print results.json and its folder as one JSON object.

    Returns:
        0 if the last certificate is proved and every claim of the ledger holds; 2 if the
        certificate cannot be read; else 1.

    Raises:
        PinsError: bad settings, a folder in use, a missing model.
    """
    settings = DemoSettings.full(**given) if full else DemoSettings(**given)
    find_criterion(settings.criterion)
    report.require_free(folder)
    with Progress(console) as progress:
        results = run(settings, folder, progress)
        with timed(progress, results["seconds"], "draw the figures"):
            figures = report.draw(results)
    page = report.write(results, figures, folder)
    if json:
        print_json({"folder": str(folder), "report": str(page), **finite(results)})
    else:
        console.print(loss_table(results))
        if results["shortened"]:
            console.print(shortened_table(results["shortened"]))
        for line in summary(results):
            console.print(line, highlight=False, soft_wrap=True)
        console.print(f"\nReport: {page}", highlight=False, soft_wrap=True)
    return results["checker"]["exit"] or exit_code(results["ledger"])


def summary(results: Mapping[str, Any]) -> list[str]:
    """What came out, a line each."""
    last, checked, ledger = results["decisions"][-1], results["checker"], results["ledger"]
    held = sum(row["outcome"] == "holds" for row in ledger["claims"])
    return [
        f"accuracy   {percent(results['dense']['accuracy'])} dense, "
        f"{percent(results['sparse']['accuracy'])} at {percent(last['sparsity'])} sparsity after "
        f"{results['settings']['sparse_steps']} more steps ({results['sparse']['rows']} test rows)",
        f"kept       {count(last['keep'])} of {count(last['total'])} prunable weights, exactly",
        f"certified  {len(results['decisions'])} decisions of {count(last['total'])} weights each",
        f"checker    {checked['message']} ({checked['seconds']} s)",
        f"ledger     {held} of {len(ledger['claims'])} claims hold"
        + (", every control fails" if ledger["all_hold"] else ": see ledger.json"),
        *_shortened(results.get("shortened")),
        f"time       {sum(results['seconds'].values()):.0f} s",
    ]


def _shortened(rows: Sequence[Mapping[str, Any]] | None) -> list[str]:
    """That a run is not a full one, in a line; nothing of results from before there were others."""
    if not rows:
        return []
    return [f"shortened  {len(rows)} sizes, each beside that of `pins demo --full` in the report"]


def shortened_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """What is less than in a full run, and what it is there."""
    table = Table(
        title="Shortened",
        caption="`pins demo --full` shortens nothing",
        box=None,
        pad_edge=False,
    )
    table.add_column("what")
    for heading in ("here", "full"):
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(row["what"], str(row["short"]), str(row["full"]))
    return table


def loss_table(results: Mapping[str, Any]) -> Table:
    """Measured change of the loss by one decision, by fraction and criterion, beside pins' own."""
    by = by_fraction(results["loss_changes"])
    names = list(next(iter(by.values())))
    table = Table(
        title="Loss change of one decision from the dense weights",
        caption=f"measured on the {results['compared']['rows']} rows of the gradient, where the "
        f"loss was {results['compared']['loss']:.3f}",
        box=None,
        pad_edge=False,
    )
    for heading in ("pruned", "pins\npredicts", *names):
        table.add_column(heading, justify="right")
    for fraction, cells in by.items():
        measured = [signed(cells[name]["measured"]) for name in names]
        table.add_row(percent(fraction, 2), signed(cells["pins"]["predicted"]), *measured)
    return table
