"""The 0-1 program of transposable N:M: two trees, of which one holds the columns."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from pins.selection.constraints import NofM
from pins.selection.tree import View
from solvers.formulation import Formulation
from solvers.program import BinaryProgram
from solvers.tree import TreeFormulation


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
        CardinalityError: not 0 ≤ N ≤ M, or M does not divide both sides.
    """

    importance: torch.Tensor
    n: int
    m: int
    program: BinaryProgram = field(init=False)

    def __post_init__(self) -> None:
        scores = {"scores": self.importance}
        trees = [
            NofM(self.n, self.m).tree(
                {"scores": View.of(self.importance.shape, transposed=columns)}
            )
            for columns in (False, True)
        ]
        object.__setattr__(self, "program", TreeFormulation(scores, trees).program)
