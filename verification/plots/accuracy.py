"""The figure of the scores that gradual pruning leaves."""

from collections.abc import Sequence
from operator import itemgetter

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pins.utils.grouping import grouped
from verification.plots.style import Row, columns, look, panels, shared_legend, styled

DENSE = "#777777"


@styled
def end_accuracy(cells: Sequence[Row]) -> Figure:
    """Score after gradual pruning against sparsity, a panel for each task.

    Dashed lines: with self-regularisation. Bars: the standard deviation over several seeds.
    Grey: dense training ± one standard error of a score on that number of test rows.
    """
    tasks = grouped(cells, itemgetter("task"))
    figure, row = panels(max(4.2 * len(tasks), 6.0), 4.0, across=max(len(tasks), 1))
    for axes, (task, own) in zip(row, tasks.items(), strict=False):
        _accuracy_panel(axes, [cell for cell in own if cell["mean"] is not None])
        axes.set(title=task, xlabel="sparsity")
    row[0].set_ylabel("score on test rows")
    shared_legend(figure, row)
    return figure


def _accuracy_panel(axes: Axes, cells: Sequence[Row]) -> None:
    pruned = sorted((cell for cell in cells if cell["sparsity"] > 0), key=itemgetter("sparsity"))
    sparsities = sorted({cell["sparsity"] for cell in pruned})
    lines = grouped(pruned, itemgetter("method", "self_regularization"))
    for cell in cells:
        if cell["sparsity"] == 0:
            mean, error = cell["mean"], cell["error"] or 0.0
            axes.axhline(mean, color=DENSE, linewidth=1.2, label=cell["method"])
            axes.axhspan(mean - error, mean + error, color=DENSE, alpha=0.15)
    for number, ((method, regularized), points) in enumerate(sorted(lines.items())):
        shift = (number - (len(lines) - 1) / 2) * 0.03  # so that error bars do not overlap
        means, deviations = columns(points, "mean", "spread")
        axes.errorbar(
            [sparsities.index(point["sparsity"]) + shift for point in points],
            means,
            yerr=[deviation or 0.0 for deviation in deviations],
            linestyle="--" if regularized else "-",
            linewidth=1.4,
            markersize=5,
            **look(method) | ({"label": f"{method} + self-regularisation"} if regularized else {}),
        )
    axes.set_xticks(range(len(sparsities)), [f"{sparsity:.0%}" for sparsity in sparsities])
