"""The table of the transposable benchmark: time, certified gap and HiGHS' answers by pattern."""

from collections.abc import Mapping
from typing import Any

from benchmarks.harness import markdown
from benchmarks.harness.markdown import interval, measured_with, number
from benchmarks.harness.results import Row
from solvers import Verdict

EXACT = "transposable"
ROUNDED = "scaling and greedy"
GREEDY = "greedy"
HIGHS = "HiGHS"
WORDS = {Verdict.AGREES.name: "as good", Verdict.SOLVER_INEXACT.name: "worse"}
SAYS: Mapping[str, str] = {
    EXACT: "scaled potentials, five exact sweeps, shortest augmenting paths; 4 × 4 by table",
    ROUNDED: "the same potentials, then the greedy on s − a − b, without paths",
    GREEDY: "the largest scores first, a 2-approximation; rows and columns may lack ones",
    HIGHS: "the LP of some blocks, one after the other; seconds are extrapolated to all blocks",
}


def table(document: Mapping[str, Any]) -> str:
    """The results as Markdown."""
    rows = document["rows"]
    return markdown.document(
        "# Transposable N:M masks",
        f"Scores of {document['settings']['criterion']} on the matrices of MiniLM's encoder, once "
        "or eight times. Each M × M block keeps N weights in each row and each column. Gap: "
        "(upper bound − kept sum) / upper bound, the bound from exact potentials; HiGHS' masks "
        "are compared with ours in exact arithmetic. Missing: the ones that rows and columns lack.",
        [f"- {name}: {says}." for name, says in SAYS.items()],
        markdown.table(
            "scores | weights | N:M | method | seconds | of all threads | ns a weight | "
            "certified gap | missing | HiGHS' masks against ours | load",
            "lrllr",
            map(_cells, rows),
        ),
        [f"{row['method']} {row['n']}:{row['m']}: {row['error']}" for row in rows if row["error"]],
        f"Load of the machine, in running processes: "
        f"{interval([row['load'] for row in rows], '{:.1f}')}.",
        measured_with(document["provenance"]),
    )


def _cells(row: Row) -> str:
    start = f"{row['instance']} | {row['weights']:,} | {row['n']}:{row['m']} | {row['method']}"
    if row["error"]:
        return f"{start} | failed"
    cpu = "" if row["cpu"] is None else number(row["cpu"])
    answers = ", ".join(
        f"{times} {WORDS.get(name, name)}" for name, times in (row["answers"] or {}).items()
    )
    return (
        f"{start} | {number(row['seconds'])} | {cpu} | "
        f"{number(1e9 * row['seconds'] / row['weights'])} | "
        f"{_percent(row['gap'])} | {_percent(row['missing'])} | {answers} | {row['load']:.1f}"
    )


def _percent(value: float | None) -> str:
    if value is None:
        return ""
    return "0" if not value else f"{100 * value:.2g} %".replace("-", "−")
