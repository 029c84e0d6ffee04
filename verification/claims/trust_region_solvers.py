"""Within a trust region: the certified gap against CBC, HiGHS and the LP relaxation."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from pins.importance.trust_region.multiplier import within
from pins.importance.trust_region.program import Terms, TrustRegionDecision, TrustRegionProgram
from pins.selection.constraints import Cardinality, minimum_per_tensor
from solvers import (
    Relaxation,
    Status,
    TrustRegionFormulation,
    find_solver,
    objective,
    optimal_set,
)
from solvers.exact import BoolArray
from verification.certificates.gap import decision_gap
from verification.claims.claim import Claim, Finding, Setting, search
from verification.claims.constraints import MINIMUM_RATIO
from verification.claims.duality import LP_TOLERANCE, fractional_entries
from verification.claims.solver_comparison import KEPT_RATIO, TITLE
from verification.claims.trust_region import Masks, costs
from verification.experiments.model_snapshot import spread
from verification.testing.synthetic_scores import FAMILIES

QUICK_SIZE, FULL_SIZE = 120, 300
SHARES = (0.1, 0.5)  # radii, between the costs of optimal brain damage (0) and of PINS (1)
SMALL, LARGE = 12, 200  # sizes of the programs whose relaxation is solved
TIME_LIMIT = 60.0  # seconds for a program; the solver's best point by then is compared
# Solvers accept x = 1 − 1e-6 as 1, hence a cost of ρ + 1e-6 max c as ρ. If the radius is reduced by
# less than that, CBC may call the program infeasible. The factor of 2 is a heuristic.
RADIUS_TOLERANCE = 2.0**-19


@dataclass(frozen=True)
class Instance:
    """A program, a radius, and the decision of one multiplier within it."""

    name: str
    program: TrustRegionProgram
    radius: float
    decision: TrustRegionDecision

    def formulation(self, reduced_by: float = 0.0) -> TrustRegionFormulation:
        """The 0-1 program, for the radius or a smaller one."""
        radius = self.radius - reduced_by
        return TrustRegionFormulation(self.program.terms, self.program.constraint, radius)


Contender = Callable[[Instance], tuple[Masks, Fraction]]


def one_multiplier(instance: Instance) -> tuple[Masks, Fraction]:
    """The decision and its certified gap."""
    found = decision_gap(instance.program.terms, instance.decision, instance.radius)
    return instance.decision.masks, found.gap


def brain_damage(instance: Instance) -> tuple[Masks, Fraction]:
    """The rival of the controls: optimal brain damage, with a gap of 0."""
    return instance.program.solve(0.0).masks, Fraction(0)


def instances(setting: Setting) -> list[Instance]:
    """Every program at the radii of `SHARES`."""
    found = []
    for name, program in large_programs(setting).items():
        low, high = costs(program)
        for share in SHARES:
            radius = low + share * (high - low)
            decision = within(program, radius)
            found.append(Instance(f"{name}, {share:.0%}", program, radius, decision))
    return found


def large_programs(setting: Setting) -> dict[str, TrustRegionProgram]:
    """Every family of scores, and weights of a real model."""
    rng, size = setting.rng(), setting.pick(QUICK_SIZE, FULL_SIZE)
    found = {}
    for name, family in FAMILIES.items():
        terms = {"w": Terms(family(rng, size), family(rng, size).abs())}
        found[name] = TrustRegionProgram(terms, Cardinality(round(KEPT_RATIO * size)))
    real = real_terms(setting, size)
    sizes = {kind: terms.cost.numel() for kind, terms in real.items()}
    keep = round(KEPT_RATIO * sum(sizes.values()))
    found["real"] = TrustRegionProgram(real, Cardinality(keep))
    least = minimum_per_tensor(keep, MINIMUM_RATIO, sizes)
    found["real, minimums"] = TrustRegionProgram(real, least)
    return found


def real_terms(setting: Setting, size: int) -> dict[str, Terms]:
    """s and c of about `size` weights, from each layer type; h = 1 without estimated curvatures."""
    importance, after = setting.real.importance("pins"), setting.real.after
    kinds, found = setting.real.layer_types(), {}
    for kind, name in kinds.items():
        cost = after[name].square() / 2
        if setting.real.curvature:
            cost = setting.real.curvature[name] * cost
        each = size // len(kinds)
        found[kind] = Terms(spread(importance[name], each), spread(cost, each))
    return found


def solver_point(backend: str, instance: Instance) -> tuple[BoolArray | None, Status, bool]:
    """(a point within ρ exactly or None, the solver's claim, whether ρ was reduced).

    A point that exceeds ρ by the solver's tolerance proves nothing. The program is then solved
    again with ρ reduced by that tolerance: its point is within ρ, and may be worse than the best.
    """
    largest = max(float(terms.cost.max()) for terms in instance.program.terms.values())
    for reduced_by in (0.0, RADIUS_TOLERANCE * largest):
        program = instance.formulation(reduced_by).program
        result = find_solver(backend).solve(program, time_limit=TIME_LIMIT)
        if result.solution is None:
            break
        if instance.formulation().program.feasible(result.solution.x):
            return result.solution.x, result.status, reduced_by > 0
    return None, result.status, reduced_by > 0


def against_solver(setting: Setting, backend: str, contender: Contender) -> Finding:
    """No mask of the solver within the radius is better by more than the gap."""
    wrong: list[str] = []
    rows: list[dict[str, Any]] = []
    for instance in setting.shared(instances):
        masks, gap = contender(instance)
        program = instance.formulation().program
        mine = instance.formulation().apply(masks)
        if not program.feasible(mine):
            wrong.append(f"{instance.name}: our own mask exceeds ρ = {instance.radius}")
        point, status, tightened = solver_point(backend, instance)
        better = None
        if point is not None:
            better = objective(program.objective, mine) - objective(program.objective, point)
        scale = float(np.abs(program.objective).sum())
        row = {
            "instance": instance.name,
            "status": status.name.lower(),
            "tightened": tightened,
            "gap": float(gap) / scale,
            "better": None if better is None else float(better) / scale,
            "of_gap": float(better / gap) if better is not None and gap else None,
        }
        rows.append(row)
        if better is not None and better > gap:
            wrong.append(
                f"{instance.name}: {TITLE[backend]} is better by {row['better']:.3g} of Σ|s|"
            )
        if wrong:
            break  # one counterexample is enough, and solving takes time
    if not wrong and {row["status"] for row in rows} <= {Status.FAILED.name.lower()}:
        return Finding(False, f"not tried: {TITLE[backend]} gave no answer", tried=False)
    if all(row["better"] is None for row in rows):
        wrong.append("the solver has no point within any radius")
    return search(told(backend, rows), wrong, programs=rows)


def told(backend: str, rows: list[dict[str, Any]]) -> str:
    """The rows in one line, with the solver's failures."""
    found = [row for row in rows if row["better"] is not None]
    above = [row["of_gap"] or 0.0 for row in found if row["better"] > 0]
    below = [-row["better"] for row in found if row["better"] < 0]
    parts = [
        f"{len(rows)} programs, gap ≤ {max((row['gap'] for row in rows), default=0):.1e} of Σ|s|",
        f"{TITLE[backend]} better in {len(above)}, by ≤ {max(above, default=0):.0%} of the gap, "
        f"and worse in {len(below)}, by ≤ {max(below, default=0):.1e} of Σ|s|",
    ]
    counts = {
        "solved again because its point exceeded the radius": sum(r["tightened"] for r in rows),
        "not claimed optimal": sum(r["status"] != Status.OPTIMAL.name.lower() for r in rows),
        "without a point within the radius": len(rows) - len(found),
    }
    return "; ".join([*parts, *(f"{number} {what}" for what, number in counts.items() if number)])


def relaxation(setting: Setting, *, fractional: int) -> Finding:
    """The LP's vertex has at most `fractional` fractional entries, and its value is a bound."""
    rng, wrong, most, cases, unsolved = setting.rng(), [], 0, 0, 0
    for name, size in itertools.product(FAMILIES, (SMALL, LARGE) * setting.pick(2, 10)):
        terms = {"w": Terms(FAMILIES[name](rng, size), FAMILIES[name](rng, size).abs())}
        program = TrustRegionProgram(terms, Cardinality(int(rng.integers(1, size))))
        radius = rng.uniform(*costs(program))
        formulation = TrustRegionFormulation(terms, program.constraint, radius)
        relaxed, c = Relaxation().solve(formulation.program), formulation.program.objective
        cases += 1
        if relaxed.x is None or relaxed.objective is None:
            unsolved += 1  # the simplex may fail on rows that are nearly parallel
            continue
        count = fractional_entries(relaxed.x)
        most = max(most, count)
        if count > fractional:
            wrong.append(f"{name}, n = {size}: {count} fractional entries")
        if size == SMALL:
            best = objective(c, optimal_set(formulation.program)[0])
        else:
            best = objective(c, formulation.apply(within(program, radius).masks))
        if relaxed.objective > float(best) + LP_TOLERANCE * float(np.abs(c).max()):
            wrong.append(f"{name}, n = {size}: {relaxed.objective} is no bound of {float(best)}")
        if wrong:
            break
    if unsolved == cases:
        wrong.append("HiGHS solved none")
    tried = f"{cases - unsolved} of {cases} relaxations solved by HiGHS, {most} fractional at most"
    return search(tried, wrong, relaxations=cases, solved=cases - unsolved)


def _solver_claim(backend: str) -> Claim:
    return Claim(
        id=f"region-{backend}",
        statement=f"{TITLE[backend]} finds no mask within the radius that is better than one "
        "multiplier's by more than its certified gap.",
        scope="five families of scores and of costs, and real gradients of every layer type, with "
        f"and without minimums; n = {QUICK_SIZE} (full: {FULL_SIZE}), {KEPT_RATIO:.0%} kept, two "
        "radii, objective and budget scaled by powers of two",
        source="Theorem 5 (Lagrangian bound)",
        check=lambda setting: against_solver(setting, backend, one_multiplier),
        control_statement="nor one that is better than optimal brain damage",
        control=lambda setting: against_solver(setting, backend, brain_damage),
    )


CLAIMS = (
    *(_solver_claim(backend) for backend in TITLE),
    Claim(
        id="region-relaxation",
        statement="A vertex of the LP relaxation has two fractional entries at most, and its value "
        "bounds that of every mask.",
        scope=f"two rows, five families of scores and of costs, random radii and k; n = {SMALL} "
        f"against all masks, n = {LARGE} against one multiplier's",
        source="linear programming: as many basic variables as rows",
        check=lambda setting: relaxation(setting, fractional=2),
        control_statement="it is a 0-1 point",
        control=lambda setting: relaxation(setting, fractional=0),
    ),
)
