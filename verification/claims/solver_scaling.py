"""A solver may call a wrong point optimal; an exact comparison detects it."""

from pins.selection.select import select
from solvers import CardinalityFormulation, Cbc, Highs, Status, Verdict, compare
from verification.claims.claim import Claim, Finding, Setting, search
from verification.testing.synthetic_scores import real_scale

SIZE = 1000
KEEP = 200
FLOAT_TOLERANCE = 1e-6  # of the usual comparison of floats


def unscaled_failure_is_noticed(setting: Setting, *, exactly: bool) -> Finding:
    """Solve a program with scores near 1e-9, unscaled, and compare with the closed form."""
    scores = real_scale(setting.rng(), SIZE)
    formulation = CardinalityFormulation(scores, KEEP)
    reference = formulation.apply(select(scores, KEEP))
    wrong, told = [], []
    for backend in (Cbc(scale=False), Highs(scale=False)):
        result = backend.solve(formulation.program)
        if result.status is Status.FAILED:
            return Finding(False, f"not tried: {result.report.message}", tried=False)
        comparison = compare(formulation.program, reference, result)
        gap = float(comparison.gap or 0)
        if exactly:
            noticed = comparison.verdict is Verdict.SOLVER_INEXACT
        else:
            noticed = abs(gap) > FLOAT_TOLERANCE
        told.append(f"{backend.name} {comparison.relative_gap or 0:.0%} short")
        if result.status is not Status.OPTIMAL or not noticed:
            wrong.append(f"{backend.name}: {result.status.value} Gap {gap:.2g} was not noticed")
    return search(f'both say "Optimal", n = {SIZE}, unscaled: {", ".join(told)}', wrong)


CLAIMS = (
    Claim(
        id="unscaled-failure-noticed",
        statement='Exact comparison notices when CBC and HiGHS call a wrong mask "Optimal".',
        scope=f"scores of real size, about 1e-9, not scaled; n = {SIZE}, k = {KEEP}",
        source="absolute tolerances near 1e-7 of both solvers",
        check=lambda setting: unscaled_failure_is_noticed(setting, exactly=True),
        control_statement=f"comparing objectives to {FLOAT_TOLERANCE:g} notices it too",
        control=lambda setting: unscaled_failure_is_noticed(setting, exactly=False),
    ),
)
