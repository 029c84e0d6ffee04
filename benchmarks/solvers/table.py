"""The tables of the solvers benchmark: time against n, and what unscaled scores do to an answer."""

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.harness.results import measured_with, number
from solvers import Status, Verdict

Row = Mapping[str, Any]

SELECT = "pins.select"
CLOSED_FORM = "closed form"
OURS = (SELECT, CLOSED_FORM)
CLAIMS: Mapping[str, str] = {
    Status.OPTIMAL.name: "optimal",
    Status.INTERRUPTED.name: "stopped",
}
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
    lines = [
        "# Time to solve one decision",
        "",
        f"max s·m over the masks of n scores with k = {settings['kept']} n ones; the scores are "
        "Student's t near 1e-9, the size of real ones. Milliseconds are means over the seeds "
        "(least to greatest); those of a solver hold the building of its model, and of CBC the "
        f"files and the process through which it is asked; those of {SELECT} and the closed form "
        f"are the median of {settings['repeats']} calls. A solver is stopped after "
        f"{settings['time_limit']:g} s. "
        "Its objective is multiplied by a power of two first, which is exact, and its answer is "
        "compared with the closed form's in exact arithmetic, never by its own number.",
        "",
        f"| n | seeds | solver | milliseconds | times as slow as {SELECT} | claims | answer |",
        "|---:|---:|---|---:|---:|---|---|",
    ]
    base = {(r["size"], r["seed"]): r["seconds"] for r in scaled if r["solver"] == SELECT}
    lines += [_line(group, base) for group in _grouped(scaled)]
    lines += ["", summary(rows)]
    unscaled = [row for row in rows if not row["scaled"]]
    if unscaled:
        lines += [
            "",
            "## Control: the same scores unscaled",
            "",
            "What the solvers' absolute tolerances make of scores near 1e-9. Wrong: of the k "
            "weights kept, those that the optimum does not keep. Gap: what the answer falls "
            "short of the optimum, as a share of it.",
            "",
            "| n | seeds | solver | milliseconds | claims | answer | wrong | of k | gap |",
            "|---:|---:|---|---:|---|---|---:|---:|---:|",
            *(_control(group) for group in _grouped(unscaled)),
        ]
    failed = [
        f"{row['solver']}, n = {row['size']:,}, seed {row['seed']}: failed with {row['error']}"
        for row in rows
        if row["error"]
    ]
    lines += ["", *failed] if failed else []
    return "\n".join([*lines, "", measured_with(document["provenance"]), ""])


def summary(rows: Sequence[Row]) -> str:
    """How many answers were as good as the closed form's, scaled and unscaled."""
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


def _line(group: Sequence[Row], base: Mapping[tuple[int, int], float | None]) -> str:
    first = group[0]
    pairs = [(row["seconds"], base.get((row["size"], row["seed"]))) for row in group]
    ratios = [own / ours for own, ours in pairs if own and ours]
    times = number(statistics.median(ratios)) if ratios else "–"
    return (
        f"| {first['size']:,} | {len(group)} | {first['solver']} | {_spread(group)} | {times} "
        f"| {_counted(group, 'status', CLAIMS)} | {_counted(group, 'verdict', WORDS)} |"
    )


def _control(group: Sequence[Row]) -> str:
    first = group[0]
    wrong = [row["wrong"] for row in group if row["wrong"] is not None]
    gaps = [row["relative_gap"] for row in group if row["relative_gap"] is not None]
    return (
        f"| {first['size']:,} | {len(group)} | {first['solver']} | {_spread(group)} "
        f"| {_counted(group, 'status', CLAIMS)} | {_counted(group, 'verdict', WORDS)} "
        f"| {_range(wrong, '{:,}')} | {first['keep']:,} | {_range(gaps, '{:.1%}')} |"
    )


def _counted(group: Sequence[Row], field: str, words: Mapping[str, str]) -> str:
    """Each value in words, with how often it came where there are several."""
    found = Counter(row[field] for row in group)
    said = {
        value: "failed" if value is None else words.get(value, value.lower().replace("_", " "))
        for value in found
    }
    if len(found) == 1:
        return next(iter(said.values()))
    return ", ".join(f"{said[value]} ({times} ×)" for value, times in found.items())


def _spread(group: Sequence[Row]) -> str:
    seconds = _seconds(group)
    if not seconds:
        return "–"
    mean, low, high = (
        number(1e3 * each) for each in (statistics.fmean(seconds), min(seconds), max(seconds))
    )
    return mean if len(seconds) == 1 else f"{mean} ({low} to {high})"


def _range(values: Sequence[float], form: str) -> str:
    if not values:
        return "–"
    low, high = (form.format(end).replace("%", " %") for end in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


def _seconds(group: Sequence[Row]) -> list[float]:
    return [row["seconds"] for row in group if row["seconds"] is not None]


def _grouped(rows: Sequence[Row]) -> list[list[Row]]:
    """The seeds of each size and solver, sizes ascending."""
    grouped: dict[tuple[int, str], list[Row]] = {}
    for row in sorted(rows, key=lambda row: int(row["size"])):
        grouped.setdefault((row["size"], row["solver"]), []).append(row)
    return list(grouped.values())
