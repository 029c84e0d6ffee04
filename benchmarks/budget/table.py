"""The table of the budget benchmark: partial choices and seconds by layers and levels."""

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.harness import markdown
from benchmarks.harness.markdown import measured_with, number, ranged
from benchmarks.harness.results import Row, grouped

OURS, CHECKER, CBC, HIGHS = "pins", "checker.py", "CBC", "HiGHS"
CLAIMS = {"OPTIMAL": "optimal", "PROVED": "proved", "NOT_PROVED": "within a gap"}
CLAIMS["INTERRUPTED"] = "stopped"


def table(document: Mapping[str, Any]) -> str:
    """The results as Markdown."""
    rows, settings = document["rows"], document["settings"]
    return markdown.document(
        "# Levels of layers within a budget",
        f"The least sum of errors with {settings['budget']} of the dense layers. Layers have "
        "the shapes of MiniLM's encoder (12) and of SmolLM2-135M (42: six blocks, 210: all), in "
        "bfloat16 as packed files have them; errors are random and convex up to 5 % of noise, or "
        "rounded to 64ths (near ties), where many sums are equal. Seconds are means over the seeds "
        f"(least to greatest), ours and the checker's of {settings['repeats']} calls each; "
        "those of a solver hold the building of its model. A solver is stopped after "
        f"{settings['time_limit']:g} s, and its answer is compared with ours in rationals.",
        markdown.table(
            "layers | levels | errors | partial choices | seconds | checker.py | CBC | HiGHS | "
            "ours | CBC | HiGHS",
            "rrlrrrrrlll",
            [_cells([*group]) for group in grouped(rows, "layers", "levels", "kind").values()],
        ),
        summary(rows),
        [
            f"{row['method']}, {row['layers']} × {row['levels']}, {row['kind']}, seed "
            f"{row['seed']}: failed with {row['error']}"
            for row in rows
            if row["error"]
        ],
        measured_with(document["provenance"]),
    )


def summary(rows: Sequence[Row]) -> str:
    """How many choices are optima, how many certificates were proved, what solvers answered."""
    ours, checks = (_of(rows, method) for method in (OURS, CHECKER))
    optima = sum(row["status"] == "OPTIMAL" for row in ours)
    proved = sum(row["status"] == "PROVED" for row in checks)
    parts = [
        f"{optima} of {len(ours)} choices are optima; {proved} of {len(checks)} certificates are "
        "proved by checker.py"
    ]
    for method in (CBC, HIGHS):
        found = [row["excess"] for row in _of(rows, method) if row["excess"] is not None]
        better = sum(excess < 0 for excess in found)
        worse = [excess for excess in found if excess > 0]
        most = f", by up to {100 * max(worse):.2g} %" if worse else ""
        parts.append(
            f"{method} answered {len(found)} times: {better} better, {len(worse)} worse{most}"
        )
    return ". ".join(parts) + "."


def _of(rows: Sequence[Row], method: str) -> list[Row]:
    return [row for row in rows if row["method"] == method]


def _cells(group: Sequence[Row]) -> str:
    first, ours = group[0], _of(group, OURS)
    states = [row["states"] for row in ours if row["states"] is not None]
    shown = ranged(statistics.fmean(states), min(states), max(states)) if states else "–"
    times = [_seconds(_of(group, method)) for method in (OURS, CHECKER, CBC, HIGHS)]
    says = [_claims(_of(group, method)) for method in (OURS, CBC, HIGHS)]
    start = f"{first['layers']} | {first['levels']} | {first['kind']} | {shown}"
    return " | ".join([start, *times, *says])


def _seconds(rows: Sequence[Row]) -> str:
    found = [row["seconds"] for row in rows if row["seconds"] is not None]
    if not found:
        return "–"
    middle = statistics.fmean(found)
    return number(middle) if len(found) == 1 else ranged(middle, min(found), max(found))


def _claims(rows: Sequence[Row]) -> str:
    found = Counter(CLAIMS.get(row["status"], "failed") for row in rows)
    return ", ".join(
        said if len(found) == 1 else f"{said} ({times} ×)" for said, times in found.items()
    )
