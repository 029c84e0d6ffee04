"""A program in the units that solvers are made for: each change a power of two, which is exact.

Solvers measure objective and rows by absolute tolerances near 1e-7, and drop small entries. Neither
the scores of a model nor its budgets are of that size.
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
        program: this program.
        exponent: e.
        rows: (eⱼ), (r,) int64.
    """

    program: BinaryProgram
    exponent: int
    rows: Exponents

    @classmethod
    def of(cls, program: BinaryProgram) -> Scaled:
        """Scaled to 2⁹ ≤ max|c|·2^e < 2¹⁰, and so each row of smaller numbers but for integers."""
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

    @classmethod
    def not_at_all(cls, program: BinaryProgram) -> Scaled:
        """The program as it is."""
        return cls(program, 0, np.zeros(len(program.senses), dtype=np.int64))
