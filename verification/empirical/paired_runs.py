"""Gradual pruning: final scores, pairs of runs that differ in one thing, and their ruling.

Runs A and B are a pair if they differ only in what is compared. The mean of n ≥ 2 differences has
an interval of Student (`student_interval`) with confidence 1 − 0.05/c: the c intervals of a claim
hold together in 95 of 100 cases (Bonferroni), so testing many places does not make one of them hold
by chance. Scores are multiples of 1/rows, the share of one test row, so two differences may be
equal by chance: the standard deviation is at least 1/rows.

The test rows are the same in all runs; the rulings say nothing about other rows.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import NamedTuple

from verification.empirical.claim import Ruling, tested, untested
from verification.empirical.results import Results, Row
from verification.experiments.student_interval import CONFIDENCE, Interval, Sign, interval
from verification.formatting import counted, joined, rounded

SELF_REGULARIZED = "self-regularisation"
RULE = (
    "Holds at the places where the interval of the mean of paired differences lies above 0, for "
    "each rival; does not hold if that is nowhere and one interval lies below 0; not tested if "
    "neither is so (too few runs to tell). Student's intervals, 95 % for all of the claim together."
)


class Run(NamedTuple):
    """What identifies a run."""

    task: str
    seed: int
    method: str
    sparsity: float
    self_regularization: bool


@dataclass(frozen=True)
class Scores:
    """The final scores that can be compared, and what was left out.

    Attributes:
        rows: run → its row; scores are ratios or correlations, larger = better.
        failed: the number of runs that pruned and have no finite score.
        others: tasks with another kind of score (perplexity, BLEU), which are not compared.
    """

    rows: Mapping[Run, Row]
    failed: int
    others: tuple[str, ...]

    def left_out(self) -> str:
        """A sentence for the evidence; empty if nothing was left out."""
        words = []
        if self.failed:
            words.append(f"{counted(self.failed, 'run')} that failed")
        if self.others:
            words.append(f"{joined(self.others)}, whose score is no ratio")
        return f". Left out: {'; '.join(words)}" if words else ""


def final_scores(found: Sequence[Results]) -> Scores:
    """The scores of the runs that pruned."""
    pruned = [row for results in found for row in results.rows if row["sparsity"] > 0]
    failed = [row for results in found for row in results.failed if row["sparsity"] > 0]
    whole = [row for row in pruned if math.isfinite(row["score"])]
    others = tuple(sorted({row["task"] for row in whole if abs(row["score"]) > 1}))
    key = itemgetter(*Run._fields)
    rows = {Run(*key(row)): row for row in whole if row["task"] not in others}
    return Scores(rows, len(failed) + len(pruned) - len(whole), others)


class Pair(NamedTuple):
    """Two runs that differ in one thing.

    Attributes:
        run: A.
        gain: score of A − score of B.
        resolution: 1/rows, the share of one test row.
    """

    run: Run
    gain: float
    resolution: float


def pairs(scores: Scores, other: Callable[[Run], Run | None]) -> list[Pair]:
    """A pair for each run A for which `other` names an existing run B."""
    found = []
    for run, row in scores.rows.items():
        named = other(run)
        if named is not None and named in scores.rows:
            rival = scores.rows[named]
            rows = min(row["test_rows"], rival["test_rows"])
            found.append(Pair(run, row["score"] - rival["score"], 1 / rows))
    return found


class Cell(NamedTuple):
    """One comparison of a claim: with a rival, at a place."""

    place: str
    rival: str
    pairs: Sequence[Pair]


def decide(cells: Sequence[Cell], rivals: Sequence[str], scores: Scores) -> Ruling:
    """The ruling by `RULE`; the claim has an interval for each cell."""
    compared: dict[str, dict[str, Interval]] = {}
    for cell in cells:
        compared.setdefault(cell.place, {})[cell.rival] = interval(
            [pair.gain for pair in cell.pairs],
            confidence=1 - (1 - CONFIDENCE) / len(cells),
            resolution=max(pair.resolution for pair in cell.pairs),
        )
    above = [
        place
        for place, by in compared.items()
        if all(rival in by and by[rival].sign is Sign.ABOVE for rival in rivals)
    ]
    below = any(each.sign is Sign.BELOW for by in compared.values() for each in by.values())
    told = "; ".join(_told(place, by, rivals) for place, by in compared.items())
    evidence = told + scores.left_out()
    numbers = {
        place: {rival: _numbers(each) for rival, each in by.items()}
        for place, by in compared.items()
    }
    if above or below:
        return tested(bool(above), joined(above), evidence, places=numbers)
    return untested(f"{Sign.OPEN.value}: {evidence}", places=numbers)


def _told(place: str, by: Mapping[str, Interval], rivals: Sequence[str]) -> str:
    over = "over {} " if len(rivals) > 1 else ""
    words = [
        f"{over.format(rival)}{_difference(by[rival])}" if rival in by else f"{rival} was not run"
        for rival in rivals
    ]
    return f"{place} pruned: {', '.join(words)}"


def _difference(found: Interval) -> str:
    """Mean ± standard error (number of pairs), and whether there are too few."""
    error = "" if found.error is None else f" ± {found.error:.2g}"
    undecided = ", undecided" if found.sign is Sign.OPEN else ""
    return f"{rounded(found.mean, 2)}{error} ({counted(found.number, 'pair')}{undecided})"


def _numbers(found: Interval) -> dict[str, object]:
    known = vars(found).copy()
    return {"pairs": known.pop("number"), **known, "sign": found.sign.name.lower()}
