"""One decision among ranks: measured, simulated, and predicted for 7 B and 70 B weights.

    python -m benchmarks.distributed [--instances 1e6,1e7,bert-base] [--ranks 1,2,3,4] [--rounds 5]

Processes joined by gloo decide together, in turns with methods that gather the model on one rank;
ranks that are threads count the exchanges of many ranks; `cost_model` is compared with both. Writes
distributed.json, the tables distributed.md and the figure distributed.svg to the results folder.
"""

import math
import os
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Annotated, Any

import typer
from matplotlib.figure import Figure

from benchmarks.distributed import cost_model
from benchmarks.distributed.cost_model import PRESENT, Constants, counted, planned
from benchmarks.distributed.methods import METHODS
from benchmarks.distributed.runs import digests, measure, simulate
from benchmarks.distributed.table import measured, table
from benchmarks.harness import benchmark
from benchmarks.harness.cli import Instances, Out, Render, Rounds, named, numbers
from benchmarks.harness.process import fresh
from benchmarks.harness.results import RESULTS, Document, Row, outcome
from benchmarks.harness.score_sets import KEPT_ONE_IN, MODEL, SCORE_SETS, ScoreSet
from pins.utils.io import write_json
from verification import plots

FILE = "distributed.json"
SCORES_OF_A_THREAD = 1 << 15
TENSORS_OF_THREADS = 8
# so small that the first interval does not fit the room, as with 7 B weights
SCALED = replace(PRESENT, sample=1 << 14, least_room=1 << 13, most_room=1 << 13)
SCALED_SIZE = 1 << 23  # scores


def of_processes(
    name: str, score_set: ScoreSet, counts: list[int], rounds: int
) -> list[dict[str, Any]]:
    """A row for each number of ranks, on one set of scores."""
    expected = fresh(digests, score_set, counts)
    rows = []
    for ranks in counts:
        print(f"{name}: {score_set.size:,} scores, {ranks} ranks …", flush=True)
        found = expected
        if not isinstance(expected, str):
            found = measure(score_set, ranks, rounds, expected[ranks])
        about = {**_about(name, score_set), "ranks": ranks, "constants": asdict(PRESENT)}
        rows.append(about | outcome(found))
    return rows


def of_threads(name: str, total: int, ranks: int, constants: Constants) -> dict[str, Any]:
    """A row of ranks that are threads and share `total` scores."""
    shapes = {f"part.{each}": (total // TENSORS_OF_THREADS,) for each in range(TENSORS_OF_THREADS)}
    score_set = ScoreSet("many ranks of few scores", shapes=shapes)
    return {**_about(name, score_set), **simulate(score_set, ranks, constants)}


def _about(name: str, score_set: ScoreSet) -> dict[str, Any]:
    return {**score_set.describe(name), "sizes": [*map(math.prod, score_set.shapes.values())]}


def figure(document: Document) -> Figure:
    """Time and bytes, predicted against found, and time on paper against ranks."""
    rows = [row for row in document["rows"] if not row["error"]]
    several = [row for row in [*rows, *document["simulated"]] if row["ranks"] > 1]
    return plots.rank_decisions(
        [_pair(row, sum(cost_model.predicted(row).values()), measured(row)) for row in rows],
        [_pair(row, planned(row).received, counted(row).received) for row in several],
        document["paper"],
    )


def _pair(row: Row, predicted: float, found: float) -> Mapping[str, Any]:
    return {"instance": row["instance"], "predicted": predicted, "found": found}


def run(
    instances: Instances = f"1e6,1e7,{MODEL}",
    ranks: Annotated[str, typer.Option(help="Numbers of processes.")] = "1,2,3,4",
    threads: Annotated[str, typer.Option(help="Numbers of ranks that are threads.")] = "8,64,256",
    rounds: Rounds = 5,
    out: Out = RESULTS,
    render_only: Render = False,
) -> None:
    """Measure, simulate and predict; the file is written after each set of scores."""
    if not render_only:
        chosen = named(instances, SCORE_SETS, "score set")
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
        few = [of_threads("few a rank", SCORES_OF_A_THREAD * size, size, PRESENT) for size in many]
        few += [of_threads("few a rank, scaled", SCALED_SIZE, size, SCALED) for size in many]
        document = benchmark.new_document(
            settings, {"OUT": out}, simulated=few, paper=cost_model.on_paper()
        )
        for name, score_set in chosen.items():
            document["rows"] += of_processes(name, score_set, processes, rounds)
            write_json(document, out / FILE)
    benchmark.render(out, FILE, table, figure)
