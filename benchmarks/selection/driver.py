"""The exact optimum for a whole model against other methods of selection, side by side in one run.

    python -m benchmarks.selection [--device cuda] [--instances bert-base,1e8] [--rounds 5]

Writes selection-DEVICE.json (a row for each set of scores and method), the tables
selection-DEVICE.md and the figure selection-DEVICE.svg to the results folder.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer
from matplotlib.figure import Figure

from benchmarks.harness import benchmark
from benchmarks.harness.cli import DefaultRounds, Device, Out, Render
from benchmarks.harness.device import describe_device, find_device
from benchmarks.harness.results import RESULTS, Document, measured_files
from benchmarks.harness.score_sets import (
    ADVERSARIAL,
    KEPT_ONE_IN,
    MODEL,
    SCORE_SETS,
    SIZES,
    SMOKE,
    find_score_set,
)
from benchmarks.selection.methods import METHODS
from benchmarks.selection.rounds import measure
from benchmarks.selection.table import nanoseconds, table
from pins.utils.io import write_json
from verification import plots

ROUNDS: Mapping[str, int] = {"cuda": 20, "cpu": 5}
MEASURED = tuple(name for name in SCORE_SETS if name != SMOKE)


def figure(document: Document) -> Figure:
    """Time per weight against the size, and on the adversarial sets."""
    rows = [{**row, "nanoseconds": nanoseconds(row)} for row in document["rows"]]
    return plots.selection(
        [row for row in rows if row["instance"] in (*SIZES, MODEL, SMOKE)],
        [row for row in rows if row["instance"] in ADVERSARIAL],
    )


def render(file: Path) -> str:
    """Write tables and figure from a results file alone; return the tables' text."""
    return benchmark.render(file, table, figure)


def run(
    device: Device = None,
    instances: Annotated[
        str, typer.Option(help="Rows of benchmarks/harness/score_sets.py, separated by commas.")
    ] = ",".join(MEASURED),
    rounds: DefaultRounds = None,
    out: Out = RESULTS,
    render_only: Render = False,
) -> None:
    """Measure every set of scores; the file is written after each."""
    if render_only:
        for file in measured_files(out, "selection-*.json"):
            print(render(file))
        return
    chosen = {name: find_score_set(name) for name in instances.split(",")}
    where = find_device(device)
    turns = rounds or ROUNDS[where.type]
    settings = {"kept": f"1/{KEPT_ONE_IN}", "rounds": turns, "methods": list(METHODS)}
    document = benchmark.new_document(settings, {"OUT": out})
    memory = "the most that a fresh process takes at a time"
    document["device"] = describe_device(where, document, memory)
    file = out / f"selection-{where.type}.json"
    for name, score_set in chosen.items():
        print(f"{name}: {score_set.size:,} scores …", flush=True)
        about = {
            "instance": name,
            "exercises": score_set.exercises,
            "size": score_set.size,
            "tensors": len(score_set.shapes),
            "dtype": str(score_set.dtype).removeprefix("torch."),
            "bytes": score_set.nbytes,
            "keep": score_set.keep,
        }
        document["rows"] += [about | row for row in measure(score_set, where, turns)]
        write_json(document, file)
    print(render(file))
