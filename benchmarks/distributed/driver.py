"""One decision among ranks: measured, simulated, and predicted for models too large to have here.

    python -m benchmarks.distributed [--instances 1e6,1e7,bert-base] [--ranks 1,2,3,4] [--rounds 5]

Processes joined by gloo decide together, beside others that gather the model on one of them; ranks
that are threads show what many of them exchange; `cost_model` is held to both, and says what 7 B
and 70 B weights would take. Writes distributed.json (with command, versions and machine), the
tables distributed.md and the figure distributed.svg to the results folder. `--render` makes tables
and figure again from the results file alone.
"""

import math
import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.distributed.communication_plan import Constants
from benchmarks.distributed.methods import METHODS
from benchmarks.distributed.predictions import measured, on_paper, planned, predicted, received
from benchmarks.distributed.runs import digests, measure, simulate
from benchmarks.distributed.table import table
from benchmarks.harness.cli import execute
from benchmarks.harness.process import fresh
from benchmarks.harness.results import RESULTS, read, without_paths
from benchmarks.harness.score_sets import KEPT_ONE_IN, MODEL, ScoreSet, find_score_set
from pins.errors import FileError, SettingError
from pins.utils.io import write_json, write_text
from pins.utils.provenance import provenance
from verification import plots

SCORES_OF_A_THREAD = 1 << 15
TENSORS_OF_THREADS = 8
# so small that the path is that of 7 B weights: the first interval does not fit the room
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
        row |= {"error": found} if isinstance(found, str) else {"error": None, **found}
        rows.append(row)
    return rows


def of_threads(ranks: int, constants: Constants | None = None) -> dict[str, Any]:
    """A row of ranks that hold few scores each."""
    total = SCALED_SIZE if constants else SCORES_OF_A_THREAD * ranks
    each = total // TENSORS_OF_THREADS
    shapes = {f"part.{number}": (each,) for number in range(TENSORS_OF_THREADS)}
    score_set = ScoreSet("many ranks of few scores", shapes)
    name = "few a rank" if constants is None else "few a rank, scaled"
    return {**_about(name, score_set), **simulate(score_set, ranks, constants)}


def render(file: Path) -> str:
    """Tables and figure from a results file; the tables' text."""
    document = read(file)
    text = table(document)
    write_text(text, file.with_suffix(".md"))
    rows = [row for row in document["rows"] if not row["error"]]
    times = [
        {"instance": row["instance"], "predicted": predicted(row).total, "found": measured(row)}
        for row in rows
    ]
    exchanged = [
        {"instance": row["instance"], "predicted": planned(row).received, "found": received(row)}
        for row in [*rows, *document["simulated"]]
        if row["ranks"] > 1
    ]
    figure = plots.rank_decisions(times, exchanged, document["paper"])
    write_text(plots.svg(figure, file.stem), file.with_suffix(".svg"))
    return text


def run(
    instances: Annotated[
        str, typer.Option(help="Rows of benchmarks/harness/score_sets.py, commas between.")
    ] = f"1e6,1e7,{MODEL}",
    ranks: Annotated[str, typer.Option(help="Numbers of processes, commas between.")] = "1,2,3,4",
    threads: Annotated[
        str, typer.Option(help="Numbers of ranks that are threads, commas between.")
    ] = "8,64,256",
    rounds: Annotated[int, typer.Option(min=1, help="Turns of each method.")] = 5,
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = RESULTS,
    render_only: Annotated[
        bool, typer.Option("--render", help="Tables and figure again from the results file.")
    ] = False,
) -> None:
    """Measure, simulate, predict; the file is written after each set of scores."""
    file = out / "distributed.json"
    if render_only:
        if not file.exists():
            raise FileError(f"{out} holds no {file.name}: measure first")
        print(render(file))
        return
    names, processes, many = instances.split(","), _numbers(ranks), _numbers(threads)
    for name in names:
        find_score_set(name)
    made = provenance()
    document: dict[str, Any] = {
        "settings": {
            "kept": f"1/{KEPT_ONE_IN}",
            "rounds": rounds,
            "methods": list(METHODS),
            "cores": os.cpu_count(),
        },
        "provenance": {**made, "command": without_paths(made["command"], {"OUT": out})},
        "rows": [],
        "simulated": [of_threads(size, each) for each in (None, SCALED) for size in many],
        "paper": on_paper(Constants.present()),
    }
    for name in names:
        document["rows"] += of_processes(name, processes, rounds)
        write_json(document, file)
    print(render(file))


def _about(name: str, score_set: ScoreSet) -> dict[str, Any]:
    sizes = [math.prod(shape) for shape in score_set.shapes.values()]
    return {"instance": name, "size": score_set.size, "sizes": sizes, "keep": score_set.keep}


def _numbers(text: str) -> list[int]:
    """Numbers of ranks.

    Raises:
        SettingError: one is not a whole number of at least 1.
    """
    words = text.split(",")
    if not all(word.isdecimal() and int(word) > 0 for word in words):
        raise SettingError(f"ranks are {text!r}: give whole numbers from 1 on, commas between")
    return [int(word) for word in words]


def main() -> None:
    """Run it as a command."""
    execute(run)
