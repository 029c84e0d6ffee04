"""The figure of decisions by several ranks: cost model against measurements, and for GPUs."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pins.utils.grouping import grouped
from verification.plots.style import GREY, Row, columns, panels, shared_legend, styled

LOOKS = (("#D55E00", "o"), ("#0072B2", "s"), ("#009E73", "^"), ("#CC79A7", "D"), ("#000000", "x"))
"""Colour and marker of each name, in order of appearance, repeated from the first."""


@styled
def rank_decisions(times: Sequence[Row], exchanged: Sequence[Row], paper: Sequence[Row]) -> Figure:
    """Three panels: seconds and bytes, predicted against found, and seconds against ranks.

    Args:
        times: `instance`, and in seconds `predicted` and `found`.
        exchanged: the same in bytes.
        paper: `model`, `ranks`, and in seconds `total_seconds` and `gathering_seconds`.
    """
    figure, (time, amount, ranks) = panels(15.0, 4.0, across=3)
    names = list(dict.fromkeys(row["instance"] for row in [*times, *exchanged]))
    _against(time, times, names, 1e3)
    time.set(xlabel="measured time of a decision (ms)", ylabel="predicted time (ms)")
    _against(amount, exchanged, names, 1e-3)
    amount.set(xlabel="counted bytes that reach a rank (kB)", ylabel="predicted bytes (kB)")
    _by_ranks(ranks, paper)
    ranks.set(xlabel="number of GPUs", ylabel="predicted time of a decision (ms)")
    for axes in (time, amount):
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=8, loc="upper left")
    shared_legend(figure, [ranks], fontsize=8)
    return figure


def _against(axes: Axes, rows: Sequence[Row], names: Sequence[str], unit: float) -> None:
    for number, name in enumerate(names):
        found = [row for row in rows if row["instance"] == name]
        if not found:
            continue
        colour, marker = LOOKS[number % len(LOOKS)]
        points = (unit * np.array(values) for values in columns(found, "found", "predicted"))
        axes.plot(*points, marker, color=colour, markersize=6, label=name)
    ends = [unit * row[field] for row in rows for field in ("found", "predicted")]
    if ends:
        line = (min(ends) / 1.5, max(ends) * 1.5)
        axes.plot(line, line, color=GREY, linewidth=0.8, linestyle="--", label="equal")
    axes.set(xscale="log", yscale="log")


def _by_ranks(axes: Axes, rows: Sequence[Row]) -> None:
    for number, (name, found) in enumerate(grouped(rows, lambda row: row["model"]).items()):
        colour, marker = LOOKS[number % len(LOOKS)]
        for field, line, says in (
            ("total_seconds", "-", "pins.decide"),
            ("gathering_seconds", ":", "sending all scores to one, alone"),
        ):
            style: Any = {"color": colour, "markersize": 5, "linewidth": 1.4}
            across, seconds = columns(found, "ranks", field)
            up = 1e3 * np.array(seconds)
            axes.plot(across, up, marker + line, label=f"{name}: {says}", **style)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    ticks = sorted({row["ranks"] for row in rows})
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
