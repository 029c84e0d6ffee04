"""Explicit 0-1 programs and their solvers."""

from solvers.cbc import Cbc
from solvers.closed_form import ClosedForm
from solvers.comparison import Comparison, Verdict, compare
from solvers.enumeration import Enumeration, optimal_set
from solvers.exact import exact_sum, objective, power_of_two_exponent, scaled
from solvers.formulation import CardinalityFormulation
from solvers.highs import Highs
from solvers.knapsack import KnapsackFormulation
from solvers.program import BinaryProgram, Sense
from solvers.registry import SOLVERS, find_solver
from solvers.relaxation import Relaxation, RelaxedResult, dual_interval, dual_value
from solvers.result import Report, Result, Solution, Status
from solvers.scaling import Scaled
from solvers.solver import Solver
from solvers.thresholds import Thresholds
from solvers.transposable import TransposableFormulation
from solvers.tree import TreeFormulation
from solvers.trust_region import TrustRegionFormulation
from solvers.writers import write

__all__ = [
    "SOLVERS",
    "BinaryProgram",
    "CardinalityFormulation",
    "Cbc",
    "ClosedForm",
    "Comparison",
    "Enumeration",
    "Highs",
    "KnapsackFormulation",
    "Relaxation",
    "RelaxedResult",
    "Report",
    "Result",
    "Scaled",
    "Sense",
    "Solution",
    "Solver",
    "Status",
    "Thresholds",
    "TransposableFormulation",
    "TreeFormulation",
    "TrustRegionFormulation",
    "Verdict",
    "compare",
    "dual_interval",
    "dual_value",
    "exact_sum",
    "find_solver",
    "objective",
    "optimal_set",
    "power_of_two_exponent",
    "scaled",
    "write",
]
