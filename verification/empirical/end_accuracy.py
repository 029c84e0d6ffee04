"""The score after gradual pruning at high sparsity: whose is the best?

The paper's claim is about its score and those of earlier methods, run by run. Ours is about means:
trust-region's is no lower than any other method's, over the seeds that both were run with.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from verification.empirical.claim import OURS, PAPER, EmpiricalClaim, Ruling, Verdict, untested
from verification.empirical.paired_differences import RULE
from verification.empirical.paired_runs import (
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
from verification.empirical.wording import joined, percent, signed

HIGH = (0.8, 0.9, 0.97)
PAPERS_RIVALS = ("magnitude", "sensitivity", "platon")
TRUST_REGION = "trust-region"
ROUNDING = 1e-9  # of means of scores


def above_rivals(found: Sequence[Results], method: str) -> Ruling:
    """A method against each of the paper's rivals, at each high sparsity, over tasks and seeds."""
    scores = final_scores(found)
    cells = [
        Cell(percent(sparsity), rival, some)
        for sparsity in HIGH
        for rival in PAPERS_RIVALS
        if (some := _against(scores, method, rival, sparsity))
    ]
    if not cells:
        return _not_run(f"{method} and one of {joined(PAPERS_RIVALS)}", scores)
    return decide(cells, PAPERS_RIVALS, scores)


def _against(scores: Scores, method: str, rival: str, sparsity: float) -> list[Pair]:
    def other(run: Run) -> Run | None:
        compared = run.method == method and run.sparsity == sparsity
        return run._replace(method=rival) if compared else None

    return pairs(scores, other)


def _not_run(what: str, scores: Scores) -> Ruling:
    where = joined([percent(sparsity) for sparsity in HIGH])
    return untested(
        f"no runs of {what} at {where} that differ in nothing else: run `{END_ACCURACY.command}`"
        f"{scores.left_out()}"
    )


@dataclass(frozen=True)
class Margin:
    """Trust-region at one task and sparsity, with self-regularisation or without.

    Attributes:
        place: the words for it.
        sparsity: of both.
        rival: the method that is nearest to it, or furthest above.
        seeds: that both were run with.
        margin: its mean less the rival's.
        error: sampling error of an accuracy of its mean, √(p(1−p)/rows); None of other scores.
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


def no_lower(found: Sequence[Results]) -> Ruling:
    """Holds if trust-region's mean is no lower at any place that was run."""
    scores = final_scores(found)
    places = sorted(
        {
            (run.sparsity, run.task, run.self_regularization)
            for run in scores.rows
            if run.method == TRUST_REGION and run.sparsity in HIGH
        }
    )
    margins = [each for place in places if (each := _margin(scores, *place))]
    if not margins:
        return _not_run(f"{TRUST_REGION} and another method", scores)
    holds = [each for each in margins if each.holds]
    lower = [each for each in margins if not each.holds]
    missing = [percent(s) for s in HIGH if s not in {each.sparsity for each in margins}]
    evidence = f"no lower at {len(holds)} of {len(margins)} places"
    shown = lower or [min(margins, key=lambda each: each.margin)]
    evidence += f"; {'lower' if lower else 'least margin'} at " + ", ".join(map(_told, shown))
    errors = [each.error for each in margins if each.error is not None]
    if errors:
        evidence += f"; the sampling error of one score is up to {max(errors):.3f}"
    if missing:
        evidence += f"; not run at {joined(missing)}"
    return Ruling(
        Verdict.FAILS if lower else Verdict.HOLDS,
        "" if lower else joined([each.place for each in holds]),
        evidence + scores.left_out(),
        {"places": [{**vars(each), "holds": each.holds} for each in margins]},
    )


def _margin(scores: Scores, sparsity: float, task: str, self_regularization: bool) -> Margin | None:
    """Against the method with the highest mean; None where there is no other."""

    def against(rival: str) -> list[Pair]:
        def other(run: Run) -> Run | None:
            compared = run == Run(task, run.seed, TRUST_REGION, sparsity, self_regularization)
            return run._replace(method=rival) if compared else None

        return pairs(scores, other)

    rivals = sorted({run.method for run in scores.rows} - {TRUST_REGION})
    gains = {rival: [pair.gain for pair in some] for rival in rivals if (some := against(rival))}
    if not gains:
        return None
    nearest = min(gains, key=lambda rival: statistics.fmean(gains[rival]))
    mine = [
        row
        for run, row in scores.rows.items()
        if run == Run(task, run.seed, TRUST_REGION, sparsity, self_regularization)
    ]
    mean = statistics.fmean(row["score"] for row in mine)
    error = None
    if all(row["metric"] == "accuracy" for row in mine):
        error = math.sqrt(max(mean * (1 - mean), 0) / min(row["test_rows"] for row in mine))
    regularized = f" with {SELF_REGULARIZED}" if self_regularization else ""
    return Margin(
        f"{task} {percent(sparsity)}{regularized}",
        sparsity,
        nearest,
        len(gains[nearest]),
        statistics.fmean(gains[nearest]),
        error,
    )


def _told(margin: Margin) -> str:
    return f"{margin.place} ({signed(margin.margin, 2)} to {margin.rival})"


def _paper(method: str, what: str) -> EmpiricalClaim:
    return EmpiricalClaim(
        id=f"gradual-{method}",
        statement=f"At high sparsity {what} ({method}, averaged with its uncertainty) leaves a "
        f"higher score than {joined(PAPERS_RIVALS)}.",
        scope=f"gradual pruning to {joined([percent(sparsity) for sparsity in HIGH])}, all tasks "
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
        scope=f"gradual pruning to {joined([percent(sparsity) for sparsity in HIGH])}, each task "
        "that was run, with self-regularisation and without",
        rule="Holds if its mean over the seeds that both were run with is no lower than that of "
        "any other method, at each task and sparsity that was run; does not hold if there is one "
        "at which it is.",
        source=OURS,
        reads=END_ACCURACY,
        decide=no_lower,
    ),
)
