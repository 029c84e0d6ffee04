"""Figures, drawn from numbers that a run wrote; colours of Okabe and Ito, for all eyes."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLOURS = {
    "pins": "#D55E00",
    "movement": "#E69F00",
    "abs-pins": "#CC79A7",
    "sensitivity": "#56B4E9",
    "magnitude": "#000000",
    "obd": "#009E73",
    "step alone": "#999999",
    "platon": "#0072B2",
    "trust-region": "#8000E0",  # theirs are used up: the one farthest from them, for all eyes
}
MARKERS = {
    "pins": "o",
    "movement": "x",
    "abs-pins": "^",
    "sensitivity": "v",
    "magnitude": "s",
    "obd": "D",
    "platon": "P",
    "trust-region": "*",
}
STYLE: Any = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "svg.fonttype": "none",  # text stays text: small files that can be searched
}


@mpl.rc_context(STYLE)
def loss_change(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Measured loss change against the fraction pruned in one decision, by criterion.

    Two panels, the gradient's rows and unseen rows; dashed: what the first-order model predicted.
    """
    figure = Figure(figsize=(10.5, 4.0), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, field, title in (
        (left, "measured", "on the gradient's rows"),
        (right, "measured_unseen", "on unseen rows"),
    ):
        _loss_panel(axes, rows, field)
        axes.set_title(title)
        axes.set_xlabel("fraction of weights pruned in one decision")
    left.set_ylabel("change of the loss (nats)")
    figure.legend(*right.get_legend_handles_labels(), loc="outside right upper", fontsize=9)
    return figure


def _loss_panel(axes: Axes, rows: Sequence[Mapping[str, Any]], field: str) -> None:
    for name, points in _by_criterion(rows).items():
        fractions = [row["fraction"] for row in points]
        style: Any = {"color": COLOURS.get(name), "linewidth": 1.6}
        axes.plot(
            fractions,
            [row[field] for row in points],
            label=name,
            marker=MARKERS.get(name, "."),
            markersize=5,
            **style,
        )
        if name == "pins":
            axes.plot(
                fractions,
                [row["predicted"] for row in points],
                linestyle="--",
                label="pins, predicted",
                **style,
            )
    axes.axhline(0, color="#555555", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_yscale("symlog", linthresh=0.01)


@mpl.rc_context(STYLE)
def predicted_against_measured(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Every decision as a point: first-order prediction across, measured change up.

    On the diagonal the model is right. Above it the loss rose more, or fell less, than predicted.
    """
    figure = Figure(figsize=(7.0, 4.8), layout="constrained")
    axes = figure.subplots()
    for name, points in _by_criterion(rows).items():
        axes.scatter(
            [row["predicted"] for row in points],
            [row["measured"] for row in points],
            color=COLOURS.get(name),
            marker=MARKERS.get(name, "."),
            label=name,
            s=34,
        )
    values = [row[field] for row in rows for field in ("predicted", "measured")]
    low, high = min(values), max(values)
    axes.plot([low, high], [low, high], color="#555555", linewidth=0.8, label="prediction true")
    for scale in (axes.set_xscale, axes.set_yscale):
        scale("symlog", linthresh=0.01)
    axes.set_xlabel("predicted change of the loss, first order (nats)")
    axes.set_ylabel("measured change (nats)")
    axes.legend(fontsize=9)
    return figure


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
def end_accuracy(cells: Sequence[Mapping[str, Any]]) -> Figure:
    """Score after gradual pruning against sparsity, a panel for each task.

    Dashed: with self-regularisation. Bars: standard deviation over seeds, where there are several.
    Grey: dense training, and one standard error of a score on as many test rows around it.
    """
    tasks = list(dict.fromkeys(cell["task"] for cell in cells))
    figure = Figure(figsize=(max(4.2 * len(tasks), 6.0), 4.0), layout="constrained")
    panels = figure.subplots(1, max(len(tasks), 1), squeeze=False)[0]
    labelled: dict[str, Any] = {}
    for axes, task in zip(panels, tasks, strict=False):
        _accuracy_panel(axes, [c for c in cells if c["task"] == task and c["mean"] is not None])
        axes.set_title(task)
        axes.set_xlabel("sparsity")
        handles, labels = axes.get_legend_handles_labels()
        labelled |= dict(zip(labels, handles, strict=True))
    panels[0].set_ylabel("score on test rows")
    if labelled:
        figure.legend(
            list(labelled.values()), list(labelled), loc="outside right upper", fontsize=9
        )
    return figure


def _accuracy_panel(axes: Axes, cells: Sequence[Mapping[str, Any]]) -> None:
    sparsities = sorted({cell["sparsity"] for cell in cells if cell["sparsity"] > 0})
    lines: dict[tuple[str, bool], list[Mapping[str, Any]]] = {}
    for cell in sorted(cells, key=lambda cell: cell["sparsity"]):
        if cell["sparsity"] > 0:
            lines.setdefault((cell["method"], cell["self_regularization"]), []).append(cell)
            continue
        axes.axhline(cell["mean"], color="#777777", linewidth=1.2, label=cell["method"])
        error = cell["error"] or 0.0
        axes.axhspan(cell["mean"] - error, cell["mean"] + error, color="#777777", alpha=0.15)
    for number, ((method, regularized), points) in enumerate(sorted(lines.items())):
        shift = (number - (len(lines) - 1) / 2) * 0.03  # bars beside one another
        axes.errorbar(
            [sparsities.index(point["sparsity"]) + shift for point in points],
            [point["mean"] for point in points],
            yerr=[point["spread"] or 0.0 for point in points],
            color=COLOURS.get(method),
            marker=MARKERS.get(method, "."),
            linestyle="--" if regularized else "-",
            linewidth=1.4,
            markersize=5,
            label=f"{method} + self-regularisation" if regularized else method,
        )
    axes.set_xticks(range(len(sparsities)), [f"{sparsity:.0%}" for sparsity in sparsities])


def svg(figure: Figure, name: str) -> str:
    """The figure as an SVG element, for a page; the same input gives the same text.

    The name goes into the element's ids, so that several figures can share a page.
    """
    buffer = io.StringIO()
    with mpl.rc_context({**STYLE, "svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def _by_criterion(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    grouped: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["fraction"] > 0:
            grouped.setdefault(row["criterion"], []).append(row)
    return grouped
