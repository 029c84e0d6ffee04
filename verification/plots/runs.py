"""Figures of one run: its training, its decisions, its last scores, where the zeros are."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FuncFormatter, PercentFormatter, StrMethodFormatter

from verification.plots.style import COLOURS, STYLE, scientific


@mpl.rc_context(STYLE)
def measured_decisions(decisions: Sequence[Mapping[str, Any]]) -> Figure:
    """The change of the loss by each decision of a gradual run, predicted and measured, and ratio.

    Where the ratio is 1 the first-order model is right; where it is negative not even its sign is.
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
    lower.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    lower.set_ylabel("measured / predicted")
    lower.set_xlabel("step of the decision")
    return figure


@mpl.rc_context(STYLE)
def sorted_scores(curve: Mapping[str, Any]) -> Figure:
    """The scores of one decision in descending order, with the threshold λ that proves the mask.

    Left all of them, right those whose ranks are next to k. What equals λ is marked.
    """
    figure = Figure(figsize=(9.5, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.5, 1))
    threshold, keep = curve["lambda"], curve["keep"]
    left.plot(curve["ranks"], curve["scores"], color=COLOURS["obd"], linewidth=1.8)
    left.axvspan(0, keep, color=COLOURS["obd"], alpha=0.12, label=f"kept: {keep:,}")
    left.set_xlim(0, curve["total"])
    if min(curve["scores"]) >= 0:
        left.set_yscale("log")
    else:
        left.set_yscale("symlog", linthresh=abs(threshold) or 1e-12)
    left.xaxis.set_major_formatter(EngFormatter())
    left.set_xlabel(f"rank of the weight, of {curve['total']:,}")
    left.set_ylabel("importance s (unit of the criterion)")
    ranks = [curve["first"] + number - keep + 1 for number in range(len(curve["near"]))]
    for tied, colour, marker, size in ((False, COLOURS["obd"], "o", 4), (True, "#000000", "D", 6)):
        chosen = [
            (rank, score)
            for rank, score in zip(ranks, curve["near"], strict=True)
            if (score == threshold) == tied
        ]
        right.plot(
            [rank for rank, _ in chosen],
            [score for _, score in chosen],
            marker,
            color=colour,
            markersize=size,
            label=f"equal to λ: {curve['tied']:,}" if tied else None,
        )
    right.axvspan(min(ranks, default=0) - 1, 0.5, color=COLOURS["obd"], alpha=0.12)
    right.set_xlim(min(ranks, default=0) - 1, max(ranks, default=0) + 1)
    right.set_xlabel("rank from the last weight kept (0)")
    scientific(right, "y")
    for axes in (left, right):
        axes.axhline(
            threshold,
            color="#000000",
            linewidth=0.9,
            linestyle="--",
            label=f"λ = {threshold:.3g}" if axes is left else None,
        )
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


@mpl.rc_context({**STYLE, "axes.grid": False})
def sparsity_over_training(
    decisions: Sequence[Mapping[str, Any]], tensors: Mapping[str, int], kinds: Sequence[str]
) -> Figure:
    """Sparsity of each pruned tensor after each decision, under one ranking of them all.

    Args:
        decisions: with `step` and `each`, the ones of each tensor.
        tensors: name and number of weights, in the order of `each`.
        kinds: of the layers, by which the tensors are grouped; within a kind from the first layer
            down to the last.
    """
    order = [at for kind in dict.fromkeys(kinds) for at, own in enumerate(kinds) if own == kind]
    sizes = list(tensors.values())
    cells = np.array([[1 - row["each"][at] / sizes[at] for row in decisions] for at in order])
    figure = Figure(figsize=(9.0, 1.2 + 0.115 * max(len(order), 24)), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(
        cells, cmap="cividis", vmin=0, vmax=1, aspect="auto", interpolation="nearest"
    )
    grouped = [kinds[at] for at in order]
    starts = [at for at, kind in enumerate(grouped) if at == 0 or grouped[at - 1] != kind]
    ends = [*starts[1:], len(grouped)]
    for start in starts[1:]:
        axes.axhline(start - 0.5, color="white", linewidth=2)
    axes.set_yticks(
        [(start + end - 1) / 2 for start, end in zip(starts, ends, strict=True)],
        [grouped[start] for start in starts],
    )
    every = max(1, len(decisions) // 9)
    shown = range(0, len(decisions), every)
    axes.set_xticks(list(shown), [str(decisions[at]["step"]) for at in shown])
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_xlabel("step of the decision")
    axes.set_ylabel("pruned tensors: kind of layer, first layer above")
    bar = figure.colorbar(image, ax=axes, format=PercentFormatter(1.0, decimals=0))
    bar.set_label("sparsity of the tensor (%)")
    return figure


@mpl.rc_context(STYLE)
def schedule(
    planned: Sequence[float], decisions: Sequence[Mapping[str, Any]], limit: float
) -> Figure:
    """The sparsity that a schedule asks for at each step, and the decisions that bring it about.

    Args:
        planned: sparsity after each step, from step 0 on.
        decisions: with `step`, `sparsity`, `keep` and `total`.
        limit: share of the weights in one decision beyond which a first-order model is not trusted.
    """
    figure = Figure(figsize=(9.0, 4.6), layout="constrained")
    upper, lower = figure.subplots(2, sharex=True, height_ratios=(1.5, 1))
    steps = [decision["step"] for decision in decisions]
    reached = [decision["sparsity"] for decision in decisions]
    upper.plot(
        range(len(planned)), planned, color="#555555", linewidth=1.2, label="schedule", zorder=1
    )
    upper.step(
        [0, *steps, len(planned) - 1],
        [0, *reached, reached[-1]],
        where="post",
        color=COLOURS["platon"],
        linewidth=1.4,
        label="sparsity in force",
    )
    upper.plot(steps, reached, "o", color=COLOURS["pins"], markersize=5, label="decision, exact")
    upper.set_ylim(0, 1)
    upper.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    upper.set_ylabel("sparsity (%)")
    upper.legend(fontsize=9, loc="lower right")
    before = [0.0, *reached[:-1]]
    shares = [now - then for now, then in zip(reached, before, strict=True)]
    width = 0.6 * _interval(steps)
    lower.bar(steps, shares, width=width, color=COLOURS["platon"])
    lower.axhline(
        limit, color="#000000", linewidth=1, linestyle="--", label=f"{limit:.1%} of the weights"
    )
    lower.set_yscale("log")
    lower.set_ylim(bottom=limit / 100)
    lower.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g}%"))
    lower.set_ylabel("newly pruned (%)")
    lower.set_xlabel("training step")
    lower.legend(fontsize=9)
    return figure


@mpl.rc_context(STYLE)
def survival(decisions: Sequence[Mapping[str, Any]]) -> Figure:
    """What each decision takes out, and what it takes in again that was pruned before.

    Args:
        decisions: with `step`, `pruned`, `revived`, `keep` and `total`.
    """
    figure = Figure(figsize=(9.0, 4.6), layout="constrained")
    upper, lower = figure.subplots(2, sharex=True, height_ratios=(1.5, 1))
    steps = [decision["step"] for decision in decisions]
    width = 0.6 * _interval(steps)
    pruned = np.array([decision["pruned"] for decision in decisions], dtype=float)
    revived = np.array([decision["revived"] for decision in decisions], dtype=float)
    upper.bar(
        steps,
        revived,
        width=width,
        color=COLOURS["obd"],
        label=f"revived: kept again, {int(revived.sum()):,} in all",
        hatch="//",
        edgecolor="white",
        linewidth=0,
    )
    upper.bar(
        steps,
        -pruned,
        width=width,
        color=COLOURS["pins"],
        label=f"pruned, {int(pruned.sum()):,} in all",
    )
    upper.axhline(0, color="#000000", linewidth=0.8)
    upper.yaxis.set_major_formatter(EngFormatter())
    upper.set_ylabel("weights that change sides")
    upper.legend(fontsize=9, loc="lower right")
    there = np.array([0, *(d["total"] - d["keep"] for d in decisions[:-1])], dtype=float)
    kept = np.array(
        [d["total"] for d in decisions[:1]] + [d["keep"] for d in decisions[:-1]], float
    )
    lower.plot(
        steps,
        pruned / kept,
        color=COLOURS["pins"],
        marker="o",
        markersize=5,
        linewidth=1.2,
        label="of the kept, pruned now",
    )
    lower.plot(
        steps[1:],
        revived[1:] / there[1:],
        color=COLOURS["obd"],
        marker="^",
        markersize=5,
        linewidth=1.2,
        label="of the pruned, revived now",
    )
    lower.yaxis.set_major_formatter(PercentFormatter(1.0))
    lower.set_ylim(bottom=0)
    lower.set_ylabel("share (%)")
    lower.set_xlabel("step of the decision")
    lower.legend(fontsize=9)
    return figure


@mpl.rc_context(STYLE)
def self_regularization(
    evaluations: Sequence[Mapping[str, Any]], metric: str, decisions: Sequence[Mapping[str, Any]]
) -> Figure:
    """The teachers of a run: their score, their sparsity, and how far the model is from them.

    Args:
        evaluations: with `step`, `sparsity`, `score`, `divergence`, and whether it made the
            `teacher`.
        metric: the name of the score.
        decisions: with `step` and `sparsity`.
    """
    figure = Figure(figsize=(9.0, 6.0), layout="constrained")
    top, middle, bottom = figure.subplots(3, sharex=True)
    steps = [row["step"] for row in evaluations]
    chosen = [row for row in evaluations if row["teacher"]]
    top.plot(
        steps,
        [row["score"] for row in evaluations],
        color=COLOURS["platon"],
        marker=".",
        linewidth=1.4,
        label="model",
    )
    top.plot(
        [row["step"] for row in chosen],
        [row["score"] for row in chosen],
        "D",
        color=COLOURS["pins"],
        markersize=6,
        label="becomes the teacher",
    )
    top.set_ylabel(f"{metric},\nheld-out rows")
    top.legend(fontsize=9, loc="lower right")
    end = steps[-1]
    middle.step(
        [0, *(row["step"] for row in decisions), end],
        [0, *(row["sparsity"] for row in decisions), decisions[-1]["sparsity"]],
        where="post",
        color=COLOURS["platon"],
        linewidth=1.4,
        label="model",
    )
    middle.step(
        [0, *(row["step"] for row in chosen), end],
        [0, *(row["sparsity"] for row in chosen), chosen[-1]["sparsity"] if chosen else 0],
        where="post",
        color=COLOURS["pins"],
        linewidth=1.4,
        linestyle="--",
        label="teacher",
    )
    middle.set_ylim(0, 1)
    middle.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    middle.set_ylabel("sparsity (%)")
    middle.legend(fontsize=9, loc="lower right")
    known = [row for row in evaluations if row["divergence"] is not None]
    bottom.plot(
        [row["step"] for row in known],
        [row["divergence"] for row in known],
        color="#000000",
        marker=".",
        linewidth=1.2,
    )
    bottom.set_ylim(bottom=0)
    bottom.set_ylabel("KL(teacher ‖ model)\n(nats)")
    bottom.set_xlabel("training step")
    return figure


def _interval(steps: Sequence[int]) -> float:
    """How far apart the decisions are, but for one that comes sooner at the end."""
    return float(np.median(np.diff(steps))) if len(steps) > 1 else 1.0


def _running_mean(values: Sequence[float], width: int = 20) -> list[float]:
    means = []
    for end in range(1, len(values) + 1):
        window = values[max(0, end - width) : end]
        means.append(sum(window) / len(window))
    return means
