"""Duality: the LP relaxation is tight, its multiplier is the threshold, uniqueness is a gap."""

from collections.abc import Callable

import numpy as np
from scipy import sparse
from torch import Tensor

from pins.selection.select import decide, select
from solvers import (
    BinaryProgram,
    CardinalityFormulation,
    Relaxation,
    Sense,
    Status,
    dual_interval,
    dual_value,
    objective,
    optimal_set,
)
from solvers.exact import FloatArray
from verification.claims.claim import Claim, Finding, Setting, search
from verification.testing.synthetic_scores import FAMILIES, ties

LP_TOLERANCE = 1e-6  # of the LP solver, relative to the largest score


def dual_closes_the_gap(setting: Setting, multiplier: Callable[[float, float], float]) -> Finding:
    """kλ + Σ max(0, sᵢ−λ) = s·m*, exactly, with λ = multiplier(low, high) of the dual interval."""
    rng, wrong, cases = setting.rng(), [], 0
    for name, family in FAMILIES.items():
        for _ in range(setting.pick(5, 50)):
            scores = family(rng, int(rng.integers(2, 2000)))
            keep = int(rng.integers(1, scores.numel()))
            flat = scores.double().numpy()
            mask = select(scores, keep).numpy()
            low, high = dual_interval(flat, keep)
            gap = dual_value(flat, keep, multiplier(low, high)) - objective(flat, mask)
            cases += 1
            if gap != 0:
                wrong.append(f"{name}, n = {scores.numel()}, k = {keep}: gap {float(gap):.3g}")
    return search(f"{cases} programs, gap exactly 0 in each", wrong, programs=cases)


def relaxation_is_integral(setting: Setting, *, second_row: bool) -> Finding:
    """The vertex that HiGHS finds is a 0-1 point, and its multiplier lies in the dual interval."""
    rng, wrong, cases = setting.rng(), [], 0
    for _ in range(setting.pick(10, 100)):
        scores = FAMILIES["gaussian"](rng, 200)
        keep = int(rng.integers(1, 200))
        program = CardinalityFormulation(scores, keep).program
        if second_row:
            program = _with_budget(program, rng)
        relaxed = Relaxation().solve(program)
        cases += 1
        if relaxed.status is not Status.OPTIMAL or relaxed.x is None or relaxed.multipliers is None:
            wrong.append(relaxed.status.value)
            continue
        if fractional := fractional_entries(relaxed.x):
            wrong.append(f"k = {keep}: {fractional} fractional entries")
        low, high = dual_interval(-program.objective, keep)
        price, slack = float(relaxed.multipliers[0]), LP_TOLERANCE * float(scores.abs().max())
        if not second_row and not low - slack <= price <= high + slack:
            wrong.append(f"k = {keep}: λ = {price} outside [{low}, {high}]")
    return search(f"{cases} relaxations solved by HiGHS, n = 200", wrong, programs=cases)


def fractional_entries(x: FloatArray) -> int:
    """The number of entries that are neither 0 nor 1, up to the LP solver's tolerance."""
    return int(((x > LP_TOLERANCE) & (x < 1 - LP_TOLERANCE)).sum())


def _with_budget(program: BinaryProgram, rng: np.random.Generator) -> BinaryProgram:
    """The same program with a second row, a budget Σ wᵢxᵢ between its least value and k."""
    costs = rng.uniform(0.5, 1.5, program.size)
    kept = float(program.rhs[0])
    return BinaryProgram(
        objective=program.objective,
        matrix=sparse.csr_array(np.vstack([np.ones(program.size), costs])),
        senses=(Sense.EQUAL, Sense.LESS_OR_EQUAL),
        rhs=np.array([kept, 0.5 * kept + 0.5 * float(np.sort(costs)[: int(kept)].sum())]),
    )


def uniqueness(setting: Setting, predicted: Callable[[Tensor, int], bool]) -> Finding:
    """Compare the prediction that the optimum is unique with the number of optima."""
    rng, wrong, cases = setting.rng(), [], 0
    for _ in range(setting.pick(6, 60)):
        scores = ties(rng, int(rng.integers(1, 11)))
        for keep in range(scores.numel() + 1):
            optima = len(optimal_set(CardinalityFormulation(scores, keep).program))
            cases += 1
            if predicted(scores, keep) != (optima == 1):
                wrong.append(f"k = {keep}, s = {scores.tolist()}: {optima} optima")
    return search(f"{cases} programs enumerated, n ≤ 10, with ties", wrong, programs=cases)


CLAIMS = (
    Claim(
        id="dual-closes-the-gap",
        statement="Every λ in [s₍ₖ₊₁₎, s₍ₖ₎] proves the mask: dual − primal value = 0, exactly.",
        scope="five families of scores, n ≤ 2,000; the middle of the interval, rational arithmetic",
        source="Theorem 2 (LP duality)",
        check=lambda setting: dual_closes_the_gap(setting, lambda low, high: (low + high) / 2),
        control_statement="a λ beyond the interval proves it too",
        control=lambda setting: dual_closes_the_gap(
            setting, lambda _, high: high + max(abs(high), 1e-30)
        ),
    ),
    Claim(
        id="relaxation-tight",
        statement="The LP relaxation has a 0-1 optimum, and its multiplier is the threshold.",
        scope="one cardinality row, gaussian scores, n = 200, random k",
        source="Theorem 2 (total unimodularity)",
        check=lambda setting: relaxation_is_integral(setting, second_row=False),
        control_statement="with a second row, a budget, it is a 0-1 point as well",
        control=lambda setting: relaxation_is_integral(setting, second_row=True),
    ),
    Claim(
        id="uniqueness",
        statement="The optimum is unique iff s₍ₖ₎ > s₍ₖ₊₁₎.",
        scope="every k, n ≤ 10, scores with ties; optima counted by enumeration",
        source="Theorem 3",
        check=lambda setting: uniqueness(
            setting, lambda scores, keep: decide({"s": scores}, keep).proof.unique
        ),
        control_statement="the optimum is always unique",
        control=lambda setting: uniqueness(setting, lambda scores, keep: True),  # noqa: ARG005
    ),
)
