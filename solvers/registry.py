"""The table of solvers: one row each."""

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

# The LP relaxation has no row: its points are fractional, so it is not a Solver.
SOLVERS: Mapping[str, Callable[[], Solver]] = MappingProxyType(
    {
        ClosedForm.name: ClosedForm,
        Enumeration.name: Enumeration,
        Cbc.name: Cbc,
        Highs.name: Highs,
    }
)
"""Name ↦ a factory that needs no argument. A new solver is one file and one row here."""


def find_solver(name: str) -> Solver:
    """The solver called `name`, with its default settings.

    Raises:
        ProgramError: no row has this name; the message lists the known ones.
    """
    return find(SOLVERS, name, "solver", ProgramError)()
