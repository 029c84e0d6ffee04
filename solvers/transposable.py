"""The 0-1 program of transposable N:M: a row for each row and each column of each block."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from scipy import sparse

from solvers.formulation import CardinalityFormulation, Formulation
from solvers.program import BinaryProgram, Sense


@dataclass(frozen=True, eq=False)
class TransposableFormulation(Formulation):
    """max s·m, N ones in each row and each column of each M × M block   ⇄   min (−s)·x, A x = N.

    The LP relaxation has an integral optimum, since A is the incidence matrix of a bipartite graph.

    Attributes:
        importance: s, of shape (outputs, inputs), as in `CardinalityFormulation`.
        n: N.
        m: M, a divisor of outputs and inputs.
        program: the 0-1 program, objective −s.

    Raises:
        ImportanceError: as `CardinalityFormulation`.
    """

    importance: torch.Tensor
    n: int
    m: int
    program: BinaryProgram = field(init=False)

    def __post_init__(self) -> None:
        outputs, inputs = self.importance.shape
        objective = CardinalityFormulation(self.importance, 0).program.objective
        numbers = np.arange(objective.size).reshape(outputs, inputs)
        rows = numbers.reshape(-1, self.m)
        columns = numbers.reshape(outputs // self.m, self.m, inputs).swapaxes(1, 2)
        members = np.concatenate([rows, columns.reshape(-1, self.m)])
        places = np.repeat(np.arange(len(members)), self.m), members.reshape(-1)
        program = BinaryProgram(
            objective=objective,
            matrix=sparse.csr_array((np.ones(members.size), places)),
            senses=(Sense.EQUAL,) * len(members),
            rhs=np.full(len(members), self.n, dtype=np.float64),
        )
        object.__setattr__(self, "program", program)
