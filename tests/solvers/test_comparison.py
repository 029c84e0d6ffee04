from fractions import Fraction

import numpy as np
import pytest

from pins.errors import ProgramError
from solvers.cbc import Cbc
from solvers.closed_form import ClosedForm
from solvers.comparison import Verdict, compare
from solvers.exact import BoolArray, FloatArray
from solvers.highs import Highs
from solvers.program import BinaryProgram
from solvers.result import Report, Result, Solution, Status
from solvers.solver import Solver
from tests.solvers.solver_cases import BACKENDS, UNSCALED, cardinality, score_kinds

SCORES = np.array([3.0, 2.0, 2.0, 1.0])
INSTANCE = cardinality(SCORES, 2)
REFERENCE = np.array([True, True, False, False])
REPORT = Report("test", "1", 0.0, "")


def claimed(x: BoolArray | None, status: Status = Status.OPTIMAL) -> Result:
    return Result(status, None if x is None else Solution.of(INSTANCE, x), REPORT)


def point(*kept: int) -> BoolArray:
    x = np.zeros(SCORES.size, dtype=np.bool_)
    x[list(kept)] = True
    return x


def closed_form(instance: BinaryProgram) -> BoolArray:
    solution = ClosedForm().solve(instance).solution
    assert solution is not None
    return solution.x


def test_a_verdict_reads_as_a_sentence() -> None:
    assert len({verdict.value for verdict in Verdict}) == len(Verdict) == 5
    for verdict in Verdict:
        assert verdict.value[0].isupper()
        assert verdict.value.endswith(".")


def test_equal_objectives_agree_even_where_the_points_differ() -> None:
    comparison = compare(INSTANCE, REFERENCE, claimed(point(0, 2)))
    assert comparison.verdict is Verdict.AGREES
    assert comparison.gap == 0
    assert comparison.relative_gap == 0
    assert comparison.differing == 2


def test_a_worse_point_is_inexact_with_its_gap() -> None:
    comparison = compare(INSTANCE, REFERENCE, claimed(point(0, 3)))
    assert comparison.verdict is Verdict.SOLVER_INEXACT
    assert comparison.gap == Fraction(1)
    assert comparison.relative_gap == pytest.approx(1 / 5)
    assert comparison.differing == 2
    assert comparison.status is Status.OPTIMAL


def test_a_better_point_refutes_the_reference() -> None:
    comparison = compare(INSTANCE, point(2, 3), claimed(point(0, 1)))
    assert comparison.verdict is Verdict.THEOREM_REFUTED
    assert comparison.gap == -2


def test_a_point_with_another_count_is_infeasible() -> None:
    comparison = compare(INSTANCE, REFERENCE, claimed(point(0, 1, 2)))
    assert comparison.verdict is Verdict.SOLVER_INFEASIBLE
    assert comparison.gap is None
    assert comparison.differing == 1


@pytest.mark.parametrize("status", [Status.INFEASIBLE, Status.INTERRUPTED, Status.FAILED])
def test_without_a_point_there_is_nothing_to_compare(status: Status) -> None:
    comparison = compare(INSTANCE, REFERENCE, claimed(None, status))
    assert comparison.verdict is Verdict.NO_SOLUTION
    assert comparison.status is status
    assert comparison.relative_gap is None


def test_an_infeasible_reference_is_refused() -> None:
    with pytest.raises(ProgramError, match="the reference keeps 3 of 4 entries"):
        compare(INSTANCE, point(0, 1, 2), claimed(REFERENCE))


def test_a_gap_below_every_tolerance_is_seen() -> None:
    scores = np.array([1.0, 1.0, np.nextafter(1.0, 0.0)])
    instance = cardinality(scores, 2)
    worse = np.array([True, False, True])
    result = Result(Status.OPTIMAL, Solution.of(instance, worse), REPORT)
    comparison = compare(instance, np.array([True, True, False]), result)
    assert comparison.verdict is Verdict.SOLVER_INEXACT
    assert comparison.gap == Fraction(1, 2**53)


def test_a_gap_to_an_optimum_of_zero_is_infinite() -> None:
    instance = cardinality(np.array([0.0, -1.0]), 1)
    result = Result(Status.OPTIMAL, Solution.of(instance, np.array([False, True])), REPORT)
    assert compare(instance, np.array([True, False]), result).relative_gap == np.inf


@pytest.mark.parametrize("solver", UNSCALED, ids=lambda solver: solver.name)
@pytest.mark.parametrize(
    "scores",
    [
        score_kinds(1000)["heavy tails"],
        np.random.default_rng(0).lognormal(0, 3, 1000) * 1e-9,
        score_kinds(4096)["heavy tails"],
    ],
    ids=["heavy tails", "log-normal", "heavy tails, n = 4096"],
)
def test_an_unscaled_solver_calls_a_wrong_mask_optimal_and_is_caught(
    solver: Solver, scores: FloatArray
) -> None:
    instance = cardinality(scores, scores.size // 2)
    comparison = compare(instance, closed_form(instance), solver.solve(instance))
    assert comparison.status is Status.OPTIMAL
    assert comparison.verdict is Verdict.SOLVER_INEXACT
    assert comparison.relative_gap is not None
    assert comparison.relative_gap > 1e-4
    assert comparison.differing is not None
    assert comparison.differing > 10


CASES = [(solver, kind, 1000) for solver in BACKENDS for kind in score_kinds(1)]
# HiGHS takes seconds at 4,096 entries, CBC a fraction of one.
CASES += [(Cbc(), kind, 4096) for kind in score_kinds(1)] + [(Highs(), "heavy tails", 4096)]


@pytest.mark.parametrize(("solver", "kind", "size"), CASES)
def test_a_scaled_solver_is_exact_up_to_its_tolerance(solver: Solver, kind: str, size: int) -> None:
    instance = cardinality(score_kinds(size)[kind], size // 2)
    result = solver.solve(instance)
    comparison = compare(instance, closed_form(instance), result)
    assert comparison.verdict in (Verdict.AGREES, Verdict.SOLVER_INEXACT)
    assert comparison.gap is not None
    # Each entry may be priced wrongly by the tolerance of 1e-7, in the scaled unit.
    assert comparison.gap * Fraction(2) ** result.report.exponent <= Fraction(size, 10**7)
    if kind not in ("heavy tails", "20 orders of magnitude"):
        assert comparison.verdict is Verdict.AGREES
