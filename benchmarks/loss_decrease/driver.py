"""What does one pruning decision do to the loss? Predicted and measured, every criterion.

    python -m benchmarks.loss_decrease [--instance NAME] [--seeds 3] [--model M] [--task T]
                                       [--data FOLDER]

Writes NAME.json (a row per seed, criterion and fraction, with command, versions and machine beside
them), NAME.md (the table) and NAME.svg to the results folder. `--render` makes table and figure
again from the results file alone.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from benchmarks.harness.cli import execute
from benchmarks.harness.fine_tuned import BATCH, FineTuned, data_folder
from benchmarks.harness.results import RESULTS, read, rows_before, without_paths
from benchmarks.loss_decrease.instances import Instance, find_instance
from pins.importance.criteria import CRITERIA
from pins.tasks import load_task
from pins.utils.io import write_json, write_text
from pins.utils.provenance import provenance
from verification import plots
from verification.experiments.loss_change import (
    by_fraction,
    lowest_of_all,
    pins_lowers_most,
    step_alone,
)
from verification.formatting import percent, signed

LEARNING_RATE = 2e-4
FISHER_ROWS = 64
REGION = "trust-region"
WIDE = 0.01  # of the weights in one decision: from here on no linear model can be trusted


def measure(instance: Instance, seed: int, data: Path | None = None) -> list[dict[str, Any]]:
    """Fine-tune with this seed and look at every decision: rows of results."""
    tuned = FineTuned(
        load_task(instance.task, data), instance.model, seed=seed, learning_rate=LEARNING_RATE
    )
    tuned.advance(instance.dense_steps)
    changes = tuned.loss_changes(
        list(CRITERIA),
        instance.fractions,
        rows=instance.rows,
        fisher_rows=FISHER_ROWS,
        generator=torch.Generator().manual_seed(seed),
    )
    return [{"seed": seed, **change} for change in changes]


def mean_over_seeds(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row per criterion and fraction: means of predictions and measurements."""
    fields = ("predicted", "predicted_second_order", "measured", "measured_unseen")
    grouped: dict[tuple[str, float, int], list[Mapping[str, Any]]] = {}
    for row in rows:
        grouped.setdefault((row["criterion"], row["fraction"], row["pruned"]), []).append(row)
    return [
        {
            "criterion": criterion,
            "fraction": fraction,
            "pruned": pruned,
            **{field: statistics.fmean(row[field] for row in group) for field in fields},
        }
        for (criterion, fraction, pruned), group in grouped.items()
    ]


def table(document: Mapping[str, Any]) -> str:
    """The results as Markdown: measured change on the gradient's rows / on unseen rows."""
    rows = mean_over_seeds(document["rows"])
    by, alone = by_fraction(rows), step_alone(rows)
    names = list(next(iter(by.values())))
    seeds = sorted({row["seed"] for row in document["rows"]})
    losses = {row["seed"]: row["loss"] for row in document["rows"]}
    lines = [
        f"# Loss change of one pruning decision: {document['instance']}",
        "",
        f"Mean of {len(seeds)} seeds; measured on the {document['settings']['rows']} rows of the "
        f"gradient / on as many unseen rows. Loss before: "
        f"{', '.join(f'{loss:.3f}' for loss in losses.values())}. The SGD step alone: "
        f"{signed(alone['measured'])} / {signed(alone['measured_unseen'])}. "
        "Lowest of each line in bold.",
        "",
        "| pruned | pins predicts | " + " | ".join(names) + " |",
        "|---:" * (len(names) + 2) + "|",
    ]
    for fraction, cells in by.items():
        least = {f: min(c[f] for c in cells.values()) for f in ("measured", "measured_unseen")}
        shown = [
            " / ".join(
                f"**{signed(cells[name][field])}**"
                if cells[name][field] == least[field]
                else signed(cells[name][field])
                for field in ("measured", "measured_unseen")
            )
            for name in names
        ]
        lines.append(
            f"| {percent(fraction, 3)} | {signed(cells['pins']['predicted'])} | "
            + " | ".join(shown)
            + " |"
        )
    lines += ["", scope(rows)]
    versions = document["provenance"]["versions"]
    machine = document["provenance"]["machine"]
    lines += [
        "",
        f"`{document['provenance']['command']}`, {document['provenance']['date']}, Python "
        f"{document['provenance']['python']}, "
        + ", ".join(f"{name} {version}" for name, version in versions.items())
        + f", {machine['processor']}, {machine['cores']} cores, seeds {seeds}.",
        "",
    ]
    return "\n".join(lines)


def scope(rows: Sequence[Mapping[str, Any]]) -> str:
    """At which fractions pins, and trust-region, did what is claimed of them."""
    places = (("measured", "the gradient's rows"), ("measured_unseen", "unseen rows"))
    by = by_fraction(rows)
    held, lowest = [], []
    for field, where in places:
        fractions = [
            percent(fraction, 3) for fraction, cells in by.items() if pins_lowers_most(cells, field)
        ]
        held.append(f"on {where} at {' and '.join(fractions) or 'no fraction tried'}")
        least = [f for f, cells in by.items() if lowest_of_all(cells, REGION, field)]
        wide = [f for f in by if f >= WIDE]
        lowest.append(
            f"on {where} at {sum(f in least for f in wide)} of the {len(wide)} fractions from "
            f"{percent(WIDE, 0)} on and {sum(f in least for f in by if f < WIDE)} of the "
            f"{len(by) - len(wide)} below"
        )
    return (
        f"`pins` lowered the loss more than magnitude and sensitivity {', '.join(held)}. "
        f"`{REGION}` had the lowest measured loss of all criteria {', '.join(lowest)}."
    )


def render(file: Path) -> str:
    """Table and figure from a results file; the table's text."""
    document = read(file)
    text = table(document)
    write_text(text, file.with_suffix(".md"))
    figure = plots.loss_change(mean_over_seeds(document["rows"]))
    write_text(plots.svg(figure, file.stem), file.with_suffix(".svg"))
    return text


def run(
    instance: Annotated[
        str, typer.Option(help="A row of benchmarks/loss_decrease/instances.py.")
    ] = ("minilm-stdlib-docs"),
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds, from 0.")] = 3,
    model: Annotated[str | None, typer.Option(help="Another model: a folder or an id.")] = None,
    task: Annotated[str | None, typer.Option(help="Another task.")] = None,
    data: Annotated[Path | None, typer.Option(help="Holds glue/RTE …; default: the hub.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = RESULTS,
    render_only: Annotated[
        bool, typer.Option("--render", help="Table and figure again from the results file.")
    ] = False,
) -> None:
    """Measure, seed by seed; what an interrupted run has measured already is not done again."""
    chosen = find_instance(instance)
    chosen = replace(chosen, model=model or chosen.model, task=task or chosen.task)
    file = out / f"loss_decrease-{instance}.json"
    if not render_only:
        made = provenance()
        document: dict[str, Any] = {
            "instance": instance,
            "settings": {**asdict(chosen), "learning_rate": LEARNING_RATE, "batch": BATCH},
            "provenance": {
                **made,
                "command": without_paths(made["command"], {"DATA": data, "OUT": out}),
            },
            "rows": [],
        }
        document["rows"] = rows_before(file, document)
        done = {row["seed"] for row in document["rows"]}
        for seed in sorted(set(range(seeds)) - done):
            print(f"seed {seed} …", flush=True)
            document["rows"] += measure(chosen, seed, data_folder(chosen.task, data))
            write_json(document, file)
    print(render(file))


def main() -> None:
    """Run it as a command."""
    execute(run)
