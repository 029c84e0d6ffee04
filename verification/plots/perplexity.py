"""The figure of the perplexities that one-shot pruning leaves."""

import math
import statistics
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from verification.plots.style import GREY, Row, panels, shared_legend, styled

LOOKS: Mapping[str, tuple[str, str]] = {
    "magnitude": ("#000000", "s"),
    "wanda": ("#E69F00", "^"),
    "ria": ("#56B4E9", "v"),
    "sparsegpt": ("#0072B2", "P"),
    "alps": ("#009E73", "D"),
    "obs": ("#D55E00", "o"),
}
"""Method → its colour and its marker."""
LINES = {"": "-", "refit": "--", "swaps": ":", "budget": "-."}
BESIDE = 0.5  # of the distance between two sparsities: the width that the points of one take


@styled
def one_shot_perplexity(rows: Sequence[Row], dense: Sequence[float]) -> Figure:
    """Perplexity against sparsity, a line for each method; patterns in a column of their own.

    Points are geometric means over the draws, bars reach from the least to the greatest. Dashed
    and hollow: the method with a refit; dotted: with swaps; dash-dotted: with a budget. Grey: the
    dense model.

    Args:
        rows: with `setting`, `method`, `draw` and `perplexity`.
        dense: mean losses of windows that score equally many tokens, of the dense model.
    """
    figure, (axes,) = panels(9.0, 6.2)
    places = sorted({row["setting"] for row in rows}, key=lambda name: (not _pattern(name), name))
    methods = sorted({row["method"] for row in rows}, key=_order)
    axes.axhline(math.exp(statistics.fmean(dense)), color=GREY, linewidth=1.2, label="dense")
    for number, method in enumerate(methods):
        shift = (number / max(len(methods) - 1, 1) - 0.5) * BESIDE  # so that points do not overlap
        cells: dict[str, list[float]] = {place: [] for place in places}
        for row in rows:
            if row["method"] == method:
                cells[row["setting"]].append(row["perplexity"])
        for pattern in (True, False):
            found = {
                place: each for place, each in cells.items() if each and _pattern(place) == pattern
            }
            if found:
                at = [places.index(place) + shift for place in found]
                _line(axes, method, at, [*found.values()], joined=not pattern)
    axes.set_xticks(range(len(places)), places)
    axes.set_xlim(-0.5, len(places) - 0.5)
    axes.set(yscale="log", xlabel="weights pruned", ylabel="perplexity on the test text")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.yaxis.set_minor_locator(NullLocator())
    axes.grid(axis="x", visible=False)
    shared_legend(figure, [axes])
    return figure


def _line(
    axes: Axes, method: str, at: Sequence[float], values: Sequence[Sequence[float]], *, joined: bool
) -> None:
    name, _, after = method.partition(" + ")
    colour, marker = LOOKS[name]
    means = [statistics.geometric_mean(each) for each in values]
    ends = [min(each) for each in values], [max(each) for each in values]
    axes.vlines(at, *ends, colors=colour, linewidth=1.2)
    axes.plot(
        at,
        means,
        label=method,
        color=colour,
        marker=marker,
        markerfacecolor="white" if after else colour,
        markersize=6,
        linewidth=1.2,
        linestyle=LINES[after] if joined else "",
    )


def _pattern(setting: str) -> bool:
    """Whether a setting is N:M."""
    return ":" in setting


def _order(method: str) -> tuple[int, str]:
    """Methods as in LOOKS, each before what is done after it."""
    name, _, after = method.partition(" + ")
    return [*LOOKS].index(name), after
