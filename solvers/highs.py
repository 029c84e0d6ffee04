"""HiGHS, branch and cut in floating point, through scipy."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
import scipy
from scipy.optimize import Bounds, LinearConstraint, milp

from solvers.incumbent import read_incumbent
from solvers.program import BinaryProgram, Sense
from solvers.result import Report, Result, Status
from solvers.scaling import Scaled
from solvers.solver import Solver, check_time_limit

VERSION = f"HiGHS, scipy {scipy.__version__}"

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
"""scipy's code for an error inside HiGHS. Its presolve fails with it on some tiny infeasible
programs, such as 3x₀ + 2x₁ − 3x₂ = 1; they are solved again without presolve, which succeeds."""


def status_of(code: int, message: str) -> Status:
    """The status of scipy's code and message; FAILED for a model that HiGHS refused."""
    if code == 2 and MODEL_ERROR in message:
        return Status.FAILED
    return STATUSES.get(code, Status.FAILED)


@dataclass(frozen=True)
class Highs(Solver):
    """min c·x by the HiGHS that scipy bundles, with the relative gap set to 0.

    HiGHS works in floating point with absolute tolerances near 1e-7 (1e-6 for its absolute gap and
    for integrality), and drops matrix entries below 1e-9, so its "optimal" is a claim. Its point is
    evaluated exactly under the original c.

    Attributes:
        scale: multiply objective and rows by powers of two first (`solvers.scaling`). False is a
            negative control: scores near the tolerances give wrong masks called optimal.
    """

    name: ClassVar[str] = "highs"
    scale: bool = True

    def solve(self, program: BinaryProgram, *, time_limit: float | None = None) -> Result:
        """The claim of HiGHS, with its point rounded to {0,1}ⁿ and evaluated exactly.

        Raises:
            ProgramError: the limit is not > 0.
        """
        check_time_limit(time_limit)
        start = time.perf_counter()
        limit = np.inf if time_limit is None else float(time_limit)
        image = Scaled.of(program, scale=self.scale)
        outcome = _outcome(image.program, time_limit=limit, presolve=True)
        message = outcome.message
        left = limit - (time.perf_counter() - start)
        if outcome.status == SOLVE_ERROR and left > 0:
            outcome = _outcome(image.program, time_limit=left, presolve=False)
            message = f"{message}; without presolve: {outcome.message}"
        status, solution, distance = read_incumbent(
            program, status_of(outcome.status, outcome.message), outcome.x
        )
        report = Report(
            solver=self.name,
            version=VERSION,
            seconds=time.perf_counter() - start,
            message=message,
            claimed_objective=image.original_objective(outcome.fun) if solution else None,
            exponent=image.exponent,
            distance=distance,
        )
        return Result(status, solution, report)


def _outcome(program: BinaryProgram, *, time_limit: float, presolve: bool) -> Any:
    """scipy's answer to the program."""
    equal = np.array([sense is Sense.EQUAL for sense in program.senses], dtype=np.bool_)
    rows = LinearConstraint(program.matrix, np.where(equal, program.rhs, -np.inf), program.rhs)
    return milp(
        program.objective,
        integrality=np.ones(program.size, dtype=np.int64),
        bounds=Bounds(0, 1),
        constraints=[rows] if program.senses else [],
        options={"mip_rel_gap": 0.0, "time_limit": time_limit, "presolve": presolve},
    )
