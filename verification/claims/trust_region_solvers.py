"""Within a trust region: the certified gap against CBC, HiGHS and the LP relaxation."""

import itertools
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np

from pins.importance.trust_region.program import Terms, TrustRegionProgram
from pins.selection.constraints import Cardinality, LayerBounds
from solvers import Relaxation, Status, find_solver, objective, optimal_set
from solvers.exact import BoolArray
from verification.claims.claim import Claim, Finding, Setting, search
from verification.claims.duality import LP_TOLERANCE, fractional_entries
from verification.claims.solver_comparison import KEPT_RATIO, MINIMUM_RATIO, TITLE, kept
from verification.claims.trust_region import Masks, Region, advantage, costs
from verification.experiments.model_snapshot import spread
from verification.testing.synthetic_scores import FAMILIES

QUICK_SIZE, FULL_SIZE = 120, 300
SHARES = (0.1, 0.5)  # radii, between the costs of optimal brain damage (0) and of PINS (1)
SMALL, LARGE = 12, 200  # numbers of weights of the programs that are relaxed
TIME_LIMIT = 60.0  # seconds for each program; then the solver's best point is compared
# Solvers accept x = 1 − 1e-6 as 1, and so a cost of ρ + 1e-6 max c as ρ. If the radius is reduced
# by less than that, CBC may call the program infeasible. The factor of 2 is a heuristic.
RADIUS_TOLERANCE = 2.0**-19


Contender = Callable[[Region], tuple[Masks, Fraction]]
"""Masks within the radius, and by how much at most others are better."""


def one_multiplier(region: Region) -> tuple[Masks, Fraction]:
    """The decision and its certified gap."""
    return region.decision.masks, region.gap.gap


def brain_damage(region: Region) -> tuple[Masks, Fraction]:
    """The rival of the controls: optimal brain damage, with a gap of 0."""
    return region.program.solve(0.0).masks, Fraction(0)


def regions(setting: Setting) -> list[Region]:
    """Every program at the radii of `SHARES`."""
    found: list[Region] = []
    for name, program in large_programs(setting).items():
        low, high = costs(program)
        radii = {f"{name}, {share:.0%}": low + share * (high - low) for share in SHARES}
        found += [Region(each, program, radius) for each, radius in radii.items()]
    return found


def large_programs(setting: Setting) -> dict[str, TrustRegionProgram]:
    """Every family of scores, and weights of a real model."""
    rng, size = setting.rng(), setting.pick(QUICK_SIZE, FULL_SIZE)
    found = {}
    for name, family in FAMILIES.items():
        terms = {"w": Terms(family(rng, size), family(rng, size).abs())}
        found[name] = TrustRegionProgram(terms, Cardinality(round(KEPT_RATIO * size)))
    real = real_terms(setting, size)
    keep = kept({kind: terms.cost for kind, terms in real.items()})
    found["real"] = TrustRegionProgram(real, Cardinality(keep))
    found["real, minimums"] = TrustRegionProgram(
        real, Cardinality(keep) & LayerBounds(minimum=MINIMUM_RATIO)
    )
    return found


def real_terms(setting: Setting, size: int) -> dict[str, Terms]:
    """s and c of about `size` weights, from each layer type; h = 1 without estimated curvatures."""
    importance, real = setting.real.importance("pins"), setting.real
    kinds, found = real.layer_types(), {}
    for kind, name in kinds.items():
        cost = real.after[name].square() / 2
        if real.curvature:
            cost = real.curvature[name] * cost
        each = size // len(kinds)
        found[kind] = Terms(spread(importance[name], each), spread(cost, each))
    return found


def solver_point(backend: str, region: Region) -> tuple[BoolArray | None, Status, bool]:
    """(a point within ρ exactly or None, the solver's claim, whether ρ was reduced).

    A point that exceeds ρ by the solver's tolerance proves nothing. The program is then solved
    again with ρ reduced by that tolerance: its point is within ρ, and may be worse than the best.
    """
    largest = max(float(terms.cost.max()) for terms in region.program.terms.values())
    for reduced_by in (0.0, RADIUS_TOLERANCE * largest):
        program = region.formulation(reduced_by).program
        result = find_solver(backend).solve(program, time_limit=TIME_LIMIT)
        if result.solution is None:
            break
        if region.formulation().program.feasible(result.solution.x):
            return result.solution.x, result.status, reduced_by > 0
    return None, result.status, reduced_by > 0


def against_solver(setting: Setting, backend: str, contender: Contender) -> Finding:
    """No mask of the solver within the radius is better by more than the gap.

    Stops at the first counterexample, since solving takes time.
    """
    wrong: list[str] = []
    rows: list[dict[str, Any]] = []
    for region in setting.shared(regions):
        masks, gap = contender(region)
        program, mine = region.formulation().program, region.formulation().apply(masks)
        if not program.feasible(mine):
            wrong.append(f"{region.name}: our own mask exceeds ρ = {region.radius}")
        point, status, tightened = solver_point(backend, region)
        better = None if point is None else advantage(program, point, mine)
        scale = float(np.abs(program.objective).sum())
        row = {
            "instance": region.name,
            "status": status.name.lower(),
            "tightened": tightened,
            "gap": float(gap) / scale,
            "better": None if better is None else float(better) / scale,
            "of_gap": float(better / gap) if better is not None and gap else None,
        }
        rows.append(row)
        if better is not None and better > gap:
            told_by = f"{TITLE[backend]} is better by {row['better']:.3g} of Σ|s|"
            wrong.append(f"{region.name}: {told_by}")
        if wrong:
            break  # one counterexample is enough, and solving takes time
    if not wrong and {row["status"] for row in rows} <= {Status.FAILED.name.lower()}:
        return Finding(False, f"not tried: {TITLE[backend]} gave no answer", tried=False)
    if all(row["better"] is None for row in rows):
        wrong.append("the solver has no point within any radius")
    return search(told(backend, rows), wrong, programs=rows)


def told(backend: str, rows: list[dict[str, Any]]) -> str:
    """The rows as one line of evidence, with the number of the solver's failures."""
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
        region = Region(f"{name}, n = {size}", program, rng.uniform(*costs(program)))
        formulation = region.formulation()
        relaxed, c = Relaxation().solve(formulation.program), formulation.program.objective
        cases += 1
        if relaxed.x is None or relaxed.objective is None:
            unsolved += 1  # the simplex may fail on rows that are nearly parallel
            continue
        count = fractional_entries(relaxed.x)
        most = max(most, count)
        if count > fractional:
            wrong.append(f"{region.name}: {count} fractional entries")
        if size == SMALL:
            best, *_ = optimal_set(formulation.program)
        else:
            best = formulation.apply(region.decision.masks)
        value = float(objective(c, best))
        if relaxed.objective > value + LP_TOLERANCE * float(np.abs(c).max()):
            wrong.append(f"{region.name}: {relaxed.objective} is no bound of {value}")
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
