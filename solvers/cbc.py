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
from solvers.incumbent import read_incumbent
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
"""PuLP's (status, solution status) ↦ Status: every pair that its reader of CBC's file can return.

Any other pair counts as FAILED."""

GAP_STOP = "within gap tolerance"
"""CBC's message when it stops on its gap: optimal for PuLP, NOT_PROVED here."""

PREPROCESSING = ("preprocess off", "preprocess on")
"""CBC's options in the order of trial: the second only if CBC crashes.

With its integer preprocessing CBC 2.10.3 loses optimal points of some tiny programs: for the
minimum of x₀ − x₁ + 2x₃ with −9x₀ − x₂ + 9x₃ ≤ 0, −6x₀ + 6x₁ − 6x₃ ≤ −4 and x₀ ≤ 6 it claims 2, but
(1, 0, 1, 0) costs 1. Without it CBC crashes on some infeasible programs, such as 2x₀ = 1."""


@dataclass(frozen=True)
class Cbc(Solver):
    """min c·x by the CBC that PuLP bundles, with both gaps set to 0.

    CBC works in floating point with absolute tolerances near 1e-7 (and takes two objectives less
    than about 1e-5 apart for equal during its search), so its "optimal" is a claim. PuLP writes
    the program to a file with 13 significant digits (`% .12e`), so CBC solves a rounded program.
    For both reasons its point is evaluated exactly under the original c; CBC's own objective is not
    used. Its preprocessing is off, see `PREPROCESSING`.

    Each solve has its own temporary folder, so any number of processes can solve at once.

    Attributes:
        scale: multiply objective and rows by powers of two first (`solvers.scaling`). False is a
            negative control: scores near the tolerances give wrong masks called optimal.
        threads: passed to CBC; None for its default of one.
    """

    name: ClassVar[str] = "cbc"
    scale: bool = True
    threads: int | None = None

    def solve(self, program: BinaryProgram, *, time_limit: float | None = None) -> Result:
        """The claim of CBC, with its point rounded to {0,1}ⁿ and evaluated exactly.

        Raises:
            ProgramError: the limit is not > 0, or `threads` is not ≥ 1.
        """
        check_time_limit(time_limit)
        if self.threads is not None and self.threads < 1:
            raise ProgramError(f"Cbc: threads={self.threads} came; pass at least 1, or None")
        start = time.perf_counter()
        image = Scaled.of(program, scale=self.scale)
        problem, variables = _problem(image.program)
        with tempfile.TemporaryDirectory(prefix="cbc-") as folder:
            first, second = PREPROCESSING
            failure, text = self._run(problem, Path(folder), first, time_limit)
            left = None if time_limit is None else time_limit - (time.perf_counter() - start)
            if failure is not None and (left is None or left > 0):
                failure, text = self._run(problem, Path(folder), second, left)
        status, values, words = Status.FAILED, None, failure
        if words is None:
            pair = (problem.status, problem.sol_status)
            status = STATUSES.get(pair, Status.FAILED)
            if status is Status.OPTIMAL and GAP_STOP in text:
                status = Status.NOT_PROVED
            given = [variable.varValue for variable in variables]
            values = None if None in given else np.array(given, dtype=np.float64)
            words = f"{pulp.LpStatus[pair[0]]}, {pulp.LpSolution[pair[1]]}"
        status, solution, distance = read_incumbent(program, status, values)
        claim = _claimed_objective(text) if solution is not None else None
        version = re.search(r"^Version: *(\S+)", text, re.MULTILINE)
        result = re.search(r"^(Result - |Problem is |Pre-processing says ).*$", text, re.MULTILINE)
        report = Report(
            solver=self.name,
            version=f"CBC {version[1] if version else '?'}, PuLP {pulp.VERSION}",
            seconds=time.perf_counter() - start,
            message=f"{result[0].strip()} ({words})" if result else words,
            claimed_objective=image.original_objective(claim),
            exponent=image.exponent,
            distance=distance,
        )
        return Result(status, solution, report)

    def _run(
        self, problem: Any, folder: Path, option: str, time_limit: float | None
    ) -> tuple[str | None, str]:
        """Run CBC on PuLP's model; PuLP's error message or None, and CBC's log."""
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


def _problem(program: BinaryProgram) -> tuple[Any, list[Any]]:
    """PuLP's model of the program, and its variables in our order."""
    problem = pulp.LpProblem("program", pulp.LpMinimize)
    variables = [problem.add_variable(f"x{i}", 0, 1, pulp.LpInteger) for i in range(program.size)]
    # Every variable is in the objective, those of cost 0 too, so that none is missing in the model.
    costs = zip(variables, program.objective.tolist(), strict=True)
    problem.setObjective(pulp.LpAffineExpression(costs))
    senses = {Sense.LESS_OR_EQUAL: pulp.LpConstraintLE, Sense.EQUAL: pulp.LpConstraintEQ}
    for row, sense in enumerate(program.senses):
        columns, weights = (stored.tolist() for stored in program.row(row))
        left = pulp.LpAffineExpression(
            [(variables[j], weight) for j, weight in zip(columns, weights, strict=True)]
        )
        bound = float(program.rhs[row])
        problem.addConstraint(pulp.LpConstraint(left, senses[sense], f"r{row}", bound))
    return problem, variables


def _read(log: Path) -> str:
    """CBC's log; empty if CBC never ran."""
    return log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""


def _claimed_objective(text: str) -> float | None:
    """The objective of the scaled program as CBC printed it; None if it printed none."""
    found = re.findall(r"^Objective value: +(\S+)$", text, re.MULTILINE)
    return float(found[-1]) if found else None
