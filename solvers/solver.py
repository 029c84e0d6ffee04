"""The interface of a solver of 0-1 programs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from pins.errors import ProgramError
from solvers.program import BinaryProgram
from solvers.result import Result

LONGEST = 86_400.0
"""Seconds after which a backend stops if there is no time limit: it may have been forgotten."""


class Solver(ABC):
    """BinaryProgram ↦ Result; a solver does not change the program.

    Attributes:
        name: the solver's key in `solvers.registry.SOLVERS`.
    """

    name: ClassVar[str]

    @abstractmethod
    def solve(self, program: BinaryProgram, *, time_limit: float | None = None) -> Result:
        """min c·x over the program's feasible points.

        Args:
            program: the program; xᵢ = 1 = keep.
            time_limit: seconds of wall-clock time for the backend; None for `LONGEST`, a day.

        Raises:
            ProgramError: the solver does not take this kind of program, or the limit is not > 0.
        """


def check_time_limit(time_limit: float | None) -> None:
    """Require time_limit > 0, or None.

    Raises:
        ProgramError: the limit is zero, negative or NaN.
    """
    if time_limit is not None and not time_limit > 0:
        raise ProgramError(
            f"solve: time_limit={time_limit} came; pass seconds > 0, or None for no limit"
        )
