"""Loss change of the decisions of gradual runs, on the rows of their steps."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from benchmarks.end_accuracy.gradual_pruning import MEASURED
from benchmarks.harness import markdown
from benchmarks.harness.results import Row, grouped
from verification.formatting import percent, signed


def summary(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """One row for each task, sparsity and method, over the seeds with measured decisions.

    `predicted` and `measured` are sums over the decisions of a run, means over the seeds; `ratio`
    is the median of measured / predicted over all decisions; `kept` is the actual reduction / the
    predicted reduction of a trust region over all decisions, None without a trust region.
    """
    with_decisions = [r for r in rows if r.get("decisions") and not r["self_regularization"]]
    found = []
    names = ("task", "sparsity", "method")
    for values, group in grouped(with_decisions, *names).items():
        runs = [[dict(zip(MEASURED, d, strict=True)) for d in row["decisions"]] for row in group]
        decisions = [decision for run in runs for decision in run]
        promises = [decision for decision in decisions if decision["promised"]]
        promised = sum(decision["promised"] for decision in promises)
        found.append(
            {
                **dict(zip(names, values, strict=True)),
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
    """The summary as Markdown, a table for each task; empty if no decision was measured."""
    cells = summary(rows)
    if not cells:
        return []
    blocks = [
        "## What the decisions did to the loss",
        "All decisions of a run added up: the change of the loss of the step's own rows by the "
        "mask, predicted to first order → measured; mean over seeds (number of seeds). In bold the "
        "lowest measured. Later decisions are about models that the earlier ones made, so what "
        "counts is what is left in the end.",
    ]
    for (task,), mine in grouped(cells, "task").items():
        least = {
            sparsity: min(cell["measured"] for cell in group)
            for (sparsity,), group in grouped(mine, "sparsity").items()
        }
        blocks.append("\n".join(across(task, mine, "method", partial(_cell, least))))
        kept = ", ".join(
            f"{cell['kept']:.1f} at {percent(cell['sparsity'], 0)}"
            for cell in mine
            if cell["kept"] is not None
        )
        if kept:
            blocks.append(
                "Of what the trust region promised beyond optimal brain damage, the rows of the "
                f"step kept, measured / promised: {kept}."
            )
    return blocks


def across(title: str, cells: Sequence[Row], down: str, shown: Callable[[Row], str]) -> list[str]:
    """A table with sparsities across; – for a missing cell.

    Args:
        title: of the first column.
        cells: each with a `sparsity`.
        down: field of a cell that names its line.
        shown: cell ↦ its text.
    """
    sparsities = sorted({cell["sparsity"] for cell in cells})
    lines = grouped(cells, down)
    return markdown.table(
        " | ".join([title, *(percent(sparsity, 0) for sparsity in sparsities)]),
        "lr",
        (
            " | ".join(
                [name, *({c["sparsity"]: shown(c) for c in line}.get(s, "–") for s in sparsities)]
            )
            for (name,), line in lines.items()
        ),
    )


def _cell(least: Mapping[float, float], cell: Row) -> str:
    measured = signed(cell["measured"])
    if cell["measured"] == least[cell["sparsity"]]:
        measured = f"**{measured}**"
    return f"{signed(cell['predicted'])} → {measured} ({cell['seeds']})"
