"""What is left of the accuracy after gradual pruning? Every method, with self-regularisation too.

    python -m benchmarks.end_accuracy --data FOLDER [--minutes 60] [--tasks …] [--methods …]

FOLDER holds glue/SST-2 and glue/RTE. A row of end_accuracy.json is one run, written as soon as it
is done: an interrupted benchmark goes on with the runs that are not in the file yet. They come in
an order in which stopping early leaves whole comparisons. The table end_accuracy.md and the figure
end_accuracy.svg are made from the results file alone; so does `--render`.
"""

import gc
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.end_accuracy.gradual_pruning import (
    DENSE,
    EVALUATIONS,
    METHODS,
    Budget,
    Cell,
    cells,
    measure,
)
from benchmarks.end_accuracy.table import summary, table
from benchmarks.harness.cli import execute
from benchmarks.harness.fine_tuned import data_folder
from benchmarks.harness.results import RESULTS, describe, read, rows_before, without_paths
from pins.errors import FileError, SettingError
from pins.models.pretrained import DEMO_MODEL, locate, weights_digest
from pins.tasks import load_task
from pins.tasks.text_classification import TextClassification
from pins.utils.io import write_json, write_text
from pins.utils.provenance import provenance
from verification import plots

FILE = "end_accuracy.json"


def render(file: Path) -> str:
    """Table and figure from a results file; the table's text."""
    document = read(file)
    text = table(document)
    write_text(text, file.with_suffix(".md"))
    figure = plots.end_accuracy(summary(document["rows"]))
    write_text(plots.svg(figure, file.stem), file.with_suffix(".svg"))
    return text


def run(
    tasks: Annotated[str, typer.Option(help="Names with commas between.")] = "stdlib-docs,sst2,rte",
    methods: Annotated[str, typer.Option(help="Likewise.")] = ",".join(METHODS),
    sparsities: Annotated[str, typer.Option(help="Likewise.")] = "0.9,0.97,0.8",
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds, from 0.")] = 3,
    steps: Annotated[int, typer.Option(min=1, help="Of each run.")] = Budget.steps,
    model: Annotated[str, typer.Option(help="A folder or an id.")] = DEMO_MODEL,
    data: Annotated[Path | None, typer.Option(help="Holds glue/RTE …; default: the hub.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Start no run after so many.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = RESULTS,
    plain: Annotated[
        bool, typer.Option("--plain", help="Leave the runs with self-regularisation out.")
    ] = False,
    retry: Annotated[bool, typer.Option("--retry", help="Do runs that failed again.")] = False,
    render_only: Annotated[
        bool, typer.Option("--render", help="Table and figure again from the results file.")
    ] = False,
) -> None:
    """Run what is not in the results file yet."""
    file = out / FILE
    if not render_only:
        wanted = list(
            cells(
                _names(tasks),
                seeds,
                _ratios(sparsities),
                _names(methods, known=METHODS),
                regularized=not plain,
            )
        )
        budget = Budget(steps=steps)
        document = _document(file, budget, model, {"DATA": data, "OUT": out})
        if retry:
            document["rows"] = [row for row in document["rows"] if "error" not in row]
        for task in _names(tasks):
            _require_same_data(document, task, data_folder(task, data), file)
        _measure_all(wanted, document, file, budget, model, data, minutes)
    print(render(file))


def _measure_all(
    wanted: Sequence[Cell],
    document: dict[str, Any],
    file: Path,
    budget: Budget,
    model: str,
    data: Path | None,
    minutes: float | None,
) -> None:
    """Measure what has no row yet; the file is whole after every run."""
    done = {_cell(row) for row in document["rows"]}
    begun = time.monotonic()
    for number, cell in enumerate(wanted, start=1):
        if cell in done:
            continue
        if minutes is not None and time.monotonic() - begun >= 60 * minutes:
            print(f"{minutes:g} minutes are over: {len(set(wanted) - done)} runs are left")
            break
        start = time.monotonic()
        try:
            found = measure(cell, budget, model, data_folder(cell.task, data))
        except Exception as error:  # a failure is a result
            found = {"error": without_paths(describe(error), {"DATA": data, "MODEL": model})}
        seconds = round(time.monotonic() - start, 1)
        document["rows"].append({**asdict(cell), **found, "seconds": seconds})
        done.add(cell)
        write_json(document, file)
        outcome = f"{found['score']:.3f}" if "score" in found else found["error"]
        print(f"{number}/{len(wanted)} {_words(cell)}: {outcome} ({seconds:.0f} s)", flush=True)
        gc.collect()  # a run is full of cycles, and the next one needs its memory


def _cell(row: Mapping[str, Any]) -> Cell:
    return Cell(**{name: row[name] for name in Cell.__dataclass_fields__})


def _words(cell: Cell) -> str:
    words = f"{cell.task} seed {cell.seed} {cell.method}"
    if cell.method != DENSE:
        words += f" {cell.sparsity}"
    return words + (" self-regularised" if cell.self_regularization else "")


def _document(
    file: Path, budget: Budget, model: str, paths: Mapping[str, Path | str | None]
) -> dict[str, Any]:
    """What the file holds, or is to hold: settings, data, versions, and the rows so far."""
    named = Path(model).name if Path(model).is_dir() else model
    made = provenance()
    document: dict[str, Any] = {
        "settings": {
            "model": named,
            "weights_sha256": weights_digest(locate(model)),
            **asdict(budget),
            "train_rows": budget.train_rows,
            "evaluations": EVALUATIONS,
        },
        "provenance": {
            **made,
            "command": without_paths(made["command"], {**paths, named: model}),
        },
        "tasks": {},
        "rows": [],
    }
    document["rows"] = rows_before(file, document)
    if document["rows"]:
        document["tasks"] = read(file)["tasks"]
    return document


def _require_same_data(document: dict[str, Any], task: str, data: Path | None, file: Path) -> None:
    """Load the task before anything is run, and hold it to the rows that were measured on it.

    Raises:
        FileError: they were other ones.
        TaskError: it does not load.
    """
    loaded = load_task(task, data)
    found: dict[str, Any] = {"digests": dict(loaded.digests), "majority": None}
    if isinstance(loaded, TextClassification) and loaded.labels:
        counts = Counter(row.label for row in loaded.test)
        found["majority"] = max(counts.values()) / len(loaded.test)
    if document["tasks"].setdefault(task, found) != found:
        raise FileError(
            f"{file} holds results of other {task} data: move it, or give another --out"
        )


def _names(text: str, known: Mapping[str, Any] | None = None) -> list[str]:
    names = text.split(",")
    for name in names:
        if known is not None and name not in known:
            raise SettingError(f"there is no method {name!r}: choose of {', '.join(known)}")
    return names


def _ratios(text: str) -> list[float]:
    try:
        ratios = [float(word) for word in text.split(",")]
    except ValueError:
        ratios = [-1.0]
    if not all(0 < ratio < 1 for ratio in ratios):
        raise SettingError(f"sparsities is {text!r}: give numbers between 0 and 1, such as 0.8,0.9")
    return ratios


def main() -> None:
    """Run it as a command."""
    execute(run)
