"""Loss change of one pruning decision, predicted and measured, for every criterion.

    python -m benchmarks.loss_decrease [--instance NAME] [--seeds 3] [--model M] [--task T]
                                       [--data FOLDER]

Writes loss_decrease-NAME.json (a row per seed, criterion and fraction), its table and its figure to
the results folder.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.harness import benchmark, markdown
from benchmarks.harness.cli import Data, Out, Render, Seeds
from benchmarks.harness.fine_tuned import BATCH, FineTuned, data_folder
from benchmarks.harness.markdown import measured_with
from benchmarks.harness.results import RESULTS, Row, summarized
from benchmarks.loss_decrease.instances import INSTANCES, Instance
from pins.errors import SettingError
from pins.tasks import load_task
from pins.utils.lookup import find
from verification import plots
from verification.experiments import loss_change
from verification.formatting import percent, signed

LEARNING_RATE = 2e-4
FISHER_ROWS = 64
REGION = "trust-region"
MEASURED = {"measured": "the gradient's rows", "measured_unseen": "unseen rows"}
WIDE = 0.01  # from this fraction of the weights on, a linear model is wrong for one decision


@dataclass(frozen=True)
class FineTuning:
    """One run; the seed sets the head, the order of rows, dropout, and the measured rows."""

    seed: int


def measure(instance: Instance, seed: int, data: Path | None = None) -> list[dict[str, Any]]:
    """The rows of one seed: fine-tune, then measure every decision."""
    task = load_task(instance.task, data)
    tuned = FineTuned(task, instance.model, seed=seed, learning_rate=LEARNING_RATE)
    tuned.advance(instance.dense_steps)
    return tuned.loss_changes(
        instance.fractions, rows=instance.rows, fisher_rows=FISHER_ROWS, seed=seed
    )


def mean_over_seeds(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """One row per criterion and fraction: means of predictions and measurements."""
    fields = ("predicted", "predicted_second_order", *MEASURED)
    return summarized(
        rows,
        ("criterion", "fraction", "pruned"),
        lambda group: {field: statistics.fmean(row[field] for row in group) for field in fields},
    )


def table(document: Mapping[str, Any]) -> str:
    """The results as Markdown: measured change on the gradient's rows / on unseen rows."""
    rows = mean_over_seeds(document["rows"])
    by, alone = loss_change.by_fraction(rows), loss_change.step_alone(rows)
    names = list(next(iter(by.values())))
    seeds = sorted({row["seed"] for row in document["rows"]})
    losses = {row["seed"]: row["loss"] for row in document["rows"]}
    return markdown.document(
        f"# Loss change of one pruning decision: {document['instance']}",
        f"Mean of {len(seeds)} seeds; measured on the {document['settings']['rows']} rows of the "
        f"gradient / on as many unseen rows. Loss before: "
        f"{', '.join(f'{loss:.3f}' for loss in losses.values())}. The SGD step alone: "
        f"{signed(alone['measured'])} / {signed(alone['measured_unseen'])}. "
        "Lowest of each line in bold.",
        markdown.table(
            " | ".join(("pruned", "pins predicts", *names)),
            "r",
            (
                f"{percent(fraction, 3)} | {signed(cells['pins']['predicted'])} | {_changes(cells)}"
                for fraction, cells in by.items()
            ),
        ),
        scope(rows),
        measured_with(document["provenance"], f"seeds {seeds}"),
    )


def _changes(cells: Mapping[str, Row]) -> str:
    """Each criterion's measured changes, the lowest in bold."""
    least = {field: min(row[field] for row in cells.values()) for field in MEASURED}
    return " | ".join(
        " / ".join(
            f"**{signed(row[field])}**" if row[field] == least[field] else signed(row[field])
            for field in MEASURED
        )
        for row in cells.values()
    )


def scope(rows: Sequence[Row]) -> str:
    """The fractions at which pins and trust-region had the lowest loss, as claimed."""
    by = loss_change.by_fraction(rows)
    held, lowest = [], []
    for field, where in MEASURED.items():
        fractions = [
            percent(fraction, 3)
            for fraction, cells in by.items()
            if loss_change.pins_lowers_most(cells, field)
        ]
        held.append(f"on {where} at {' and '.join(fractions) or 'no fraction tried'}")
        least = {f: loss_change.lowest_of_all(cells, REGION, field) for f, cells in by.items()}
        wide = [best for f, best in least.items() if f >= WIDE]
        narrow = [best for f, best in least.items() if f < WIDE]
        lowest.append(
            f"on {where} at {sum(wide)} of the {len(wide)} fractions from {percent(WIDE, 0)} on "
            f"and {sum(narrow)} of the {len(narrow)} below"
        )
    return (
        f"`pins` lowered the loss more than magnitude and sensitivity {', '.join(held)}. "
        f"`{REGION}` had the lowest measured loss of all criteria {', '.join(lowest)}."
    )


def run(
    instance: Annotated[
        str, typer.Option(help="A row of benchmarks/loss_decrease/instances.py.")
    ] = "minilm-stdlib-docs",
    seeds: Seeds = 3,
    model: Annotated[str | None, typer.Option(help="Another model: a folder or an id.")] = None,
    task: Annotated[str | None, typer.Option(help="Another task.")] = None,
    data: Data = None,
    out: Out = RESULTS,
    render_only: Render = False,
) -> None:
    """Measure seed by seed what the results file does not hold yet."""
    chosen = find(INSTANCES, instance, "instance", SettingError)
    chosen = replace(chosen, model=model or chosen.model, task=task or chosen.task)
    name = f"loss_decrease-{instance}.json"
    if not render_only:
        settings = {**asdict(chosen), "learning_rate": LEARNING_RATE, "batch": BATCH}
        document = benchmark.new_document(settings, {"DATA": data, "OUT": out}, instance=instance)
        benchmark.resume(out / name, document)
        benchmark.complete(
            document,
            out / name,
            [FineTuning(seed) for seed in range(seeds)],
            lambda of: measure(chosen, of.seed, data_folder(chosen.task, data)),
            shows="loss {loss:.3f}",
        )
    benchmark.render(
        out, name, table, lambda document: plots.loss_change(mean_over_seeds(document["rows"]))
    )
