"""`pins prune`: a run with its progress bar, and the table at its end."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from pins.costs import rows
from pins.errors import FileError, SettingError
from pins.outcome import Certify, finish, headline
from pins.run import RUN, Run
from pins.settings import Settings, read_settings


def run_prune(
    console: Console,
    given: Mapping[str, Any],
    *,
    config: Path | None = None,
    resume: bool = False,
    certify: Certify | None = None,
) -> int:
    """Run with the settings given, and print what came out.

    Args:
        console: to print on.
        given: settings by name, and `out`; they come before those in `config`.
        config: a TOML file with the same names.
        resume: go on from the last checkpoint in `out`.
        certify: makes the certificate of the final decision.

    Returns:
        0: the run is done.

    Raises:
        PinsError: bad settings, missing data, a folder in use.
    """
    values = {**(read_settings(config) if config else {}), **given}
    out = values.pop("out", None)
    if out is None:
        raise SettingError("there is no folder for the results: give --out DIR")
    if resume and (out / RUN).is_file():
        facts = _facts(out / RUN)
        console.print(f"{out} holds a run that is done.", highlight=False)
    else:
        run = Run(Settings(**values), out, resume=resume)
        _steps(console, run)
        facts = finish(run, certify)
    console.print(result_table(facts))
    console.print(f"\nModel: {out}", highlight=False, soft_wrap=True)
    return 0


def result_table(facts: Mapping[str, Any]) -> Table:
    """Sparsity, scores, certificate and costs of a run."""
    table = Table(box=None, pad_edge=False, show_header=False)
    for name, value in headline(facts):
        table.add_row(name, value)
    for name, value, note in rows(facts["costs"]):
        table.add_row(name, f"{value}  {note}".strip())
    return table


def _steps(console: Console, run: Run) -> None:
    settings, metric = run.settings, run.task.metric
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("loss {task.fields[loss]:.3f}  sparsity {task.fields[sparsity]:.1%}"),
        TextColumn("{task.fields[score]}"),
    )
    if run.step:
        console.print(f"Going on after step {run.step}.", highlight=False)
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task(
            run.task.name,
            total=settings.steps,
            completed=run.step,
            loss=0.0,
            sparsity=0.0,
            score="",
        )
        for moment in run.steps():
            score = "" if moment.score is None else f"{metric} {moment.score:.3f}"
            progress.update(
                bar,
                completed=moment.step,
                loss=moment.loss,
                sparsity=moment.sparsity,
                score=score,
            )


def _facts(file: Path) -> dict[str, Any]:
    try:
        facts: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        headline(facts)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FileError(f"{file} is no result of a run: {error}") from error
    return facts
