"""End accuracies: mean and standard deviation over the seeds, and their sampling error."""

import math
import statistics
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any

from benchmarks.end_accuracy import decisions_table
from benchmarks.harness import markdown
from benchmarks.harness.markdown import measured_with
from benchmarks.harness.results import Row, grouped, summarized
from verification.formatting import percent


def summary(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """One row for each task, method and sparsity, over the seeds that did not fail.

    `spread` is the sample standard deviation, None for one seed; `error` is the sampling error
    √(p(1−p)/n) of an accuracy, None for other metrics; `mean` is None if every run failed.
    """
    return summarized(rows, ("task", "method", "self_regularization", "sparsity"), _over_seeds)


def _over_seeds(rows: Sequence[Row]) -> dict[str, Any]:
    done = [row for row in rows if "error" not in row]
    scores = [row["score"] for row in done]
    mean = statistics.fmean(scores) if scores else None
    error = None
    if mean is not None and done[0]["metric"] == "accuracy":
        error = math.sqrt(mean * (1 - mean) / min(row["test_rows"] for row in done))
    spread = statistics.stdev(scores) if len(scores) > 1 else None
    return {"seeds": len(done), "mean": mean, "spread": spread, "error": error}


def table(document: Mapping[str, Any]) -> str:
    """The results as Markdown, a table for each task."""
    settings, rows = document["settings"], document["rows"]
    cells = summary(rows)
    done = sum(cell["seeds"] for cell in cells)
    return markdown.document(
        f"# End accuracy of gradual pruning: {settings['model']}",
        f"{done} runs. Each starts from the pre-trained weights with a new head and takes "
        f"{settings['steps']} steps of {settings['batch_size']} rows of at most "
        f"{settings['max_length']} tokens (AdamW, {settings['learning_rate']:g} at its highest), "
        "the dense ones too. Score on the test rows after the last step: mean ± standard deviation "
        "over seeds (number of seeds). Bold: within one standard error of the best of its column. "
        "Nothing was tuned for any method.",
        _without_window(rows),
        *chain.from_iterable(_task(mine, document) for mine in grouped(cells, "task").values()),
        *decisions_table.table(rows),
        [
            f"{row['task']}, {_name(row)}, {percent(row['sparsity'], 0)}, seed {row['seed']}: "
            f"failed with {row['error']}"
            for row in rows
            if "error" in row
        ],
        measured_with(document["provenance"]),
    )


def _without_window(rows: Sequence[Row]) -> str:
    """What is said of runs of `platon` from before its window was part of it; "" without any."""
    old = sum(row["method"] == "platon" and not row.get("window", False) for row in rows)
    if not old:
        return ""
    return (
        f"{old} runs of platon were measured without its window: the scores of every step entered "
        "the averages, not, as in PLATON, their mean between two decisions."
    )


def _task(cells: Sequence[Row], document: Mapping[str, Any]) -> list[str | list[str]]:
    task = cells[0]["task"]
    scored = grouped([cell for cell in cells if cell["mean"] is not None], "sparsity")
    best = {ratio: max(group, key=lambda cell: cell["mean"]) for (ratio,), group in scored.items()}
    named = [{**cell, "name": _name(cell)} for cell in cells]
    lines = decisions_table.across("method", named, "name", partial(_cell, best))
    return [f"## {task}", _errors(task, cells, document), lines]


def _errors(task: str, cells: Sequence[Row], document: Mapping[str, Any]) -> str:
    """Metric, number of test rows, and the sampling error of a score; "" if every run failed."""
    done = [row for row in document["rows"] if row["task"] == task and "error" not in row]
    if not done:
        return ""
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


def _cell(best: Mapping[float, Row], cell: Row) -> str:
    if cell["mean"] is None:
        return "failed"
    top = best[cell["sparsity"]]
    spread = "" if cell["spread"] is None else f" ± {cell['spread']:.3f}"
    text = f"{cell['mean']:.3f}{spread} ({cell['seeds']})"
    near = top["mean"] - cell["mean"] <= (top["error"] or 0.0)
    return f"**{text}**" if near and cell["sparsity"] > 0 else text
