"""Figures, drawn from numbers that a run wrote; colours of Okabe and Ito, for all eyes."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

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
def measured_decisions(decisions: Sequence[Mapping[str, Any]]) -> Figure:
    """The change of the loss by each decision of a gradual run, predicted and measured, and ratio.

    Where the ratio is 1 the first-order model is right; where it is negative even its sign is wrong.
    """
    figure = Figure(figsize=(9.5, 4.6), layout="constrained")
    upper, lower = figure.subplots(2, sharex=True, height_ratios=(2, 1))
    steps = [decision["step"] for decision in decisions]
    for field, name, marker in (("predicted", "movement", "o"), ("measured", "pins", "s")):
        upper.plot(
            steps,
            [decision[field] for decision in decisions],
            color=COLOURS[name],
            marker=marker,
            linewidth=1.2,
            label=f"{field} change",
        )
    upper.axhline(0, color="#555555", linewidth=0.8)
    upper.set_ylabel("change of the loss (nats)")
    upper.legend(fontsize=9)
    known = [decision for decision in decisions if decision["predicted"]]
    lower.plot(
        [decision["step"] for decision in known],
        [decision["measured"] / decision["predicted"] for decision in known],
        color=COLOURS["magnitude"],
        marker="^",
        linewidth=1.2,
    )
    lower.axhline(1, color="#555555", linewidth=0.8, linestyle="--")
    lower.set_yscale("symlog", linthresh=1)
    lower.set_ylabel("measured / predicted")
    lower.set_xlabel("step of the decision")
    return figure


@mpl.rc_context(STYLE)
def sorted_scores(curve: Mapping[str, Any]) -> Figure:
    """The scores of one decision in descending order, with the threshold λ that proves the mask."""
    scores, threshold = curve["scores"], curve["lambda"]
    figure = Figure(figsize=(7.0, 3.4), layout="constrained")
    axes = figure.subplots()
    axes.plot(curve["ranks"], scores, color=COLOURS["obd"], linewidth=1.8)
    axes.axhline(
        threshold, color="#000000", linewidth=0.9, linestyle="--", label=f"λ = {threshold:.3g}"
    )
    axes.axvspan(
        0, curve["keep"], color=COLOURS["obd"], alpha=0.12, label=f"kept: {curve['keep']:,}"
    )
    axes.set_xlim(0, curve["total"])
    if min(scores) >= 0:
        axes.set_yscale("log")
    else:
        axes.set_yscale("symlog", linthresh=abs(threshold) or 1e-12)
    axes.xaxis.set_major_formatter(EngFormatter())
    axes.set_xlabel("rank of the weight")
    axes.set_ylabel("importance s")
    axes.legend(fontsize=9)
    return figure


@mpl.rc_context(STYLE)
def training(
    losses: Sequence[float], decisions: Sequence[Mapping[str, Any]], dense_steps: int
) -> Figure:
    """Training loss of each step (thin) and its running mean, with sparsity after each decision."""
    figure = Figure(figsize=(9.5, 3.4), layout="constrained")
    axes = figure.subplots()
    steps = range(1, len(losses) + 1)
    axes.plot(steps, losses, color="#bbbbbb", linewidth=0.8)
    axes.plot(
        steps,
        _running_mean(losses),
        color=COLOURS["magnitude"],
        linewidth=1.6,
        label="training loss, mean of 20 steps",
    )
    axes.set_xlabel("training step")
    axes.set_ylabel("loss (nats)")
    sparsity = axes.twinx()
    sparsity.spines["right"].set_visible(True)
    sparsity.grid(visible=False)
    at = [0, dense_steps, *(dense_steps + d["step"] for d in decisions), len(losses)]
    height = [0, 0, *(d["sparsity"] for d in decisions), decisions[-1]["sparsity"]]
    sparsity.step(at, height, where="post", color=COLOURS["pins"], linewidth=1.6)
    sparsity.plot(
        at[2:-1],
        height[2:-1],
        "o",
        color=COLOURS["pins"],
        markersize=4,
        label="sparsity, a certified decision each",
    )
    sparsity.set_ylim(0, 1)
    sparsity.set_ylabel("sparsity")
    lines = [*axes.get_legend_handles_labels()[0], *sparsity.get_legend_handles_labels()[0]]
    axes.legend(handles=lines, loc="upper right", fontsize=9)
    return figure


@mpl.rc_context(STYLE)
def layer_sparsity(layers: Sequence[Mapping[str, Any]]) -> Figure:
    """Sparsity of each pruned tensor, by layer and kind, under the one global ranking."""
    kinds = list(dict.fromkeys(row["kind"] for row in layers))
    figure = Figure(figsize=(9.5, 3.4), layout="constrained")
    axes = figure.subplots()
    palette = list(COLOURS.values())
    for number, kind in enumerate(kinds):
        rows = [row for row in layers if row["kind"] == kind]
        axes.plot(
            range(len(rows)),
            [row["sparsity"] for row in rows],
            label=kind,
            marker="osv^Dx"[number % 6],
            color=palette[number % len(palette)],
        )
    axes.set_ylim(0, 1)
    axes.set_xticks(range(max(sum(r["kind"] == kind for r in layers) for kind in kinds)))
    axes.set_xlabel("layer")
    axes.set_ylabel("sparsity")
    axes.legend(fontsize=9, loc="lower left", ncols=2)
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


def _running_mean(values: Sequence[float], width: int = 20) -> list[float]:
    means = []
    for end in range(1, len(values) + 1):
        window = values[max(0, end - width) : end]
        means.append(sum(window) / len(window))
    return means
