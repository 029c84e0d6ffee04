"""Figures of times against sizes."""

from collections.abc import Mapping, Sequence
from operator import itemgetter
from statistics import fmean

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pins.utils.grouping import grouped
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
LOGARITHMIC = {"xscale": "log", "yscale": "log"}


@styled
def selection(sizes: Sequence[Row], adversarial: Sequence[Row]) -> Figure:
    """Nanoseconds per weight: against n by method, and on each of the adversarial sets.

    Args:
        sizes: rows with `method`, `size` and `nanoseconds`; rows without a time are left out.
        adversarial: rows that have `instance` as well; without them there is one panel.
    """
    across = 2 if adversarial else 1
    figure, (left, *right) = panels(5.6 * across + 1.9, 4.2, across=across)
    timed = [row for row in sorted(sizes, key=itemgetter("size")) if row["nanoseconds"] is not None]
    for method, rows in grouped(timed, itemgetter("method")).items():
        _line(left, method, *columns(rows, "size", "nanoseconds"))
    left.set(**LOGARITHMIC, xlabel="number of weights n", ylabel="time per weight (ns)")
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
    axes.set(**LOGARITHMIC, xlabel="number of weights n", ylabel="time to solve (s)")
    points = mean_seconds(scaled)
    for solver, line in points.items():
        _line(axes, solver, *zip(*line, strict=True))
    sizes = sorted({size for line in points.values() for size, _ in line})
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.set_xticks([], minor=True)
    if any(row["status"] == "INTERRUPTED" for row in scaled):
        axes.axhline(limit, color=GREY, linewidth=0.8, linestyle="--", label="time limit")
    shared_legend(figure, [axes])
    return figure


def mean_seconds(rows: Sequence[Row]) -> dict[str, list[tuple[float, float]]]:
    """Solver → (n, mean seconds over the seeds), ascending; rows without a time are left out."""
    timed = [row for row in rows if row["seconds"] is not None]
    return {
        solver: [
            (size, fmean(row["seconds"] for row in seeds))
            for size, seeds in sorted(grouped(own, itemgetter("size")).items())
        ]
        for solver, own in grouped(timed, itemgetter("solver")).items()
    }


def _line(axes: Axes, name: str, sizes: Sequence[float], times: Sequence[float]) -> None:
    colour, marker = LOOKS.get(name, UNKNOWN)
    line = marker + (":" if name == "one read" else "-")
    axes.plot(sizes, times, line, color=colour, markersize=5, linewidth=1.4, label=name)


def _dots(axes: Axes, rows: Sequence[Row]) -> None:
    """A row of dots for each set of scores, the first at the top."""
    names = list(dict.fromkeys(row["instance"] for row in rows))
    for method, own in grouped(rows, itemgetter("method")).items():
        colour, marker = LOOKS.get(method, UNKNOWN)
        timed = [row for row in own if row["nanoseconds"] is not None]
        times, instances = columns(timed, "nanoseconds", "instance")
        places = [names.index(instance) for instance in instances]
        axes.plot(times, places, marker, color=colour, markersize=6, label=method)
    axes.set_xscale("log")
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
