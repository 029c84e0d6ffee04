"""The tables of the layers: excess errors over the best found, by layer type and method."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.harness import markdown
from benchmarks.harness.markdown import measured_with, number
from benchmarks.harness.one_shot import HALF, SETTINGS, TWO_OF_FOUR, about, methods, not_measured
from benchmarks.harness.results import Row, grouped
from verification.formatting import joined, percent

METHODS = methods(
    "magnitude",
    "magnitude + refit",
    "wanda",
    "wanda + refit",
    "wanda + swaps",
    "ria",
    "ria + refit",
    "sparsegpt",
    "sparsegpt + refit",
    "alps",
    "alps + swaps",
    "obs",
    "obs + swaps",
)
MEASURED = (HALF, TWO_OF_FOUR)


def table(document: Mapping[str, Any]) -> str:
    """The results as Markdown, a table for each setting."""
    settings, rows = document["settings"], document["rows"]
    blocks = sorted({row["block"] for row in rows})
    by = {setting: found for (setting,), found in grouped(rows, "setting").items()}
    return markdown.document(
        "# Reconstruction errors of layers after one-shot pruning",
        f"{about(settings)} Layers of blocks numbered {joined([*map(str, blocks)])}, from what "
        "they read in the dense model, the same for every method. `pins`, `sensitivity`, `obd` and "
        "`trust-region` are left out: they read gradients of the whole model's loss, and no Gram "
        "matrix.",
        "Excess: the method's error of a layer's outputs over the least of all methods measured on "
        "the block, less 1; mean over the blocks. Best of: the layers in which no method has less. "
        "The error is without damping, while refit and swaps minimise with damping: so their "
        "excess can be above that of another mask's. `alps`, `obs` and swaps end with a refit. "
        "Core-seconds: of one block.",
        *(
            text
            for setting in SETTINGS
            if setting in by
            for text in (f"## {setting}", _table(by[setting]), _words(by[setting]))
        ),
        f"{sum(row['cpu'] for row in rows) / 3600:.2f} core-hours for {len(rows)} runs, and those "
        "of the dense model's passes.",
        measured_with(document["provenance"]),
    )


def best(rows: Sequence[Row]) -> dict[tuple[int, str], float]:
    """The least relative error of each layer, by block and name, over the methods."""
    least: dict[tuple[int, str], float] = {}
    for row in rows:
        for name, error in row["relative_errors"].items():
            key = row["block"], name
            least[key] = min(error, least.get(key, error))
    return least


def excesses(rows: Sequence[Row], method: str) -> dict[str, list[float]]:
    """Of a method, by layer: its error over the best of the same rows, less 1, for each block."""
    least = best(rows)
    found: dict[str, list[float]] = {}
    for row in rows:
        for name, error in row["relative_errors"].items() if row["method"] == method else ():
            over = error / least[row["block"], name] - 1 if error else 0.0
            found.setdefault(name, []).append(over)
    return found


def _table(rows: Sequence[Row]) -> list[str]:
    names = list(rows[0]["relative_errors"])
    titles = [name.rpartition(".")[2].removesuffix("_proj") for name in names]
    ends = f"all | best of {len(best(rows))} | swaps | core-seconds"
    head = f"method | blocks | {' | '.join(titles)} | {ends}"
    by = {method: group for (method,), group in grouped(rows, "method").items()}
    return markdown.table(
        head, "lr", (_cells(method, by[method], rows) for method in METHODS if method in by)
    )


def _cells(method: str, own: Sequence[Row], rows: Sequence[Row]) -> str:
    found = excesses(rows, method)
    every = [over for each in found.values() for over in each]
    swaps = [row["swaps"] for row in own if row["swaps"] is not None]
    return " | ".join(
        [
            method,
            str(len(own)),
            *(_percent(statistics.fmean(each)) for each in found.values()),
            _percent(statistics.fmean(every)),
            str(sum(over == 0 for over in every)),
            number(statistics.fmean(swaps)) if swaps else "",
            number(statistics.fmean(row["cpu"] for row in own)),
        ]
    )


def _words(rows: Sequence[Row]) -> str:
    """The least errors, which the excesses are over, and what was not measured."""
    least = best(rows).values()
    missing = not_measured(METHODS, [row["method"] for row in rows])
    return (
        f"The least errors are {percent(min(least), 2)} to {percent(max(least), 2)} of the layers' "
        f"outputs. {missing}".strip()
    )


def _percent(value: float) -> str:
    return f"{number(100 * value)} %"
