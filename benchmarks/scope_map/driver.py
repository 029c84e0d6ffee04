"""Where does which criterion lower the real loss? One decision, looked at all over fine-tuning.

    python -m benchmarks.scope_map --task sst2 --data FOLDER [--seeds 3] [--minutes 60]

FOLDER holds glue/SST-2 and such. Fine-tuning runs once for each seed and learning rate and stops at
each progress (a number of steps), where every criterion prunes every fraction from the same
weights, after the same SGD step. The rows of such a point are written to scope_map-TASK.json when
all of it is measured: an interrupted benchmark goes on with the points that are not in the file
yet, and comes to the same numbers. Points come seed by seed, so stopping early leaves whole
comparisons. Tables and figure are made from the results file alone; `--render` makes them again.
Before the first step all learning rates are at the same weights: these are measured once.

The learning rate is that of fine-tuning. The SGD step before the mask, u = −ηg, has the same η at
every point, so that a mask is what differs between them, and not what a step is worth.
"""

import gc
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from benchmarks.harness.cli import execute
from benchmarks.harness.fine_tuned import BATCH, FineTuned, data_folder
from benchmarks.harness.results import RESULTS, read, rows_before, without_paths
from benchmarks.scope_map.table import table
from pins.errors import FileError, SettingError
from pins.importance.criteria import CRITERIA
from pins.models.pretrained import DEMO_MODEL, locate, weights_digest
from pins.tasks import Task, load_task
from pins.utils.io import write_json, write_text
from pins.utils.provenance import provenance
from verification import plots
from verification.experiments.model_snapshot import LEARNING_RATE, MAX_LENGTH

# the rows that a point is measured on: with the seed of training itself, which draws in the same
# way, they would be the first that it trains on
ROWS_SEED = 10**6


@dataclass(frozen=True)
class Point:
    """Where the decisions are looked at: after `progress` steps of fine-tuning."""

    seed: int
    learning_rate: float
    progress: int


@dataclass(frozen=True)
class Sight:
    """How each point is looked at.

    Attributes:
        fractions: of the prunable weights to prune in one decision.
        rows: on which the gradient is taken, and as many unseen ones.
        fisher_rows: of the former, on which the curvature is estimated.
    """

    fractions: tuple[float, ...]
    rows: int = 128
    fisher_rows: int = 64


def points(seeds: int, learning_rates: Sequence[float], progress: Sequence[int]) -> Iterator[Point]:
    """All points: seed by seed, learning rate by learning rate, in the course of fine-tuning."""
    for seed in range(seeds):
        for learning_rate in learning_rates:
            for steps in progress:
                yield Point(seed, learning_rate, steps)


def measure(tuned: FineTuned, point: Point, sight: Sight) -> list[dict[str, Any]]:
    """The rows of one point, to which the model goes on."""
    tuned.advance(point.progress)
    changes = tuned.loss_changes(
        list(CRITERIA),
        sight.fractions,
        rows=sight.rows,
        fisher_rows=sight.fisher_rows,
        generator=torch.Generator().manual_seed(ROWS_SEED + point.seed),
    )
    return [{**asdict(point), **change} for change in changes]


def render(file: Path) -> str:
    """Tables and figure from a results file; the tables' text."""
    document = read(file)
    if not document["rows"]:
        raise FileError(f"{file} holds no rows yet: measure a point first")
    text = table(document)
    write_text(text, file.with_suffix(".md"))
    figure = plots.scope_map(document["rows"])
    write_text(plots.svg(figure, file.stem), file.with_suffix(".svg"))
    return text


def run(
    task: Annotated[str, typer.Option(help="A name of pins.tasks.")] = "sst2",
    data: Annotated[Path | None, typer.Option(help="Holds glue/SST-2 …; default: the hub.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds, from 0.")] = 3,
    learning_rates: Annotated[str, typer.Option(help="Of fine-tuning, commas between.")] = (
        "5e-5,2e-4"
    ),
    progress: Annotated[str, typer.Option(help="Steps of 16 rows, likewise.")] = "0,130,260",
    fractions: Annotated[str, typer.Option(help="To prune in one decision, likewise.")] = (
        "1e-5,1e-4,1e-3,0.01,0.05,0.1,0.2,0.5"
    ),
    rows: Annotated[int, typer.Option(min=1, help="Of the gradient; as many unseen.")] = Sight.rows,
    fisher_rows: Annotated[int, typer.Option(min=1, help="Of the curvature.")] = Sight.fisher_rows,
    model: Annotated[str, typer.Option(help="A folder or an id.")] = DEMO_MODEL,
    minutes: Annotated[float | None, typer.Option(help="Start no point after so many.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = RESULTS,
    render_only: Annotated[
        bool, typer.Option("--render", help="Tables and figure again from the results file.")
    ] = False,
) -> None:
    """Measure what is not in the results file yet."""
    file = out / f"scope_map-{task}.json"
    if not render_only:
        ratio, positive = (lambda x: 0 < x < 1), (lambda x: 0 < x < float("inf"))
        sight = Sight(
            tuple(_numbers(fractions, "fractions", float, ratio)), rows, min(fisher_rows, rows)
        )
        wanted = list(
            points(
                seeds,
                _numbers(learning_rates, "learning rates", float, positive),
                _numbers(progress, "progress", int, lambda x: x >= 0),
            )
        )
        loaded = load_task(task, data_folder(task, data))
        document = _document(file, loaded, sight, model, {"DATA": data, "OUT": out})
        _measure_all(wanted, document, file, loaded, sight, model, minutes)
    print(render(file))


def _measure_all(
    wanted: Sequence[Point],
    document: dict[str, Any],
    file: Path,
    task: Task,
    sight: Sight,
    model: str,
    minutes: float | None,
) -> None:
    """Measure the points without rows; the file is whole after every one of them."""
    done = {_point(row) for row in document["rows"]}
    begun = time.monotonic()
    tuned: FineTuned | None = None
    course: tuple[int, float] | None = None
    for number, point in enumerate(wanted, start=1):
        if point in done:
            continue
        if minutes is not None and time.monotonic() - begun >= 60 * minutes:
            print(f"{minutes:g} minutes are over: {len(set(wanted) - done)} points are left")
            break
        start = time.monotonic()
        rows = _same_weights(point, document["rows"])
        if not rows:
            if tuned is None or course != (point.seed, point.learning_rate):
                if tuned is not None:
                    tuned = None
                    gc.collect()  # an optimiser is full of cycles, and the next needs its memory
                tuned = FineTuned(task, model, seed=point.seed, learning_rate=point.learning_rate)
                course = (point.seed, point.learning_rate)
            rows = [{"task": task.name, **row} for row in measure(tuned, point, sight)]
        document["rows"] += rows
        done.add(point)
        write_json(document, file)
        print(
            f"{number}/{len(wanted)} {task.name} seed {point.seed}, learning rate "
            f"{point.learning_rate:g}, {point.progress} steps: loss "
            f"{rows[0]['loss']:.3f} ({time.monotonic() - start:.0f} s)",
            flush=True,
        )


def _same_weights(point: Point, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows of another learning rate, where no step was taken with either; else none."""
    if point.progress:
        return []
    same = [row for row in rows if (row["seed"], row["progress"]) == (point.seed, 0)]
    first = [row for row in same if row["learning_rate"] == same[0]["learning_rate"]]
    return [{**row, "learning_rate": point.learning_rate} for row in first]


def _point(row: Mapping[str, Any]) -> Point:
    return Point(**{name: row[name] for name in Point.__dataclass_fields__})


def _document(
    file: Path, task: Task, sight: Sight, model: str, paths: Mapping[str, Path | str | None]
) -> dict[str, Any]:
    """What the file holds, or is to hold: settings, data, versions, and the rows so far."""
    named = Path(model).name if Path(model).is_dir() else model
    made = provenance()
    document: dict[str, Any] = {
        "settings": {
            "task": task.name,
            "data": dict(task.digests),
            "model": named,
            "weights_sha256": weights_digest(locate(model)),
            "criteria": list(CRITERIA),
            **asdict(sight),
            "rows_seed": ROWS_SEED,
            "batch": BATCH,
            "max_length": MAX_LENGTH,
            "step_learning_rate": LEARNING_RATE,
        },
        "provenance": {
            **made,
            "command": without_paths(made["command"], {**paths, named: model}),
        },
        "rows": [],
    }
    document["rows"] = rows_before(file, document)
    return document


def _numbers(
    text: str, what: str, kind: Callable[[str], Any], allowed: Callable[[Any], bool]
) -> list[Any]:
    """The numbers of an option, ascending, each once."""
    try:
        numbers = sorted({kind(word) for word in text.split(",")})
    except ValueError:
        numbers = []
    if not numbers or not all(allowed(number) for number in numbers):
        raise SettingError(f"{what} is {text!r}: give numbers like {_LIKE[what]}")
    return numbers


_LIKE = {
    "fractions": "1e-3,0.5, between 0 and 1",
    "learning rates": "5e-5,2e-4, above 0",
    "progress": "0,130,260, steps from 0 on",
}


def main() -> None:
    """Run it as a command."""
    execute(run)
