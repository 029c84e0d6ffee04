"""The score after gradual pruning at high sparsity: which method has the highest?

The paper's claim compares its method with earlier ones, run by run. Our claim compares means: over
the seeds that both have, the mean of trust-region is at least the mean of any other method.
"""

import math
import statistics
from collections.abc import Container, Sequence
from dataclasses import dataclass

from pins.utils.grouping import grouped
from verification.empirical.claim import OURS, PAPER, EmpiricalClaim, Ruling, tested, untested
from verification.empirical.paired_runs import (
    RULE,
    SELF_REGULARIZED,
    Cell,
    Pair,
    Run,
    Scores,
    decide,
    final_scores,
    pairs,
)
from verification.empirical.results import END_ACCURACY, Results
from verification.formatting import exact_percent, joined, rounded

HIGH = (0.8, 0.9, 0.97)
WHERE = joined([exact_percent(sparsity) for sparsity in HIGH])
PAPERS_RIVALS = ("magnitude", "sensitivity", "platon")
TRUST_REGION = "trust-region"
ROUNDING = 1e-9  # rounding error of a mean of scores


def above_rivals(found: Sequence[Results], method: str) -> Ruling:
    """A method against each of the paper's rivals, at each high sparsity, over tasks and seeds."""
    scores = final_scores(found)
    mine = grouped((run for run in scores.rows if run.method == method), lambda run: run.sparsity)
    cells = [
        Cell(exact_percent(sparsity), rival, some)
        for sparsity in HIGH
        for rival in PAPERS_RIVALS
        if (some := _against(scores, rival, mine.get(sparsity, ())))
    ]
    if not cells:
        return _not_run(f"{method} and one of {joined(PAPERS_RIVALS)}", scores)
    return decide(cells, PAPERS_RIVALS, scores)


def _against(scores: Scores, rival: str, chosen: Container[Run]) -> list[Pair]:
    """The chosen runs, each paired with the same run of a rival."""
    return pairs(scores, lambda run: run._replace(method=rival) if run in chosen else None)


def _not_run(what: str, scores: Scores) -> Ruling:
    return untested(
        f"no runs of {what} at {WHERE} that differ in nothing else: run `{END_ACCURACY.command}`"
        f"{scores.left_out()}"
    )


@dataclass(frozen=True)
class Margin:
    """Trust-region at one task and sparsity, with or without self-regularisation.

    Attributes:
        place: the task and the sparsity in words.
        sparsity: of both methods.
        rival: the method with the least margin.
        seeds: the number of seeds that both were run with.
        margin: mean of trust-region − mean of the rival.
        error: sampling error √(p(1−p)/rows) of an accuracy p; None for other scores.
    """

    place: str
    sparsity: float
    rival: str
    seeds: int
    margin: float
    error: float | None

    @property
    def holds(self) -> bool:
        """Whether no method has a higher mean."""
        return self.margin >= -ROUNDING

    def __str__(self) -> str:
        """The margin at its place."""
        return f"{self.place} ({rounded(self.margin, 2)} to {self.rival})"


def no_lower(found: Sequence[Results]) -> Ruling:
    """Holds if trust-region's mean is no lower at any place that was run."""
    scores = final_scores(found)
    mine = [run for run in scores.rows if run.method == TRUST_REGION and run.sparsity in HIGH]
    places = grouped(mine, lambda run: (run.sparsity, run.task, run.self_regularization))
    margins = [each for _, own in sorted(places.items()) if (each := _margin(scores, own))]
    if not margins:
        return _not_run(f"{TRUST_REGION} and another method", scores)
    lower = [each for each in margins if not each.holds]
    shown = lower or [min(margins, key=lambda each: each.margin)]
    evidence = (
        f"no lower at {len(margins) - len(lower)} of {len(margins)} places; "
        f"{'lower' if lower else 'least margin'} at {', '.join(map(str, shown))}"
    )
    errors = [each.error for each in margins if each.error is not None]
    if errors:
        evidence += f"; the sampling error of one score is up to {max(errors):.3f}"
    missing = [exact_percent(s) for s in HIGH if s not in {each.sparsity for each in margins}]
    if missing:
        evidence += f"; not run at {joined(missing)}"
    where = joined([each.place for each in margins])
    rows = [{**vars(each), "holds": each.holds} for each in margins]
    return tested(not lower, where, evidence + scores.left_out(), places=rows)


def _margin(scores: Scores, mine: Sequence[Run]) -> Margin | None:
    """The margin of runs at one place over the method with the highest mean; None without one."""
    rivals = sorted({run.method for run in scores.rows} - {TRUST_REGION})
    gains = {rival: [pair.gain for pair in _against(scores, rival, mine)] for rival in rivals}
    margins = {rival: statistics.fmean(some) for rival, some in gains.items() if some}
    if not margins:
        return None
    nearest = min(margins, key=lambda rival: margins[rival])
    rows = [scores.rows[run] for run in mine]
    mean, error = statistics.fmean(row["score"] for row in rows), None
    if all(row["metric"] == "accuracy" for row in rows):
        error = math.sqrt(max(mean * (1 - mean), 0) / min(row["test_rows"] for row in rows))
    run, count = mine[0], len(gains[nearest])
    regularized = f" with {SELF_REGULARIZED}" if run.self_regularization else ""
    place = f"{run.task} {exact_percent(run.sparsity)}{regularized}"
    return Margin(place, run.sparsity, nearest, count, margins[nearest], error)


def _paper(method: str, what: str) -> EmpiricalClaim:
    return EmpiricalClaim(
        id=f"gradual-{method}",
        statement=f"At high sparsity {what} ({method}, averaged with its uncertainty) leaves a "
        f"higher score than {joined(PAPERS_RIVALS)}.",
        scope=f"gradual pruning to {WHERE}, all tasks "
        "and seeds that were run, with self-regularisation and without",
        rule=RULE,
        source=PAPER,
        reads=END_ACCURACY,
        decide=lambda found: above_rivals(found, method),
    )


CLAIMS = (
    _paper("pins", "the signed optimum"),
    _paper("abs-pins", "the score of the authors' released code"),
    EmpiricalClaim(
        id="gradual-trust-region",
        statement="At high sparsity trust-region leaves a score that is at least the best of all "
        "other criteria.",
        scope=f"gradual pruning to {WHERE}, each task "
        "that was run, with self-regularisation and without",
        rule="Holds if its mean over the seeds that both were run with is no lower than that of "
        "any other method, at each task and sparsity that was run; does not hold if there is one "
        "at which it is.",
        source=OURS,
        reads=END_ACCURACY,
        decide=no_lower,
    ),
)
