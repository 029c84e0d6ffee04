"""One decision among ranks: measured, simulated, and predicted for 7 B and 70 B weights.

    python -m benchmarks.distributed [--instances 1e6,1e7,bert-base] [--ranks 1,2,3,4] [--rounds 5]

Processes joined by gloo decide together, in turns with methods that gather the model on one rank;
ranks that are threads count the exchanges of many ranks; `cost_model` is compared with both. Writes
distributed.json, the tables distributed.md and the figure distributed.svg to the results folder.
"""

import math
import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import typer
from matplotlib.figure import Figure

from benchmarks.distributed.cost_model import Constants, on_paper, planned, predicted, received
from benchmarks.distributed.methods import METHODS
from benchmarks.distributed.runs import digests, measure, simulate
from benchmarks.distributed.table import measured, table
from benchmarks.harness import benchmark
from benchmarks.harness.cli import Out, Render, Rounds, numbers
from benchmarks.harness.process import fresh
from benchmarks.harness.results import RESULTS, Document, measured_files
from benchmarks.harness.score_sets import KEPT_ONE_IN, MODEL, ScoreSet, find_score_set
from pins.utils.io import write_json
from verification import plots

SCORES_OF_A_THREAD = 1 << 15
TENSORS_OF_THREADS = 8
# so small that the first interval does not fit the room, as with 7 B weights
SCALED = replace(Constants.present(), sample=1 << 14, least_room=1 << 13, most_room=1 << 13)
SCALED_SIZE = 1 << 23  # scores


def of_processes(name: str, counts: list[int], rounds: int) -> list[dict[str, Any]]:
    """A row for each number of ranks, on one set of scores."""
    score_set = find_score_set(name)
    expected = fresh(digests, score_set, counts)
    rows = []
    for ranks in counts:
        print(f"{name}: {score_set.size:,} scores, {ranks} ranks …", flush=True)
        found = expected
        if not isinstance(expected, str):
            found = measure(score_set, ranks, rounds, expected[ranks])
        row = {**_about(name, score_set), "ranks": ranks, "constants": asdict(Constants.present())}
        rows.append(row | ({"error": found} if isinstance(found, str) else {"error": None} | found))
    return rows


def of_threads(ranks: int, constants: Constants | None = None) -> dict[str, Any]:
    """A row of ranks with few scores each."""
    total = SCALED_SIZE if constants else SCORES_OF_A_THREAD * ranks
    shapes = {f"part.{each}": (total // TENSORS_OF_THREADS,) for each in range(TENSORS_OF_THREADS)}
    score_set = ScoreSet("many ranks of few scores", shapes)
    name = "few a rank, scaled" if constants else "few a rank"
    return {**_about(name, score_set), **simulate(score_set, ranks, constants)}


def figure(document: Document) -> Figure:
    """Time and bytes, predicted against found, and time on paper against ranks."""
    rows = [row for row in document["rows"] if not row["error"]]
    times = [(row, sum(predicted(row).values()), measured(row)) for row in rows]
    several = [row for row in [*rows, *document["simulated"]] if row["ranks"] > 1]
    exchanged = [(row, planned(row).received, received(row)) for row in several]
    time, amount = (
        [{"instance": row["instance"], "predicted": p, "found": f} for row, p, f in compared]
        for compared in (times, exchanged)
    )
    return plots.rank_decisions(time, amount, document["paper"])


def run(
    instances: Annotated[
        str, typer.Option(help="Rows of benchmarks/harness/score_sets.py, separated by commas.")
    ] = f"1e6,1e7,{MODEL}",
    ranks: Annotated[str, typer.Option(help="Numbers of processes, likewise.")] = "1,2,3,4",
    threads: Annotated[
        str, typer.Option(help="Numbers of ranks that are threads, likewise.")
    ] = "8,64,256",
    rounds: Rounds = 5,
    out: Out = RESULTS,
    render_only: Render = False,
) -> None:
    """Measure, simulate and predict; the file is written after each set of scores."""
    file = out / "distributed.json"
    if render_only:
        measured_files(out, file.name)
    else:
        names = instances.split(",")
        for name in names:
            find_score_set(name)
        processes, many = (
            numbers(text, what, int, lambda n: n > 0, "whole numbers from 1 on, such as 1,2,4")
            for text, what in ((ranks, "ranks"), (threads, "threads"))
        )
        settings = {
            "kept": f"1/{KEPT_ONE_IN}",
            "rounds": rounds,
            "methods": list(METHODS),
            "cores": os.cpu_count(),
        }
        document = benchmark.new_document(
            settings,
            {"OUT": out},
            simulated=[of_threads(size, each) for each in (None, SCALED) for size in many],
            paper=on_paper(Constants.present()),
        )
        for name in names:
            document["rows"] += of_processes(name, processes, rounds)
            write_json(document, file)
    print(render(file))


def render(file: Path) -> str:
    """Write tables and figure from the results file alone; return the tables' text."""
    return benchmark.render(file, table, figure)


def _about(name: str, score_set: ScoreSet) -> dict[str, Any]:
    sizes = [math.prod(shape) for shape in score_set.shapes.values()]
    return {"instance": name, "size": score_set.size, "sizes": sizes, "keep": score_set.keep}
