"""`pins prune`: a run with its progress bar, and the table at its end."""

from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from pins import __version__
from pins.distributed.collectives import on_rank_zero
from pins.distributed.launch import leave
from pins.distributed.process_group import world
from pins.errors import FileError, SettingError
from pins.models.pretrained import locate
from pins.pruning.final_decision import Certify
from pins.runs import checkpoints
from pins.runs.costs import rows
from pins.runs.export import finish, headline
from pins.runs.fingerprint import chosen, difference, fingerprint
from pins.runs.folder import CHECKPOINTS, RUN
from pins.runs.history import StepSummary
from pins.runs.run import Run
from pins.runs.settings import Settings, read_settings
from pins.tasks import load_task
from pins.utils.folder_lock import locked
from pins.utils.output import print_json, results, stopped
from pins.utils.progress import Progress
from pins.utils.text_files import read_object, reading
from pins.utils.unfinished import remove_left

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
        with suppress(FileError), locked(out):  # what a run left that was stopped at its very end
            checkpoints.remove(out / CHECKPOINTS)
            remove_left(out)
        console.print(f"{out} holds a run that is done{_by_another(facts)}.", soft_wrap=True)
    else:
        try:
            with ExitStack() as held:
                on_rank_zero(group, lambda: held.enter_context(locked(out)))
                run = Run(settings, out, resume=resume)
                _steps(console, run)
                leave()  # the others are done
                if group.rank:
                    return 0
                facts = finish(run, certify)
        except KeyboardInterrupt:
            return stopped("from the last checkpoint")
    if json:
        print_json({"folder": str(out), **facts})
        return 0
    console.print(result_table(facts))
    if facts["certificate"] is None:
        console.print(f"No certificate: {missing}", soft_wrap=True)
    console.print(f"\nModel: {out}", soft_wrap=True)
    return 0


def _together(in_file: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """What is given comes before the file, also where it is the other name of the same thing."""
    replaced = {other for name, other in SAME_THING if name in given}
    return {**{name: value for name, value in in_file.items() if name not in replaced}, **given}


def result_table(facts: Mapping[str, Any]) -> Table:
    """Sparsity, scores, certificate and costs of a run."""
    costs = [(name, f"{value}  {note}".strip()) for name, value, note in rows(facts["costs"])]
    return results([*headline(facts), *costs])


def _steps(console: Console, run: Run) -> None:
    if run.step:
        console.print(f"Going on after step {run.step}.")
    if run.notice:
        console.print(run.notice, soft_wrap=True)
    total = run.settings.steps
    with (
        Progress(console) as progress,
        progress.phase(run.task.name, total, done=run.step) as advance,
    ):
        for moment in run.steps():
            advance(_told(moment, run.task.metric))


def _by_another(facts: Mapping[str, Any]) -> str:
    """Which version of PINS ended a run, if it is not this one."""
    ended = facts["pins"]
    return "" if ended == __version__ else f", by pins {ended}; this is pins {__version__}"


def _told(moment: StepSummary, metric: str) -> str:
    """Loss and sparsity of a step, and the score where there is one."""
    score = "" if moment.score is None else f"{metric} {moment.score:.3f}"
    pattern = "" if moment.pattern is None else f"{moment.pattern}  "
    told = f"loss {moment.loss:.3f}  sparsity {moment.sparsity:.1%}  {pattern}{score}"
    return told.rstrip()


def _require_same(out: Path, facts: Mapping[str, Any], settings: Settings) -> None:
    """Require that a run which is done has the settings and the digests of the one asked for.

    Raises:
        FileError: names what differs.
    """
    found = facts.get("fingerprint")
    if not isinstance(found, dict):
        raise FileError(
            f"{out} holds a run that is done, of a version of pins that kept no digests to compare "
            "with: give another folder"
        )
    given = {**chosen(settings), "epochs": None}  # steps tell how many
    if (differs := difference({name: found.get(name) for name in given}, given)) is None:
        task = load_task(settings.task, settings.data)
        asked = replace(settings, max_length=settings.max_length or found["max_length"])
        wanted = fingerprint(
            asked.resolved(task.recipe, facts["rows"]["train"]),
            locate(settings.model),
            None if settings.teacher is None else locate(settings.teacher),
            task,
        )
        differs = difference(found, wanted)
    if differs is not None:
        name, its, asked_for = differs
        raise FileError(
            f"{out} holds a run that is done, and its {name} is {its}, not {asked_for}: give the "
            "same settings, or another folder"
        )


def _facts(file: Path) -> dict[str, Any]:
    facts = read_object(file)
    with reading(f"{file} is no result of a run"):
        headline(facts)
        rows(facts["costs"])
        facts["settings"]["sparsity"], facts["pins"], facts["rows"]["train"]
    return facts
