"""A program in the units that solvers expect, scaled exactly by powers of two.

Solvers apply absolute tolerances near 1e-7 to objective and rows, and drop small entries. The
scores and budgets of a model may be far below them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import sparse

from solvers.exact import Exponents, row_exponents, scaled
from solvers.program import BinaryProgram


class Scaled(NamedTuple):
    """min 2^e c·x  subject to  2^(eⱼ) (A x)ⱼ (≤, =) 2^(eⱼ) bⱼ: the same points, the same optima.

    Attributes:
        program: the scaled program.
        exponent: e.
        rows: (eⱼ), (r,) int64.
    """

    program: BinaryProgram
    exponent: int
    rows: Exponents

    @classmethod
    def of(cls, program: BinaryProgram, *, scale: bool = True) -> Scaled:
        """Scaled to 2⁹ ≤ max|c|·2^e < 2¹⁰, likewise each row that `row_exponents` scales.

        Without `scale`, the program itself with all exponents 0.
        """
        if not scale:
            return cls(program, 0, np.zeros(len(program.senses), dtype=np.int64))
        c, exponent = scaled(program.objective)
        matrix = program.matrix
        rows = row_exponents(matrix.indptr, matrix.data, program.rhs)
        entries = np.ldexp(matrix.data, np.repeat(rows, np.diff(matrix.indptr)))
        image = BinaryProgram(
            objective=c,
            matrix=sparse.csr_array((entries, matrix.indices, matrix.indptr), shape=matrix.shape),
            senses=program.senses,
            rhs=np.ldexp(program.rhs, rows),
        )
        return cls(image, exponent, rows)

    def original_objective(self, value: float | None) -> float | None:
        """The objective c·x of the original program, from that of this program; None for None."""
        return None if value is None else float(np.ldexp(value, -self.exponent))
