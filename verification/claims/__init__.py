"""The claims of PINS. To add a family: a module with CLAIMS, and a row in ALL_CLAIMS."""

from verification.claims import (
    budgets,
    certificates,
    closed_form,
    criteria,
    duality,
    heuristics,
    laws,
    solver_scaling,
    taylor,
    transposable,
    trees,
    trust_region,
    trust_region_solvers,
)
from verification.claims.claim import Claim, Finding, Setting

ALL_CLAIMS: tuple[Claim, ...] = (
    *closed_form.CLAIMS,
    *trees.CLAIMS,
    *transposable.CLAIMS,
    *duality.CLAIMS,
    *laws.CLAIMS,
    *criteria.CLAIMS,
    *trust_region.CLAIMS,
    *trust_region_solvers.CLAIMS,
    *taylor.CLAIMS,
    *heuristics.CLAIMS,
    *solver_scaling.CLAIMS,
    *budgets.CLAIMS,
    *certificates.CLAIMS,
)

__all__ = ["ALL_CLAIMS", "Claim", "Finding", "Setting"]
