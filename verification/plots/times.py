"""Figures of times against sizes; colours of Okabe and Ito, and a marker of its own each."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from verification.plots.style import STYLE

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
"""Colour and marker by method or solver; an unknown one gets the grey of an unnamed line."""
UNKNOWN = ("#555555", ".")


@mpl.rc_context(STYLE)
def selection(
    sizes: Sequence[Mapping[str, Any]], adversarial: Sequence[Mapping[str, Any]]
) -> Figure:
    """Nanoseconds a weight: against n by method, and on each of the adversarial sets.

    Args:
        sizes: rows with `method`, `size` and `nanoseconds`; those without a time are left out.
        adversarial: the same with `instance`; no panel where there is none.
    """
    panels = 2 if adversarial else 1
    figure = Figure(figsize=(5.6 * panels + 1.9, 4.2), layout="constrained")
    left, *right = figure.subplots(1, panels, squeeze=False)[0]
    lines: dict[str, list[tuple[float, float]]] = {}
    for row in sorted(sizes, key=lambda row: row["size"]):
        if row["nanoseconds"] is not None:
            lines.setdefault(row["method"], []).append((row["size"], row["nanoseconds"]))
    _lines(left, lines)
    left.set_xlabel("number of weights n")
    left.set_ylabel("time per weight (ns)")
    if right:
        _dots(right[0], adversarial)
        right[0].set_xlabel("time per weight (ns), n = " + _sizes(adversarial))
    _legend(figure, [left, *right])
    return figure


@mpl.rc_context(STYLE)
def solving(points: Mapping[str, Sequence[tuple[float, float]]], limit: float | None) -> Figure:
    """Seconds of a whole solve against n, by solver.

    Args:
        points: (n, seconds) by solver, ascending.
        limit: seconds after which a solver was stopped; drawn where there is one.
    """
    figure = Figure(figsize=(7.0, 4.2), layout="constrained")
    axes = figure.subplots()
    _lines(axes, points)
    sizes = sorted({size for line in points.values() for size, _ in line})
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.set_xticks([], minor=True)
    if limit is not None:
        axes.axhline(limit, color="#555555", linewidth=0.8, linestyle="--", label="time limit")
    axes.set_xlabel("number of weights n")
    axes.set_ylabel("time to solve (s)")
    _legend(figure, [axes])
    return figure


def solver_times(rows: Sequence[Mapping[str, Any]], limit: float) -> Figure:
    """Seconds of a whole solve against n, by solver: means over the seeds, of scaled objectives.

    Args:
        rows: with `size`, `solver`, `scaled`, `seconds` and `status`.
        limit: seconds after which a solver was stopped; drawn if one was.
    """
    scaled = [row for row in rows if row["scaled"]]
    stopped = any(row["status"] == "INTERRUPTED" for row in scaled)
    return solving(mean_seconds(scaled), limit if stopped else None)


def mean_seconds(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[tuple[float, float]]]:
    """(n, mean seconds over the seeds) by solver, ascending; those without a time left out."""
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
        axes.plot(
            [x for x, _ in points],
            [y for _, y in points],
            color=colour,
            marker=marker,
            markersize=5,
            linewidth=1.4,
            linestyle=":" if name == "one read" else "-",
            label=name,
        )
    axes.set_xscale("log")
    axes.set_yscale("log")


def _dots(axes: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    """One line of dots for each set of scores, from the top down."""
    names = list(dict.fromkeys(row["instance"] for row in rows))
    for method in dict.fromkeys(row["method"] for row in rows):
        found = [r for r in rows if r["method"] == method and r["nanoseconds"] is not None]
        colour, marker = LOOKS.get(method, UNKNOWN)
        axes.plot(
            [row["nanoseconds"] for row in found],
            [names.index(row["instance"]) for row in found],
            color=colour,
            marker=marker,
            markersize=6,
            linestyle="none",
            label=method,
        )
    axes.set_xscale("log")
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()


def _sizes(rows: Sequence[Mapping[str, Any]]) -> str:
    return " or ".join(f"{size:,}" for size in sorted({row["size"] for row in rows}))


def _legend(figure: Figure, panels: Sequence[Axes]) -> None:
    labelled: dict[str, Any] = {}
    for axes in panels:
        handles, labels = axes.get_legend_handles_labels()
        labelled |= dict(zip(labels, handles, strict=True))
    if labelled:
        figure.legend(
            list(labelled.values()), list(labelled), loc="outside right upper", fontsize=9
        )
