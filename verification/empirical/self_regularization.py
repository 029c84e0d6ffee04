"""Self-regularisation: does the sparse teacher raise the score after gradual pruning?"""

from collections.abc import Sequence

from pins.utils.grouping import grouped
from verification.empirical.claim import PAPER, EmpiricalClaim, Ruling, untested
from verification.empirical.paired_runs import (
    RULE,
    SELF_REGULARIZED,
    Cell,
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
    by_place = grouped(pairs(scores, _without), lambda pair: (pair.run.task, pair.run.sparsity))
    if not by_place:
        return untested(
            f"no runs with {SELF_REGULARIZED} and without that differ in nothing else: run "
            f"`{END_ACCURACY.command}`{scores.left_out()}"
        )
    cells = [
        Cell(f"{task} {exact_percent(sparsity)}", WITHOUT, some)
        for (task, sparsity), some in sorted(by_place.items())
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
