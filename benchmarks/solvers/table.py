"""The tables of the solvers benchmark: time against n, and the answers for unscaled scores."""

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.harness import markdown
from benchmarks.harness.markdown import interval, measured_with, number, ranged
from benchmarks.harness.results import Row, grouped
from solvers import Status, Verdict

SELECT = "pins.select"
CLOSED_FORM = "closed form"
OURS = (SELECT, CLOSED_FORM)
CLAIMS: Mapping[str, str] = {Status.OPTIMAL.name: "optimal", Status.INTERRUPTED.name: "stopped"}
WORDS: Mapping[str, str] = {
    Verdict.AGREES.name: "as good",
    Verdict.SOLVER_INEXACT.name: "**worse**",
    Verdict.THEOREM_REFUTED.name: "**better: the theorem is refuted**",
    Verdict.SOLVER_INFEASIBLE.name: "**not allowed**",
    Verdict.NO_SOLUTION.name: "no answer",
}


def table(document: Mapping[str, Any]) -> str:
    """The results as Markdown."""
    rows, settings = document["rows"], document["settings"]
    scaled = [row for row in rows if row["scaled"]]
    base = {(row["size"], row["seed"]): row["seconds"] for row in scaled if row["solver"] == SELECT}
    return markdown.document(
        "# Time to solve one decision",
        f"max s·m over the masks of n scores with k = {settings['kept']} n ones; the scores are "
        "Student's t near 1e-9, the size of real ones. Milliseconds are means over the seeds "
        "(least to greatest); those of a solver hold the building of its model, and of CBC the "
        f"files and the process through which it is asked; those of {SELECT} and the closed form "
        f"are the median of {settings['repeats']} calls. A solver is stopped after "
        f"{settings['time_limit']:g} s. "
        "Its objective is multiplied by a power of two first, which is exact, and its answer is "
        "compared with the closed form's in exact arithmetic, never by its own number.",
        markdown.table(
            f"n | seeds | solver | milliseconds | times as slow as {SELECT} | claims | answer",
            "rrlrrl",
            (_scaled(group, base) for group in _by_size(scaled)),
        ),
        summary(rows),
        *_control([row for row in rows if not row["scaled"]]),
        [
            f"{row['solver']}, n = {row['size']:,}, seed {row['seed']}: failed with {row['error']}"
            for row in rows
            if row["error"]
        ],
        measured_with(document["provenance"]),
    )


def _control(unscaled: Sequence[Row]) -> list[str | list[str]]:
    if not unscaled:
        return []
    return [
        "## Control: the same scores unscaled",
        "What the solvers' absolute tolerances make of scores near 1e-9. Wrong: of the k "
        "weights kept, those that the optimum does not keep. Gap: what the answer falls "
        "short of the optimum, as a share of it.",
        markdown.table(
            "n | seeds | solver | milliseconds | claims | answer | wrong | of k | gap",
            "rrlrllrrr",
            map(_unscaled, _by_size(unscaled)),
        ),
    ]


def summary(rows: Sequence[Row]) -> str:
    """How many answers are as good as the closed form's, scaled and unscaled."""
    parts = []
    for scaled, words in ((True, "scaled"), (False, "unscaled")):
        asked = [row for row in rows if row["scaled"] is scaled and row["solver"] not in OURS]
        answers = [r for r in asked if r["verdict"] not in (None, Verdict.NO_SOLUTION.name)]
        good = sum(row["verdict"] == Verdict.AGREES.name for row in answers)
        if asked:
            parts.append(
                f"With {words} objectives the solvers answered {len(answers)} of {len(asked)} "
                f"times, {good} of them as well as the closed form"
            )
    own = [row for row in rows if row["solver"] == SELECT]
    agree = sum(row["verdict"] == Verdict.AGREES.name for row in own)
    parts.append(f"{SELECT} was as good {agree} of {len(own)} times")
    return ". ".join(parts) + "."


def _scaled(group: Sequence[Row], base: Mapping[tuple[int, int], float | None]) -> str:
    pairs = [(row["seconds"], base.get((row["size"], row["seed"]))) for row in group]
    ratios = [own / ours for own, ours in pairs if own and ours]
    times = number(statistics.median(ratios)) if ratios else "–"
    return f"{_start(group)} | {times} | {_answers(group)}"


def _unscaled(group: Sequence[Row]) -> str:
    wrong = [row["wrong"] for row in group if row["wrong"] is not None]
    gaps = [row["relative_gap"] for row in group if row["relative_gap"] is not None]
    return (
        f"{_start(group)} | {_answers(group)} | {interval(wrong, '{:,}')} | "
        f"{group[0]['keep']:,} | {interval(gaps, '{:.1%}')}"
    )


def _start(group: Sequence[Row]) -> str:
    """n, number of seeds, solver, and mean milliseconds with their range."""
    found = [1e3 * row["seconds"] for row in group if row["seconds"] is not None]
    shown = ranged(statistics.fmean(found), min(found), max(found)) if found else "–"
    return f"{group[0]['size']:,} | {len(group)} | {group[0]['solver']} | {shown}"


def _answers(group: Sequence[Row]) -> str:
    return f"{_counted(group, 'status', CLAIMS)} | {_counted(group, 'verdict', WORDS)}"


def _counted(group: Sequence[Row], field: str, words: Mapping[str, str]) -> str:
    """Each value in words, with its number of occurrences if there are several values."""
    found = Counter(row[field] for row in group)
    said = {
        value: "failed" if value is None else words.get(value, value.lower().replace("_", " "))
        for value in found
    }
    if len(found) == 1:
        return next(iter(said.values()))
    return ", ".join(f"{said[value]} ({times} ×)" for value, times in found.items())


def _by_size(rows: Sequence[Row]) -> list[list[Row]]:
    """The seeds of each size and solver, sizes ascending."""
    ascending = sorted(rows, key=lambda row: int(row["size"]))
    return [*grouped(ascending, "size", "solver").values()]
