"""With numbers of ones for each tensor: the closed form against enumeration, CBC and HiGHS."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from torch import Tensor

from pins.masks import count_each
from pins.selection.constraints import (
    Constraint,
    MinimumPerTensor,
    PerTensor,
    minimum_per_tensor,
    per_tensor,
)
from pins.selection.select import decide, select
from solvers import ConstrainedFormulation, Status, Verdict, compare, find_solver, optimal_set
from verification.claims.claim import Claim, Finding, Setting, search
from verification.claims.closed_form import KEPT_RATIO, SOLVER_TOLERANCE, TITLE
from verification.testing.synthetic_scores import FAMILIES, ties

MINIMUM_RATIO = 0.1
TENSORS = 6
QUICK_SIZE, FULL_SIZE = 240, 2400

Scores = dict[str, Tensor]
Decider = Callable[[Scores, Constraint], dict[str, Tensor]]


def closed_form(scores: Scores, constraint: Constraint) -> dict[str, Tensor]:
    """Each tensor's best up to its minimum, then the best of the rest."""
    return dict(decide(scores, constraint).masks)


def clipped(scores: Scores, constraint: Constraint) -> dict[str, Tensor]:
    """The rival of the controls: one ranking, then tensors that got too few are filled up.

    The first tensors that can spare weights pay for it; every mask is allowed, few are optimal.
    """
    plain = count_each(select(scores, constraint.keep))
    least = {name: constraint.minimums.get(name, 0) for name in scores}
    counts = {name: max(plain[name].kept, least[name]) for name in scores}
    for name in scores:
        surplus = sum(counts.values()) - constraint.keep
        counts[name] -= min(surplus, counts[name] - least[name])
    return {name: select(scores[name], counts[name]) for name in scores}


def small_programs(rng: np.random.Generator, number: int) -> Iterator[tuple[Scores, Constraint]]:
    """Scores with ties in three tensors, and every kind of constraint."""
    for _ in range(number):
        sizes = rng.integers(1, 4, 3)
        scores = {f"layer {i}": 0.5**i * ties(rng, int(size)) for i, size in enumerate(sizes)}
        least = {name: int(rng.integers(0, s.numel() + 1)) for name, s in scores.items()}
        yield scores, PerTensor(least)
        for keep in range(sum(least.values()), int(sizes.sum()) + 1):
            yield scores, MinimumPerTensor(keep, least)


def against_enumeration(setting: Setting, decider: Decider) -> Finding:
    """Compare with every mask allowed."""
    wrong, cases = [], 0
    for scores, constraint in small_programs(setting.rng(), setting.pick(20, 300)):
        formulation = ConstrainedFormulation(scores, constraint)
        best = optimal_set(formulation.program)
        mine = formulation.apply(decider(scores, constraint))
        cases += 1
        if not any(np.array_equal(mine, x) for x in best):
            told = {name: s.tolist() for name, s in scores.items()}
            wrong.append(f"{constraint}, s = {told}: not among {len(best)} optima")
    return search(f"{cases} programs enumerated, n ≤ 9, with ties", wrong, programs=cases)


def large_programs(setting: Setting) -> Iterator[tuple[str, Scores, Constraint]]:
    """Every family of scores in tensors of different scale, so that minimums bind."""
    rng, size = setting.rng(), setting.pick(QUICK_SIZE, FULL_SIZE) // TENSORS
    for family_name, family in FAMILIES.items():
        scores = {f"layer {i}": 0.25**i * family(rng, size) for i in range(TENSORS)}
        sizes = {name: tensor.numel() for name, tensor in scores.items()}
        keep = round(KEPT_RATIO * sum(sizes.values()))
        yield f"{family_name}, minimum", scores, minimum_per_tensor(keep, MINIMUM_RATIO, sizes)
        yield f"{family_name}, per tensor", scores, per_tensor(1 - KEPT_RATIO, sizes)


def against_solver(setting: Setting, backend: str, decider: Decider) -> Finding:
    """No mask of the solver may be better, and what it misses must be within its tolerance."""
    solver, wrong, exact = find_solver(backend), [], 0
    rows: list[Mapping[str, Any]] = []
    for name, scores, constraint in large_programs(setting):
        formulation = ConstrainedFormulation(scores, constraint)
        reference = formulation.apply(decider(scores, constraint))
        result = solver.solve(formulation.program)
        comparison = compare(formulation.program, reference, result)
        gap = comparison.relative_gap
        if result.status is not Status.OPTIMAL or gap is None:
            wrong.append(f"{name}: {result.status.value} {comparison.verdict.value}")
        elif comparison.verdict is Verdict.THEOREM_REFUTED:
            wrong.append(f"{name}: {solver.name} is better by {gap:.3g}")
        elif gap > SOLVER_TOLERANCE:
            wrong.append(f"{name}: {solver.name} misses {gap:.3g}")
        if wrong:
            break  # one counterexample is enough, and solving takes time
        exact += gap == 0
        rows.append({"instance": name, "verdict": comparison.verdict.name.lower(), "gap": gap})
    told = f"{len(rows)} programs of n = {setting.pick(QUICK_SIZE, FULL_SIZE):,}, {exact} equal to "
    worst = max((row["gap"] for row in rows), default=0)
    told += f"the last bit, the solver worse by ≤ {worst:.1e} in the others"
    return search(told, wrong, programs=rows)


def _solver_claim(backend: str) -> Claim:
    return Claim(
        id=f"constrained-{backend}",
        statement=f"{TITLE[backend]} finds no better mask with a number of ones for each tensor.",
        scope=f"five families of scores in {TENSORS} tensors of different scale, "
        f"{KEPT_RATIO:.0%} kept and {MINIMUM_RATIO:.0%} of each at least, or {KEPT_RATIO:.0%} of "
        f"each; n = {QUICK_SIZE} (full: {FULL_SIZE:,})",
        source="Theorem 4 (pins.selection.constraints)",
        check=lambda setting: against_solver(setting, backend, closed_form),
        control_statement="one ranking, clipped to the minimums, is as good",
        control=lambda setting: against_solver(setting, backend, clipped),
    )


CLAIMS = (
    Claim(
        id="constrained-enumeration",
        statement="Each tensor's best up to its minimum, then the best of the rest, is an optimum "
        "with a minimum in each tensor.",
        scope="n ≤ 9 in three tensors, scores with ties, every k; all 2ⁿ masks compared in exact "
        "arithmetic",
        source="Theorem 4 (greed on a matroid; pins.selection.constraints)",
        check=lambda setting: against_enumeration(setting, closed_form),
        control_statement="one ranking, clipped to the minimums, is an optimum",
        control=lambda setting: against_enumeration(setting, clipped),
    ),
    *(_solver_claim(backend) for backend in TITLE),
)
