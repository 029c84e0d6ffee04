"""Compare a solver's point with a reference point: Σ cᵢxᵢ, exactly."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from fractions import Fraction

import numpy as np

from pins.errors import ProgramError
from solvers.exact import BoolArray
from solvers.exact import objective as exact_objective
from solvers.program import BinaryProgram
from solvers.result import Result, Status


class Verdict(Enum):
    """The result of a comparison; the value is a sentence for people."""

    AGREES = "Both points have exactly the same objective."
    SOLVER_INEXACT = "The solver's point is feasible and strictly worse: the solver was not exact."
    THEOREM_REFUTED = "The solver's point is feasible and strictly better: the theorem is refuted."
    SOLVER_INFEASIBLE = "The solver's point violates the constraints."
    NO_SOLUTION = "The solver gave no point, so there is nothing to compare."


@dataclass(frozen=True)
class Comparison:
    """The verdict and its numbers, all evaluated on the unscaled program.

    Attributes:
        verdict: see `Verdict`.
        status: the claim of the solver; an interrupted solver claims no optimum.
        gap: c·(solver's x) − c·(reference), exact; > 0 = worse. None unless the solver's point is
            feasible.
        relative_gap: |gap| / |c·(reference)| as a float, 0 if both are 0, infinite if only the
            reference is 0; None if `gap` is None.
        differing: the number of entries that differ; None without a point. Tied scores allow
            different points with equal objectives.
    """

    verdict: Verdict
    status: Status
    gap: Fraction | None
    relative_gap: float | None
    differing: int | None


def compare(program: BinaryProgram, reference: BoolArray, result: Result) -> Comparison:
    """The sign of c·x_solver − c·x_reference, in rational arithmetic.

    The solver's own objective is rounded, and its set of indices is not unique for tied scores, so
    neither is compared.

    Args:
        program: the program of both points.
        reference: (n,) bool, feasible, such as the closed form's point; xᵢ = 1 = keep.
        result: the solver's result for `program`.

    Raises:
        ProgramError: the reference has another shape or dtype, or is not feasible.
    """
    if not program.feasible(reference):
        raise ProgramError(
            f"compare: the reference keeps {int(reference.sum())} of {program.size} entries and "
            "violates the constraints; pass a feasible point"
        )
    if result.solution is None:
        return Comparison(Verdict.NO_SOLUTION, result.status, None, None, None)
    x = result.solution.x
    feasible = program.feasible(x)
    differing = int(np.count_nonzero(x != reference))
    if not feasible:
        return Comparison(Verdict.SOLVER_INFEASIBLE, result.status, None, None, differing)
    optimum = exact_objective(program.objective, reference)
    # Evaluated again, because the result may belong to another program.
    gap = exact_objective(program.objective, x) - optimum
    if gap == 0:
        verdict = Verdict.AGREES
    else:
        verdict = Verdict.SOLVER_INEXACT if gap > 0 else Verdict.THEOREM_REFUTED
    return Comparison(verdict, result.status, gap, _ratio(abs(gap), abs(optimum)), differing)


def _ratio(part: Fraction, whole: Fraction) -> float:
    """part / whole as a float; 0/0 = 0, and infinity on overflow."""
    if part == 0:
        return 0.0
    try:
        return float(part / whole)
    except (ZeroDivisionError, OverflowError):
        return float("inf")
