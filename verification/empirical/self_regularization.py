"""Self-regularisation: does the sparse teacher raise the score that pruning leaves?"""

from collections.abc import Sequence

from verification.empirical.claim import PAPER, EmpiricalClaim, Ruling, untested
from verification.empirical.paired_runs import (
    RULE,
    SELF_REGULARIZED,
    Cell,
    Pair,
    Run,
    decide,
    final_scores,
    pairs,
)
from verification.empirical.results import END_ACCURACY, Results
from verification.formatting import exact_percent

WITHOUT = f"runs without {SELF_REGULARIZED}"


def improves(found: Sequence[Results]) -> Ruling:
    """Each run with self-regularisation against the same run without, by task and sparsity."""
    scores = final_scores(found)
    by_place: dict[tuple[str, float], list[Pair]] = {}
    for pair in pairs(scores, _without):
        by_place.setdefault((pair.run.task, pair.run.sparsity), []).append(pair)
    if not by_place:
        return untested(
            f"no runs with {SELF_REGULARIZED} and without that differ in nothing else: run "
            f"`{END_ACCURACY.command}`{scores.left_out()}"
        )
    cells = [
        Cell(f"{task} {exact_percent(sparsity)}", WITHOUT, by_place[task, sparsity])
        for task, sparsity in sorted(by_place)
    ]
    return decide(cells, (WITHOUT,), scores)


def _without(run: Run) -> Run | None:
    return run._replace(self_regularization=False) if run.self_regularization else None


CLAIMS = (
    EmpiricalClaim(
        id="self-regularisation-score",
        statement="Self-regularisation raises the score that gradual pruning leaves.",
        scope="each task and sparsity that was run, over all methods and seeds",
        rule=RULE,
        source=PAPER,
        reads=END_ACCURACY,
        decide=improves,
    ),
)
