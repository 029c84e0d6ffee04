"""Gradual pruning: final scores, runs that differ in one thing, what their differences decide."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from verification.empirical.claim import Ruling, Verdict
from verification.empirical.paired_differences import Difference, Sign, difference
from verification.empirical.results import Results, Row
from verification.empirical.wording import counted, joined

SELF_REGULARIZED = "self-regularisation"


class Run(NamedTuple):
    """What a run is told by."""

    task: str
    seed: int
    method: str
    sparsity: float
    self_regularization: bool


@dataclass(frozen=True)
class Scores:
    """The final scores that can be compared, and what was left out.

    Attributes:
        rows: by run; scores are ratios or correlations of which more is better.
        failed: how many runs pruned and came to no score.
        others: tasks with another kind of score (perplexity, BLEU), of which nothing is said.
    """

    rows: Mapping[Run, Row]
    failed: int
    others: tuple[str, ...]

    def left_out(self) -> str:
        """What a reader of the evidence has to know of it; empty where there is nothing."""
        words = []
        if self.failed:
            words.append(f"{counted(self.failed, 'run')} that failed")
        if self.others:
            words.append(f"{joined(self.others)}, whose score is no ratio")
        return f". Left out: {'; '.join(words)}" if words else ""


def final_scores(found: Sequence[Results]) -> Scores:
    """Of the runs that pruned."""
    pruned = [row for results in found for row in results.rows if row["sparsity"] > 0]
    failed = [row for results in found for row in results.failed if row["sparsity"] > 0]
    whole = [row for row in pruned if math.isfinite(row["score"])]
    others = tuple(sorted({row["task"] for row in whole if abs(row["score"]) > 1}))
    rows = {
        Run(**{name: row[name] for name in Run._fields}): row
        for row in whole
        if row["task"] not in others
    }
    return Scores(rows, len(failed) + len(pruned) - len(whole), others)


class Pair(NamedTuple):
    """Two runs that differ in one thing.

    Attributes:
        run: A.
        gain: its score less that of B.
        resolution: what one test row is worth.
    """

    run: Run
    gain: float
    resolution: float


def pairs(scores: Scores, other: Callable[[Run], Run | None]) -> list[Pair]:
    """A pair for each run A for which `other` names a run B that there is."""
    found = []
    for run, row in scores.rows.items():
        named = other(run)
        if named is not None and named in scores.rows:
            rival = scores.rows[named]
            rows = min(row["test_rows"], rival["test_rows"])
            found.append(Pair(run, row["score"] - rival["score"], 1 / rows))
    return found


class Cell(NamedTuple):
    """One comparison of those that a claim makes: with a rival, at a place."""

    place: str
    rival: str
    pairs: Sequence[Pair]


def decide(cells: Sequence[Cell], rivals: Sequence[str], scores: Scores) -> Ruling:
    """Holds at the places where A is above every rival (`paired_differences`).

    Where there is none: does not hold if at some place A is below a rival; else not tested, for
    there are too few runs. The c intervals of the claim are those of the cells.
    """
    compared: dict[str, dict[str, Difference]] = {}
    for cell in cells:
        compared.setdefault(cell.place, {})[cell.rival] = difference(
            [pair.gain for pair in cell.pairs],
            resolution=max(pair.resolution for pair in cell.pairs),
            intervals=len(cells),
        )
    above = [
        place
        for place, by in compared.items()
        if all(rival in by and by[rival].sign is Sign.ABOVE for rival in rivals)
    ]
    below = any(each.sign is Sign.BELOW for by in compared.values() for each in by.values())
    evidence = "; ".join(_told(place, by, rivals) for place, by in compared.items())
    if above:
        verdict = Verdict.HOLDS
    elif below:
        verdict = Verdict.FAILS
    else:
        verdict, evidence = Verdict.UNTESTED, f"{Sign.OPEN.value}: {evidence}"
    numbers = {
        place: {rival: each.numbers() for rival, each in by.items()}
        for place, by in compared.items()
    }
    return Ruling(
        verdict, joined(above) if above else "", evidence + scores.left_out(), {"places": numbers}
    )


def _told(place: str, by: Mapping[str, Difference], rivals: Sequence[str]) -> str:
    words = []
    for rival in rivals:
        if rival in by:
            words.append(f"{f'over {rival} ' if len(rivals) > 1 else ''}{by[rival]}")
        else:
            words.append(f"{rival} was not run")
    return f"{place} pruned: {', '.join(words)}"
