"""`pins prune`: a run with its progress bar, and the table at its end."""

from collections.abc import Mapping
from json import dumps, loads
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from pins.distributed.collectives import on_rank_zero
from pins.distributed.launch import leave
from pins.distributed.process_group import world
from pins.errors import FileError, SettingError
from pins.runs import checkpoints
from pins.runs.costs import rows
from pins.runs.export import Certify, finish, headline
from pins.runs.folder import CHECKPOINTS, RUN
from pins.runs.history import StepSummary
from pins.runs.run import NOT_FINGERPRINT, Run
from pins.runs.settings import Settings, read_settings
from pins.utils.output import print_json
from pins.utils.progress import Progress
from pins.utils.text_files import read_object, reading, shown

INTERRUPTED = 130  # as shells have it: 128 + SIGINT
SAME_THING = (("steps", "epochs"), ("epochs", "steps"))  # how long a run is


def run_prune(
    console: Console,
    given: Mapping[str, Any],
    *,
    config: Path | None = None,
    resume: bool = False,
    certify: Certify | None = None,
    missing: str = "no certifier was given",
    json: bool = False,
) -> int:
    """Run with the settings given, and print the result.

    Of several ranks all of them run, and rank 0 alone prints and writes.

    Args:
        console: for progress and the result; with `json` for progress alone.
        given: settings by name, and `out`; they come before those in `config`.
        config: a TOML file with the same names.
        resume: go on from the last checkpoint in `out`.
        certify: makes the certificate of the final decision.
        missing: why there is no `certify`, for the line that says so.
        json: print run.json and its folder as one JSON object instead of the table.

    Returns:
        0: the run is done; 130: it was stopped from the keyboard, and can go on.

    Raises:
        PinsError: bad settings, missing data, a folder in use.
    """
    values = _together(read_settings(config) if config else {}, given)
    out = values.pop("out", None)
    if out is None:
        raise SettingError("there is no folder for the results: give --out DIR")
    settings = Settings(**values)
    group = world()
    if on_rank_zero(group, lambda: resume and (out / RUN).is_file()):
        if group.rank:
            return 0
        facts = _facts(out / RUN)
        _require_same(out, facts, settings)
        checkpoints.remove(out / CHECKPOINTS)  # of a run that was stopped at its very end
        console.print(f"{out} holds a run that is done.", highlight=False)
    else:
        try:
            run = Run(settings, out, resume=resume)
            _steps(console, run)
            leave()  # the others are done
            if group.rank:
                return 0
            facts = finish(run, certify)
        except KeyboardInterrupt:
            Console(stderr=True).print(
                "pins: stopped; the same command with --resume goes on from the last checkpoint",
                highlight=False,
                soft_wrap=True,
            )
            return INTERRUPTED
    if json:
        print_json({"folder": str(out), **facts})
        return 0
    console.print(result_table(facts))
    if facts["certificate"] is None:
        console.print(f"No certificate: {missing}", highlight=False, markup=False, soft_wrap=True)
    console.print(f"\nModel: {out}", highlight=False, soft_wrap=True)
    return 0


def _together(in_file: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """What is given comes before the file, also where it is the other name of the same thing."""
    replaced = {other for name, other in SAME_THING if name in given}
    return {**{name: value for name, value in in_file.items() if name not in replaced}, **given}


def result_table(facts: Mapping[str, Any]) -> Table:
    """Sparsity, scores, certificate and costs of a run."""
    table = Table(box=None, pad_edge=False, show_header=False)
    for name, value in headline(facts):
        table.add_row(name, value)
    for name, value, note in rows(facts["costs"]):
        table.add_row(name, f"{value}  {note}".strip())
    return table


def _steps(console: Console, run: Run) -> None:
    if run.step:
        console.print(f"Going on after step {run.step}.", highlight=False)
    total = run.settings.steps
    with (
        Progress(console) as progress,
        progress.phase(run.task.name, total, done=run.step) as advance,
    ):
        for moment in run.steps():
            advance(_told(moment, run.task.metric))


def _told(moment: StepSummary, metric: str) -> str:
    """Loss and sparsity of a step, and the score where there is one."""
    score = "" if moment.score is None else f"{metric} {moment.score:.3f}"
    return f"loss {moment.loss:.3f}  sparsity {moment.sparsity:.1%}  {score}".rstrip()


def _require_same(out: Path, facts: Mapping[str, Any], settings: Settings) -> None:
    """That a run which is done is the one asked for, as far as it was said."""
    found = facts["settings"]
    wanted = loads(dumps(settings.as_json()))  # in which a tuple is a list
    for name, value in wanted.items():
        said = value is not None and name not in (*NOT_FINGERPRINT, "epochs")
        if said and found.get(name) != value:
            raise FileError(
                f"{out} holds a run that is done, and its {name} is {shown(found.get(name))}, not "
                f"{value!r}: give the same settings, or another folder"
            )


def _facts(file: Path) -> dict[str, Any]:
    facts = read_object(file)
    with reading(f"{file} is no result of a run"):
        headline(facts)
        rows(facts["costs"])
        facts["settings"]["sparsity"]
    return facts
