"""Loss change of one decision by every criterion, at many fractions and points of fine-tuning.

    python -m benchmarks.scope_map --task sst2 --data FOLDER [--seeds 3] [--minutes 60]

FOLDER holds glue/SST-2 and such. Fine-tuning runs once for each seed and learning rate and stops at
each progress (a number of steps), where every criterion prunes every fraction from the same
weights, after the same SGD step. The rows of a point are written to scope_map-TASK.json when the
point is complete: an interrupted benchmark continues with the missing points and gets the same
numbers. Points come seed by seed, so stopping early leaves complete comparisons. Before the first
step the weights do not depend on the learning rate: these points are measured once.

The learning rate of a point belongs to fine-tuning. The SGD step before the mask, u = −ηg, has the
same η at every point, because one decision is measured and not a schedule.
"""

import gc
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import typer

from benchmarks.harness import benchmark
from benchmarks.harness.cli import Data, Minutes, Model, Out, Render, Seeds, numbers
from benchmarks.harness.fine_tuned import BATCH, FineTuned, data_folder, describe_model
from benchmarks.harness.results import RESULTS, Row
from benchmarks.scope_map.table import table
from pins.importance.criteria import CRITERIA
from pins.models.pretrained import DEMO_MODEL
from pins.tasks import Task, load_task
from verification import plots
from verification.experiments.model_snapshot import LEARNING_RATE, MAX_LENGTH

# added to the seed that draws the measured rows: with the seed of training they would be the first
# rows of training
ROWS_SEED = 10**6
RATES, SHARES = "numbers above 0 such as 5e-5,2e-4", "shares such as 1e-3,0.5"  # for messages


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
    rows: int
    fisher_rows: int


def points(seeds: int, learning_rates: Sequence[float], progress: Sequence[int]) -> list[Point]:
    """All points, ordered by seed, learning rate and progress."""
    return [
        Point(seed, learning_rate, steps)
        for seed in range(seeds)
        for learning_rate in sorted(set(learning_rates))
        for steps in sorted(set(progress))
    ]


def measure(tuned: FineTuned, point: Point, decisions: Decisions) -> list[dict[str, Any]]:
    """Train on to a point; return its rows."""
    tuned.advance(point.progress)
    return tuned.loss_changes(**asdict(decisions), seed=ROWS_SEED + point.seed)


def in_order(
    task: Task, model: str, decisions: Decisions, known: Sequence[Row]
) -> Callable[[Point], Sequence[Row]]:
    """A function that measures points in order: point ↦ its rows.

    A fine-tuning goes on from point to point of the same seed and learning rate.

    Args:
        task: of the fine-tuning.
        model: with the first weights.
        decisions: at each point.
        known: the rows measured so far.
    """
    course: dict[tuple[int, float], FineTuned] = {}

    def rows_of(point: Point) -> Sequence[Row]:
        if rows := _same_weights(point, known):
            return rows
        of = (point.seed, point.learning_rate)
        if of not in course:
            course.clear()
            gc.collect()  # the optimiser has reference cycles, and the next needs its memory
            course[of] = FineTuned(task, model, seed=of[0], learning_rate=of[1])
        return [{"task": task.name, **row} for row in measure(course[of], point, decisions)]

    return rows_of


def _same_weights(point: Point, rows: Sequence[Row]) -> Sequence[Row]:
    """The rows of another learning rate at step 0 with the same seed; empty if there are none."""
    if point.progress:
        return []
    same = [row for row in rows if (row["seed"], row["progress"]) == (point.seed, 0)]
    return [row for row in same if row["learning_rate"] == same[0]["learning_rate"]]


def run(
    task: Annotated[str, typer.Option(help="A name of pins.tasks.")] = "sst2",
    data: Data = None,
    seeds: Seeds = 3,
    learning_rates: Annotated[str, typer.Option(help="Of fine-tuning.")] = "5e-5,2e-4",
    progress: Annotated[str, typer.Option(help="Steps of 16 rows.")] = "0,130,260",
    fractions: Annotated[
        str, typer.Option(help="To prune in one decision.")
    ] = "1e-5,1e-4,1e-3,0.01,0.05,0.1,0.2,0.5",
    rows: Annotated[int, typer.Option(min=1, help="Of the gradient; as many unseen.")] = 128,
    fisher_rows: Annotated[int, typer.Option(min=1, help="Of the curvature.")] = 64,
    model: Model = DEMO_MODEL,
    minutes: Minutes = None,
    out: Out = RESULTS,
    render_only: Render = False,
) -> None:
    """Measure the points that the results file does not hold yet."""
    file = f"scope_map-{task}.json"
    if not render_only:
        wanted = points(
            seeds,
            numbers(learning_rates, "learning rates", float, lambda x: 0 < x < math.inf, RATES),
            numbers(progress, "progress", int, lambda x: x >= 0, "steps such as 0,130,260"),
        )
        shares = numbers(fractions, "fractions", float, lambda x: 0 < x < 1, SHARES)
        decisions = Decisions(tuple(sorted(set(shares))), rows, min(fisher_rows, rows))
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
        benchmark.resume(out / file, document)
        rows_of = in_order(loaded, model, decisions, document["rows"])
        benchmark.complete(
            document, out / file, wanted, rows_of, shows="loss {loss:.3f}", minutes=minutes
        )
    benchmark.render(out, file, table, lambda document: plots.scope_map(document["rows"]))
