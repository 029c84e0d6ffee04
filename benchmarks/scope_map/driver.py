"""Loss change of one decision by every criterion, at many fractions and points of fine-tuning.

    python -m benchmarks.scope_map --task sst2 --data FOLDER [--seeds 3] [--minutes 60]

FOLDER holds glue/SST-2 and such. Fine-tuning runs once for each seed and learning rate and stops at
each progress (a number of steps), where every criterion prunes every fraction from the same
weights, after the same SGD step. The rows of a point are written to scope_map-TASK.json when the
point is complete: an interrupted benchmark continues with the missing points and gets the same
numbers. Points come seed by seed, so stopping early leaves complete comparisons. Before the first
step the weights do not depend on the learning rate: these points are measured once.

The learning rate is the one of fine-tuning. The SGD step before the mask, u = −ηg, has the same η
at every point: one decision is looked at, not a schedule.
"""

import gc
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from matplotlib.figure import Figure

from benchmarks.harness import benchmark
from benchmarks.harness.cli import Data, Minutes, Model, Out, Render, Seeds, numbers
from benchmarks.harness.fine_tuned import BATCH, FineTuned, data_folder, describe_model
from benchmarks.harness.results import RESULTS, Document, Row
from benchmarks.scope_map.table import table
from pins.importance.criteria import CRITERIA
from pins.models.pretrained import DEMO_MODEL
from pins.tasks import Task, load_task
from verification import plots
from verification.experiments.model_snapshot import LEARNING_RATE, MAX_LENGTH

# added to the seed that draws the measured rows: training draws in the same way, so with its seed
# they would be its first rows
ROWS_SEED = 10**6


@dataclass(frozen=True)
class Point:
    """A point of fine-tuning: after `progress` steps at this learning rate."""

    seed: int
    learning_rate: float
    progress: int


@dataclass(frozen=True)
class Decisions:
    """The decisions at each point.

    Attributes:
        fractions: of the prunable weights to prune in one decision.
        rows: number of rows for the gradient, and of unseen rows.
        fisher_rows: number of the gradient's rows for the curvature.
    """

    fractions: tuple[float, ...]
    rows: int = 128
    fisher_rows: int = 64


def points(seeds: int, learning_rates: Sequence[float], progress: Sequence[int]) -> Iterator[Point]:
    """All points, ordered by seed, learning rate and progress."""
    for seed in range(seeds):
        for learning_rate in learning_rates:
            for steps in progress:
                yield Point(seed, learning_rate, steps)


def measure(tuned: FineTuned, point: Point, decisions: Decisions) -> list[dict[str, Any]]:
    """Train on to a point; return its rows."""
    tuned.advance(point.progress)
    changes = tuned.loss_changes(
        list(CRITERIA),
        decisions.fractions,
        rows=decisions.rows,
        fisher_rows=decisions.fisher_rows,
        generator=torch.Generator().manual_seed(ROWS_SEED + point.seed),
    )
    return [{**asdict(point), **change} for change in changes]


class Courses:
    """Measures points in order; a fine-tuning continues while its seed and learning rate last."""

    def __init__(self, task: Task, model: str, decisions: Decisions, known: Sequence[Row]) -> None:
        self._task, self._model, self._decisions, self._known = task, model, decisions, known
        self._tuned: FineTuned | None = None
        self._course: tuple[int, float] | None = None

    def rows(self, point: Point) -> tuple[list[dict[str, Any]], str]:
        """The rows of a point, and one line about it."""
        rows = _same_weights(point, self._known)
        if not rows:
            course = (point.seed, point.learning_rate)
            if self._course != course:
                self._tuned = None
                gc.collect()  # the optimiser has reference cycles, and the next needs its memory
                self._tuned = FineTuned(
                    self._task, self._model, seed=point.seed, learning_rate=point.learning_rate
                )
                self._course = course
            assert self._tuned is not None
            measured = measure(self._tuned, point, self._decisions)
            rows = [{"task": self._task.name, **row} for row in measured]
        return rows, (
            f"{self._task.name} seed {point.seed}, learning rate {point.learning_rate:g}, "
            f"{point.progress} steps: loss {rows[0]['loss']:.3f}"
        )


def render(file: Path) -> str:
    """Write tables and figure from a results file alone; return the tables' text."""

    def figure(document: Document) -> Figure:
        return plots.scope_map(document["rows"])

    return benchmark.render(file, table, figure)


def run(
    task: Annotated[str, typer.Option(help="A name of pins.tasks.")] = "sst2",
    data: Data = None,
    seeds: Seeds = 3,
    learning_rates: Annotated[str, typer.Option(help="Of fine-tuning, separated by commas.")] = (
        "5e-5,2e-4"
    ),
    progress: Annotated[str, typer.Option(help="Steps of 16 rows, likewise.")] = "0,130,260",
    fractions: Annotated[str, typer.Option(help="To prune in one decision, likewise.")] = (
        "1e-5,1e-4,1e-3,0.01,0.05,0.1,0.2,0.5"
    ),
    rows: Annotated[
        int, typer.Option(min=1, help="Of the gradient; as many unseen.")
    ] = Decisions.rows,
    fisher_rows: Annotated[
        int, typer.Option(min=1, help="Of the curvature.")
    ] = Decisions.fisher_rows,
    model: Model = DEMO_MODEL,
    minutes: Minutes = None,
    out: Out = RESULTS,
    render_only: Render = False,
) -> None:
    """Measure the points that the results file does not hold yet."""
    file = out / f"scope_map-{task}.json"
    if not render_only:
        shares, rates, steps = (
            sorted(set(numbers(text, what, kind, allowed, like)))
            for text, what, kind, allowed, like in (
                (fractions, "fractions", float, lambda x: 0 < x < 1, "shares such as 1e-3,0.5"),
                (
                    learning_rates,
                    "learning rates",
                    float,
                    lambda x: 0 < x < float("inf"),
                    "numbers above 0 such as 5e-5,2e-4",
                ),
                (progress, "progress", int, lambda x: x >= 0, "steps such as 0,130,260"),
            )
        )
        decisions = Decisions(tuple(shares), rows, min(fisher_rows, rows))
        loaded = load_task(task, data_folder(task, data))
        about, paths = describe_model(model)
        settings = {
            "task": loaded.name,
            "data": dict(loaded.digests),
            **about,
            "criteria": list(CRITERIA),
            **asdict(decisions),
            "rows_seed": ROWS_SEED,
            "batch": BATCH,
            "max_length": MAX_LENGTH,
            "step_learning_rate": LEARNING_RATE,
        }
        document = benchmark.new_document(settings, {"DATA": data, "OUT": out, **paths})
        benchmark.resume(file, document)
        benchmark.complete(
            document,
            file,
            list(points(seeds, rates, steps)),
            key,
            Courses(loaded, model, decisions, document["rows"]).rows,
            minutes=minutes,
            what="points",
        )
    print(render(file))


def key(row: Row) -> Point:
    """The point of a row."""
    return Point(**{name: row[name] for name in Point.__dataclass_fields__})


def _same_weights(point: Point, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The rows of another learning rate at step 0 with the same seed; empty if there are none."""
    if point.progress:
        return []
    same = [row for row in rows if (row["seed"], row["progress"]) == (point.seed, 0)]
    first = [row for row in same if row["learning_rate"] == same[0]["learning_rate"]]
    return [{**row, "learning_rate": point.learning_rate} for row in first]
