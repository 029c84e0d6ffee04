"""Figures of what decisions do to the loss: predicted by its models, and measured."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from verification.plots.style import COLOURS, MARKERS, STYLE


@mpl.rc_context(STYLE)
def loss_change(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Measured loss change against the fraction pruned in one decision, by criterion.

    Two panels, the gradient's rows and unseen rows; dashed: what the first-order model predicted.
    """
    figure = Figure(figsize=(10.5, 4.0), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, field, title in (
        (left, "measured", "on the gradient's rows"),
        (right, "measured_unseen", "on unseen rows"),
    ):
        _loss_panel(axes, rows, field)
        axes.set_title(title)
        axes.set_xlabel("fraction of weights pruned in one decision")
    left.set_ylabel("change of the loss (nats)")
    figure.legend(*right.get_legend_handles_labels(), loc="outside right upper", fontsize=9)
    return figure


def _loss_panel(axes: Axes, rows: Sequence[Mapping[str, Any]], field: str) -> None:
    for name, points in _by_criterion(rows).items():
        fractions = [row["fraction"] for row in points]
        style: Any = {"color": COLOURS.get(name), "linewidth": 1.6}
        axes.plot(
            fractions,
            [row[field] for row in points],
            label=name,
            marker=MARKERS.get(name, "."),
            markersize=5,
            **style,
        )
        if name == "pins":
            axes.plot(
                fractions,
                [row["predicted"] for row in points],
                linestyle="--",
                label="pins, predicted",
                **style,
            )
    axes.axhline(0, color="#555555", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_yscale("symlog", linthresh=0.01)


@mpl.rc_context(STYLE)
def predicted_against_measured(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Every decision as a point: first-order prediction across, measured change up.

    On the diagonal the model is right. Above it the loss rose more, or fell less, than predicted.
    """
    figure = Figure(figsize=(7.0, 4.8), layout="constrained")
    axes = figure.subplots()
    for name, points in _by_criterion(rows).items():
        axes.scatter(
            [row["predicted"] for row in points],
            [row["measured"] for row in points],
            color=COLOURS.get(name),
            marker=MARKERS.get(name, "."),
            label=name,
            s=34,
        )
    values = [row[field] for row in rows for field in ("predicted", "measured")]
    low, high = min(values), max(values)
    axes.plot([low, high], [low, high], color="#555555", linewidth=0.8, label="prediction true")
    for scale in (axes.set_xscale, axes.set_yscale):
        scale("symlog", linthresh=0.01)
    axes.set_xlabel("predicted change of the loss, first order (nats)")
    axes.set_ylabel("measured change (nats)")
    axes.legend(fontsize=9)
    return figure


@mpl.rc_context(STYLE)
def multiplier_path(points: Sequence[Mapping[str, Any]], fraction: float, loss: float) -> Figure:
    """Change of the loss on the path from optimal brain damage to PINS: predicted, and measured.

    Args:
        points: as `verification.experiments.multiplier_path` returns them, as JSON values, the two
        ends first
            and last.
        fraction: of the weights, pruned at each point.
        loss: before the decision; no change below −loss is possible.
    """
    figure = Figure(figsize=(8.6, 4.4), layout="constrained")
    axes = figure.subplots()
    inner = [point["multiplier"] for point in points[1:-1]]
    gap = 4.0  # how far apart the two ends, which have no place on a log scale, are drawn
    at = [inner[0] / gap, *inner, inner[-1] * gap]
    looks: tuple[tuple[str, Any], ...] = (
        (
            "measured",
            {"color": COLOURS["pins"], "marker": "o", "label": "measured, gradient's rows"},
        ),
        (
            "measured_unseen",
            {"color": COLOURS["platon"], "marker": "s", "label": "measured, unseen rows"},
        ),
        (
            "predicted",
            {"color": "#555555", "linestyle": "--", "label": "predicted to first order"},
        ),
    )
    for field, style in looks:
        axes.plot(at, [point[field] for point in points], linewidth=1.6, markersize=5, **style)
    lowest = min(range(len(points)), key=lambda i: float(points[i]["measured_unseen"]))
    axes.plot(
        at[lowest],
        points[lowest]["measured_unseen"],
        "o",
        markersize=14,
        markerfacecolor="none",
        markeredgecolor="#000000",
        label="lowest on unseen rows",
    )
    axes.axhline(0, color="#555555", linewidth=0.8)
    axes.axhspan(-1e3, -loss, color="#999999", alpha=0.25, label="below −L: impossible")
    shares = {p["share"]: x for p, x in zip(points, at, strict=True) if p["share"]}
    if 0.5 in shares:
        axes.axvline(
            shares[0.5], color="#8000E0", linewidth=1.2, linestyle=":", label="promises half of L"
        )
    axes.set_xscale("log")
    axes.set_yscale("symlog", linthresh=0.1)
    low = min(float(point["predicted"]) for point in points)
    high = max(float(point["measured"]) for point in points)
    axes.set_ylim(1.6 * low, 2.2 * max(high, 0.1))
    axes.set_xticks(
        [at[0], *inner[1::2], at[-1]],
        ["0\nOBD", *(_power(multiplier) for multiplier in inner[1::2]), "∞\nPINS"],
    )
    axes.minorticks_off()
    axes.set_xlabel(f"multiplier μ (unit of c over s); {fraction:.0%} pruned in one decision")
    axes.set_ylabel("change of the loss L (nats)")
    figure.legend(loc="outside right upper", fontsize=9)
    return figure


def _power(value: float) -> str:
    mantissa, _, exponent = f"{value:.0e}".partition("e")
    return f"{mantissa}e{int(exponent)}".replace("-", "−")


@mpl.rc_context(STYLE)
def taylor_remainders(tests: Mapping[str, Mapping[str, Any]], wrong: Mapping[str, Any]) -> Figure:
    """Remainders of the loss's expansion against ε: a line of slope k+1 where it is right.

    Args:
        tests: a `verification.experiments.taylor_test.TaylorTest` of each direction, as JSON
            values, of order 2.
        wrong: the test with a gradient that is 1 % too large, in the first direction.
    """
    figure = Figure(figsize=(3.1 * len(tests) + 0.6, 4.3), layout="constrained")
    panels = figure.subplots(1, len(tests), sharey=True, squeeze=False)[0]
    rounding = max(test["rounding"] for test in tests.values())
    for axes, (name, test) in zip(panels, tests.items(), strict=True):
        _remainders(axes, test)
        axes.axhspan(1e-30, rounding, color="#999999", alpha=0.25, label="rounding")
        axes.set_title(f"direction: {name}", fontsize=9.5)
        axes.set_xlabel("step ε along the direction")
    panels[0].plot(
        wrong["epsilons"],
        wrong["remainders"][1],
        color=COLOURS["pins"],
        linestyle="--",
        marker="x",
        markersize=4,
        linewidth=1.2,
        label="R₁ with a gradient 1 % too large",
    )
    largest = max(max(row) for test in tests.values() for row in test["remainders"])
    panels[0].set_ylim(rounding / 100, 3 * largest)
    panels[0].set_ylabel("remainder Rₖ(ε) (nats)")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=9)
    return figure


def _remainders(axes: Axes, test: Mapping[str, Any]) -> None:
    """A line for each order, and its slope beside its left end."""
    looks = (("#000000", "o"), (COLOURS["platon"], "s"), (COLOURS["obd"], "^"))
    for order, (remainders, (colour, marker)) in enumerate(
        zip(test["remainders"], looks, strict=True)
    ):
        axes.plot(
            test["epsilons"],
            remainders,
            marker=marker,
            markersize=4,
            linewidth=1.2,
            color=colour,
            label=f"R{'₀₁₂'[order]}: falls as ε{('', '²', '³')[order]}, if it is right",
        )
        slope = test["slopes"][order]
        # of those that rounding has not reached the one with the smallest ε
        end = max(i for i, r in enumerate(remainders) if r > test["rounding"])
        axes.annotate(
            "slope unknown" if slope is None else f"slope {slope:.2f}",
            (test["epsilons"][end], remainders[end]),
            xytext=(-6, 0),
            textcoords="offset points",
            fontsize=8.5,
            color=colour,
            ha="right",
            va="center",
        )
    axes.set_xlim(min(test["epsilons"]) / 60, 2 * max(test["epsilons"]))
    axes.set_xscale("log")
    axes.set_yscale("log")


def _by_criterion(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    grouped: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["fraction"] > 0:
            grouped.setdefault(row["criterion"], []).append(row)
    return grouped
