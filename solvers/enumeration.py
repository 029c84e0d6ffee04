"""Every x ∈ {0,1}ⁿ, in exact arithmetic."""

from __future__ import annotations

import time
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from pins.errors import ProgramError
from solvers.exact import BoolArray, integers
from solvers.program import BinaryProgram, Sense
from solvers.result import Report, Result, Solution, Status
from solvers.solver import Solver, check_time_limit

LIMIT = 20
"""Largest n: 2²⁰ points, about a second and 200 MB."""


class Enumeration(Solver):
    """argmin over all 2ⁿ points, n ≤ 20, for any `BinaryProgram`.

    Exact: each row and the objective are put on a common denominator and compared as integers.
    Among several optimal points it returns the lexicographically largest (x₀, x₁, …), which keeps
    the lowest indices: the tie rule of the closed form. A time limit is validated and otherwise has
    no effect.
    """

    name: ClassVar[str] = "enumeration"

    def solve(self, program: BinaryProgram, *, time_limit: float | None = None) -> Result:
        """The exact optimum, or INFEASIBLE.

        Raises:
            ProgramError: n > 20, or the limit is not > 0.
        """
        check_time_limit(time_limit)
        start = time.perf_counter()
        codes = _optimal_codes(program)
        message = f"{codes.size} optimal points of {2**program.size}"
        report = Report(self.name, "exact integers", time.perf_counter() - start, message)
        if codes.size == 0:
            return Result(Status.INFEASIBLE, None, report)
        return Result(Status.OPTIMAL, Solution.of(program, _point(codes[-1], program.size)), report)


def optimal_set(program: BinaryProgram) -> list[BoolArray]:
    """All optimal points, the result of `Enumeration` first; empty if infeasible.

    The optimum is unique iff the list has one entry.

    Raises:
        ProgramError: n > 20.
    """
    return [_point(code, program.size) for code in _optimal_codes(program)[::-1]]


def _optimal_codes(program: BinaryProgram) -> npt.NDArray[np.int64]:
    """The optimal points as numbers Σ xᵢ 2^(n−1−i), ascending: x₀ is the highest bit."""
    if program.size > LIMIT:
        raise ProgramError(
            f"Enumeration: {program.size} variables came; it takes at most {LIMIT}, "
            "so use another solver"
        )
    feasible = np.ones(2**program.size, dtype=np.bool_)
    rows = program.matrix.toarray()
    for row, sense, right in zip(rows, program.senses, program.rhs, strict=True):
        *weights, bound = integers([*row.tolist(), float(right)])
        left = _subset_sums(weights)
        feasible &= np.asarray(
            left == bound if sense is Sense.EQUAL else left <= bound, dtype=np.bool_
        )
    codes = np.flatnonzero(feasible)
    if codes.size == 0:
        return codes
    costs = _subset_sums(integers(program.objective.tolist()))[codes]
    return codes[np.asarray(costs == costs.min(), dtype=np.bool_)]


def _subset_sums(weights: list[int]) -> npt.NDArray[Any]:
    """Σ wᵢxᵢ for every point, at its number; int64 if it cannot overflow, else Python ints."""
    fits = sum(abs(weight) for weight in weights) < 2**63
    sums = np.zeros(1, dtype=np.int64 if fits else object)
    # Doubling: the last index is the lowest bit, so it is added first.
    for weight in reversed(weights):
        sums = np.concatenate([sums, sums + weight])
    return sums


def _point(code: np.int64, size: int) -> BoolArray:
    """The point whose number is `code`, (n,) bool."""
    return ((code >> np.arange(size - 1, -1, -1)) & 1).astype(np.bool_)
