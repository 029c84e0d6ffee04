"""Figures of criteria beside one another: their regret, their masks, their boundaries."""

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
from verification.plots.style import COLOURS, MARKERS, STYLE


@mpl.rc_context(STYLE)
def regret_and_overlap(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """What each criterion's mask loses under the scores of pins, and what it keeps in common."""
    figure = Figure(figsize=(9.5, 2.8), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    names = [row["criterion"] for row in rows][::-1]
    colours = [COLOURS.get(name, "#555555") for name in names]
    left.barh(names, [row["relative_regret"] for row in rows][::-1], color=colours)
    left.set_xlabel("regret, as a share of Σ|s|")
    right.barh(names, [row["kept_jaccard"] for row in rows][::-1], color=colours)
    right.set_xlim(0, 1)
    right.set_xlabel("kept in common with the optimum (Jaccard)")
    return figure


@mpl.rc_context(STYLE)
def regret_against_sparsity(points: Sequence[RegretPoint]) -> Figure:
    """Regret under the scores of PINS against sparsity: exact, and as the LP dual bounds it.

    A shaded line is the bound, a marker the regret itself; they coincide, since the LP has a 0-1
    optimum.
    """
    figure = Figure(figsize=(8.4, 4.2), layout="constrained")
    axes = figure.subplots()
    names = list(dict.fromkeys(point.criterion for point in points))
    for name in names:
        own = [point for point in points if point.criterion == name]
        at = [point.sparsity for point in own]
        style: Any = {"color": COLOURS.get(name)}
        axes.plot(at, [p.bound for p in own], linewidth=6, alpha=0.22, **style)
        axes.plot(
            at,
            [point.regret for point in own],
            marker=MARKERS.get(name, "."),
            markersize=6,
            linewidth=0.8,
            label=name,
            **style,
        )
    axes.plot([], [], linewidth=6, alpha=0.22, color="#555555", label="bound by the LP dual")
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.set_xlabel("sparsity of the one decision")
    axes.set_ylabel("regret s·m* − s·m, as a share of Σ|s|")
    figure.legend(loc="outside right upper", fontsize=9)
    return figure


@mpl.rc_context({**STYLE, "axes.grid": False})
def overlap(shares: Mapping[str, Mapping[str, float]], sparsity: float) -> Figure:
    """How much of what two criteria prune is the same, |A∩B| / |A∪B|, for each two of them."""
    names = list(shares)
    figure = Figure(
        figsize=(1.4 + 0.82 * len(names), 0.9 + 0.62 * len(names)), layout="constrained"
    )
    axes = figure.subplots()
    cells = [[shares[first][second] for second in names] for first in names]
    image = axes.imshow(cells, cmap="cividis", vmin=0, vmax=1, aspect="auto")
    for row, values in enumerate(cells):
        for column, value in enumerate(values):
            light = value > 0.55
            axes.text(
                column,
                row,
                f"{100 * value:.0f}",
                ha="center",
                va="center",
                fontsize=9.5,
                color="#000000" if light else "#ffffff",
            )
    axes.set_xticks(range(len(names)), names, rotation=30, ha="right")
    axes.set_yticks(range(len(names)), names)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.tick_params(length=0)
    bar = figure.colorbar(image, ax=axes, format=PercentFormatter(1.0, decimals=0))
    bar.set_label(f"pruned in common at {sparsity:.0%} sparsity (%)")
    return figure


@dataclass(frozen=True)
class Plane:
    """A criterion over the plane of weight and gradient.

    Attributes:
        kept: of each weight that is drawn, whether the criterion's mask keeps it, (N,) bool.
        boundaries: s − λ over the grid, where s is a function of weight and gradient alone: one
            array; where it depends on the curvature, one for each quartile of it.
        note: beside the name.
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
        weights: θ of the weights drawn, (N,).
        gradient: g, (N,).
        grid: the values of θ and of g between which the boundaries are looked for.
        planes: what each criterion does, by its name.
        linear: gradients well below it are drawn to a linear scale, those above to a logarithmic.
    """
    columns = min(3, len(planes))
    lines = -(-len(planes) // columns)
    figure = Figure(figsize=(3.2 * columns, 2.9 * lines + 0.5), layout="constrained")
    panels = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True).reshape(-1)
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
            middle = len(drawn.boundaries) // 2
            axes.contour(
                *grid,
                values,
                levels=[0],
                colors="#000000",
                linewidths=1.4,
                linestyles="-" if number == middle else ":",
            )
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
    figure.legend(
        handles,
        [*labels, "decision boundary s = λ"],
        loc="outside upper center",
        ncols=3,
        fontsize=9,
    )
    return figure


def _decades(least: float, most: float) -> tuple[list[float], list[str]]:
    """0 and the powers of ten of both signs that a picture has room for, with their labels."""
    exponents = range(math.ceil(math.log10(3 * least)), math.floor(math.log10(most)) + 1)
    up = [10.0**exponent for exponent in exponents]
    labels = [f"1e{exponent}".replace("-", "−") for exponent in exponents]
    ticks = [*(-tick for tick in up[::-1]), 0.0, *up]
    return ticks, [*(f"−{label}" for label in labels[::-1]), "0", *labels]
