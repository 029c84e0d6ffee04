"""Layer budgets: the choice against enumeration and solvers, its certificate, a time limit."""

import json
import tempfile
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

from pins.selection.budget.choice import Choice, judged, solve
from pins.selection.budget.program import BudgetProgram, Indices
from pins.utils.io import write_json
from solvers.knapsack import KnapsackFormulation
from solvers.pulp_status import PulpAnswer, ask_pulp
from verification import checker
from verification.certificates.budget import certify_choice
from verification.claims.claim import Claim, Finding, Setting, search
from verification.claims.solver_comparison import (
    TITLE,
    Instance,
    against_enumeration,
    against_solver,
)
from verification.testing.random_budgets import planted_budget, random_budgets

SMALL = (5, 3)  # layers, options: 2¹⁵ points
LARGE = (20, 6)
HARD = ((40, 10, 0.4), (60, 12, 0.8), (90, 15, 1.2))  # layers, options; seconds of CBC
SOURCE = "Lagrangian bound and exact core of the multiple-choice knapsack"
SCOPE = "random tables of integers with ties and equal layers"

Rule = Callable[[BudgetProgram], Indices]
Judge = Callable[[Path], bool]
Notice = Callable[[PulpAnswer, KnapsackFormulation], bool]


def exact(program: BudgetProgram) -> Indices:
    """The choice of `pins.selection.budget`."""
    return solve(program).options


def greedy(program: BudgetProgram) -> Indices:
    """The rival of the controls: the change with the best ratio, while one fits and gains."""
    at = [min(range(len(c)), key=c.__getitem__) for c in program.costs]
    left = program.budget - program.cost(tuple(at))
    while True:
        changes = [
            (Fraction(errors[at[t]] - errors[j], max(costs[j] - costs[at[t]], 1)), -t, j)
            for t, (errors, costs) in enumerate(zip(program.errors, program.costs, strict=True))
            for j in range(len(errors))
            if errors[j] < errors[at[t]] and costs[j] - costs[at[t]] <= left
        ]
        if not changes:
            return tuple(at)
        _, t, j = max(changes)
        left -= program.costs[-t][j] - program.costs[-t][at[-t]]
        at[-t] = j


def instances(setting: Setting, size: tuple[int, int], rule: Rule) -> Iterator[Instance]:
    """Random programs, and what a rule chooses of each."""
    cases = setting.pick(20, 100) if size == SMALL else setting.pick(6, 40)
    for number, program in enumerate(random_budgets(setting.rng(), cases, *size)):
        formulation = KnapsackFormulation(program)
        name = f"table {number} ({size[0]} × {size[1]})"
        yield Instance(name, formulation.program, formulation.apply(rule(program)))


def by_the_checker(certificate: Path) -> bool:
    """True if the standalone checker proves the claim."""
    return checker.check(certificate).outcome is checker.Outcome.PROVED


def by_sums(certificate: Path) -> bool:
    """The rival of the control: adds up errors and costs, and compares with the budget."""
    claim = json.loads(certificate.read_text(encoding="utf-8"))["claim"]
    chosen = [*zip(claim["layers"], claim["choice"], strict=True)]
    error, cost = (sum(int(layer[key][j]) for layer, j in chosen) for key in ("errors", "costs"))
    said = int(claim["error"]), int(claim["cost"])
    return (error, cost) == said and cost <= int(claim["budget"])


def accepted_iff_true(setting: Setting, judge: Judge) -> Finding:
    """Certify the optimum; then claim the same of a worse choice within the budget."""
    wrong, cases = [], 0
    for program in random_budgets(setting.rng(), setting.pick(20, 100), *LARGE):
        best = solve(program)
        with tempfile.TemporaryDirectory() as folder:
            certificate = Path(folder) / "certificate.json"
            document = certify_choice(best, certificate)
            if not judge(certificate):
                wrong.append("a true claim is not accepted")
            cases += 1
            other = greedy(program)
            if program.error(other) == program.error(best.options):
                continue
            document["claim"] |= {
                "choice": [*other],
                "error": str(program.error(other)),
                "cost": str(program.cost(other)),
            }
            write_json(document, certificate)
            if judge(certificate):
                wrong.append("a forged claim is accepted")
            cases += 1
    return search(f"{cases} certificates", wrong, certificates=cases)


def time_limit(setting: Setting, noticed: Notice) -> Finding:
    """Stop CBC on a program of which an optimum is known, and judge its answer.

    Where CBC is too fast, or has no point yet, a harder one and more seconds follow.
    """
    rng = setting.rng()
    for layers, options, seconds in HARD:
        formulation = KnapsackFormulation(planted_budget(rng, layers, options))
        try:
            answer = ask_pulp(formulation.program, time_limit=seconds)
        except OSError as error:
            return Finding(False, f"not tried: {error}", tried=False)
        if answer.proved or answer.x is None:
            continue
        gap = distance(answer, formulation)
        short = "beyond the budget" if gap is None else f"{gap} short"
        told = f"CBC stopped after {seconds:g} s: PuLP's status {answer.status!r}, {short}"
        believed = [] if noticed(answer, formulation) else ["it was believed"]
        return search(f"{layers} × {options}, {told}", believed)
    return Finding(False, "not tried: CBC stopped nowhere with a point", tried=False)


def distance(answer: PulpAnswer, formulation: KnapsackFormulation) -> Fraction | None:
    """By how much exactly the answer's error is above the optimum; None beyond the budget."""
    assert answer.x is not None, "asked before"
    if not formulation.program.feasible(answer.x):
        return None
    program = formulation.budget
    planted = Choice(program, (0,) * len(program.names), Fraction(0), program.multiplier, 0)
    return judged(planted, formulation.invert(answer.x)).gap


def _solver_claim(backend: str) -> Claim:
    return Claim(
        id=f"budget-{backend}",
        statement=f"{TITLE[backend]} finds no better choice of levels within a budget.",
        scope=f"{SCOPE}; {LARGE[0]} layers × {LARGE[1]} levels",
        source=SOURCE,
        check=lambda setting: against_solver(backend, instances(setting, LARGE, exact)),
        control_statement="nor one that is better than a greedy by ratio",
        control=lambda setting: against_solver(backend, instances(setting, LARGE, greedy)),
    )


CLAIMS = (
    Claim(
        id="budget-enumeration",
        statement="The choice of levels is an optimum of the budget's program.",
        scope=f"{SCOPE}; {SMALL[0]} layers × {SMALL[1]} levels, all choices compared",
        source=SOURCE,
        check=lambda setting: against_enumeration(instances(setting, SMALL, exact), SCOPE),
        control_statement="so is the choice of a greedy by ratio",
        control=lambda setting: against_enumeration(instances(setting, SMALL, greedy), SCOPE),
    ),
    *(_solver_claim(backend) for backend in TITLE),
    Claim(
        id="budget-certificate",
        statement="The standalone checker accepts a true certificate of a budget and refutes a "
        "forged one.",
        scope=f"{SCOPE}; {LARGE[0]} layers × {LARGE[1]} levels; a greedy choice called optimal",
        source="verification/CERTIFICATE.md",
        check=lambda setting: accepted_iff_true(setting, by_the_checker),
        control_statement="so does a checker of sums and budget alone",
        control=lambda setting: accepted_iff_true(setting, by_sums),
    ),
    Claim(
        id="budget-time-limit",
        statement='Exact comparison notices that an answer which PuLP calls "Optimal" at a time '
        "limit is none.",
        scope=f"{HARD[0][0]} layers × {HARD[0][1]} levels, the optimum an equation of large "
        f"integers; CBC stopped after {HARD[0][2]:g} s",
        source="PuLP 3.3: `status` says Optimal of every point, only `sol_status` tells",
        check=lambda setting: time_limit(setting, lambda a, f: distance(a, f) != 0),
        control_statement="reading `status` notices it too",
        control=lambda setting: time_limit(setting, lambda a, _: a.status != "Optimal"),
    ),
)
