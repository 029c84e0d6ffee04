"""The closed form of the cardinality program: keep the k entries with the smallest cost."""

from __future__ import annotations

import time
from typing import ClassVar

import numpy as np

from pins.errors import ProgramError
from solvers.program import BinaryProgram
from solvers.result import Report, Result, Solution, Status
from solvers.solver import Solver, check_time_limit


class ClosedForm(Solver):
    """x keeps the k smallest cᵢ = −sᵢ: optimal for min c·x, 1·x = k, x ∈ {0,1}ⁿ (Theorem 1).

    Proof by exchange: a mask is optimal iff min{sᵢ : xᵢ=1} ≥ max{sᵢ : xᵢ=0}; otherwise swapping the
    two entries improves it. Among equal scores the lower index is kept. Exact, because it only
    compares floats. O(n log n); a time limit is validated and otherwise has no effect.

    It shares no code with `pins.selection.select`, so that each tests the other.
    """

    name: ClassVar[str] = "closed-form"

    def solve(self, program: BinaryProgram, *, time_limit: float | None = None) -> Result:
        """The optimum of a cardinality program; INFEASIBLE if k is not an integer in 0 … n.

        Raises:
            ProgramError: the program has other rows than one equality row of ones, or the limit is
                not > 0.
        """
        check_time_limit(time_limit)
        if not program.is_cardinality:
            senses = ", ".join(sense.value for sense in program.senses)
            raise ProgramError(
                f"ClosedForm.solve: a program of {len(program.senses)} rows with senses "
                f"({senses}) and {program.matrix.nnz} stored entries came; it takes only one "
                f"equality row of {program.size} ones, so use another solver"
            )
        start = time.perf_counter()
        keep = float(program.rhs[0])
        if not (keep.is_integer() and 0 <= keep <= program.size):
            message = f"no 0-1 point of size {program.size} sums to {keep}"
            return Result(Status.INFEASIBLE, None, self._report(start, message))
        # A stable sort leaves equal costs in index order: the tie rule.
        order = np.argsort(program.objective, kind="stable")
        x = np.zeros(program.size, dtype=np.bool_)
        x[order[: int(keep)]] = True
        report = self._report(start, f"kept the {int(keep)} smallest costs")
        return Result(Status.OPTIMAL, Solution.of(program, x), report)

    def _report(self, start: float, message: str) -> Report:
        return Report(self.name, f"numpy {np.__version__}", time.perf_counter() - start, message)
