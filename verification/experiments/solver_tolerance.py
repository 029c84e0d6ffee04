"""The answers of solvers for one decision on real scores, scaled and unscaled.

CBC and HiGHS work to absolute tolerances near 1e-7. They cannot distinguish scores far below it,
such as those of optimal brain damage, and call wrong masks optimal. Scaling by a power of two,
which is exact, cures that. Scores of PINS lie near the tolerance, above or below it.
"""

from collections.abc import Callable, Mapping
from typing import Any

from pins.runs.weight_sample import WeightSample, subsample
from pins.selection.select import select
from solvers import CardinalityFormulation, Cbc, Highs, Solver, compare

SIZE = 1024
KEPT_ONE_IN = 5
SOLVERS: Mapping[str, Callable[[bool], Solver]] = {
    Cbc.name: lambda scale: Cbc(scale=scale),
    Highs.name: lambda scale: Highs(scale=scale),
}
CRITERIA = ("pins", "obd")  # of the demo
TIME_LIMIT = 60.0  # seconds of each solve


def solver_answers(sample: WeightSample, criterion: str) -> dict[str, Any]:
    """The scores of some weights, and the weights that each solver keeps, as JSON values.

    Args:
        sample: of a run.
        criterion: the name of the scores.

    Returns:
        `criterion`; `scores` in descending order; `keep`; and for each of the `answers` the solver,
        whether the objective was scaled, the status, the verdict in exact arithmetic, the gap as a
        share of the optimum, and `kept`, the ranks (from 0) that it keeps; None without an answer.
    """
    chosen = subsample(sample.importance(criterion), SIZE)
    scores = chosen.sort(descending=True, stable=True).values
    keep = scores.numel() // KEPT_ONE_IN
    formulation = CardinalityFormulation(scores, keep)
    reference = formulation.apply(select(scores, keep))
    answers = []
    for name, make in SOLVERS.items():
        for scaled in (True, False):
            result = make(scaled).solve(formulation.program, time_limit=TIME_LIMIT)
            found, kept = compare(formulation.program, reference, result), None
            if result.solution is not None:
                kept = result.solution.x.nonzero()[0].tolist()
            answers.append(
                {
                    "solver": name,
                    "scaled": scaled,
                    "status": result.status.name,
                    "verdict": found.verdict.name,
                    "relative_gap": found.relative_gap,
                    "seconds": round(result.report.seconds, 3),
                    "kept": kept,
                }
            )
    return {"criterion": criterion, "scores": scores.tolist(), "keep": keep, "answers": answers}
