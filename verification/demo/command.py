"""`pins demo`: the run with its progress bars, its printed summary and its report."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Column, Table

from pins.importance.criteria import find_criterion
from pins.runs.export import finite
from pins.utils.folder_lock import locked
from pins.utils.output import print_json
from pins.utils.progress import Progress
from verification.claims.ledger import exit_code
from verification.demo import report
from verification.demo.pipeline import run
from verification.demo.run import timed
from verification.demo.settings import DemoSettings
from verification.experiments.loss_change import by_fraction
from verification.formatting import count, percent, signed

BARE: Any = {"box": None, "pad_edge": False}  # the look of a table


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
        console: where to print progress and results; with `json` progress alone.
        folder: the folder of the report.
        given: settings by name.
        full: take the settings that are not given from a full run.
        json: print results.json and its folder as one JSON object.

    Returns:
        0 if the last certificate is proved and every claim of the ledger holds; 2 if the
        certificate cannot be read; else 1.

    Raises:
        PinsError: bad settings, a folder in use, a missing model.
    """
    settings = DemoSettings.full(**given) if full else DemoSettings(**given)
    find_criterion(settings.criterion)
    with locked(folder):
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
    """The results in words, one line each."""
    last, checked, ledger = results["decisions"][-1], results["checker"], results["ledger"]
    held = sum(row["outcome"] == "holds" for row in ledger["claims"])
    sizes = len(results.get("shortened") or ())  # earlier results have no such field
    shortened = f"shortened  {sizes} sizes, each beside that of `pins demo --full` in the report"
    return [
        f"accuracy   {percent(results['dense']['accuracy'])} dense, "
        f"{percent(results['sparse']['accuracy'])} at {percent(last['sparsity'])} sparsity after "
        f"{results['settings']['sparse_steps']} more steps ({results['sparse']['rows']} test rows)",
        f"kept       {count(last['keep'])} of {count(last['total'])} prunable weights, exactly",
        f"certified  {len(results['decisions'])} decisions of {count(last['total'])} weights each",
        f"checker    {checked['message']} ({checked['seconds']} s)",
        f"ledger     {held} of {len(ledger['claims'])} claims hold"
        + (", every control fails" if ledger["all_hold"] else ": see ledger.json"),
        *([shortened] if sizes else []),
        f"time       {sum(results['seconds'].values()):.0f} s",
    ]


def shortened_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """The sizes that are less than in a full run, beside those of a full run."""
    numbers = [Column(heading, justify="right") for heading in ("here", "full")]
    caption = "`pins demo --full` shortens nothing"
    table = Table("what", *numbers, title="Shortened", caption=caption, **BARE)
    for row in rows:
        table.add_row(row["what"], str(row["short"]), str(row["full"]))
    return table


def loss_table(results: Mapping[str, Any]) -> Table:
    """The measured change of the loss by one decision, by fraction and criterion."""
    by = by_fraction(results["loss_changes"])
    names = list(next(iter(by.values())))
    headings = ("pruned", "pins\npredicts", *names)
    table = Table(
        *(Column(heading, justify="right") for heading in headings),
        title="Loss change of one decision from the dense weights",
        caption=f"measured on the {results['compared']['rows']} rows of the gradient, where the "
        f"loss was {results['compared']['loss']:.3f}",
        **BARE,
    )
    for fraction, cells in by.items():
        measured = [signed(cells[name]["measured"]) for name in names]
        table.add_row(percent(fraction, 2), signed(cells["pins"]["predicted"]), *measured)
    return table
