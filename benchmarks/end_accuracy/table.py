"""Mean and spread of end accuracies over seeds, and the table that says what they do not tell."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.end_accuracy import decisions_table
from benchmarks.harness.results import measured_with
from verification.formatting import percent

Row = Mapping[str, Any]


def summary(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """One row for each task, method and sparsity, over the seeds that were run.

    `spread` is the sample standard deviation, None of one seed; `error` that of an accuracy of
    this mean on as many test rows, √(p(1−p)/n), None for other metrics. `mean` is None where every
    run failed.
    """
    grouped: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        key = (row["task"], row["method"], row["self_regularization"], row["sparsity"])
        grouped.setdefault(key, []).append(row)
    found = []
    for (task, method, regularized, sparsity), group in grouped.items():
        done = [row for row in group if "error" not in row]
        scores = [row["score"] for row in done]
        mean = statistics.fmean(scores) if scores else None
        error = None
        if mean is not None and done[0]["metric"] == "accuracy":
            error = math.sqrt(mean * (1 - mean) / min(row["test_rows"] for row in done))
        found.append(
            {
                "task": task,
                "method": method,
                "self_regularization": regularized,
                "sparsity": sparsity,
                "seeds": len(done),
                "failed": len(group) - len(done),
                "mean": mean,
                "spread": statistics.stdev(scores) if len(scores) > 1 else None,
                "error": error,
            }
        )
    return found


def table(document: Mapping[str, Any]) -> str:
    """The results as Markdown, a table for each task."""
    settings, rows = document["settings"], document["rows"]
    cells = summary(rows)
    done = sum(cell["seeds"] for cell in cells)
    lines = [
        f"# End accuracy of gradual pruning: {settings['model']}",
        "",
        f"{done} runs. Each starts from the pre-trained weights with a new head and takes "
        f"{settings['steps']} steps of {settings['batch_size']} rows of at most "
        f"{settings['max_length']} tokens (AdamW, {settings['learning_rate']:g} at its highest), "
        "the dense ones too. Score on the test rows after the last step: mean ± standard deviation "
        "over seeds (number of seeds). Bold: within one standard error of the best of its column. "
        "Nothing was tuned for any method.",
    ]
    for task in dict.fromkeys(row["task"] for row in rows):
        lines += ["", *_task(task, [cell for cell in cells if cell["task"] == task], document)]
    if decisions := decisions_table.table(rows):
        lines += ["", *decisions]
    failures = [
        f"{row['task']}, {_name(row)}, {percent(row['sparsity'], 0)}, seed {row['seed']}: failed "
        f"with {row['error']}"
        for row in rows
        if "error" in row
    ]
    lines += ["", *failures] if failures else []
    lines += ["", measured_with(document["provenance"]), ""]
    return "\n".join(lines)


def _task(task: str, cells: Sequence[Row], document: Mapping[str, Any]) -> list[str]:
    done = [row for row in document["rows"] if row["task"] == task and "error" not in row]
    sparsities = sorted({cell["sparsity"] for cell in cells})
    names = list(dict.fromkeys(_name(cell) for cell in cells))
    by = {(_name(cell), cell["sparsity"]): cell for cell in cells}
    best = {
        sparsity: max(
            (c for c in cells if c["sparsity"] == sparsity and c["mean"] is not None),
            key=lambda cell: cell["mean"],
            default=None,
        )
        for sparsity in sparsities
    }
    lines = [f"## {task}", ""]
    if done:
        lines += [_errors(task, cells, done, document), ""]
    lines += [
        "| method | " + " | ".join(percent(sparsity, 0) for sparsity in sparsities) + " |",
        "|---|" + "---:|" * len(sparsities),
    ]
    for name in names:
        shown = [_cell(by.get((name, sparsity)), best[sparsity]) for sparsity in sparsities]
        lines.append(f"| {name} | " + " | ".join(shown) + " |")
    return lines


def _errors(
    task: str, cells: Sequence[Row], done: Sequence[Row], document: Mapping[str, Any]
) -> str:
    """Metric, test rows, and which differences say nothing."""
    words = f"{done[0]['metric'].capitalize()} on {done[0]['test_rows']} test rows."
    majority = document["tasks"].get(task, {}).get("majority")
    if majority is not None:
        words += f" The most frequent class alone would have {majority:.3f}."
    errors = [cell["error"] for cell in cells if cell["error"] is not None]
    if errors:
        words += (
            f" The sampling error of one score is up to {max(errors):.3f} (one standard error): "
            "differences of this size say nothing."
        )
    return words


def _name(row: Row) -> str:
    return f"{row['method']}{' + self-regularisation' if row['self_regularization'] else ''}"


def _cell(cell: Row | None, best: Row | None) -> str:
    if cell is None:
        return "–"
    if cell["mean"] is None or best is None:
        return "failed"
    spread = "" if cell["spread"] is None else f" ± {cell['spread']:.3f}"
    text = f"{cell['mean']:.3f}{spread} ({cell['seeds']})"
    near = best["mean"] - cell["mean"] <= (best["error"] or 0.0)
    return f"**{text}**" if near and cell["sparsity"] > 0 else text
