"""A mask against all masks, CBC and HiGHS, compared exactly: shared by the families of claims."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from solvers import (
    BinaryProgram,
    Status,
    TrustRegionFormulation,
    Verdict,
    compare,
    find_solver,
    optimal_set,
)
from solvers.exact import BoolArray
from solvers.formulation import Formulation
from verification.claims.claim import Finding, search

KEPT_RATIO = 0.2  # of all weights
MINIMUM_RATIO = 0.1  # of each tensor, where a claim has minimums
TITLE = {"cbc": "CBC", "highs": "HiGHS"}
# CBC and HiGHS stop within absolute tolerances of 1e-7 to 1e-6 of the scaled objective, whose
# largest coefficient is about 1e3: their error may be this large, relative to the optimum.
SOLVER_TOLERANCE = 1e-6


class Instance(NamedTuple):
    """A program and the point that a claim calls optimal."""

    name: str
    program: BinaryProgram
    point: BoolArray

    @classmethod
    def of(
        cls,
        name: str,
        formulation: Formulation | TrustRegionFormulation,
        masks: Mapping[str, Tensor],
    ) -> "Instance":
        """The program of a formulation, and the point of these masks."""
        return cls(name, formulation.program, formulation.apply(masks))


def kept(scores: Mapping[str, Tensor]) -> int:
    """k for `KEPT_RATIO` of all entries."""
    return round(KEPT_RATIO * sum(tensor.numel() for tensor in scores.values()))


def against_enumeration(instances: Iterable[Instance], scope: str) -> Finding:
    """Each point is one of the optima among all 2ⁿ points; stops at the first that is not."""
    wrong, cases = [], 0
    for name, program, point in instances:
        best = optimal_set(program)
        cases += 1
        if not any(np.array_equal(point, x) for x in best):
            wrong.append(f"{name}: not among {len(best)} optima")
            break
    return search(f"{cases} programs enumerated, {scope}", wrong, programs=cases)


def against_solver(backend: str, instances: Iterable[Instance]) -> Finding:
    """No point of the solver is better, and none is worse by more than the solver's tolerance.

    Stops at the first counterexample, since solving takes time.
    """
    rows: list[dict[str, Any]] = []
    wrong: list[str] = []
    largest = 0
    for name, program, point in instances:
        largest = max(largest, program.size)
        result = find_solver(backend).solve(program)
        comparison = compare(program, point, result)
        gap = comparison.relative_gap
        if result.status is Status.FAILED:
            return Finding(False, f"not tried, {name}: {result.report.message}", tried=False)
        if result.status is not Status.OPTIMAL or gap is None:
            wrong.append(f"{name}: {result.status.value} {comparison.verdict.value}")
        elif comparison.verdict is Verdict.THEOREM_REFUTED:
            wrong.append(f"{name}: {backend} is better by {gap:.3g}")
        elif gap > SOLVER_TOLERANCE:
            wrong.append(f"{name}: {backend} misses {gap:.3g}")
        if wrong:
            break
        rows.append(
            {
                "instance": name,
                "size": program.size,
                "keep": int(point.sum()),
                "verdict": comparison.verdict.name.lower(),
                "relative_gap": gap,
                "seconds": round(result.report.seconds, 3),
            }
        )
    exact = sum(row["relative_gap"] == 0 for row in rows)
    all_exact = exact == len(rows)
    told = f"{len(rows) + len(wrong)} programs up to n = {largest:,}, "
    told += f"{'all' if all_exact and not wrong else exact} equal to the last bit"
    if not all_exact:
        worst = max(row["relative_gap"] for row in rows)
        told += f", the solver worse by ≤ {worst:.1e} in the others"
    return search(told, wrong, programs=rows)
