"""Figures of the 0-1 program: its polytope, its dual function, the answers of solvers."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Polygon

from solvers.relaxation import dual_interval, dual_value
from verification.plots.style import COLOURS, GREY, Row, panels, scientific, styled

BLUE, GREEN, ORANGE = COLOURS["platon"], COLOURS["obd"], COLOURS["pins"]
TOLERANCE = 1e-7  # the absolute tolerance of CBC and HiGHS, about
SOLVERS = {"cbc": "CBC", "highs": "HiGHS"}
AXES = np.array(
    [[-0.87, -0.42], [0.87, -0.42], [0.0, 1.0]]
)  # directions of m₁, m₂ and m₃ in the page


@styled
def polytope(scores: Sequence[float], keep: int) -> Figure:
    """{m ∈ [0,1]³ : Σm = k} in the cube, with the objective s·m and the vertex that is optimal.

    Args:
        scores: s of three weights.
        keep: k, 1 or 2: the polytope is a triangle.
    """
    figure, (axes,) = panels(7.4, 4.6)
    axes.set_axis_off()
    axes.set(aspect="equal", xlim=(-1.9, 1.9), ylim=(-1.1, 1.55))
    corners = [np.array(corner) for corner in itertools.product((0, 1), repeat=3)]
    for first, second in itertools.combinations(corners, 2):
        if np.abs(first - second).sum() == 1:
            style = "-" if first.any() else ":"  # dotted: the three edges at the back
            line = np.stack([_drawn(first), _drawn(second)])
            axes.plot(*line.T, style, color="#999999", linewidth=0.9)
    vertices = [corner for corner in corners if corner.sum() == keep]
    values = [float(np.dot(scores, vertex)) for vertex in vertices]
    best = int(np.argmax(values))
    face = np.stack([_drawn(vertex) for vertex in vertices])
    axes.add_patch(Polygon(face, fc=BLUE, alpha=0.16, ec=BLUE, linewidth=1.6, zorder=2))
    _level_lines(axes, face, np.array(values))
    largest = max(abs(value) for value in (*scores, *values))
    exponent = int(np.floor(np.log10(largest))) if largest else 0
    for number, (vertex, value) in enumerate(zip(vertices, values, strict=True)):
        _vertex(axes, vertex, value / 10**exponent, optimal=number == best)
    for index, end, score in zip("₁₂₃", np.eye(3), scores, strict=True):
        label = f"m{index}\ns{index} = {_signed(score / 10**exponent)}"
        x, y = _drawn(end) * 1.25
        axes.annotate(label, (x, y), ha="center", va="center", fontsize=9.5, color=GREY)
    title = f"Σm = {keep} in the cube of masks; scores in units of 1e{exponent} nats"
    axes.set_title(title.replace("-", "−"), fontsize=10, color=GREY)
    return figure


def _drawn(point: np.ndarray) -> np.ndarray:
    """A point of the cube projected onto the page, along three axes 120° apart."""
    return np.asarray(point @ AXES, dtype=float)


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")


def _vertex(axes: Axes, vertex: np.ndarray, value: float, *, optimal: bool) -> None:
    at = _drawn(vertex)
    marker, size, colour = ("*", 19, ORANGE) if optimal else ("o", 9, BLUE)
    look: Any = {"markersize": size, "markeredgecolor": "white", "color": colour}
    axes.plot(*at, marker=marker, zorder=4, **look)
    name = f"({', '.join(str(int(part)) for part in vertex)})"
    words = f"{name}\ns·m = {_signed(value)}" + ("\noptimal" if optimal else "")
    aside, side = (16, "left") if at[0] >= -0.1 else (-16, "right")
    place: Any = {"xytext": (aside, 0), "textcoords": "offset points", "ha": side, "va": "center"}
    weight = "bold" if optimal else "normal"
    axes.annotate(words, (at[0], at[1]), fontsize=10, fontweight=weight, zorder=5, **place)


def _level_lines(axes: Axes, face: np.ndarray, values: np.ndarray) -> None:
    """Lines of equal objective on the triangle, by linear interpolation along its edges."""
    for level in np.linspace(values.min(), values.max(), 9)[1:-1]:
        crossings = []
        for i, j in itertools.combinations(range(3), 2):
            low, high = sorted((values[i], values[j]))
            if low < high and low <= level <= high:
                share = (level - values[i]) / (values[j] - values[i])
                crossings.append(face[i] + share * (face[j] - face[i]))
        if len(crossings) >= 2:
            line = np.stack(crossings[:2])
            axes.plot(*line.T, color=BLUE, linewidth=0.8, alpha=0.7, zorder=3)


@styled
def dual_function(scores: Sequence[float], keep: int) -> Figure:
    """D(λ) = kλ + Σ max(0, sᵢ − λ): convex, piecewise linear, flat between two scores.

    Args:
        scores: s of a dozen weights.
        keep: k, 0 < k < n.
    """
    ordered = np.sort(np.asarray(scores, dtype=float))[::-1]
    low, high = dual_interval(ordered, keep)
    primal = ordered[:keep].sum()
    around = ordered[max(keep - 4, 0)] - ordered[min(keep + 3, len(ordered) - 1)]
    margin = 0.6 * around or 1.0  # if all scores are equal, any width will do
    left, right = low - margin, high + margin
    at = np.unique(np.concatenate([[left, right], ordered[(ordered > left) & (ordered < right)]]))
    figure, (axes,) = panels(7.4, 4.0)
    values = [float(dual_value(ordered, keep, multiplier)) for multiplier in at]
    axes.plot(at, values, color=BLUE, linewidth=1.8, label="dual function D(λ)")
    axes.plot(at[1:-1], values[1:-1], "o", color=BLUE, markersize=4.5, label="λ = a score")
    label = "primal value s·m of the optimum"
    axes.axhline(primal, color=ORANGE, linewidth=1.4, linestyle="--", label=label)
    axes.plot([low, high], [primal, primal], color=ORANGE, linewidth=5, solid_capstyle="butt")
    axes.axvspan(low, high, color=ORANGE, alpha=0.14, label="[s₍ₖ₊₁₎, s₍ₖ₎], every optimal λ")
    rise = max(values) - primal
    for start, (a, b) in enumerate(itertools.pairwise(at)):
        slope = keep - int((ordered > (a + b) / 2).sum())
        height = (values[start] + values[start + 1]) / 2
        if slope and b - a > 0.06 * (right - left):  # else there is no room for the label
            place = ((a + b) / 2, height + 0.015 * rise)
            side: Any = {"ha": "left" if slope < 0 else "right", "va": "bottom"}
            label = f" slope {slope:+d} ".replace("-", "−")
            axes.annotate(label, place, fontsize=8, color=GREY, **side)
    axes.set(xlim=(left, right), ylim=(primal - 0.12 * rise, primal + 1.08 * rise))
    axes.set_xlabel(f"multiplier λ (nats); k = {keep} of {len(ordered)} weights")
    axes.set_ylabel("objective (nats)")
    scientific(axes, "both")
    figure.legend(loc="outside lower center", ncols=2)
    return figure


@styled
def unscaled(asked: Sequence[Row]) -> Figure:
    """The weights that CBC and HiGHS keep for real scores: one stroke each, by the score's rank.

    Args:
        asked: a result of `verification.experiments.solver_tolerance` for each criterion.
    """
    size, number = (5.0 * len(asked) + 1.2, 4.6), len(asked)
    shape: Any = {"sharex": "col", "sharey": "row", "height_ratios": (1.2, 1)}
    figure, every = panels(*size, 2, number, **shape)
    for upper, lower, answers in zip(every[:number], every[number:], asked, strict=True):
        _sizes(upper, answers)
        _strokes(lower, answers)
        for axes in (upper, lower):
            axes.axvline(answers["keep"] - 0.5, color="#000000", linewidth=1)
        lower.set_xlim(-4, len(answers["scores"]) + 3)
        lower.set_xlabel(f"rank of the weight; the optimum keeps the first {answers['keep']}")
    every[0].set(yscale="log", ylabel="size of the score |s|")
    handles, labels = every[0].get_legend_handles_labels()
    for colour, label in ((GREEN, "kept, as in the optimum"), (ORANGE, "kept, and wrong")):
        handles.append(Line2D([], [], color=colour, linewidth=5))
        labels.append(label)
    figure.legend(handles, labels, loc="outside upper center", ncols=4)
    return figure


def _sizes(axes: Axes, answers: Row) -> None:
    sizes = np.abs(np.asarray(answers["scores"]))
    shown = sizes > 0
    ranks = np.arange(len(sizes))[shown]
    look: Any = {"color": BLUE, "markersize": 3, "label": "a weight"}
    axes.plot(ranks, sizes[shown], ".", rasterized=True, **look)
    axes.axhline(TOLERANCE, color="#000000", linewidth=1, linestyle="--", label="tolerance, 1e−7")
    axes.set_title(f"scores of {answers['criterion']}", fontsize=10)


def _strokes(axes: Axes, answers: Row) -> None:
    keep, rows = answers["keep"], answers["answers"]
    for place, row in enumerate(rows):
        kept = np.asarray([] if row["kept"] is None else row["kept"])
        for wrong, colour in ((False, GREEN), (True, ORANGE)):
            chosen = kept[(kept >= keep) == wrong]
            stroke: Any = {"color": colour, "linewidth": 0.8, "rasterized": True}
            axes.vlines(chosen, place - 0.36, place + 0.36, **stroke)
        box: Any = {"boxstyle": "round,pad=0.2", "facecolor": "white", "edgecolor": "none"}
        middle: Any = {"xycoords": ("axes fraction", "data"), "ha": "center", "va": "center"}
        axes.annotate(_verdict(row, keep), (0.61, place), fontsize=8.5, bbox=box, **middle)
    scaled = {True: "scaled", False: "as they are"}
    names = [f"{SOLVERS[row['solver']]}, {scaled[row['scaled']]}" for row in rows]
    axes.set_yticks(range(len(rows)), names, fontsize=9)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(visible=False)


def _verdict(row: Row, keep: int) -> str:
    if row["kept"] is None:
        return f"no answer ({row['status'].lower()})"
    wrong = sum(rank >= keep for rank in row["kept"])
    return f"says “{row['status'].lower()}”: {wrong} of {keep} wrong"
