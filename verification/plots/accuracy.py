"""The figure of scores after gradual pruning."""

from collections.abc import Sequence

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from verification.plots.style import STYLE, Row, columns, look, shared_legend

DENSE = "#777777"


@mpl.rc_context(STYLE)
def end_accuracy(cells: Sequence[Row]) -> Figure:
    """Score after gradual pruning against sparsity, a panel for each task.

    Dashed: with self-regularisation. Bars: standard deviation over seeds, if there are several.
    Grey: dense training, and one standard error of a score on as many test rows around it.
    """
    tasks = list(dict.fromkeys(cell["task"] for cell in cells))
    figure = Figure(figsize=(max(4.2 * len(tasks), 6.0), 4.0))
    panels = figure.subplots(1, max(len(tasks), 1), squeeze=False)[0]
    for axes, task in zip(panels, tasks, strict=False):
        _accuracy_panel(axes, [c for c in cells if c["task"] == task and c["mean"] is not None])
        axes.set(title=task, xlabel="sparsity")
    panels[0].set_ylabel("score on test rows")
    shared_legend(figure, panels)
    return figure


def _accuracy_panel(axes: Axes, cells: Sequence[Row]) -> None:
    sparsities = sorted({cell["sparsity"] for cell in cells if cell["sparsity"] > 0})
    lines: dict[tuple[str, bool], list[Row]] = {}
    for cell in sorted(cells, key=lambda cell: cell["sparsity"]):
        if cell["sparsity"] > 0:
            lines.setdefault((cell["method"], cell["self_regularization"]), []).append(cell)
            continue
        mean, error = cell["mean"], cell["error"] or 0.0
        axes.axhline(mean, color=DENSE, linewidth=1.2, label=cell["method"])
        axes.axhspan(mean - error, mean + error, color=DENSE, alpha=0.15)
    for number, ((method, regularized), points) in enumerate(sorted(lines.items())):
        shift = (number - (len(lines) - 1) / 2) * 0.03  # error bars do not overlap
        means, deviations = columns(points, "mean", "spread")
        axes.errorbar(
            [sparsities.index(point["sparsity"]) + shift for point in points],
            means,
            yerr=[deviation or 0.0 for deviation in deviations],
            linestyle="--" if regularized else "-",
            linewidth=1.4,
            markersize=5,
            label=f"{method} + self-regularisation" if regularized else method,
            **look(method),
        )
    axes.set_xticks(range(len(sparsities)), [f"{sparsity:.0%}" for sparsity in sparsities])
