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

from solvers.incumbent import settled
from solvers.program import BinaryProgram, Sense
from solvers.result import Report, Result, Status
from solvers.scaling import Scaled
from solvers.solver import Solver, check_time_limit

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
"""scipy reports a model that HiGHS refused (a coefficient of 1e15 or more, say) with code 2 as
well, the code of infeasibility; its message tells the two apart."""

SOLVE_ERROR = 4
"""scipy's code for an error inside HiGHS. Its presolve fails so on some tiny infeasible programs,
such as 3x₀ + 2x₁ − 3x₂ = 1, which it solves well without presolve; so such a program is solved once
more that way."""


def status_of(code: int, message: str) -> Status:
    """scipy's status code, with a refused model told apart from an infeasible one."""
    if code == 2 and MODEL_ERROR in message:
        return Status.FAILED
    return STATUSES.get(code, Status.FAILED)


@dataclass(frozen=True)
class Highs(Solver):
    """min c·x by the HiGHS that scipy bundles, with the relative gap set to 0.

    HiGHS works in floating point with absolute tolerances near 1e-7 (1e-6 for its absolute gap and
    for integrality), and drops matrix entries below 1e-9, so its "optimal" is a claim. Its point is
    judged by its exact objective under the original c.

    Attributes:
        scale: multiply objective and rows by powers of two first (`solvers.scaling`). Without it,
            scores near the tolerances give wrong masks called optimal: kept as a negative control.
    """

    name: ClassVar[str] = "highs"
    scale: bool = True

    def solve(self, program: BinaryProgram, *, time_limit: float | None = None) -> Result:
        """What HiGHS claims, with its point rounded to {0,1}ⁿ and evaluated exactly.

        Raises:
            ProgramError: the limit is not > 0.
        """
        check_time_limit(time_limit)
        start = time.perf_counter()
        limit = np.inf if time_limit is None else float(time_limit)
        image, exponent, _ = Scaled.of(program) if self.scale else Scaled.not_at_all(program)
        outcome = _outcome(image, time_limit=limit, presolve=True)
        message = outcome.message
        left = limit - (time.perf_counter() - start)
        if outcome.status == SOLVE_ERROR and left > 0:
            outcome = _outcome(image, time_limit=left, presolve=False)
            message = f"{message}; without presolve: {outcome.message}"
        status, solution, distance = settled(
            program, status_of(outcome.status, outcome.message), outcome.x
        )
        claim = outcome.fun if solution is not None else None
        report = Report(
            solver=self.name,
            version=f"HiGHS, scipy {scipy.__version__}",
            seconds=time.perf_counter() - start,
            message=message,
            claimed_objective=None if claim is None else float(np.ldexp(claim, -exponent)),
            exponent=exponent,
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
