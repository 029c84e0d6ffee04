"""The table of solvers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from pins.errors import ProgramError
from pins.utils.lookup import find
from solvers.cbc import Cbc
from solvers.closed_form import ClosedForm
from solvers.enumeration import Enumeration
from solvers.highs import Highs
from solvers.solver import Solver

# The LP relaxation is absent: its points may be fractional, so it is not a Solver.
SOLVERS: Mapping[str, Callable[[], Solver]] = MappingProxyType(
    {solver.name: solver for solver in (ClosedForm, Enumeration, Cbc, Highs)}
)
"""Name ↦ a factory that needs no argument. A new solver is one file and one entry here."""


def find_solver(name: str) -> Solver:
    """The solver called `name`, with its default settings.

    Raises:
        ProgramError: no solver has this name; the message lists them all.
    """
    return find(SOLVERS, name, "solver", ProgramError)()
