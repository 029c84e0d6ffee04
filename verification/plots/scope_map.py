"""The figure of the scope map, drawn from the rows of its results file."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from verification.experiments.loss_change import STEP_ALONE, Row
from verification.experiments.seed_comparison import FIELDS, Interval, by_point, changes, interval
from verification.plots.style import COLOURS, MARKERS, STYLE

LINEAR = 0.01  # changes below it are drawn to a linear scale, in nats


@mpl.rc_context(STYLE)
def scope_map(rows: Sequence[Row]) -> Figure:
    """Change of the loss against the fraction pruned, a panel for each point of training.

    Progress goes across; learning rates go down, each with unseen rows above the gradient's. Bands:
    95 % intervals of the mean, where there are several seeds. Dashed: the SGD step without a mask.
    """
    measured = by_point(rows)
    rates = list(dict.fromkeys(rate for rate, _ in measured))
    stages = sorted({progress for _, progress in measured})
    down = [(rate, field) for rate in rates for field in FIELDS]
    size = (max(3.3 * len(stages), 5.0) + 1.5, 2.4 * len(down) + 0.6)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(len(down), len(stages), squeeze=False, sharex=True, sharey=True)
    labelled: dict[str, Any] = {}
    for line, (rate, field) in zip(grid, down, strict=True):
        for axes, progress in zip(line, stages, strict=True):
            if (rate, progress) not in measured:  # stopped before
                axes.set_axis_off()
                continue
            _panel(axes, changes(measured[rate, progress], field))
            axes.set_title(f"learning rate {rate:g}, {progress} steps, {FIELDS[field]}", fontsize=8)
            handles, labels = axes.get_legend_handles_labels()
            labelled |= dict(zip(labels, handles, strict=True))
    figure.supxlabel("fraction of weights pruned in one decision")
    figure.supylabel("change of the loss (nats)")
    figure.legend(list(labelled.values()), list(labelled), loc="outside right upper", fontsize=9)
    return figure


def _panel(axes: Axes, measured: Mapping[float, Mapping[str, Mapping[int, float]]]) -> None:
    lines: dict[str, dict[float, Interval]] = {}
    for fraction, cells in measured.items():
        for name, seeds in cells.items():
            lines.setdefault(name, {})[fraction] = interval(seeds.values())
    alone = lines.pop(STEP_ALONE)[0.0]
    axes.axhline(0, color="#555555", linewidth=0.8)
    axes.axhline(
        alone.mean, color=COLOURS[STEP_ALONE], linewidth=1.2, linestyle="--", label=STEP_ALONE
    )
    for name, points in lines.items():
        means = [point.mean for point in points.values()]
        (drawn,) = axes.plot(
            list(points),
            means,
            color=COLOURS.get(name),
            marker=MARKERS.get(name, "."),
            markersize=4,
            linewidth=1.4,
            label=name,
        )
        widths = [point.half_width or 0.0 for point in points.values()]
        if any(widths):
            axes.fill_between(
                list(points),
                [mean - width for mean, width in zip(means, widths, strict=True)],
                [mean + width for mean, width in zip(means, widths, strict=True)],
                color=drawn.get_color(),
                alpha=0.13,
                linewidth=0,
            )
    axes.set_xscale("log")
    axes.set_yscale("symlog", linthresh=LINEAR)
