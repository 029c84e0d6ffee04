"""Figures of the change of the loss by decisions: predicted and measured."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pins.utils.grouping import grouped
from verification.plots.style import (
    COLOURS,
    GREY,
    Row,
    columns,
    look,
    panels,
    shared_legend,
    styled,
)

THIN: Any = {"markersize": 4, "linewidth": 1.2}


@styled
def loss_change(rows: Sequence[Row]) -> Figure:
    """Measured loss change against the fraction pruned in one decision, by criterion.

    Left: on the gradient's rows. Right: on unseen rows. Dashed: the first-order prediction.
    """
    figure, (left, right) = panels(10.5, 4.0, across=2, sharey=True)
    for axes, field, title in (
        (left, "measured", "on the gradient's rows"),
        (right, "measured_unseen", "on unseen rows"),
    ):
        for name, points in _by_criterion(rows).items():
            measured = columns(points, "fraction", field)
            axes.plot(*measured, markersize=5, linewidth=1.6, **look(name))
            if name == "pins":
                predicted = columns(points, "fraction", "predicted")
                label = "pins, predicted"
                axes.plot(*predicted, "--", color=COLOURS[name], linewidth=1.6, label=label)
        axes.axhline(0, color=GREY, linewidth=0.8)
        axes.set(title=title, xlabel="fraction of weights pruned in one decision", xscale="log")
        axes.set_yscale("symlog", linthresh=0.01)
    left.set_ylabel("change of the loss (nats)")
    shared_legend(figure, [right])
    return figure


@styled
def predicted_against_measured(rows: Sequence[Row]) -> Figure:
    """Every decision as a point: first-order prediction across, measured change up.

    On the diagonal the model is right. Above it the loss rose more, or fell less, than predicted.
    """
    figure, (axes,) = panels(7.0, 4.8)
    for name, points in _by_criterion(rows).items():
        predicted, measured = columns(points, "predicted", "measured")
        axes.scatter(predicted, measured, s=34, **look(name))
    values = [row[field] for row in rows for field in ("predicted", "measured")]
    ends = [min(values), max(values)]
    axes.plot(ends, ends, color=GREY, linewidth=0.8, label="prediction true")
    for scale in (axes.set_xscale, axes.set_yscale):
        scale("symlog", linthresh=0.01)
    axes.set_xlabel("predicted change of the loss, first order (nats)")
    axes.set_ylabel("measured change (nats)")
    axes.legend()
    return figure


@styled
def multiplier_path(points: Sequence[Row], fraction: float, loss: float) -> Figure:
    """Change of the loss on the path from optimal brain damage to PINS: predicted, and measured.

    Args:
        points: the `PathPoint`s of `verification.experiments.multiplier_path` as JSON values, the
            two ends first and last.
        fraction: share of the weights that is pruned at each point.
        loss: L before the decision; no change below −L is possible.
    """
    figure, (axes,) = panels(8.6, 4.4)
    inner = [point["multiplier"] for point in points[1:-1]]
    gap = 4.0  # 0 and ∞ have no place on a log scale: they are drawn at this factor
    at = [inner[0] / gap, *inner, inner[-1] * gap]
    predicted, measured, unseen = columns(points, "predicted", "measured", "measured_unseen")
    for values, colour, line, label in (
        (measured, COLOURS["pins"], "o-", "measured, gradient's rows"),
        (unseen, COLOURS["platon"], "s-", "measured, unseen rows"),
        (predicted, GREY, "--", "predicted to first order"),
    ):
        axes.plot(at, values, line, color=colour, label=label, linewidth=1.6, markersize=5)
    ring: Any = {"markersize": 14, "markerfacecolor": "none", "markeredgecolor": "#000000"}
    lowest = at[unseen.index(min(unseen))], min(unseen)
    axes.plot(*lowest, "o", label="lowest on unseen rows", **ring)
    axes.axhline(0, color=GREY, linewidth=0.8)
    axes.axhspan(-1e3, -loss, color="#999999", alpha=0.25, label="below −L: impossible")
    shares = {p["share"]: x for p, x in zip(points, at, strict=True) if p["share"]}
    if 0.5 in shares:
        colour = COLOURS["trust-region"]
        axes.axvline(shares[0.5], 0, 1, c=colour, lw=1.2, ls=":", label="promises half of L")
    axes.set_xscale("log")
    axes.set_yscale("symlog", linthresh=0.1)
    axes.set_ylim(1.6 * min(predicted), 2.2 * max(*measured, 0.1))
    labels = ["0\nOBD", *map(_power, inner[1::2]), "∞\nPINS"]
    axes.set_xticks([at[0], *inner[1::2], at[-1]], labels)
    axes.minorticks_off()
    axes.set_xlabel(f"multiplier μ (unit of c over s); {fraction:.0%} pruned in one decision")
    axes.set_ylabel("change of the loss L (nats)")
    figure.legend(loc="outside right upper")
    return figure


def _power(value: float) -> str:
    mantissa, _, exponent = f"{value:.0e}".partition("e")
    return f"{mantissa}e{int(exponent)}".replace("-", "−")


@styled
def taylor_remainders(tests: Mapping[str, Row], wrong: Row) -> Figure:
    """Remainders of the loss's expansion against ε: lines of slope k+1 if derivatives are right.

    Args:
        tests: direction → its `TaylorTest` of order 2, as JSON values.
        wrong: the test with a gradient that is 1 % too large, in the first direction.
    """
    figure, row = panels(3.1 * len(tests) + 0.6, 4.3, across=len(tests), sharey=True)
    rounding = max(test["rounding"] for test in tests.values())
    for axes, (name, test) in zip(row, tests.items(), strict=True):
        _remainders(axes, test)
        axes.axhspan(1e-30, rounding, color="#999999", alpha=0.25, label="rounding")
        axes.set_title(f"direction: {name}", fontsize=9.5)
        axes.set_xlabel("step ε along the direction")
    style: Any = {"color": COLOURS["pins"], "label": "R₁ with a gradient 1 % too large", **THIN}
    row[0].plot(wrong["epsilons"], wrong["remainders"][1], "x--", **style)
    largest = max(max(each) for test in tests.values() for each in test["remainders"])
    row[0].set(ylim=(rounding / 100, 3 * largest), ylabel="remainder Rₖ(ε) (nats)")
    shared_legend(figure, row[:1], loc="outside lower center", ncols=3)
    return figure


def _remainders(axes: Axes, test: Row) -> None:
    """A line for each order, and its slope beside its left end."""
    looks = (("#000000", "o-"), (COLOURS["platon"], "s-"), (COLOURS["obd"], "^-"))
    epsilons = test["epsilons"]
    for order, (remainders, (colour, line)) in enumerate(
        zip(test["remainders"], looks, strict=True)
    ):
        label = f"R{'₀₁₂'[order]}: falls as ε{('', '²', '³')[order]}, if it is right"
        axes.plot(epsilons, remainders, line, color=colour, label=label, **THIN)
        slope = test["slopes"][order]
        end = max(i for i, r in enumerate(remainders) if r > test["rounding"])  # the smallest ε
        words = "slope unknown" if slope is None else f"slope {slope:.2f}"
        aside: Any = {"xytext": (-6, 0), "textcoords": "offset points", "ha": "right"}
        at = (epsilons[end], remainders[end])
        axes.annotate(words, at, fontsize=8.5, color=colour, va="center", **aside)
    axes.set(xscale="log", yscale="log", xlim=(min(epsilons) / 60, 2 * max(epsilons)))


def _by_criterion(rows: Sequence[Row]) -> dict[str, list[Row]]:
    pruned = [row for row in rows if row["fraction"] > 0]
    return grouped(pruned, lambda row: str(row["criterion"]))
