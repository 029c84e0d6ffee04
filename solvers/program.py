"""The 0-1 program: min c·x subject to A x (≤, =) b, x ∈ {0,1}ⁿ."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import sparse

from pins.errors import ProgramError
from solvers.exact import BoolArray, FloatArray, exact_sum

Matrix: TypeAlias = "sparse.csr_array[np.float64, tuple[int, int]]"


class Sense(Enum):
    """The relation between a row's left and right side."""

    LESS_OR_EQUAL = "<="
    EQUAL = "="


@dataclass(frozen=True, eq=False)
class BinaryProgram:
    """min c·x  subject to  (A x)ⱼ ≤ bⱼ or (A x)ⱼ = bⱼ for every row j,  x ∈ {0,1}ⁿ.

    xᵢ = 1 = keep. Maximising a score s is minimising c = −s. The arrays are copied and made
    read-only.

    Attributes:
        objective: c, (n,) float64, n ≥ 1, finite.
        matrix: A, (r, n) sparse float64, finite, no entry stored twice; r = 0 is allowed.
        senses: one `Sense` for each row, (r,).
        rhs: b, (r,) float64, finite.

    Raises:
        ProgramError: a shape, a dtype or a number differs from these.
    """

    objective: FloatArray
    matrix: Matrix
    senses: tuple[Sense, ...]
    rhs: FloatArray

    def __post_init__(self) -> None:
        matrix = self.matrix
        if not isinstance(matrix, sparse.csr_array):
            raise ProgramError(
                f"BinaryProgram: matrix is a {type(matrix).__name__}; "
                "pass scipy.sparse.csr_array(matrix)"
            )
        rows = len(self.senses)
        expected = {"objective": (self.size,), "matrix": (rows, self.size), "rhs": (rows,)}
        for name, shape in expected.items():
            array = getattr(self, name)
            if array.shape != shape:
                raise ProgramError(
                    f"BinaryProgram: {name} has shape {array.shape}; with {self.size} variables "
                    f"and {rows} senses, pass shape {shape}"
                )
            if array.dtype != np.float64:
                raise ProgramError(
                    f"BinaryProgram: {name} has dtype {array.dtype}; convert it to float64"
                )
        if self.size == 0:
            raise ProgramError("BinaryProgram: objective is empty; pass at least one variable")
        for sense in self.senses:
            if not isinstance(sense, Sense):
                raise ProgramError(
                    f"BinaryProgram: sense {sense!r} came; pass Sense.LESS_OR_EQUAL or Sense.EQUAL"
                )
        for name, values in (("objective", self.objective), ("rhs", self.rhs)):
            _check_finite(name, values)
        _check_finite("matrix", matrix.data)
        # Duplicate entries mean their sum, which a solver would round: rejected instead.
        if not matrix.has_canonical_format:
            raise ProgramError(
                "BinaryProgram: matrix stores an entry twice or out of order; "
                "call matrix.sum_duplicates() first"
            )
        object.__setattr__(self, "senses", tuple(self.senses))
        for name in ("objective", "rhs"):
            copy = getattr(self, name).copy()
            copy.setflags(write=False)
            object.__setattr__(self, name, copy)
        owned = matrix.copy()
        for array in (owned.data, owned.indices, owned.indptr):
            array.setflags(write=False)
        object.__setattr__(self, "matrix", owned)

    @property
    def size(self) -> int:
        """n, the number of variables."""
        return int(self.objective.size)

    @property
    def is_cardinality(self) -> bool:
        """True if the only constraint is 1·x = k: one equality row, all n entries one."""
        return (
            self.senses == (Sense.EQUAL,)
            and self.matrix.nnz == self.size
            and bool(np.all(self.matrix.data == 1.0))
        )

    def row(self, j: int) -> tuple[npt.NDArray[np.integer[Any]], FloatArray]:
        """The columns and the values of the stored entries of row j of A."""
        entries = slice(self.matrix.indptr[j], self.matrix.indptr[j + 1])
        return self.matrix.indices[entries], self.matrix.data[entries]

    def feasible(self, x: BoolArray) -> bool:
        """True if A x (≤, =) b holds exactly: each row is summed as a rational number.

        There is no tolerance, so a point that a solver calls feasible may fail here. Cost: O(stored
        entries of A), about 0.1 μs each, plus about 0.1 ms for each row.

        Args:
            x: (n,) bool, xᵢ = 1 = keep.

        Raises:
            ProgramError: `x` has another shape or dtype.
        """
        if x.shape != (self.size,) or x.dtype != np.bool_:
            raise ProgramError(
                f"BinaryProgram.feasible: x of shape {x.shape} and dtype {x.dtype} came; "
                f"pass a bool array of shape ({self.size},)"
            )
        for j, sense in enumerate(self.senses):
            columns, weights = self.row(j)
            left, right = exact_sum(weights[x[columns]]), Fraction(float(self.rhs[j]))
            if left > right or (sense is Sense.EQUAL and left != right):
                return False
        return True


def _check_finite(name: str, values: FloatArray) -> None:
    """Require that every entry of `values` is finite.

    Raises:
        ProgramError: an entry is not finite; the message gives the first, by index and value.
    """
    bad = np.flatnonzero(~np.isfinite(values))
    if bad.size:
        raise ProgramError(
            f"BinaryProgram: {name} holds {values[bad[0]]} at stored entry {bad[0]}; "
            "pass finite numbers only"
        )
