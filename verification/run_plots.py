"""Figures of one run: its training, its decisions, its last scores, where the zeros are."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, StrMethodFormatter

from verification.plots import COLOURS, STYLE


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


def _running_mean(values: Sequence[float], width: int = 20) -> list[float]:
    means = []
    for end in range(1, len(values) + 1):
        window = values[max(0, end - width) : end]
        means.append(sum(window) / len(window))
    return means
