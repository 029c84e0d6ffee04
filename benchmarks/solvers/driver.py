"""How long do the solvers of 0-1 programs take for one decision, and the closed form? Against n.

    python -m benchmarks.solvers [--largest 16384] [--seeds 3] [--time-limit 300]

A row of solvers.json is one solve, written as soon as it is done: an interrupted benchmark goes on
with the solves that are not in the file yet. The table solvers.md and the figure solvers.svg are
made from the results file alone; `--render` makes them again.

Every answer is compared with the closed form's in exact arithmetic. At one size the solvers get the
scores as they are, too, near 1e-9 and not scaled by a power of two first: the control, in which
their tolerances must show.
"""

import statistics
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from torch import Tensor

from benchmarks.harness.cli import execute
from benchmarks.harness.results import RESULTS, describe, read, rows_before, without_paths
from benchmarks.solvers.table import CLOSED_FORM, SELECT, table
from pins.errors import FileError
from pins.selection.select import select
from pins.utils.io import write_json, write_text
from pins.utils.provenance import provenance
from solvers import (
    CardinalityFormulation,
    ClosedForm,
    Solution,
    Status,
    compare,
)
from solvers.result import Report, Result
from verification import plots
from verification.experiments.solver_tolerance import SOLVERS
from verification.testing.synthetic_scores import real_scale

FILE = "solvers.json"
KEPT_ONE_IN = 5  # 20 % of the weights are kept
REPEATS = 5  # of what takes milliseconds: its time is their median, after one that does not count
CONTROL_SIZE = 1024
SIZES: Mapping[int, str] = {
    256: "what it costs to start a solver at all",
    1024: "a matrix of 32 × 32; the scores unscaled, too",
    4096: "64 × 64: seconds for a solver",
    16384: "128 × 128: minutes for a solver",
    65536: "256 × 256: a matrix of a small model, a hundredth of one of BERT's",
}


@dataclass(frozen=True)
class Solve:
    """One row: a solver, or the closed form, on the scores of a seed."""

    size: int
    seed: int
    solver: str
    scaled: bool


def solves(largest: int, seeds: int) -> Iterator[Solve]:
    """Size by size, seed by seed: stopping early leaves whole comparisons."""
    for size in (size for size in SIZES if size <= largest):
        for seed in range(seeds):
            for name in (SELECT, CLOSED_FORM, *SOLVERS):
                yield Solve(size, seed, name, scaled=True)
            if size == CONTROL_SIZE:
                for name in SOLVERS:
                    yield Solve(size, seed, name, scaled=False)


def measure(solve: Solve, time_limit: float | None) -> dict[str, Any]:
    """The row of one solve; an error's text in it, if it failed."""
    scores = real_scale(np.random.default_rng(solve.seed), solve.size)
    keep = solve.size // KEPT_ONE_IN
    row: dict[str, Any] = {**asdict(solve), "keep": keep, "error": None}
    row |= dict.fromkeys(("seconds", "status", "verdict", "gap", "relative_gap", "wrong"))
    try:
        formulation = CardinalityFormulation(scores, keep)
        reference = ClosedForm().solve(formulation.program).solution
        assert reference is not None
        result = _solved(solve, scores, formulation, time_limit)
        found = compare(formulation.program, reference.x, result)
    except Exception as error:  # a failure is a result
        return {**row, "error": describe(error)}
    return {
        **row,
        "seconds": result.report.seconds,
        "exponent": result.report.exponent,
        "status": result.status.name,
        "verdict": found.verdict.name,
        "gap": None if found.gap is None else float(found.gap),
        "relative_gap": found.relative_gap,
        # of as many ones, so that every wrong one goes with one that is missing
        "wrong": None if found.differing is None else found.differing // 2,
    }


def _solved(
    solve: Solve, scores: Tensor, formulation: CardinalityFormulation, time_limit: float | None
) -> Result:
    if solve.solver == CLOSED_FORM:
        results = [ClosedForm().solve(formulation.program) for _ in range(REPEATS + 1)]
        seconds = statistics.median(result.report.seconds for result in results[1:])
        found = results[-1]
        report = Report(CLOSED_FORM, found.report.version, seconds, found.report.message)
        return Result(found.status, found.solution, report)
    if solve.solver == SELECT:
        times = []
        for _ in range(REPEATS + 1):
            start = time.perf_counter()
            mask = select(scores, formulation.keep)
            times.append(time.perf_counter() - start)
        solution = Solution.of(formulation.program, formulation.apply(mask))
        return Result(
            Status.OPTIMAL, solution, Report(SELECT, "PINS", statistics.median(times[1:]), "")
        )
    return SOLVERS[solve.solver](solve.scaled).solve(formulation.program, time_limit=time_limit)


def render(file: Path) -> str:
    """Table and figure from a results file; the table's text."""
    document = read(file)
    if not document["rows"]:
        raise FileError(f"{file} holds no rows yet: measure first")
    text = table(document)
    write_text(text, file.with_suffix(".md"))
    figure = plots.solver_times(document["rows"], document["settings"]["time_limit"])
    write_text(plots.svg(figure, file.stem), file.with_suffix(".svg"))
    return text


def run(
    largest: Annotated[int, typer.Option(min=min(SIZES), help="Size, of those tried.")] = max(
        SIZES
    ),
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds, from 0.")] = 3,
    time_limit: Annotated[float, typer.Option(min=1.0, help="Seconds of each solve.")] = 300.0,
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = RESULTS,
    render_only: Annotated[
        bool, typer.Option("--render", help="Table and figure again from the results file.")
    ] = False,
) -> None:
    """Solve what is not in the results file yet."""
    file = out / FILE
    if not render_only:
        made = provenance()
        document: dict[str, Any] = {
            "settings": {
                "scores": real_scale.__name__,
                "kept": f"1/{KEPT_ONE_IN}",
                "time_limit": time_limit,
                "repeats": REPEATS,
            },
            "provenance": {**made, "command": without_paths(made["command"], {"OUT": out})},
            "rows": [],
        }
        document["rows"] = rows_before(file, document)
        done = {_solve(row) for row in document["rows"]}
        for solve in solves(largest, seeds):
            if solve not in done:
                row = measure(solve, time_limit)
                document["rows"].append(row)
                write_json(document, file)
                print(_said(row), flush=True)
    print(render(file))


def _solve(row: Mapping[str, Any]) -> Solve:
    return Solve(**{name: row[name] for name in Solve.__dataclass_fields__})


def _said(row: Mapping[str, Any]) -> str:
    what = f"{row['solver']}{'' if row['scaled'] else ' unscaled'}"
    outcome = row["error"] or f"{row['seconds']:.3g} s, {row['status']}, {row['verdict']}"
    return f"n = {row['size']:,}, seed {row['seed']}, {what}: {outcome}"


def main() -> None:
    """Run it as a command."""
    execute(run)
