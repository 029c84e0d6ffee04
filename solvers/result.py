"""The result of a solve: a status, a point with its exact objective, and a report."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from fractions import Fraction

from solvers.exact import BoolArray, objective
from solvers.program import BinaryProgram

TEXT = 500
"""Characters of a backend's text that a report holds."""


class Status(Enum):
    """The claim of a solver; the value is a sentence for people.

    A claim, not a proof: a backend that works in floating point may call a wrong point optimal.
    `solvers.comparison` checks it. INFEASIBLE alone is certain: where a backend says so and it
    cannot be proved (`solvers.infeasibility`), the status is FAILED.
    """

    OPTIMAL = "The solver claims that its point is optimal."
    INFEASIBLE = "The solver has no point, and it is certain that none satisfies the constraints."
    UNBOUNDED = "The solver claims that the objective has no lower bound."
    INTERRUPTED = "The solver was stopped by a limit before it could prove anything."
    NOT_PROVED = "The solver has a point and does not claim that it is optimal."
    FAILED = "The solver stopped on an error and claims nothing."


@dataclass(frozen=True, eq=False)
class Solution:
    """A point x ∈ {0,1}ⁿ and its objective Σ cᵢxᵢ, evaluated exactly.

    Attributes:
        x: (n,) bool, read-only; xᵢ = 1 = keep.
        objective: Σ cᵢxᵢ as a rational number, of the unscaled program.
    """

    x: BoolArray
    objective: Fraction

    def __post_init__(self) -> None:
        x = self.x.copy()
        x.setflags(write=False)
        object.__setattr__(self, "x", x)

    @classmethod
    def of(cls, program: BinaryProgram, x: BoolArray) -> Solution:
        """The solution at x; its feasibility is not checked.

        Raises:
            ProgramError: `x` has another shape than the objective, or is not bool.
        """
        return cls(x, objective(program.objective, x))


@dataclass(frozen=True)
class Report:
    """A description of the solve; no proof uses it.

    Attributes:
        solver: the name in the registry.
        version: of the backend.
        seconds: wall-clock time of the backend, building its model included.
        message: the backend's own status text, shortened to one line.
        claimed_objective: the backend's own float for Σ cᵢxᵢ, scaled back by 2^(−exponent); never
            used in a comparison. None if the backend gave none.
        exponent: the objective was multiplied by 2^exponent before the backend saw it.
        distance: max |vᵢ − xᵢ| between the backend's floats v and the point x read from them.
    """

    solver: str
    version: str
    seconds: float
    message: str
    claimed_objective: float | None = None
    exponent: int = 0
    distance: float = 0.0

    def __post_init__(self) -> None:
        for name in ("version", "message"):
            object.__setattr__(self, name, _shortened(getattr(self, name)))


@dataclass(frozen=True)
class Result:
    """The outcome of one solve.

    Attributes:
        status: the claim of the solver.
        solution: the point for OPTIMAL and NOT_PROVED, sometimes for INTERRUPTED, else None.
        report: version, time and messages.
    """

    status: Status
    solution: Solution | None
    report: Report


def _shortened(text: str) -> str:
    """One line of at most `TEXT` printable characters: a backend's output may be anything."""
    line = " ".join(text[: 4 * TEXT].split())
    line = line if len(line) <= TEXT else line[: TEXT - 1] + "…"
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)
