"""The exact optimum for a whole model against what people use to select: side by side, in one run.

    python -m benchmarks.selection [--device cuda] [--instances bert-base,1e8] [--rounds 5]

Writes selection-DEVICE.json (a row per set of scores and method, with command, versions and machine
beside them), the tables selection-DEVICE.md and the figure selection-DEVICE.svg to the results
folder. `--render` makes tables and figures again from the results files alone.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from benchmarks.harness.cli import execute
from benchmarks.harness.device import about, place
from benchmarks.harness.results import RESULTS, measured_files, read, without_paths
from benchmarks.harness.score_sets import (
    ADVERSARIAL,
    KEPT_ONE_IN,
    MODEL,
    SCORE_SETS,
    SIZES,
    SMOKE,
    ScoreSet,
    find_score_set,
)
from benchmarks.selection.methods import METHODS
from benchmarks.selection.rounds import measure
from benchmarks.selection.table import nanoseconds, table
from pins.errors import FileError
from pins.utils.io import write_json, write_text
from pins.utils.provenance import provenance
from verification import plots

ROUNDS: Mapping[str, int] = {"cuda": 20, "cpu": 5}
MEASURED = tuple(name for name in SCORE_SETS if name != SMOKE)


def rows_of(
    name: str, score_set: ScoreSet, device: torch.device, rounds: int
) -> list[dict[str, Any]]:
    """A row for each method on one set of scores."""
    about = {
        "instance": name,
        "exercises": score_set.exercises,
        "size": score_set.size,
        "tensors": len(score_set.shapes),
        "dtype": str(score_set.dtype).removeprefix("torch."),
        "bytes": score_set.nbytes,
        "keep": score_set.keep,
    }
    return [{**about, **row} for row in measure(score_set, device, rounds)]


def render(file: Path) -> str:
    """Tables and figure from a results file; the tables' text."""
    document = read(file)
    if not document["rows"]:
        raise FileError(f"{file} holds no rows yet: measure first")
    text = table(document)
    write_text(text, file.with_suffix(".md"))
    rows = [{**row, "nanoseconds": nanoseconds(row)} for row in document["rows"]]
    figure = plots.selection(
        [row for row in rows if row["instance"] in (*SIZES, MODEL, SMOKE)],
        [row for row in rows if row["instance"] in ADVERSARIAL],
    )
    write_text(plots.svg(figure, file.stem), file.with_suffix(".svg"))
    return text


def run(
    device: Annotated[
        str | None, typer.Option(help="cuda or cpu; default: cuda, if there.")
    ] = None,
    instances: Annotated[
        str, typer.Option(help="Rows of benchmarks/harness/score_sets.py, commas between.")
    ] = ",".join(MEASURED),
    rounds: Annotated[int | None, typer.Option(min=1, help="Turns of each method.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = RESULTS,
    render_only: Annotated[
        bool, typer.Option("--render", help="Tables and figures again from the results files.")
    ] = False,
) -> None:
    """Measure every set of scores; the file is written after each."""
    if render_only:
        for file in measured_files(out, "selection-*.json"):
            print(render(file))
        return
    chosen = {name: find_score_set(name) for name in instances.split(",")}
    where = place(device)
    made, turns = provenance(), rounds or ROUNDS[where.type]
    document: dict[str, Any] = {
        "device": about(where, made, "the most that a fresh process takes at a time"),
        "settings": {"kept": f"1/{KEPT_ONE_IN}", "rounds": turns, "methods": list(METHODS)},
        "provenance": {**made, "command": without_paths(made["command"], {"OUT": out})},
        "rows": [],
    }
    file = out / f"selection-{where.type}.json"
    for name, score_set in chosen.items():
        print(f"{name}: {score_set.size:,} scores …", flush=True)
        document["rows"] += rows_of(name, score_set, where, turns)
        write_json(document, file)
    print(render(file))


def main() -> None:
    """Run it as a command."""
    execute(run)
