"""The figure of what is left after gradual pruning."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from verification.plots.style import COLOURS, MARKERS, STYLE


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
