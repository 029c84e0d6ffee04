"""The figure of the scope map: loss changes over learning rates and steps of fine-tuning."""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from verification.experiments.loss_change import STEP_ALONE, Row
from verification.experiments.seed_comparison import FIELDS, by_point, changes
from verification.experiments.student_interval import Interval, interval
from verification.plots.style import COLOURS, GREY, look, panels, shared_legend, styled

LINEAR = 0.01  # nats: the scale is linear for smaller changes


@styled
def scope_map(rows: Sequence[Row]) -> Figure:
    """Change of the loss against the fraction pruned, a panel for each point of training.

    Across: steps of training. Down: learning rates, each with unseen rows above the gradient's.
    Bands: 95 % intervals of the mean over several seeds. Dashed: the SGD step without a mask.
    """
    measured = by_point(rows)
    rates = list(dict.fromkeys(rate for rate, _ in measured))
    stages = sorted({progress for _, progress in measured})
    down = [(rate, field) for rate in rates for field in FIELDS]
    size = (max(3.3 * len(stages), 5.0) + 1.5, 2.4 * len(down) + 0.6)
    figure, grid = panels(*size, len(down), len(stages), sharex=True, sharey=True)
    for axes, ((rate, field), progress) in zip(grid, product(down, stages), strict=True):
        if (rate, progress) not in measured:  # training stopped before
            axes.set_axis_off()
            continue
        _panel(axes, changes(measured[rate, progress], field))
        axes.set_title(f"learning rate {rate:g}, {progress} steps, {FIELDS[field]}", fontsize=8)
    figure.supxlabel("fraction of weights pruned in one decision")
    figure.supylabel("change of the loss (nats)")
    shared_legend(figure, grid)
    return figure


def _panel(axes: Axes, measured: Mapping[float, Mapping[str, Mapping[int, float]]]) -> None:
    lines: dict[str, dict[float, Interval]] = {}
    for fraction, cells in measured.items():
        for name, seeds in cells.items():
            lines.setdefault(name, {})[fraction] = interval(seeds.values())
    alone = lines.pop(STEP_ALONE)[0.0]
    axes.axhline(0, color=GREY, linewidth=0.8)
    colour = COLOURS[STEP_ALONE]
    axes.axhline(alone.mean, color=colour, linewidth=1.2, linestyle="--", label=STEP_ALONE)
    for name, points in lines.items():
        fractions, means = list(points), np.array([point.mean for point in points.values()])
        (drawn,) = axes.plot(fractions, means, markersize=4, linewidth=1.4, **look(name))
        widths = np.array([point.half_width or 0.0 for point in points.values()])
        if widths.any():
            band: Any = {"color": drawn.get_color(), "alpha": 0.13, "linewidth": 0}
            axes.fill_between(fractions, means - widths, means + widths, **band)
    axes.set_xscale("log")
    axes.set_yscale("symlog", linthresh=LINEAR)
