"""Figures that compare criteria: their regret, their masks, their decision boundaries."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator, PercentFormatter

from verification.experiments.criterion_overlap import RegretPoint
from verification.plots.style import COLOURS, GREY, PLAIN, STYLE, Row, columns, heat_map, look

BAND: Any = {"linewidth": 6, "alpha": 0.22}  # of the bound by the LP dual


@mpl.rc_context(STYLE)
def regret_and_overlap(rows: Sequence[Row]) -> Figure:
    """What each criterion's mask loses under the scores of PINS, and what it keeps in common."""
    figure = Figure(figsize=(9.5, 2.8))
    left, right = figure.subplots(1, 2, sharey=True)
    names, regrets, kept = columns(rows[::-1], "criterion", "relative_regret", "kept_jaccard")
    colours = [COLOURS.get(name, GREY) for name in names]
    left.barh(names, regrets, color=colours)
    left.set_xlabel("regret, as a share of Σ|s|")
    right.barh(names, kept, color=colours)
    right.set(xlim=(0, 1), xlabel="kept in common with the optimum (Jaccard)")
    return figure


@mpl.rc_context(STYLE)
def regret_against_sparsity(points: Sequence[RegretPoint]) -> Figure:
    """Regret under the scores of PINS against sparsity: exact, and as the LP dual bounds it.

    A shaded line is the bound, a marker the regret itself; they coincide, since the LP has a 0-1
    optimum.
    """
    figure = Figure(figsize=(8.4, 4.2))
    axes = figure.subplots()
    for name in dict.fromkeys(point.criterion for point in points):
        own = map(vars, (point for point in points if point.criterion == name))
        sparsity, regret, bound = columns(own, "sparsity", "regret", "bound")
        axes.plot(sparsity, bound, color=COLOURS.get(name), **BAND)
        axes.plot(sparsity, regret, markersize=6, linewidth=0.8, label=name, **look(name))
    axes.plot([], [], color=GREY, label="bound by the LP dual", **BAND)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.set_xlabel("sparsity of the one decision")
    axes.set_ylabel("regret s·m* − s·m, as a share of Σ|s|")
    figure.legend(loc="outside right upper")
    return figure


@mpl.rc_context(PLAIN)
def overlap(shares: Mapping[str, Mapping[str, float]], sparsity: float) -> Figure:
    """|A∩B| / |A∪B| in per cent, A and B the sets that two criteria prune, for each pair."""
    names = list(shares)
    figure = Figure(figsize=(1.4 + 0.82 * len(names), 0.9 + 0.62 * len(names)))
    axes = figure.subplots()
    cells = [[shares[first][second] for second in names] for first in names]
    heat_map(axes, cells, f"pruned in common at {sparsity:.0%} sparsity (%)")
    for (row, column), value in np.ndenumerate(cells):
        colour = "#000000" if value > 0.55 else "#ffffff"
        label = f"{100 * value:.0f}"
        axes.text(column, row, label, ha="center", va="center", fontsize=9.5, color=colour)
    axes.set_xticks(range(len(names)), names, rotation=30, ha="right")
    axes.set_yticks(range(len(names)), names)
    return figure


@dataclass(frozen=True)
class Plane:
    """A criterion in the plane of weight and gradient.

    Attributes:
        kept: (N,) bool, for the weights that are drawn; True = the criterion's mask keeps it.
        boundaries: s − λ on the grid: one array if s depends on weight and gradient alone, else
            one for each quartile of the curvature.
        note: text after the criterion's name.
    """

    kept: np.ndarray
    boundaries: Sequence[np.ndarray]
    note: str


@mpl.rc_context(STYLE)
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
    figure = Figure(figsize=(3.2 * across, 2.9 * down + 0.5))
    panels = figure.subplots(down, across, squeeze=False, sharex=True, sharey=True).reshape(-1)
    for axes, (name, drawn) in zip(panels, planes.items(), strict=False):
        for kept, colour, marker, size in (
            (False, COLOURS["pins"], "x", 8),
            (True, COLOURS["platon"], "o", 5),
        ):
            chosen = drawn.kept == kept
            axes.scatter(
                weights[chosen],
                gradient[chosen],
                s=size,
                marker=marker,
                linewidths=0.6,
                color=colour,
                alpha=0.7,
                rasterized=True,
                label="kept" if kept else "pruned",
            )
        for number, values in enumerate(drawn.boundaries):
            line = "-" if number == len(drawn.boundaries) // 2 else ":"
            black: Any = {"levels": [0], "colors": "#000000", "linewidths": 1.4}
            axes.contour(*grid, values, linestyles=line, **black)
        axes.set_title(f"{name} {drawn.note}".strip(), fontsize=9.5)
        axes.set_yscale("asinh", linear_width=linear)
        axes.set_yticks(*_decades(linear, float(np.abs(grid[1]).max())))
        axes.yaxis.set_minor_locator(NullLocator())
    for axes in panels[len(planes) :]:
        axes.set_axis_off()
    figure.supxlabel("weight θ", fontsize=10)
    figure.supylabel("gradient g of the loss (nats per unit of θ)", fontsize=10)
    handles, labels = panels[0].get_legend_handles_labels()
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
