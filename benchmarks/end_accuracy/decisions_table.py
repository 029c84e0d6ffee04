"""What the decisions of gradual runs did to the loss of their own rows: predicted and measured."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.end_accuracy.gradual_pruning import MEASURED
from verification.formatting import percent, signed

Row = Mapping[str, Any]


def summary(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """One row for each task, sparsity and method, over the seeds whose decisions were measured.

    `predicted` and `measured` are sums over the decisions of a run, as means over the seeds;
    `ratio` is the median over all decisions of measured / predicted; `kept` the share of a trust
    region's promises that was kept, all decisions together, None without promises.
    """
    grouped: dict[tuple[str, float, str], list[Row]] = {}
    for row in rows:
        if row.get("decisions") and not row["self_regularization"]:
            grouped.setdefault((row["task"], row["sparsity"], row["method"]), []).append(row)
    found = []
    for (task, sparsity, method), group in grouped.items():
        runs = [[dict(zip(MEASURED, d, strict=True)) for d in row["decisions"]] for row in group]
        decisions = [decision for run in runs for decision in run]
        promises = [decision for decision in decisions if decision["promised"]]
        promised = sum(decision["promised"] for decision in promises)
        found.append(
            {
                "task": task,
                "sparsity": sparsity,
                "method": method,
                "seeds": len(group),
                "decisions": len(runs[0]),
                **{
                    field: statistics.fmean(sum(d[field] for d in run) for run in runs)
                    for field in ("predicted", "measured")
                },
                "ratio": statistics.median(
                    d["measured"] / d["predicted"] for d in decisions if d["predicted"]
                ),
                "kept": sum(d["kept"] for d in promises) / promised if promised else None,
            }
        )
    return found


def table(rows: Sequence[Row]) -> list[str]:
    """The summary as lines of Markdown, a table for each task; none where nothing was measured."""
    cells = summary(rows)
    if not cells:
        return []
    lines = [
        "## What the decisions did to the loss",
        "",
        "All decisions of a run added up: the change of the loss of the step's own rows by the "
        "mask, predicted to first order → measured; mean over seeds (number of seeds). In bold the "
        "lowest measured. Later decisions are about models that the earlier ones made, so what "
        "counts is what is left in the end.",
    ]
    for task in dict.fromkeys(cell["task"] for cell in cells):
        mine = [cell for cell in cells if cell["task"] == task]
        sparsities = sorted({cell["sparsity"] for cell in mine})
        by = {(cell["method"], cell["sparsity"]): cell for cell in mine}
        least = {s: min(c["measured"] for c in mine if c["sparsity"] == s) for s in sparsities}
        lines += [
            "",
            f"| {task} | " + " | ".join(percent(sparsity, 0) for sparsity in sparsities) + " |",
            "|---|" + "---:|" * len(sparsities),
        ]
        for method in dict.fromkeys(cell["method"] for cell in mine):
            shown = [_cell(by.get((method, sparsity)), least[sparsity]) for sparsity in sparsities]
            lines.append(f"| {method} | " + " | ".join(shown) + " |")
        kept = [
            f"{cell['kept']:.1f} at {percent(cell['sparsity'], 0)}"
            for cell in mine
            if cell["kept"] is not None
        ]
        if kept:
            lines += [
                "",
                "Of what the trust region promised beyond optimal brain damage, the rows of the "
                f"step kept, measured / promised: {', '.join(kept)}.",
            ]
    return lines


def _cell(cell: Row | None, least: float) -> str:
    if cell is None:
        return "–"
    measured = signed(cell["measured"])
    if cell["measured"] == least:
        measured = f"**{measured}**"
    return f"{signed(cell['predicted'])} → {measured} ({cell['seeds']})"
