"""CBC, branch and cut in floating point, through PuLP."""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
import pulp

from pins.errors import ProgramError
from solvers.incumbent import settled
from solvers.program import BinaryProgram, Sense
from solvers.result import Report, Result, Status
from solvers.scaling import Scaled
from solvers.solver import Solver, check_time_limit

STATUSES: Mapping[tuple[int, int], Status] = MappingProxyType(
    {
        (pulp.LpStatusOptimal, pulp.LpSolutionOptimal): Status.OPTIMAL,
        # PuLP turns "Stopped on … - objective value …" into this pair: a point, and no proof.
        (pulp.LpStatusOptimal, pulp.LpSolutionIntegerFeasible): Status.INTERRUPTED,
        (pulp.LpStatusNotSolved, pulp.LpSolutionNoSolutionFound): Status.INTERRUPTED,
        (pulp.LpStatusInfeasible, pulp.LpSolutionInfeasible): Status.INFEASIBLE,
        # "Integer infeasible": the relaxation has points, {0,1}ⁿ has none.
        (pulp.LpStatusInfeasible, pulp.LpSolutionNoSolutionFound): Status.INFEASIBLE,
        (pulp.LpStatusUnbounded, pulp.LpSolutionUnbounded): Status.UNBOUNDED,
        (pulp.LpStatusUndefined, pulp.LpSolutionNoSolutionFound): Status.FAILED,
    }
)
"""PuLP's (status, solution status) ↦ Status: every pair that its reader of CBC's file can give.

A pair that is not here counts as FAILED."""

GAP_STOP = "within gap tolerance"
"""CBC's words for a stop on its gap: PuLP reports it as optimal, we as NOT_PROVED."""

PREPROCESSING = ("preprocess off", "preprocess on")
"""CBC's options, in the order in which they are tried: the second only where CBC crashes.

With its integer preprocessing CBC 2.10.3 loses optimal points of some tiny programs: the minimum of
x₀ − x₁ + 2x₃ with −9x₀ − x₂ + 9x₃ ≤ 0, −6x₀ + 6x₁ − 6x₃ ≤ −4 and x₀ ≤ 6 it claims to be 2, and
(1, 0, 1, 0) costs 1. Without it CBC crashes on some infeasible ones, such as 2x₀ = 1."""


@dataclass(frozen=True)
class Cbc(Solver):
    """min c·x by the CBC that PuLP bundles, with both gaps set to 0.

    CBC works in floating point with absolute tolerances near 1e-7 (and takes two objectives less
    than about 1e-5 apart for equal during its search), so its "optimal" is a claim. PuLP writes
    the program to a file with 13 significant digits (`% .12e`), so CBC does not even see the
    program exactly. For both reasons its point is judged by its exact objective under the original
    c, and never by CBC's own number. Its preprocessing is off, see `PREPROCESSING`.

    Temporary files live in a folder of their own that is removed afterwards, so any number of
    processes can solve at once.

    Attributes:
        scale: multiply objective and rows by powers of two first (`solvers.scaling`). Without it,
            scores near the tolerances give wrong masks called optimal: kept as a negative control.
        threads: passed to CBC; None for its default of one.
    """

    name: ClassVar[str] = "cbc"
    scale: bool = True
    threads: int | None = None

    def solve(self, program: BinaryProgram, *, time_limit: float | None = None) -> Result:
        """What CBC claims, with its point rounded to {0,1}ⁿ and evaluated exactly.

        Raises:
            ProgramError: the limit is not > 0, or `threads` is not ≥ 1.
        """
        check_time_limit(time_limit)
        if self.threads is not None and self.threads < 1:
            raise ProgramError(f"Cbc: threads={self.threads} came; pass at least 1, or None")
        start = time.perf_counter()
        image, exponent, _ = Scaled.of(program) if self.scale else Scaled.not_at_all(program)
        problem, variables = _problem(image)
        with tempfile.TemporaryDirectory(prefix="cbc-") as folder:
            first, second = PREPROCESSING
            failure, text = self._run(problem, Path(folder), first, time_limit)
            left = None if time_limit is None else time_limit - (time.perf_counter() - start)
            if failure is not None and (left is None or left > 0):
                failure, text = self._run(problem, Path(folder), second, left)
        if failure is not None:
            report = self._report(start, text, failure, None, exponent, 0.0)
            return Result(Status.FAILED, None, report)
        pair = (problem.status, problem.sol_status)
        status = STATUSES.get(pair, Status.FAILED)
        if status is Status.OPTIMAL and GAP_STOP in text:
            status = Status.NOT_PROVED
        given = [variable.varValue for variable in variables]
        values = None if None in given else np.array(given, dtype=np.float64)
        status, solution, distance = settled(program, status, values)
        words = f"{pulp.LpStatus[pair[0]]}, {pulp.LpSolution[pair[1]]}"
        claim = _claimed_objective(text) if solution is not None else None
        return Result(status, solution, self._report(start, text, words, claim, exponent, distance))

    def _run(
        self, problem: Any, folder: Path, option: str, time_limit: float | None
    ) -> tuple[str | None, str]:
        """Run CBC on PuLP's model; PuLP's words for a failure, or None, and CBC's log."""
        log = folder / "log"
        backend = pulp.COIN_CMD(
            path=pulp.PULP_CBC_CMD.pulp_cbc_path,
            msg=False,
            gapRel=0,
            gapAbs=0,
            timeLimit=time_limit,
            threads=self.threads,
            options=[option],
            logPath=str(log),
        )
        backend.tmpDir = str(folder)
        try:
            problem.solve(backend)
        except pulp.PulpSolverError as error:
            return str(error), _read(log)
        return None, _read(log)

    def _report(
        self,
        start: float,
        text: str,
        words: str,
        claim: float | None,
        exponent: int,
        distance: float,
    ) -> Report:
        version = re.search(r"^Version: *(\S+)", text, re.MULTILINE)
        result = re.search(r"^(Result - |Problem is |Pre-processing says ).*$", text, re.MULTILINE)
        return Report(
            solver=self.name,
            version=f"CBC {version[1] if version else '?'}, PuLP {pulp.VERSION}",
            seconds=time.perf_counter() - start,
            message=f"{result[0].strip()} ({words})" if result else words,
            claimed_objective=None if claim is None else float(np.ldexp(claim, -exponent)),
            exponent=exponent,
            distance=distance,
        )


def _problem(program: BinaryProgram) -> tuple[Any, list[Any]]:
    """PuLP's model of the program, and its variables in our order."""
    problem = pulp.LpProblem("program", pulp.LpMinimize)
    variables = [problem.add_variable(f"x{i}", 0, 1, pulp.LpInteger) for i in range(program.size)]
    # Every variable stands in the objective, zeros too, so that none is missing from the model.
    costs = zip(variables, program.objective.tolist(), strict=True)
    problem.setObjective(pulp.LpAffineExpression(costs))
    senses = {Sense.LESS_OR_EQUAL: pulp.LpConstraintLE, Sense.EQUAL: pulp.LpConstraintEQ}
    matrix = program.matrix
    for row, sense in enumerate(program.senses):
        entries = slice(matrix.indptr[row], matrix.indptr[row + 1])
        columns, weights = matrix.indices[entries].tolist(), matrix.data[entries].tolist()
        left = pulp.LpAffineExpression(
            [(variables[j], weight) for j, weight in zip(columns, weights, strict=True)]
        )
        bound = float(program.rhs[row])
        problem.addConstraint(pulp.LpConstraint(left, senses[sense], f"r{row}", bound))
    return problem, variables


def _read(log: Path) -> str:
    """CBC's log, empty where CBC never ran."""
    return log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""


def _claimed_objective(text: str) -> float | None:
    """The objective that CBC prints, of the scaled program."""
    found = re.findall(r"^Objective value: +(\S+)$", text, re.MULTILINE)
    return float(found[-1]) if found else None
