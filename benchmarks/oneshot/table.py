"""The tables of the one-shot benchmark: perplexities, and methods compared window by window."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.harness import markdown
from benchmarks.harness.markdown import measured_with, number, share
from benchmarks.harness.one_shot import SETTINGS, about, dense_perplexity, not_measured, shown
from benchmarks.harness.paired import Paired
from benchmarks.harness.results import Row, grouped
from benchmarks.oneshot.methods import METHODS, OURS, RIVALS, UNIFORM, WANDA

Cells = Mapping[str, Sequence[Row]]
"""The rows of one setting, one for each draw, by method."""


def table(document: Mapping[str, Any]) -> str:
    """The results as Markdown: the goal, and a table for each setting."""
    settings, rows = document["settings"], document["rows"]
    cells, uniform = by_setting(rows), [name for name in METHODS if name not in UNIFORM]
    return markdown.document(
        "# Perplexity after one-shot pruning",
        f"{about(settings)} A draw is a choice of these windows. Judged on "
        f"{settings['test_windows']} windows of the test text. Dense: "
        f"{shown(dense_perplexity(document))}.",
        "A perplexity is the geometric mean over the draws (least to greatest). Methods are "
        "compared by the loss of each test window, of the same draws: mean difference ± its "
        "standard error over the windows, in nats a token, the logarithm of the ratio of the "
        "perplexities. Lower and higher: the 95 % interval leaves out 0. Draws beyond those "
        "measured are not part of the error, and windows count as independent. Reconstruction "
        "error: of a layer's outputs, from what the pruned blocks before it give, mean over the "
        "layers. `alps`, `obs` and swaps end with the best weights of their masks, so a refit "
        "would change nothing.",
        "## Is the best of ours lower?",
        f"Ours are {', '.join(OURS)}; the best is that with the lowest perplexity.",
        goals(document),
        "## Does a level for each layer help?",
        "With a budget each layer has that sparsity of 0, 0.1, … 0.9 which makes the sum of "
        "relative errors least (`pins budget` proves it), and the model as many weights as with "
        "one sparsity for all. That errors add up is a model of the loss; this is its worth.",
        levels(document),
        *(
            block
            for setting, found in cells.items()
            for block in (f"## {setting}", _table(found), not_measured(uniform, found))
        ),
        f"{sum(row['cpu'] for row in rows) / 3600:.1f} core-hours for {len(rows)} runs.",
        measured_with(document["provenance"]),
    )


def by_setting(rows: Sequence[Row]) -> dict[str, Cells]:
    """The rows by setting and method, in the order of both tables, and by draw."""
    settings, methods = [*SETTINGS], [*METHODS]

    def place(row: Row) -> tuple[int, int, int]:
        return settings.index(row["setting"]), methods.index(row["method"]), row["draw"]

    groups = grouped(sorted(rows, key=place), "setting")
    return {
        setting: {method: cells for (method,), cells in grouped(found, "method").items()}
        for (setting,), found in groups.items()
    }


def compared(one: Sequence[Row], other: Sequence[Row]) -> Paired | None:
    """Two methods in one setting, of the draws that both have; None without any."""
    first, second = ({row["draw"]: row["losses"] for row in rows} for rows in (one, other))
    both = [draw for draw in first if draw in second]
    if not both:
        return None
    return Paired.of([first[draw] for draw in both], [second[draw] for draw in both])


def goals(document: Mapping[str, Any]) -> list[str]:
    """For each setting the best of ours, compared with each rival."""
    cells = by_setting(document["rows"])
    return markdown.table(
        f"setting | best of ours | perplexity | against {' | against '.join(RIVALS)} | goal",
        "llrllll",
        (f"{setting} | {_goal(found)}" for setting, found in cells.items()),
    )


def levels(document: Mapping[str, Any]) -> list[str]:
    """For each setting the levels of a budget, compared with one level for all layers."""
    cells = by_setting(document["rows"])
    rows = [
        f"{setting} | {method} | {shown(_mean(found[method]))} | {shown(_mean(found[one]))} | "
        f"{each}, {each.verdict}"
        for setting, found in cells.items()
        for method, one in UNIFORM.items()
        if method in found and (each := compared(found[method], found.get(one, ())))
    ]
    head = "setting | method | perplexity | with one level | difference"
    return markdown.table(head, "llrrl", rows) if rows else ["Not measured."]


def _goal(cells: Cells) -> str:
    ours = [method for method in OURS if method in cells]
    if not ours:
        return " | ".join(["none measured", *["–"] * (1 + len(RIVALS)), "not measured"])
    best = min(ours, key=lambda method: _mean(cells[method]))
    found = [compared(cells[best], cells.get(rival, ())) for rival in RIVALS]
    judged = [each for each in found if each is not None]
    goal = "not measured" if len(judged) < len(RIVALS) else "**met**"
    if not all(each.lower for each in judged):
        goal = "**missed**"
    said = ["–" if each is None else f"{each}, {each.verdict}" for each in found]
    return " | ".join([best, shown(_mean(cells[best])), *said, goal])


def _table(cells: Cells) -> list[str]:
    return markdown.table(
        "method | draws | perplexity | reconstruction error | against wanda | | core-seconds",
        "lrrrrlr",
        (_cells(method, rows, cells.get(WANDA, ())) for method, rows in cells.items()),
    )


def _cells(method: str, rows: Sequence[Row], wanda: Sequence[Row]) -> str:
    each = [row["perplexity"] for row in rows]
    span = f" ({shown(min(each))} to {shown(max(each))})" if len(each) > 1 else ""
    found = None if method == WANDA else compared(rows, wanda)
    error, cpu = (statistics.fmean(row[key] for row in rows) for key in ("relative_error", "cpu"))
    against = "– |" if found is None else f"{found} | {found.verdict}"
    return (
        f"{method} | {len(rows)} | {shown(_mean(rows))}{span} | {share(error, 2)} | "
        f"{against} | {number(cpu)}"
    )


def _mean(rows: Sequence[Row]) -> float:
    """The geometric mean of the perplexities."""
    return statistics.geometric_mean(row["perplexity"] for row in rows)
