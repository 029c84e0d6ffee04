"""A backend's floats, read as a point of {0,1}ⁿ."""

from __future__ import annotations

import numpy as np

from solvers.exact import FloatArray
from solvers.program import BinaryProgram
from solvers.result import Solution, Status

INTEGRALITY = 1e-5
"""Floats farther than this from 0 and 1 are not a point. This 1e-5 is a heuristic: ten times the
backends' own integrality tolerance of 1e-6."""


def settled(
    program: BinaryProgram, status: Status, values: FloatArray | None
) -> tuple[Status, Solution | None, float]:
    """(status, x, max|vᵢ − xᵢ|) with x the nearest 0-1 point to the floats v.

    | backend says          | floats              | becomes                          |
    |-----------------------|---------------------|----------------------------------|
    | OPTIMAL, NOT_PROVED   | near a 0-1 point    | unchanged, with that point       |
    | OPTIMAL, NOT_PROVED   | fractional, missing | FAILED, no point                 |
    | INTERRUPTED           | feasible 0-1 point  | INTERRUPTED, with that point     |
    | INTERRUPTED           | anything else       | INTERRUPTED, no point            |
    | any other             | anything            | unchanged, no point              |

    A claimed optimum is kept even where it violates a constraint exactly, so that the comparison
    can say so. After an interruption the floats may be those of a relaxation, so they count only
    when they satisfy the constraints.

    Args:
        program: the program that was solved.
        status: what the backend claims.
        values: (n,) float64, or None.
    """
    claims_point = status in (Status.OPTIMAL, Status.NOT_PROVED)
    if not claims_point and status is not Status.INTERRUPTED:
        return status, None, 0.0
    fallback = Status.FAILED if claims_point else status
    if values is None or not np.isfinite(values).all():
        return fallback, None, 0.0
    x = values > 0.5
    distance = float(np.abs(values - x).max())
    if distance > INTEGRALITY or (not claims_point and not program.feasible(x)):
        return fallback, None, distance
    return status, Solution.of(program, x), distance
