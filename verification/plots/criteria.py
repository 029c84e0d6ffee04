"""Figures that compare criteria: their regret, their masks, their decision boundaries."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from verification.experiments.criterion_overlap import RegretPoint
from verification.plots.style import (
    COLOURS,
    GREY,
    Row,
    columns,
    heat_map,
    in_per_cent,
    look,
    panels,
    styled,
)

BAND: Any = {"linewidth": 6, "alpha": 0.22}  # of the bound by the LP dual


@styled
def regret_and_overlap(rows: Sequence[Row]) -> Figure:
    """The regret of each criterion's mask under the scores of PINS, and its overlap with theirs."""
    figure, (left, right) = panels(9.5, 2.8, across=2, sharey=True)
    names, regrets, kept = columns(rows[::-1], "criterion", "relative_regret", "kept_jaccard")
    colours = [COLOURS.get(name, GREY) for name in names]
    places = range(len(names))
    left.barh(places, regrets, color=colours)
    left.set_xlabel("regret, as a share of Σ|s|")
    left.set_yticks(places, names)
    right.barh(places, kept, color=colours)
    right.set(xlim=(0, 1), xlabel="kept in common with the optimum (Jaccard)")
    return figure


@styled
def regret_against_sparsity(points: Sequence[RegretPoint]) -> Figure:
    """Regret under the scores of PINS against sparsity: exact, and its bound by the LP dual.

    A shaded line is the bound, a marker the regret. They coincide because the LP has a 0-1
    optimum.
    """
    figure, (axes,) = panels(8.4, 4.2)
    for name in dict.fromkeys(point.criterion for point in points):
        own = map(vars, (point for point in points if point.criterion == name))
        sparsity, regret, bound = columns(own, "sparsity", "regret", "bound")
        axes.plot(sparsity, bound, color=COLOURS.get(name), **BAND)
        axes.plot(sparsity, regret, markersize=6, linewidth=0.8, **look(name))
    axes.plot([], [], color=GREY, label="bound by the LP dual", **BAND)
    in_per_cent(axes.xaxis, axes.yaxis)
    axes.set(xlabel="sparsity of the one decision", ylabel="regret s·m* − s·m, as a share of Σ|s|")
    figure.legend(loc="outside right upper")
    return figure


@styled
def overlap(shares: Mapping[str, Mapping[str, float]], sparsity: float) -> Figure:
    """|A∩B| / |A∪B| in per cent, A and B the sets that two criteria prune, for each pair."""
    names = list(shares)
    figure, (axes,) = panels(1.4 + 0.82 * len(names), 0.9 + 0.62 * len(names))
    cells = [[shares[first][second] for second in names] for first in names]
    heat_map(axes, cells, f"pruned in common at {sparsity:.0%} sparsity (%)")
    for (row, column), value in np.ndenumerate(cells):
        style: Any = {"fontsize": 9.5, "color": "#000000" if value > 0.55 else "#ffffff"}
        axes.text(column, row, f"{100 * value:.0f}", ha="center", va="center", **style)
    axes.set_xticks(range(len(names)), names, rotation=30, ha="right")
    axes.set_yticks(range(len(names)), names)
    return figure


@dataclass(frozen=True)
class Plane:
    """A criterion in the plane of weight and gradient.

    Attributes:
        kept: (N,) bool, the criterion's mask of the drawn weights; True = keep.
        boundaries: s − λ on the grid: one array if s depends on weight and gradient alone, else
            one for each quartile of the curvature.
        note: text after the criterion's name.
    """

    kept: np.ndarray
    boundaries: Sequence[np.ndarray]
    note: str


@styled
def plane(
    weights: np.ndarray,
    gradient: np.ndarray,
    grid: tuple[np.ndarray, np.ndarray],
    planes: Mapping[str, Plane],
    linear: float,
) -> Figure:
    """Real weights in the plane of θ and g, kept or pruned by each criterion, and its boundary.

    Args:
        weights: (N,) θ of the weights that are drawn.
        gradient: (N,) g, likewise.
        grid: the values of θ and of g at which s − λ is known.
        planes: criterion → its mask and boundaries.
        linear: the scale of g is linear well below this and logarithmic above.
    """
    across = min(3, len(planes))
    down = -(-len(planes) // across)
    size = (3.2 * across, 2.9 * down + 0.5)
    figure, every = panels(*size, down, across, sharex=True, sharey=True)
    for axes, (name, drawn) in zip(every, planes.items(), strict=False):
        for chosen, own in (
            (~drawn.kept, {"color": COLOURS["pins"], "marker": "x", "s": 8, "label": "pruned"}),
            (drawn.kept, {"color": COLOURS["platon"], "marker": "o", "s": 5, "label": "kept"}),
        ):
            dots: Any = {"linewidths": 0.6, "alpha": 0.7, "rasterized": True, **own}
            axes.scatter(weights[chosen], gradient[chosen], **dots)
        for number, values in enumerate(drawn.boundaries):
            line = "-" if number == len(drawn.boundaries) // 2 else ":"
            black: Any = {"levels": [0], "colors": "#000000", "linewidths": 1.4}
            axes.contour(*grid, values, linestyles=line, **black)
        axes.set_title(f"{name} {drawn.note}".strip(), fontsize=9.5)
        axes.set_yscale("asinh", linear_width=linear)
        axes.set_yticks(*_decades(linear, float(np.abs(grid[1]).max())))
        axes.yaxis.set_minor_locator(NullLocator())
    for axes in every[len(planes) :]:
        axes.set_axis_off()
    figure.supxlabel("weight θ", fontsize=10)
    figure.supylabel("gradient g of the loss (nats per unit of θ)", fontsize=10)
    handles, labels = every[0].get_legend_handles_labels()
    handles.append(Line2D([], [], color="#000000", linewidth=1.4))
    labels.append("decision boundary s = λ")
    figure.legend(handles, labels, loc="outside upper center", ncols=3)
    return figure


def _decades(least: float, most: float) -> tuple[list[float], list[str]]:
    """0 and ± powers of ten in [3·least, most], and their labels."""
    exponents = range(math.ceil(math.log10(3 * least)), math.floor(math.log10(most)) + 1)
    up = [10.0**exponent for exponent in exponents]
    labels = [f"1e{exponent}".replace("-", "−") for exponent in exponents]
    ticks = [*(-tick for tick in up[::-1]), 0.0, *up]
    return ticks, [*(f"−{label}" for label in labels[::-1]), "0", *labels]
