"""The incumbent: a backend's best floats, rounded to a point of {0,1}ⁿ."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from solvers.exact import FloatArray
from solvers.program import BinaryProgram
from solvers.result import Solution, Status

INTEGRALITY = 1e-5
"""The largest distance to 0 or 1 at which a float is rounded. This 1e-5 is a heuristic: ten times
the backends' own integrality tolerance of 1e-6."""


class Incumbent(NamedTuple):
    """The status after rounding, the point x or None, and the distance max|vᵢ − xᵢ|."""

    status: Status
    solution: Solution | None
    distance: float


def read_incumbent(program: BinaryProgram, status: Status, values: FloatArray | None) -> Incumbent:
    """The nearest 0-1 point x to the backend's floats v.

    | backend says          | floats              | result                           |
    |-----------------------|---------------------|----------------------------------|
    | OPTIMAL, NOT_PROVED   | near a 0-1 point    | unchanged, with that point       |
    | OPTIMAL, NOT_PROVED   | fractional, missing | FAILED, no point                 |
    | INTERRUPTED           | feasible 0-1 point  | INTERRUPTED, with that point     |
    | INTERRUPTED           | anything else       | INTERRUPTED, no point            |
    | any other             | anything            | unchanged, no point              |

    A claimed optimum is kept even if it violates a constraint exactly, so that the comparison can
    report it. After an interruption the floats may belong to a relaxation, so the point is kept
    only if it satisfies the constraints.

    Args:
        program: the program that was solved.
        status: what the backend claims.
        values: (n,) float64, or None.
    """
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
