"""Time and partial choices of an exact layer budget, against CBC and HiGHS.

    python -m benchmarks.budget [--largest 210] [--seeds 3] [--time-limit 60]

A row of budget.json is one method on one table, written as soon as it is done: an interrupted
benchmark continues with what is missing. Writes the table budget.md. Every answer of a solver is
compared with ours in rationals, and every choice of ours is checked by `verification/checker.py`.
"""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.budget.table import CBC, CHECKER, HIGHS, OURS, table
from benchmarks.budget.tables import SHAPES, SMOOTH, TIES, error_table
from benchmarks.harness import benchmark
from benchmarks.harness.cli import Out, Render, Seeds
from benchmarks.harness.results import RESULTS, attempt, outcome
from benchmarks.harness.timing import seconds_of
from pins.selection.budget import Budget, best_choice
from pins.selection.budget.choice import Choice
from solvers import KnapsackFormulation, compare, find_solver
from verification import checker
from verification.certificates.budget import certify_choice

FILE = "budget.json"
BUDGET = "bytes=0.6"
LEVELS = (4, 10, 20)
REPEATS = 3  # calls of what takes milliseconds: the time is their mean


@dataclass(frozen=True)
class Run:
    """One row: a method on a table."""

    layers: int
    levels: int
    kind: str
    seed: int
    method: str


def runs(largest: int, seeds: int) -> Iterator[Run]:
    """All runs, table by table."""
    for layers in (each for each in SHAPES if each <= largest):
        for levels in LEVELS:
            for kind in (SMOOTH, TIES):
                for seed in range(seeds):
                    for method in METHODS:
                        yield Run(layers, levels, kind, seed, method)


@lru_cache(maxsize=1)
def chosen(layers: int, levels: int, kind: str, seed: int) -> Choice:
    """Our choice."""
    return best_choice(error_table(layers, levels, kind, seed), Budget.parse(BUDGET))


def _ours(run: Run, _limit: float) -> dict[str, Any]:
    made = error_table(run.layers, run.levels, run.kind, run.seed)
    budget = Budget.parse(BUDGET)
    seconds = seconds_of(lambda: [best_choice(made, budget) for _ in range(REPEATS)]) / REPEATS
    choice = chosen(run.layers, run.levels, run.kind, run.seed)
    excess = choice.excess
    return {
        "seconds": seconds,
        "states": choice.states,
        "excess": None if excess is None else float(excess),
        "status": "OPTIMAL" if choice.optimal else "NOT_PROVED",
    }


def _checked(run: Run, _limit: float) -> dict[str, Any]:
    choice = chosen(run.layers, run.levels, run.kind, run.seed)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "certificate.json"
        certify_choice(choice, file)
        seconds = seconds_of(lambda: [checker.check(file) for _ in range(REPEATS)]) / REPEATS
        return {"seconds": seconds, "status": checker.check(file).outcome.name}


def _solved(run: Run, limit: float) -> dict[str, Any]:
    choice = chosen(run.layers, run.levels, run.kind, run.seed)
    formulation = KnapsackFormulation(choice.program)
    result = find_solver(run.method.lower()).solve(formulation.program, time_limit=limit)
    found = compare(formulation.program, formulation.apply(choice.options), result)
    excess = None
    if result.solution is not None and found.gap is not None:
        ours, program = choice.program.error(choice.options), choice.program
        theirs = program.error(formulation.invert(result.solution.x))  # in rationals
        excess = float((theirs - ours) / ours) if ours > 0 else None
    return {
        "seconds": result.report.seconds,
        "status": result.status.name,
        "verdict": found.verdict.name,
        "excess": excess,
    }


METHODS: Mapping[str, Callable[[Run, float], dict[str, Any]]] = {
    OURS: _ours,
    CHECKER: _checked,
    CBC: _solved,
    HIGHS: _solved,
}


def measure(run: Run, time_limit: float) -> dict[str, Any]:
    """The fields of one row; `error` is the text of the error if it failed."""
    missing = dict.fromkeys(("seconds", "states", "excess", "status", "verdict"))
    return {**missing, **outcome(attempt(METHODS[run.method], run, time_limit))}


def run(
    largest: Annotated[int, typer.Option(min=min(SHAPES), help="Most layers.")] = max(SHAPES),
    seeds: Seeds = 3,
    time_limit: Annotated[float, typer.Option(min=1.0, help="Seconds of each solve.")] = 60.0,
    out: Out = RESULTS,
    render_only: Render = False,
) -> None:
    """Measure what the results file does not hold yet."""
    if not render_only:
        settings = {"budget": BUDGET, "repeats": REPEATS, "time_limit": time_limit}
        document = benchmark.resume(out / FILE, benchmark.new_document(settings, {"OUT": out}))
        benchmark.complete(
            document,
            out / FILE,
            list(runs(largest, seeds)),
            lambda each: [measure(each, time_limit)],
            shows="{seconds:.3g} s, {status}",
        )
    benchmark.render(out, FILE, table)
