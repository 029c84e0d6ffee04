"""HiGHS, branch and cut in floating point, through scipy."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np

from pins.utils.child_process import run, scratch_folder
from solvers import highs_call
from solvers.highs_call import OUTCOME, PROGRAM, VERSION, Outcome
from solvers.incumbent import read_incumbent
from solvers.program import BinaryProgram, Sense
from solvers.result import Report, Result, Status
from solvers.scaling import Scaled
from solvers.solver import LONGEST, Solver, check_time_limit

STATUSES: Mapping[int, Status] = MappingProxyType(
    {
        0: Status.OPTIMAL,
        1: Status.INTERRUPTED,
        2: Status.INFEASIBLE,
        3: Status.UNBOUNDED,
        4: Status.FAILED,
    }
)
"""scipy's status code of `milp` and `linprog` ↦ Status; any other code counts as FAILED."""

MODEL_ERROR = "(HiGHS Status 2:"
"""Code 2 means infeasible. scipy uses it for a model that HiGHS refused too (for example with a
coefficient of 1e15 or more), with this text in the message."""

SOLVE_ERROR = 4
"""scipy's code for an error inside HiGHS, and ours for a child process that fails. The presolve of
HiGHS fails with it on some tiny infeasible programs, such as 3x₀ + 2x₁ − 3x₂ = 1; they are solved
again without presolve, which succeeds."""

STOPPED = 1
"""scipy's code for a stop on the time limit."""

SMALL = 1500
"""Stored entries of a program that HiGHS solves in this process, where it cannot be interrupted:
it looks at its time limit often there. A child process, which can be killed, takes 0.5 s to start.
"""

PATIENCE = 1.0
"""Seconds after which a small program is solved again in a child process."""

GRACE = 60.0
"""Seconds after its time limit at which the child process is killed."""


def status_of(code: int, message: str) -> Status:
    """The status of scipy's code and message; FAILED for a model that HiGHS refused."""
    if code == 2 and MODEL_ERROR in message:
        return Status.FAILED
    return STATUSES.get(code, Status.FAILED)


@dataclass(frozen=True)
class Highs(Solver):
    """min c·x by the HiGHS that scipy bundles, with the relative gap set to 0.

    HiGHS works in floating point with absolute tolerances near 1e-7 (1e-6 for its absolute gap and
    for integrality), and drops matrix entries below 1e-9, so its "optimal" is a claim: its point is
    evaluated exactly under the original c. Its "infeasible" is believed only if it can be proved.

    It ends with this process and at Ctrl-C, after `PATIENCE` at most, and after a day if there is
    no time limit.

    Attributes:
        scale: multiply objective and rows by powers of two first (`solvers.scaling`). False is a
            negative control: scores near the tolerances give wrong masks called optimal.
    """

    name: ClassVar[str] = "highs"
    scale: bool = True

    def solve(self, program: BinaryProgram, *, time_limit: float | None = None) -> Result:
        """The claim of HiGHS, with its point rounded to {0,1}ⁿ and evaluated exactly.

        FAILED, with the reason, if its child process gives no answer.

        Raises:
            ProgramError: the limit is not > 0.
        """
        check_time_limit(time_limit)
        start = time.perf_counter()
        limit = LONGEST if time_limit is None else float(time_limit)
        image = Scaled.of(program, scale=self.scale)
        outcome = _outcome(image.program, time_limit=limit, presolve=True)
        message = outcome.message
        left = limit - (time.perf_counter() - start)
        if outcome.status == SOLVE_ERROR and left > 0:
            outcome = _outcome(image.program, time_limit=left, presolve=False)
            message = f"{message}; without presolve: {outcome.message}"
        status, solution, distance, reason = read_incumbent(
            program, status_of(outcome.status, outcome.message), outcome.x
        )
        report = Report(
            solver=self.name,
            version=VERSION,
            seconds=time.perf_counter() - start,
            message=reason + message,
            claimed_objective=image.original_objective(outcome.fun) if solution else None,
            exponent=image.exponent,
            distance=distance,
        )
        return Result(status, solution, report)


def _outcome(program: BinaryProgram, *, time_limit: float, presolve: bool) -> Outcome:
    """scipy's answer to the program; if it is large or takes long, from a child process."""
    equal = np.array([sense is Sense.EQUAL for sense in program.senses], dtype=np.bool_)
    arrays: dict[str, Any] = {
        "objective": program.objective,
        "low": np.where(equal, program.rhs, -np.inf),
        "high": program.rhs,
        "data": program.matrix.data,
        "indices": program.matrix.indices,
        "indptr": program.matrix.indptr,
    }
    left = time_limit
    if program.matrix.nnz <= SMALL:
        first = highs_call.call(arrays, time_limit=min(left, PATIENCE), presolve=presolve)
        left -= PATIENCE
        if first.status != STOPPED or left <= 0:
            return first
    try:
        with scratch_folder("highs-") as folder:
            np.savez(folder / PROGRAM, **arrays, time_limit=left, presolve=presolve)
            done = run(
                [sys.executable, "-I", highs_call.__file__, str(folder)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                timeout=left + GRACE,
            )
            if done.returncode == 0:
                return highs_call.load(folder / OUTCOME)
            said = done.stderr.decode("utf-8", errors="replace").strip().splitlines()[-1:]
            reason = f"it ended with exit code {done.returncode} {said}"
    except (OSError, ValueError, KeyError, subprocess.TimeoutExpired) as error:
        reason = str(error)
    return Outcome(SOLVE_ERROR, f"HiGHS gave no answer: {reason}", None, None)
