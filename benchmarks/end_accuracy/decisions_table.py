"""Loss change of the decisions of gradual runs, on the rows of their steps."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from benchmarks.end_accuracy.gradual_pruning import MEASURED
from benchmarks.harness import markdown
from benchmarks.harness.results import Row, grouped, summarized
from verification.formatting import percent, signed

FIELDS = ("predicted", "measured")


def summary(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """One row for each task, sparsity and method, over the seeds with measured decisions.

    `predicted` and `measured` are sums over the decisions of a run, means over the seeds; `kept` is
    actual reduction / predicted reduction of a trust region over all decisions, None without one.
    """
    with_decisions = [r for r in rows if r.get("decisions") and not r["self_regularization"]]
    return summarized(with_decisions, ("task", "sparsity", "method"), _over_seeds)


def _over_seeds(rows: Sequence[Row]) -> dict[str, Any]:
    decisions = [dict(zip(MEASURED, d, strict=True)) for row in rows for d in row["decisions"]]
    regions = [decision for decision in decisions if decision["promised"]]
    promised = sum(decision["promised"] for decision in regions)
    return {
        "seeds": len(rows),
        **{field: sum(d[field] for d in decisions) / len(rows) for field in FIELDS},
        "kept": sum(d["kept"] for d in regions) / promised if promised else None,
    }


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
        columns = grouped(mine, "sparsity").items()
        least = {ratio: min(cell["measured"] for cell in group) for (ratio,), group in columns}
        blocks.append("\n".join(across(task, mine, "method", partial(_cell, least))))
        kept = [
            f"{cell['kept']:.1f} at {percent(cell['sparsity'], 0)}"
            for cell in mine
            if cell["kept"] is not None
        ]
        if kept:
            blocks.append(
                "Of what the trust region promised beyond optimal brain damage, the rows of the "
                f"step kept, measured / promised: {', '.join(kept)}."
            )
    return blocks


def across(title: str, cells: Sequence[Row], down: str, shown: Callable[[Row], str]) -> list[str]:
    """A table with a column for each sparsity; – for a missing cell.

    Args:
        title: of the first column.
        cells: each with a `sparsity`.
        down: field of a cell that names its row of the table.
        shown: cell ↦ its text.
    """
    sparsities = sorted({cell["sparsity"] for cell in cells})
    lines = []
    for (name,), line in grouped(cells, down).items():
        texts = {cell["sparsity"]: shown(cell) for cell in line}
        lines.append(" | ".join([name, *(texts.get(ratio, "–") for ratio in sparsities)]))
    return markdown.table(" | ".join([title, *(percent(s, 0) for s in sparsities)]), "lr", lines)


def _cell(least: Mapping[float, float], cell: Row) -> str:
    measured = signed(cell["measured"])
    if cell["measured"] == least[cell["sparsity"]]:
        measured = f"**{measured}**"
    return f"{signed(cell['predicted'])} → {measured} ({cell['seeds']})"
