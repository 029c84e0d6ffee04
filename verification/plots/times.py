"""Figures of times against sizes."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from verification.plots.style import GREY, Row, columns, panels, shared_legend, styled

LOOKS: Mapping[str, tuple[str, str]] = {
    "pins.select": ("#D55E00", "o"),
    "pins.decide": ("#E69F00", "d"),
    "torch.kthvalue": ("#0072B2", "s"),
    "torch.topk": ("#56B4E9", "^"),
    "np.partition": ("#009E73", "v"),
    "global_unstructured": ("#CC79A7", "P"),
    "heapq.nlargest": ("#000000", "x"),
    "one read": ("#777777", "|"),
    "closed form": ("#009E73", "v"),
    "cbc": ("#0072B2", "s"),
    "highs": ("#CC79A7", "^"),
}
"""Method or solver → its colour and marker."""
UNKNOWN = (GREY, ".")


@styled
def selection(sizes: Sequence[Row], adversarial: Sequence[Row]) -> Figure:
    """Nanoseconds per weight: against n by method, and on each of the adversarial sets.

    Args:
        sizes: rows with `method`, `size` and `nanoseconds`; rows without a time are left out.
        adversarial: rows that have `instance` as well; without them there is one panel.
    """
    across = 2 if adversarial else 1
    figure, (left, *right) = panels(5.6 * across + 1.9, 4.2, across=across)
    lines: dict[str, list[tuple[float, float]]] = {}
    for row in sorted(sizes, key=lambda row: row["size"]):
        if row["nanoseconds"] is not None:
            lines.setdefault(row["method"], []).append((row["size"], row["nanoseconds"]))
    _lines(left, lines)
    left.set(xlabel="number of weights n", ylabel="time per weight (ns)")
    if right:
        _dots(right[0], adversarial)
        known = " or ".join(f"{size:,}" for size in sorted({row["size"] for row in adversarial}))
        right[0].set_xlabel(f"time per weight (ns), n = {known}")
    shared_legend(figure, [left, *right])
    return figure


@styled
def solver_times(rows: Sequence[Row], limit: float) -> Figure:
    """Seconds of a whole solve of a scaled objective against n, by solver: means over the seeds.

    Args:
        rows: with `size`, `solver`, `scaled`, `seconds` and `status`.
        limit: seconds after which a solver was stopped; drawn if one was.
    """
    scaled = [row for row in rows if row["scaled"]]
    figure, (axes,) = panels(7.0, 4.2)
    points = mean_seconds(scaled)
    _lines(axes, points)
    sizes = sorted({size for line in points.values() for size, _ in line})
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.set_xticks([], minor=True)
    if any(row["status"] == "INTERRUPTED" for row in scaled):
        axes.axhline(limit, color=GREY, linewidth=0.8, linestyle="--", label="time limit")
    axes.set(xlabel="number of weights n", ylabel="time to solve (s)")
    shared_legend(figure, [axes])
    return figure


def mean_seconds(rows: Sequence[Row]) -> dict[str, list[tuple[float, float]]]:
    """Solver → (n, mean seconds over the seeds), ascending; rows without a time are left out."""
    seconds: dict[str, dict[int, list[float]]] = {}
    for row in rows:
        if row["seconds"] is not None:
            seconds.setdefault(row["solver"], {}).setdefault(row["size"], []).append(row["seconds"])
    return {
        solver: [(size, fmean(times)) for size, times in sorted(sizes.items())]
        for solver, sizes in seconds.items()
    }


def _lines(axes: Axes, lines: Mapping[str, Sequence[tuple[float, float]]]) -> None:
    for name, points in lines.items():
        colour, marker = LOOKS.get(name, UNKNOWN)
        style = marker + (":" if name == "one read" else "-")
        line: Any = {"color": colour, "markersize": 5, "linewidth": 1.4}
        axes.plot(*zip(*points, strict=True), style, label=name, **line)
    axes.set(xscale="log", yscale="log")


def _dots(axes: Axes, rows: Sequence[Row]) -> None:
    """A row of dots for each set of scores, the first at the top."""
    names = list(dict.fromkeys(row["instance"] for row in rows))
    for method in dict.fromkeys(row["method"] for row in rows):
        found = [r for r in rows if r["method"] == method and r["nanoseconds"] is not None]
        colour, marker = LOOKS.get(method, UNKNOWN)
        times, instances = columns(found, "nanoseconds", "instance")
        places = [names.index(instance) for instance in instances]
        axes.plot(times, places, marker, color=colour, markersize=6, label=method)
    axes.set_xscale("log")
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
