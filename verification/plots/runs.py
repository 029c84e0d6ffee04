"""Figures of one run: its training, its decisions, its last scores, its sparsity by tensor."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FuncFormatter, PercentFormatter, StrMethodFormatter

from pins.utils.grouping import grouped
from verification.plots.style import (
    COLOURS,
    GREY,
    Row,
    columns,
    heat_map,
    in_per_cent,
    panels,
    scientific,
    styled,
)


@styled
def measured_decisions(decisions: Sequence[Row]) -> Figure:
    """The change of the loss by each decision of a gradual run: predicted, measured, ratio.

    Where the ratio is 1 the first-order model is right; where it is negative its sign is wrong.
    """
    figure, (upper, lower) = panels(9.5, 4.6, 2, sharex=True, height_ratios=(2, 1))
    for field, name, line in (("predicted", "movement", "o-"), ("measured", "pins", "s-")):
        own = columns(decisions, "step", field)
        upper.plot(*own, line, color=COLOURS[name], linewidth=1.2, label=f"{field} change")
    upper.axhline(0, color=GREY, linewidth=0.8)
    upper.set_ylabel("change of the loss (nats)")
    upper.legend()
    known = [decision for decision in decisions if decision["predicted"]]
    steps, predicted, measured = map(np.array, columns(known, "step", "predicted", "measured"))
    lower.plot(steps, measured / predicted, "^-", color=COLOURS["magnitude"], linewidth=1.2)
    lower.axhline(1, color=GREY, linewidth=0.8, linestyle="--")
    lower.set_yscale("symlog", linthresh=1)
    lower.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    lower.set(xlabel="step of the decision", ylabel="measured / predicted")
    return figure


@styled
def sorted_scores(curve: Row) -> Figure:
    """The scores of one decision in descending order, with the threshold λ that proves the mask.

    Left: all scores. Right: the scores whose ranks are next to k; scores equal to λ are marked.
    """
    figure, (left, right) = panels(9.5, 3.6, across=2, width_ratios=(1.5, 1))
    threshold, keep, colour = curve["lambda"], curve["keep"], COLOURS["obd"]
    left.plot(curve["ranks"], curve["scores"], color=colour, linewidth=1.8)
    left.axvspan(0, keep, color=colour, alpha=0.12, label=f"kept: {keep:,}")
    left.set_xlim(0, curve["total"])
    if min(curve["scores"]) >= 0 < max(curve["scores"]):
        left.set_yscale("log")
    else:
        left.set_yscale("symlog", linthresh=abs(threshold) or 1e-12)
    left.xaxis.set_major_formatter(EngFormatter())
    left.set_xlabel(f"rank of the weight, of {curve['total']:,}")
    left.set_ylabel("importance s (unit of the criterion)")
    near = np.array(curve["near"])
    ranks = curve["first"] - keep + 1 + np.arange(len(near))
    tied = near == threshold
    right.plot(ranks[~tied], near[~tied], "o", color=colour, markersize=4)
    ties = f"equal to λ: {curve['tied']:,}"
    right.plot(ranks[tied], near[tied], "D", color="#000000", markersize=6, label=ties)
    first, last = min(ranks, default=0) - 1, max(ranks, default=0) + 1
    right.axvspan(first, 0.5, color=colour, alpha=0.12)
    right.set(xlim=(first, last), xlabel="rank from the last weight kept (0)")
    scientific(right, "y")
    for axes, label in ((left, f"λ = {threshold:.3g}"), (right, None)):
        axes.axhline(threshold, color="#000000", linewidth=0.9, linestyle="--", label=label)
        axes.legend()
    return figure


@styled
def training(losses: Sequence[float], decisions: Sequence[Row], dense_steps: int) -> Figure:
    """Training loss of each step (thin) and its running mean, with sparsity after each decision."""
    figure, (axes,) = panels(9.5, 3.4)
    steps = range(1, len(losses) + 1)
    axes.plot(steps, losses, color="#bbbbbb", linewidth=0.8)
    label = "training loss, mean of 20 steps"
    axes.plot(steps, _running_mean(losses), color=COLOURS["magnitude"], linewidth=1.6, label=label)
    axes.set(xlabel="training step", ylabel="loss (nats)")
    sparsity = axes.twinx()
    sparsity.spines["right"].set_visible(True)
    sparsity.grid(visible=False)
    at, height = columns(decisions, "step", "sparsity")
    at = [dense_steps + step for step in at]
    style: Any = {"color": COLOURS["pins"], "linewidth": 1.6}
    _staircase(sparsity, len(losses), [dense_steps, *at], [0, *height], **style)
    label = "sparsity, a certified decision each"
    sparsity.plot(at, height, "o", color=COLOURS["pins"], markersize=4, label=label)
    sparsity.set(ylim=(0, 1), ylabel="sparsity")
    lines = [*axes.get_legend_handles_labels()[0], *sparsity.get_legend_handles_labels()[0]]
    axes.legend(handles=lines, loc="upper right")
    return figure


@styled
def layer_sparsity(layers: Sequence[Row]) -> Figure:
    """Sparsity of each pruned tensor, by layer and kind, under the one global ranking."""
    kinds = grouped(layers, lambda row: row["kind"])
    figure, (axes,) = panels(9.5, 3.4)
    looks = zip(itertools.cycle("osv^Dx"), itertools.cycle(COLOURS.values()), strict=True)
    for (kind, own), (marker, colour) in zip(kinds.items(), looks, strict=False):
        axes.plot([row["sparsity"] for row in own], f"{marker}-", color=colour, label=kind)
    axes.set(ylim=(0, 1), xticks=range(max(map(len, kinds.values()))))
    axes.set(xlabel="layer", ylabel="sparsity")
    axes.legend(loc="lower left", ncols=2)
    return figure


@styled
def sparsity_over_training(
    decisions: Sequence[Row], tensors: Mapping[str, int], kinds: Sequence[str]
) -> Figure:
    """Sparsity of each pruned tensor after each decision, under one ranking of all weights.

    Args:
        decisions: with `step` and `each`, the number of ones of each tensor.
        tensors: name → number of weights, in the order of `each`.
        kinds: the kind of layer of each tensor; tensors are grouped by it, the first layer on top.
    """
    order = [at for kind in dict.fromkeys(kinds) for at, own in enumerate(kinds) if own == kind]
    sizes = list(tensors.values())
    cells = [[1 - row["each"][at] / sizes[at] for row in decisions] for at in order]
    figure, (axes,) = panels(9.0, 1.2 + 0.115 * max(len(order), 24))
    heat_map(axes, cells, "sparsity of the tensor (%)")
    grouped = [kinds[at] for at in order]
    starts = [at for at, kind in enumerate(grouped) if at == 0 or grouped[at - 1] != kind]
    ends = [*starts[1:], len(grouped)]
    for start in starts[1:]:
        axes.axhline(start - 0.5, color="white", linewidth=2)
    middles = [(start + end - 1) / 2 for start, end in zip(starts, ends, strict=True)]
    axes.set_yticks(middles, [grouped[start] for start in starts])
    shown = range(0, len(decisions), max(1, len(decisions) // 9))
    axes.set_xticks(list(shown), [str(decisions[at]["step"]) for at in shown])
    axes.set_xlabel("step of the decision")
    axes.set_ylabel("pruned tensors: kind of layer, first layer above")
    return figure


@styled
def schedule(planned: Sequence[float], decisions: Sequence[Row], limit: float) -> Figure:
    """The sparsity that a schedule asks for at each step, and the decisions that follow it.

    Args:
        planned: sparsity after each step, from step 0 on.
        decisions: with `step`, `sparsity`, `keep` and `total`.
        limit: share of the weights in one decision beyond which a first-order model is not trusted.
    """
    figure, (upper, lower) = panels(9.0, 4.6, 2, sharex=True, height_ratios=(1.5, 1))
    steps, reached = columns(decisions, "step", "sparsity")
    upper.plot(planned, color=GREY, linewidth=1.2, label="schedule", zorder=1)
    style: Any = {"color": COLOURS["platon"], "linewidth": 1.4, "label": "sparsity in force"}
    _staircase(upper, len(planned) - 1, steps, reached, **style)
    upper.plot(steps, reached, "o", color=COLOURS["pins"], markersize=5, label="decision, exact")
    _sparsity_axis(upper)
    upper.legend(loc="lower right")
    lower.bar(steps, np.diff(reached, prepend=0.0), _width(steps), color=COLOURS["platon"])
    label = f"{limit:.1%} of the weights"
    lower.axhline(limit, color="#000000", linewidth=1, linestyle="--", label=label)
    lower.set_yscale("log")
    lower.set_ylim(bottom=limit / 100)
    lower.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g}%"))
    lower.set(xlabel="training step", ylabel="newly pruned (%)")
    lower.legend()
    return figure


@styled
def survival(decisions: Sequence[Row]) -> Figure:
    """How many weights each decision prunes, and how many it keeps that were pruned before.

    Args:
        decisions: with `step`, `pruned`, `revived`, `keep` and `total`.
    """
    figure, (upper, lower) = panels(9.0, 4.6, 2, sharex=True, height_ratios=(1.5, 1))
    steps, *counts = columns(decisions, "step", "pruned", "revived", "keep", "total")
    pruned, revived, keep, total = np.array(counts, dtype=float)
    label = f"revived: kept again, {int(revived.sum()):,} in all"
    look: Any = {"color": COLOURS["obd"], "hatch": "//", "edgecolor": "white", "linewidth": 0}
    upper.bar(steps, revived, _width(steps), label=label, **look)
    label = f"pruned, {int(pruned.sum()):,} in all"
    upper.bar(steps, -pruned, _width(steps), color=COLOURS["pins"], label=label)
    upper.axhline(0, color="#000000", linewidth=0.8)
    upper.yaxis.set_major_formatter(EngFormatter())
    upper.set_ylabel("weights that change sides")
    upper.legend(loc="lower right")
    kept = np.concatenate([total[:1], keep[:-1]])  # before each decision
    for at, shares, line, colour, label in (
        (steps, pruned / kept, "o-", "pins", "of the kept, pruned now"),
        (steps[1:], revived[1:] / (total - kept)[1:], "^-", "obd", "of the pruned, revived now"),
    ):
        lower.plot(at, shares, line, color=COLOURS[colour], ms=5, lw=1.2, label=label)
    lower.yaxis.set_major_formatter(PercentFormatter(1.0))
    lower.set_ylim(bottom=0)
    lower.set(xlabel="step of the decision", ylabel="share (%)")
    lower.legend()
    return figure


@styled
def self_regularization(
    evaluations: Sequence[Row], metric: str, decisions: Sequence[Row]
) -> Figure:
    """The teachers of a run: their score, their sparsity, and the model's divergence from them.

    Args:
        evaluations: with `step`, `sparsity`, `score`, `divergence`, and `teacher`: whether the
            model became the teacher.
        metric: the name of the score.
        decisions: with `step` and `sparsity`.
    """
    figure, (top, middle, bottom) = panels(9.0, 6.0, 3, sharex=True)
    model, teacher = COLOURS["platon"], COLOURS["pins"]
    chosen = [row for row in evaluations if row["teacher"]]
    scores = columns(evaluations, "step", "score")
    top.plot(*scores, ".-", color=model, linewidth=1.4, label="model")
    scores = columns(chosen, "step", "score")
    top.plot(*scores, "D", color=teacher, markersize=6, label="becomes the teacher")
    top.set_ylabel(f"{metric},\nheld-out rows")
    top.legend(loc="lower right")
    end = evaluations[-1]["step"]
    for rows, colour, line, label in (
        (decisions, model, "-", "model"),
        (chosen, teacher, "--", "teacher"),
    ):
        style: Any = {"color": colour, "linewidth": 1.4, "linestyle": line, "label": label}
        _staircase(middle, end, *columns(rows, "step", "sparsity"), **style)
    _sparsity_axis(middle)
    middle.legend(loc="lower right")
    known = [row for row in evaluations if row["divergence"] is not None]
    bottom.plot(*columns(known, "step", "divergence"), ".-", color="#000000", linewidth=1.2)
    bottom.set_ylim(bottom=0)
    bottom.set(xlabel="training step", ylabel="KL(teacher ‖ model)\n(nats)")
    return figure


def _staircase(
    axes: Axes, end: int, steps: Sequence[int], heights: Sequence[float], **style: Any
) -> None:
    """A line from 0 at step 0: each height holds until the next step, the last until the end."""
    axes.step([0, *steps, end], [0, *heights, [0, *heights][-1]], where="post", **style)


def _sparsity_axis(axes: Axes) -> None:
    axes.set(ylim=(0, 1), ylabel="sparsity (%)")
    in_per_cent(axes.yaxis)


def _width(steps: Sequence[int]) -> float:
    """The width of the bars: 0.6 of the median distance between decisions."""
    return 0.6 * float(np.median(np.diff(steps))) if len(steps) > 1 else 0.6


def _running_mean(values: Sequence[float], width: int = 20) -> list[float]:
    windows = (values[max(0, end - width) : end] for end in range(1, len(values) + 1))
    return [sum(window) / len(window) for window in windows]
