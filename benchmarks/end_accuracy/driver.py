"""Accuracy after gradual pruning, for every method, with and without self-regularisation.

    python -m benchmarks.end_accuracy --data FOLDER [--minutes 60] [--tasks …] [--methods …]

FOLDER holds glue/SST-2 and glue/RTE. A row of end_accuracy.json is one run, written as soon as it
is done: an interrupted benchmark continues with the missing runs. Their order leaves complete
comparisons wherever it stops. Writes the table end_accuracy.md and the figure end_accuracy.svg.
"""

import gc
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.end_accuracy import gradual_pruning
from benchmarks.end_accuracy.gradual_pruning import METHODS, Budget, Cell, measure
from benchmarks.end_accuracy.table import summary, table
from benchmarks.harness import benchmark
from benchmarks.harness.cli import Data, Minutes, Model, Names, Out, Render, Seeds, named, numbers
from benchmarks.harness.fine_tuned import data_folder, describe_model
from benchmarks.harness.results import RESULTS, Document, Row, attempt, without_paths
from pins.models.pretrained import DEMO_MODEL
from pins.tasks import load_task
from pins.tasks.text_classification import TextClassification
from verification import plots

FILE = "end_accuracy.json"
ALL_METHODS = ",".join(METHODS)


def run(
    tasks: Names = "stdlib-docs,sst2,rte",
    methods: Names = ALL_METHODS,
    sparsities: Annotated[str, typer.Option(help="Numbers in (0, 1).")] = "0.9,0.97,0.8",
    seeds: Seeds = 3,
    steps: Annotated[int, typer.Option(min=1, help="Of each run.")] = Budget.steps,
    model: Model = DEMO_MODEL,
    data: Data = None,
    minutes: Minutes = None,
    out: Out = RESULTS,
    plain: Annotated[bool, typer.Option("--plain", help="Without self-regularisation.")] = False,
    retry: Annotated[bool, typer.Option("--retry", help="Repeat the runs that failed.")] = False,
    render_only: Render = False,
) -> None:
    """Run what the results file does not hold yet."""
    file = out / FILE
    if not render_only:
        names, chosen = tasks.split(","), [*named(methods, METHODS, "method")]
        like = "numbers between 0 and 1, such as 0.8,0.9"
        ratios = numbers(sparsities, "sparsities", float, lambda x: 0 < x < 1, like)
        budget = Budget(steps=steps)
        about, paths = describe_model(model)
        more = {"train_rows": budget.train_rows, "evaluations": gradual_pruning.EVALUATIONS}
        settings, replaced = about | asdict(budget) | more, {"DATA": data, "OUT": out, **paths}
        document = benchmark.resume(file, benchmark.new_document(settings, replaced, tasks={}))
        if retry:
            document["rows"] = [row for row in document["rows"] if "error" not in row]
        for task in names:
            _require_same_data(document, task, data_folder(task, data), file)

        def row_of(cell: Cell) -> Sequence[Row]:
            gc.collect()  # a run has reference cycles, and the next one needs its memory
            start = time.monotonic()
            found = attempt(measure, cell, budget, model, data_folder(cell.task, data))
            if isinstance(found, str):
                found = {"error": without_paths(found, {"DATA": data, "MODEL": model})}
            return [{**found, "seconds": round(time.monotonic() - start, 1)}]

        wanted = list(gradual_pruning.cells(names, seeds, ratios, chosen, regularized=not plain))
        benchmark.complete(
            document, file, wanted, row_of, shows="score {score:.3f}", minutes=minutes
        )
    benchmark.render(
        out, FILE, table, lambda document: plots.end_accuracy(summary(document["rows"]))
    )


def _require_same_data(document: Document, task: str, data: Path | None, file: Path) -> None:
    """Load a task before any run, and compare its data with the data of earlier rows.

    Raises:
        FileError: earlier rows were measured on other data.
        TaskError: the task does not load.
    """
    loaded = load_task(task, data)
    found: dict[str, Any] = {"digests": dict(loaded.digests), "majority": None}
    if isinstance(loaded, TextClassification) and loaded.labels:
        counts = Counter(row.label for row in loaded.test)
        found["majority"] = max(counts.values()) / len(loaded.test)
    benchmark.require_same(file, f"{task} data", found, document["tasks"].setdefault(task, found))
