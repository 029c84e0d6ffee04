"""The LP relaxation and its dual: a price for each row, and a bound for every mask."""

from __future__ import annotations

import time
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar

import numpy as np
from scipy.optimize import linprog

from pins.errors import CardinalityError, ProgramError
from solvers.exact import FloatArray, exact_sum
from solvers.highs import status_of
from solvers.highs_call import VERSION
from solvers.incumbent import UNPROVED
from solvers.infeasibility import relaxation_proved_infeasible
from solvers.program import BinaryProgram, Sense
from solvers.result import Report, Status
from solvers.scaling import Scaled


@dataclass(frozen=True, eq=False)
class RelaxedResult:
    """The outcome of one LP; everything but the status is None unless it is OPTIMAL.

    Attributes:
        status: what the solver claims, about the relaxation; INFEASIBLE only if a row alone has no
            point.
        x: (n,) float64 in [0, 1]; for a cardinality program some optimum is integral (Theorem 2).
        objective: the backend's float for c·x, scaled back.
        multipliers: λ, (r,) float64, one for each row, in the unit of c; see `Relaxation`.
        report: how it went.
    """

    status: Status
    x: FloatArray | None
    objective: float | None
    multipliers: FloatArray | None
    report: Report


@dataclass(frozen=True)
class Relaxation:
    """min c·x  subject to  A x (≤, =) b,  0 ≤ x ≤ 1, by the HiGHS that scipy bundles.

    Signs. With s = −c the program is max s·x; λⱼ is the price of row j in that maximum:

    | quantity             | of min c·x (scipy's marginal) | of max s·x (λ, returned here)       |
    |----------------------|-------------------------------|-------------------------------------|
    | definition           | ∂(min c·x)/∂bⱼ                | ∂(max s·x)/∂bⱼ = −marginal          |
    | row (A x)ⱼ ≤ bⱼ      | ≤ 0                           | ≥ 0                                 |
    | row (A x)ⱼ = bⱼ      | free                          | free                                |
    | row 1·x = k          | in [−s₍ₖ₎, −s₍ₖ₊₁₎]           | in [s₍ₖ₊₁₎, s₍ₖ₎], the threshold     |

    The program is scaled by powers of two (`solvers.scaling`), and the multiplier of row j is
    scaled back by 2^(eⱼ − e), exactly except at overflow and underflow. The simplex method has a
    tolerance of about 1e-7 in the scaled unit, so λ may miss its interval by that much;
    `dual_value` gives an exact bound for any λ.
    """

    name: ClassVar[str] = "relaxation"

    def solve(self, program: BinaryProgram) -> RelaxedResult:
        """The optimum of the relaxation and the multipliers of the rows."""
        start = time.perf_counter()
        image = Scaled.of(program)
        equal = np.array([sense is Sense.EQUAL for sense in program.senses], dtype=np.bool_)
        # scipy documents sparse matrices for this method; its published types allow dense ones only
        rows: Any = image.program.matrix
        rhs = image.program.rhs
        outcome = linprog(
            image.program.objective,
            A_ub=rows[~equal],
            b_ub=rhs[~equal],
            A_eq=rows[equal],
            b_eq=rhs[equal],
            bounds=(0, 1),
            method="highs",
        )
        status, reason = status_of(outcome.status, outcome.message), ""
        if status is Status.INFEASIBLE and not relaxation_proved_infeasible(program):
            status, reason = Status.FAILED, UNPROVED
        claim = image.original_objective(outcome.fun)
        report = Report(
            solver=self.name,
            version=VERSION,
            seconds=time.perf_counter() - start,
            message=reason + outcome.message,
            claimed_objective=claim,
            exponent=image.exponent,
        )
        if status is not Status.OPTIMAL:
            return RelaxedResult(status, None, None, None, report)
        multipliers = np.zeros(len(program.senses), dtype=np.float64)
        multipliers[~equal] = -outcome.ineqlin.marginals
        multipliers[equal] = -outcome.eqlin.marginals
        multipliers = np.ldexp(multipliers, image.rows - image.exponent)
        return RelaxedResult(status, outcome.x, claim, multipliers, report)


def dual_value(scores: FloatArray, keep: int, multiplier: float) -> Fraction:
    """kλ + Σ max(0, sᵢ − λ), exactly: an upper bound of s·m for every mask m with k ones.

    Equal to the optimum of (P) iff λ lies in `dual_interval(scores, keep)`.

    Args:
        scores: s, (n,) float64, finite; larger = keep.
        keep: k, 0 ≤ k ≤ n.
        multiplier: λ, finite, in the unit of the scores.

    Raises:
        CardinalityError: k is not in 0 … n.
        ProgramError: λ or a score above it is not finite.
    """
    _check_keep("dual_value", scores, keep)
    if not np.isfinite(multiplier):
        raise ProgramError(f"dual_value: multiplier {multiplier} came; pass a finite number")
    # max(0, s − λ) is s − λ where s > λ, so the sum needs one comparison for each score.
    above = scores > multiplier
    return exact_sum(scores[above]) + (keep - int(above.sum())) * Fraction(float(multiplier))


def dual_interval(scores: FloatArray, keep: int) -> tuple[float, float]:
    """[s₍ₖ₊₁₎, s₍ₖ₎] of the scores sorted descending: the set of optimal multipliers.

    Args:
        scores: s, (n,) float64; larger = keep.
        keep: k, 0 ≤ k ≤ n.

    Returns:
        (low, high); low = −∞ when k = n and high = +∞ when k = 0.

    Raises:
        CardinalityError: k is not in 0 … n.
    """
    _check_keep("dual_interval", scores, keep)
    ascending = np.sort(scores)
    pruned = scores.size - keep
    low = float(ascending[pruned - 1]) if pruned > 0 else -np.inf
    high = float(ascending[pruned]) if keep > 0 else np.inf
    return low, high


def _check_keep(name: str, scores: FloatArray, keep: int) -> None:
    if not 0 <= keep <= scores.size:
        raise CardinalityError(
            f"{name}: keep={keep} came for {scores.size} scores; pass 0 … {scores.size}"
        )
