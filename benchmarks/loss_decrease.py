"""What does one pruning decision do to the loss? Predicted and measured, every criterion.

    python -m benchmarks.loss_decrease [--instance NAME] [--seeds 3] [--model M] [--task T]

Writes NAME.json (a row per seed, criterion and fraction, with command, versions and machine beside
them), NAME.md (the table) and NAME.svg to the results folder. `--render` makes table and figure
again from the results file alone.
"""

import itertools
import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from benchmarks.instances import Instance, find_instance
from pins.criteria import CRITERIA
from pins.errors import FileError, PinsError
from pins.files import write_json, write_text
from pins.huggingface import load_model
from pins.parameters import prunable_parameters
from pins.provenance import provenance
from pins.tasks import load_task
from pins.training import training_steps
from verification import plots
from verification.loss_decrease import (
    Experiment,
    by_fraction,
    loss_changes,
    pins_lowers_most,
    step_alone,
)
from verification.real_model import MAX_LENGTH
from verification.report import percent, signed

RESULTS = Path(__file__).parent / "results"
LEARNING_RATE = 2e-4
BATCH = 16
FISHER_ROWS = 64


def measure(instance: Instance, seed: int) -> list[dict[str, Any]]:
    """Fine-tune with this seed and look at every decision: rows of results."""
    task = load_task(instance.task)
    classifier = load_model(instance.model, task.heads, task.labels, seed=seed)
    train = task.encode(task.train, classifier.tokenizer, MAX_LENGTH, classifier.head, train=True)
    test = task.encode(task.test, classifier.tokenizer, MAX_LENGTH, classifier.head, train=False)
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(classifier.model.parameters(), lr=LEARNING_RATE)
    batches = itertools.islice(train.stream(BATCH, seed=seed), instance.dense_steps)
    for _ in training_steps(classifier.model, batches, optimizer):
        pass
    experiment = Experiment(
        model=classifier.model,
        parameters=prunable_parameters(classifier.model).parameters,
        rows=train.sample(instance.rows, generator),
        unseen=test.sample(instance.rows, generator),
    )
    observed = experiment.observe(
        instance.model, fisher_rows=min(FISHER_ROWS, instance.rows), seed=seed
    )
    start = experiment.losses()
    changes = loss_changes(experiment, observed, list(CRITERIA), instance.fractions, start)
    return [
        {"seed": seed, "loss": start.rows, "loss_unseen": start.unseen, **asdict(change)}
        for change in changes
    ]


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
    """At which fractions pins lowered the loss more than magnitude and sensitivity did."""
    held = []
    for field, where in (("measured", "the gradient's rows"), ("measured_unseen", "unseen rows")):
        fractions = [
            percent(fraction, 3)
            for fraction, cells in by_fraction(rows).items()
            if pins_lowers_most(cells, field)
        ]
        held.append(f"on {where} at {' and '.join(fractions) or 'no fraction tried'}")
    return f"`pins` lowered the loss more than magnitude and sensitivity {', '.join(held)}."


def render(file: Path) -> str:
    """Table and figure from a results file; the table's text."""
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FileError(f"{file} is not a results file: {error}") from error
    text = table(document)
    write_text(text, file.with_suffix(".md"))
    figure = plots.loss_change(mean_over_seeds(document["rows"]))
    write_text(plots.svg(figure, file.stem), file.with_suffix(".svg"))
    return text


def run(
    instance: Annotated[str, typer.Option(help="A row of benchmarks/instances.py.")] = (
        "minilm-stdlib-docs"
    ),
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds, from 0.")] = 3,
    model: Annotated[str | None, typer.Option(help="Another model: a folder or an id.")] = None,
    task: Annotated[str | None, typer.Option(help="Another task.")] = None,
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
        document: dict[str, Any] = {
            "instance": instance,
            "settings": {**asdict(chosen), "learning_rate": LEARNING_RATE, "batch": BATCH},
            "provenance": provenance(),
            "rows": [],
        }
        document["rows"] = _measured_before(file, document)
        done = {row["seed"] for row in document["rows"]}
        for seed in sorted(set(range(seeds)) - done):
            print(f"seed {seed} …", flush=True)
            document["rows"] += measure(chosen, seed)
            write_json(document, file)
    print(render(file))


def _measured_before(file: Path, document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of an earlier, interrupted run with the same settings and versions; else none.

    Raises:
        FileError: the file holds results of other settings, which are not overwritten.
    """
    if not file.is_file():
        return []
    earlier: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    settings = json.loads(json.dumps(document["settings"]))
    if earlier["settings"] != settings:
        raise FileError(f"{file} holds results of other settings: move it, or give another --out")
    if earlier["provenance"]["versions"] != document["provenance"]["versions"]:
        raise FileError(f"{file} holds results of other versions: move it, or give another --out")
    rows: list[dict[str, Any]] = earlier["rows"]
    return rows


def main() -> None:
    """Run; an error PINS raises on purpose becomes one line and exit code 2."""
    try:
        typer.run(run)
    except PinsError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
