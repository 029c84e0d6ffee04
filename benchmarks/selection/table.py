"""The tables of the selection benchmark."""

import statistics
from collections.abc import Mapping, Sequence
from itertools import chain, starmap
from typing import Any

from benchmarks.harness import markdown
from benchmarks.harness.goals import MedianRange, Rows, per_round, speedup
from benchmarks.harness.markdown import escaped, measured_with, number, share
from benchmarks.harness.results import Row, grouped
from benchmarks.harness.score_sets import MODEL
from benchmarks.selection.goals import GOALS, PATTERNS, memory_share, proof_reads, reads
from benchmarks.selection.methods import HALF, KTHVALUE, METHODS, OPTIMA, PARTITION, SELECT, TOPK

LARGE = 10**7  # scores; the goals are also judged on other sets of at least this size


def table(document: Mapping[str, Any]) -> str:
    """The results as Markdown."""
    device, settings = document["device"], document["settings"]
    return markdown.document(
        f"# Selecting the largest scores of a whole model: {device['name']}",
        f"Of n scores in several tensors the k = {settings['kept']} n largest are kept, and every "
        f"method makes a mask for each tensor. The methods take turns, {settings['rounds']} rounds "
        "after one that does not count, small sets many times in a turn; ratios are taken round by "
        "round, and each number is the median of the rounds (least to greatest). A read is the "
        f"time of the yardstick. Extra memory is {device['memory']}, beyond the scores and one "
        "byte a weight for the masks (below 0 where these come last), as a share of the scores. "
        "Each mask is read back: kept is its number of ones; it is an optimum iff these are k and "
        f"none is below the threshold of {PARTITION}.",
        [f"- {name}: {METHODS[name].says}" for name in settings["methods"]],
        verdict(document),
        summary(document),
        *chain.from_iterable(starmap(_section, by_instance(document["rows"]).items())),
        measured_with(document["provenance"]),
    )


def _section(name: str, rows: Rows) -> list[str | list[str]]:
    first = next(iter(rows.values()))
    return [
        f"## {name}",
        f"{first['exercises'].capitalize()}: {first['size']:,} {first['dtype']} scores in "
        f"{first['tensors']} tensor{'s' * (first['tensors'] > 1)}, {first['keep']:,} kept.",
        markdown.table(
            "method | milliseconds | ns a weight | reads | times as slow as pins.select | "
            "extra memory | kept | optimum",
            "lrrrrrrl",
            (_cells(method, rows) for method in rows),
        ),
    ]


def summary(document: Mapping[str, Any]) -> list[str]:
    """A table with a line for each set of scores."""
    return markdown.table(
        "scores | n | select, ms | reads | proof, reads | extra memory | "
        f"times as fast as {KTHVALUE} | as {TOPK} | as {PARTITION} | exact",
        "lrrrrrrrrl",
        (_summary(name, rows) for name, rows in by_instance(document["rows"]).items()),
    )


def verdict(document: Mapping[str, Any]) -> list[str]:
    """Each goal, met or missed by how much; then whether every mask of PINS is the optimum."""
    sets = by_instance(document["rows"])
    lines = [f"Goals for {MODEL}, judged by the medians:", ""]
    kind = document["device"]["kind"]
    patterns = kind == "cpu" and any(HALF in rows for rows in sets.values())
    for goal in (*GOALS.get(kind, ()), *(PATTERNS if patterns else ())):
        line = f"- {goal.stated()}. {goal.judged(goal.measured(sets.get(MODEL, {})))}."
        others = {
            name: goal.met(found.median)
            for name, rows in sets.items()
            if name != MODEL
            and next(iter(rows.values()))["size"] >= LARGE
            and (found := goal.measured(rows)) is not None
        }
        if others:
            missed = ", ".join(name for name, met in others.items() if not met)
            line += f" Of {len(others)} other sets of {LARGE:,} scores and more it is met by "
            line += f"{sum(others.values())}" + (f", not by {missed}." if missed else ".")
        lines.append(line)
    return [*lines, "", _exactness(sets)]


def _exactness(sets: Mapping[str, Rows]) -> str:
    masks = {
        f"{method} on {name}": rows[method]
        for name, rows in sets.items()
        for method in OPTIMA
        if method in rows and not (rows[method]["skipped"] or rows[method]["error"])
    }
    unchecked = [name for name, row in masks.items() if row["optimum"] is None]
    wrong = [name for name, row in masks.items() if name not in unchecked and not is_exact(row)]
    checked = len(masks) - len(unchecked)
    text = (
        f"Masks of PINS: {checked - len(wrong)} of {checked} have exactly k ones and the threshold "
        f"of {PARTITION}"
    )
    if any(HALF in rows for rows in sets.values()):
        text += ", or are the optimum of their pattern"
    if wrong:
        text += f"; **wrong**: {', '.join(wrong)}"
    if unchecked:
        text += f"; not checked, for want of memory: {', '.join(unchecked)}"
    return f"{text}."


def is_exact(row: Row) -> bool:
    """Exactly k ones, and the least score kept is s₍ₖ₎; with a pattern, its optimum."""
    return bool(row["optimum"]) and row["threshold"] in (None, row["least"])


def by_instance(rows: Sequence[Row]) -> dict[str, dict[str, Row]]:
    """Rows by set of scores, then by method."""
    return {
        name: {row["method"]: row for row in group}
        for (name,), group in grouped(rows, "instance").items()
    }


def nanoseconds(row: Row) -> float | None:
    """Median time for each weight."""
    return 1e9 * statistics.median(row["seconds"]) / row["size"] if row["seconds"] else None


def _summary(name: str, rows: Rows) -> str:
    row = rows.get(SELECT)
    if row is None or not row["seconds"]:
        return f"{name} | {next(iter(rows.values()))['size']:,}" + " | –" * 8
    exact = "not checked" if row["optimum"] is None else "yes" if is_exact(row) else "**no**"
    peers = " | ".join(_shown(speedup(rows, SELECT, peer)) for peer in (KTHVALUE, TOPK, PARTITION))
    return (
        f"{name} | {row['size']:,} | {number(1e3 * statistics.median(row['seconds']))} | "
        f"{_shown(reads(rows, SELECT))} | {_shown(proof_reads(rows))} | {_share(rows, SELECT)} | "
        f"{peers} | {exact}"
    )


def _cells(method: str, rows: Rows) -> str:
    row = rows[method]
    if row["skipped"]:
        return f"{method} | not run: {row['skipped']}"
    if row["error"]:
        return f"{method} | failed: {escaped(row['error'])}"
    optimum = {None: "", True: "yes", False: "no"}[row["optimum"]]
    return (
        f"{method} | {per_round(rows, lambda seconds: 1e3 * seconds, method)} | "
        f"{number(nanoseconds(row) or 0.0)} | {_shown(reads(rows, method))} | "
        f"{_shown(speedup(rows, SELECT, method))} | {_share(rows, method)} | "
        f"{'' if row['kept'] is None else _kept(row)} | {optimum}"
    )


def _kept(row: Row) -> str:
    more = row["kept"] - row["keep"]
    return "k" if more == 0 else f"k {'+' if more > 0 else '−'} {abs(more):,}"


def _share(rows: Rows, name: str) -> str:
    found = memory_share(rows, name)
    return "–" if found is None else share(found.median)


def _shown(found: MedianRange | None) -> str:
    return "–" if found is None else str(found)
