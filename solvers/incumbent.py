"""The incumbent: a backend's best floats, rounded to a point of {0,1}ⁿ."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from solvers.exact import FloatArray
from solvers.infeasibility import proved_infeasible
from solvers.program import BinaryProgram
from solvers.result import Solution, Status

INTEGRALITY = 1e-5
"""The largest distance to 0 or 1 at which a float is rounded. This 1e-5 is a heuristic: ten times
the backends' own integrality tolerance of 1e-6."""

UNPROVED = "infeasible is not proved: a backend's claim is not believed; "
"""The reason for FAILED where a backend says that there is no point."""


class Incumbent(NamedTuple):
    """What is left of a backend's claim.

    Attributes:
        status: after rounding the floats and checking a claim of infeasibility.
        solution: the point x, or None.
        distance: max|vᵢ − xᵢ|.
        reason: why an answer is not believed; else empty.
    """

    status: Status
    solution: Solution | None
    distance: float
    reason: str = ""


def read_incumbent(program: BinaryProgram, status: Status, values: FloatArray | None) -> Incumbent:
    """The nearest 0-1 point x to the backend's floats v, unless it is certain that there is none.

    | backend says          | floats              | result                           |
    |-----------------------|---------------------|----------------------------------|
    | OPTIMAL, NOT_PROVED   | near a 0-1 point    | unchanged, with that point       |
    | OPTIMAL, NOT_PROVED   | fractional, missing | FAILED, no point                 |
    | INTERRUPTED           | feasible 0-1 point  | INTERRUPTED, with that point     |
    | INTERRUPTED           | anything else       | INTERRUPTED, no point            |
    | INFEASIBLE            | anything            | FAILED, no point                 |
    | any other             | anything            | unchanged, no point              |

    But INFEASIBLE, whatever the backend says, if it gives no feasible point, was not interrupted,
    and it can be proved that there is none (`solvers.infeasibility`): neither its "no" nor the
    floats of its "yes" are believed.

    A claimed optimum is kept even if it violates a constraint exactly, so that the comparison can
    report it. After an interruption the floats may belong to a relaxation, so the point is kept
    only if it satisfies the constraints.

    Args:
        program: the program that was solved.
        status: what the backend claims.
        values: (n,) float64, or None.
    """
    found = _round(program, status, values)
    if status is Status.INTERRUPTED:
        return found
    if found.solution is not None and program.feasible(found.solution.x):
        return found
    if proved_infeasible(program):
        return Incumbent(Status.INFEASIBLE, None, 0.0)
    if status is Status.INFEASIBLE:
        return Incumbent(Status.FAILED, None, 0.0, UNPROVED)
    return found


def _round(program: BinaryProgram, status: Status, values: FloatArray | None) -> Incumbent:
    """`read_incumbent` of a backend whose claim of infeasibility is believed."""
    claims_point = status in (Status.OPTIMAL, Status.NOT_PROVED)
    if not claims_point and status is not Status.INTERRUPTED:
        return Incumbent(status, None, 0.0)
    fallback = Status.FAILED if claims_point else status
    if values is None or not np.isfinite(values).all():
        return Incumbent(fallback, None, 0.0)
    x = values > 0.5
    distance = float(np.abs(values - x).max())
    if distance > INTEGRALITY or (not claims_point and not program.feasible(x)):
        return Incumbent(fallback, None, distance)
    return Incumbent(status, Solution.of(program, x), distance)
