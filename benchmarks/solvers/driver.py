"""Time of the solvers of 0-1 programs, and of the closed form, for one decision, against n.

    python -m benchmarks.solvers [--largest 16384] [--seeds 3] [--time-limit 300]

A row of solvers.json is one solve, written as soon as it is done: an interrupted benchmark
continues with the solves that are missing. Writes the table solvers.md and the figure solvers.svg.

Every answer is compared with the closed form's answer in exact arithmetic. At one size the solvers
also get the scores unscaled, near 1e-9. This is the control: their tolerances must show in it.
"""

import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import typer
from torch import Tensor

from benchmarks.harness import benchmark
from benchmarks.harness.cli import Out, Render, Seeds
from benchmarks.harness.results import RESULTS, attempt, outcome
from benchmarks.harness.timing import seconds_of
from benchmarks.solvers.table import CLOSED_FORM, SELECT, table
from pins.selection.select import select
from solvers import CardinalityFormulation, ClosedForm, Solution, Status, compare
from solvers.result import Report, Result
from verification import plots
from verification.experiments.solver_tolerance import SOLVERS
from verification.testing.synthetic_scores import real_scale

FILE = "solvers.json"
KEPT_ONE_IN = 5  # keep 20 % of the weights
REPEATS = 5  # calls of what takes milliseconds: the time is their median, after one untimed call
CONTROL_SIZE = 1024
SIZES: Mapping[int, str] = {
    256: "the cost of starting a solver",
    1024: "a matrix of 32 × 32; the scores unscaled, too",
    4096: "64 × 64: seconds for a solver",
    16384: "128 × 128: minutes for a solver",
    65536: "256 × 256: a matrix of a small model, a hundredth of one of BERT's",
}


@dataclass(frozen=True)
class Solve:
    """One row: a solver, or the closed form, on the scores of one seed."""

    size: int
    seed: int
    solver: str
    scaled: bool


def solves(largest: int, seeds: int) -> Iterator[Solve]:
    """All solves, size by size and seed by seed: stopping early leaves complete comparisons."""
    for size in (size for size in SIZES if size <= largest):
        for seed in range(seeds):
            for name in (SELECT, CLOSED_FORM, *SOLVERS):
                yield Solve(size, seed, name, scaled=True)
            if size == CONTROL_SIZE:
                yield from (Solve(size, seed, name, scaled=False) for name in SOLVERS)


def measure(solve: Solve, time_limit: float | None) -> dict[str, Any]:
    """The fields of one solve; `error` is the text of the error if it failed."""
    missing = dict.fromkeys(("seconds", "status", "verdict", "gap", "relative_gap", "wrong"))
    found = attempt(_compared, solve, time_limit)
    return {"keep": solve.size // KEPT_ONE_IN, **missing, **outcome(found)}


def _compared(solve: Solve, time_limit: float | None) -> dict[str, Any]:
    scores = real_scale(np.random.default_rng(solve.seed), solve.size)
    formulation = CardinalityFormulation(scores, solve.size // KEPT_ONE_IN)
    reference = ClosedForm().solve(formulation.program).solution
    assert reference is not None
    result = _solved(solve, scores, formulation, time_limit)
    found = compare(formulation.program, reference.x, result)
    return {
        "seconds": result.report.seconds,
        "exponent": result.report.exponent,
        "status": result.status.name,
        "verdict": found.verdict.name,
        "gap": None if found.gap is None else float(found.gap),
        "relative_gap": found.relative_gap,
        # both masks have k ones, so for every wrong one another is missing
        "wrong": None if found.differing is None else found.differing // 2,
    }


def _solved(
    solve: Solve, scores: Tensor, formulation: CardinalityFormulation, time_limit: float | None
) -> Result:
    program = formulation.program
    if solve.solver in SOLVERS:
        return SOLVERS[solve.solver](solve.scaled).solve(program, time_limit=time_limit)
    if solve.solver == CLOSED_FORM:
        solution = ClosedForm().solve(program).solution
        times = [ClosedForm().solve(program).report.seconds for _ in range(REPEATS)]
    else:
        solution = Solution.of(program, formulation.apply(select(scores, formulation.keep)))
        times = [seconds_of(lambda: select(scores, formulation.keep)) for _ in range(REPEATS)]
    report = Report(solve.solver, "PINS", statistics.median(times), "")
    return Result(Status.OPTIMAL, solution, report)


def run(
    largest: Annotated[int, typer.Option(min=min(SIZES), help="Greatest size.")] = max(SIZES),
    seeds: Seeds = 3,
    time_limit: Annotated[float, typer.Option(min=1.0, help="Seconds of each solve.")] = 300.0,
    out: Out = RESULTS,
    render_only: Render = False,
) -> None:
    """Solve what the results file does not hold yet."""
    if not render_only:
        settings = {
            "scores": real_scale.__name__,
            "kept": f"1/{KEPT_ONE_IN}",
            "time_limit": time_limit,
            "repeats": REPEATS,
        }
        document = benchmark.resume(out / FILE, benchmark.new_document(settings, {"OUT": out}))
        benchmark.complete(
            document,
            out / FILE,
            list(solves(largest, seeds)),
            lambda solve: [measure(solve, time_limit)],
            shows="{seconds:.3g} s, {status}, {verdict}",
        )
    benchmark.render(
        out, FILE, table, lambda d: plots.solver_times(d["rows"], d["settings"]["time_limit"])
    )
