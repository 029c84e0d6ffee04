"""Within a trust region: the mask of one multiplier against all masks."""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import torch
from torch import Tensor

from pins.importance.trust_region.multiplier import within
from pins.importance.trust_region.program import Terms, TrustRegionDecision, TrustRegionProgram
from pins.selection.constraints import Cardinality, LayerBounds, PerTensor
from pins.selection.select import decide, select
from solvers import BinaryProgram, TrustRegionFormulation, exact_sum, objective, optimal_set
from solvers.exact import BoolArray
from verification.certificates.gap import TrustRegionGap, decision_gap
from verification.claims.claim import Claim, Finding, Setting, search
from verification.claims.solver_comparison import Instance, against_enumeration
from verification.testing.synthetic_scores import FAMILIES

DYADIC = tuple(2.0**octave for octave in (-6, -2, 0, 2, 6))  # μ, for terms in multiples of 1/16
OCTAVES = range(-20, 21)  # of μ, for terms that are integers below 2¹²: c + μs is exact as well
LARGEST = 100  # of the integers |s| and c/2: two scores change places only at 1/200 ≤ μ ≤ 200
BEYOND = 2.0**-10, 2.0**10  # values of μ outside that range

Masks = Mapping[str, Tensor]
Ranking = Callable[[Terms, float], Tensor]
"""(terms, μ) ↦ scores; `Terms.scores` is c + μs."""
Bound = Callable[[TrustRegionGap, float], Fraction]
"""(what was certified, μ) ↦ an upper bound of what a better mask gains."""


@dataclass(frozen=True)
class Region:
    """A program within a radius."""

    name: str
    program: TrustRegionProgram
    radius: float

    @cached_property
    def decision(self) -> TrustRegionDecision:
        """The best mask of one multiplier."""
        return within(self.program, self.radius)

    @property
    def gap(self) -> TrustRegionGap:
        """The certified gap of the decision."""
        return decision_gap(self.program.terms, self.decision, Fraction(self.radius))

    def formulation(self, reduced_by: float = 0.0) -> TrustRegionFormulation:
        """The 0-1 program, for the radius or a smaller one."""
        radius = self.radius - reduced_by
        return TrustRegionFormulation(self.program.terms, self.program.constraint, radius)


def advantage(program: BinaryProgram, point: BoolArray, mine: BoolArray) -> Fraction:
    """How much lower the objective is at a point than at ours, exactly."""
    return objective(program.objective, mine) - objective(program.objective, point)


def mixed_with_magnitude(terms: Terms, multiplier: float) -> Tensor:
    """The rival of the controls, c + μ|s|: the |·| of the authors' released code."""
    return terms.cost + multiplier * terms.importance.abs()


def masks_of(program: TrustRegionProgram, ranking: Ranking, multiplier: float) -> Masks:
    """The optimal mask for the scores of a ranking, under the program's constraint."""
    scores = {name: ranking(terms, multiplier) for name, terms in program.terms.items()}
    return decide(scores, program.constraint).masks


def pruned_sums(named: Mapping[str, Terms], masks: Masks) -> tuple[Fraction, Fraction]:
    """−s·(1−m) and c·(1−m), exactly."""
    drop = cost = Fraction(0)
    for name, terms in named.items():
        s, c = (part[~masks[name]].double().numpy() for part in terms)
        drop, cost = drop - exact_sum(s), cost + exact_sum(c)
    return drop, cost


def costs(program: TrustRegionProgram) -> tuple[float, float]:
    """The costs of the masks of optimal brain damage (μ = 0) and of PINS (μ = ∞)."""
    pins = {name: terms.importance for name, terms in program.terms.items()}
    ends = program.solve(0.0).masks, decide(pins, program.constraint).masks
    low, high = (float(pruned_sums(program.terms, masks)[1]) for masks in ends)
    return low, high


def small_programs(setting: Setting, number: int, size: int) -> Iterator[TrustRegionProgram]:
    """Multiples of 1/16, with ties, in three tensors of `size` − 1 or `size` weights."""
    rng = setting.rng()
    for _ in range(number):
        drawn = rng.integers(size - 1, size + 1, 3)
        sizes = {f"layer {i}": int(each) for i, each in enumerate(drawn)}
        terms = {
            name: Terms(*(torch.from_numpy(rng.integers(low, 41, size) / 16) for low in (-40, 0)))
            for name, size in sizes.items()
        }
        least = {name: int(rng.integers(0, size)) for name, size in sizes.items()}
        keep = int(rng.integers(sum(least.values()), sum(sizes.values())))
        for constraint in (
            Cardinality(keep),
            Cardinality(keep) & LayerBounds(minimum=least),
            PerTensor(least),
        ):
            yield TrustRegionProgram(terms, constraint)


def at_their_radius(setting: Setting, ranking: Ranking) -> Iterator[Instance]:
    """A ranking's masks, each with its own cost as the radius."""
    programs = small_programs(setting, setting.pick(6, 60), 3)
    for program, multiplier in itertools.product(programs, DYADIC):
        masks = masks_of(program, ranking, multiplier)
        radius = float(pruned_sums(program.terms, masks)[1])  # a multiple of 1/16: exact
        name = f"{program.constraint}, μ = {multiplier}, ρ = {radius}"
        yield Instance.of(name, Region(name, program, radius).formulation(), masks)


def optimal_for_its_radius(setting: Setting, ranking: Ranking) -> Finding:
    """Compare with all masks that cost no more."""
    return against_enumeration(at_their_radius(setting, ranking), "n ≤ 9, exact arithmetic")


def certified(found: TrustRegionGap, _: float) -> Fraction:
    """s·best − s·m + (ρ − c·(1−best))/μ."""
    return found.gap


def without_slack(found: TrustRegionGap, multiplier: float) -> Fraction:
    """The rival of the controls: without what is left of the radius."""
    return found.gap - found.slack / Fraction(multiplier)


def bounded(setting: Setting, bound: Bound) -> Finding:
    """Compare one multiplier's mask and its bound with the best mask within random radii."""
    rng, wrong, cases, beaten = setting.rng(), [], 0, 0
    for program in small_programs(setting, setting.pick(7, 60), 4):
        low, high = costs(program)
        if low == high:
            continue  # the radius leaves no choice
        radius = low + math.ceil(64 * rng.uniform(0, high - low)) / 64  # exact
        region = Region(f"{program.constraint}, ρ = {radius}", program, radius)
        decision, formulation = region.decision, region.formulation()
        mine = formulation.apply(decision.masks)
        if not formulation.program.feasible(mine):
            wrong.append(f"{region.name}: the mask costs {decision.cost}")
        if decision.multiplier == 0:
            continue  # optimal brain damage: no bound is claimed for it
        better = advantage(formulation.program, optimal_set(formulation.program)[0], mine)
        limit = bound(region.gap, decision.multiplier)
        cases, beaten = cases + 1, beaten + (better > 0)
        if better > limit:
            wrong.append(
                f"{region.name}: a mask is better by {float(better):.3g}, the bound was "
                f"{float(limit):.3g}"
            )
        if wrong:
            break
    told = f"{cases} programs enumerated, n ≤ 12; in {beaten} another mask is better than ours"
    return search(told, wrong, programs=cases, beaten=beaten)


def monotone(setting: Setting, ranking: Ranking) -> Finding:
    """Evaluate the predicted decrease −s·(1−m) and the cost along a grid of μ."""
    rng, wrong, cases = setting.rng(), [], 0
    for name in itertools.chain.from_iterable([FAMILIES] * setting.pick(1, 5)):
        size = int(rng.integers(20, 500))
        s, c = (whole(FAMILIES[name](rng, size)) for _ in range(2))
        keep = Cardinality(int(rng.integers(1, size)))
        program = TrustRegionProgram({"w": Terms(s, c.abs())}, keep)
        last: tuple[Fraction, ...] = ()
        for octave in OCTAVES:
            now = pruned_sums(program.terms, masks_of(program, ranking, 2.0**octave))
            cases += 1
            for what, before, after in zip(("drop", "cost"), last, now, strict=False):
                if after < before:
                    wrong.append(f"{name}, n = {size}: at μ = 2^{octave} the {what} falls")
            last = now
        if wrong:
            break
    return search(f"{cases} decisions, μ = 2⁻²⁰ … 2²⁰, exact sums", wrong, decisions=cases)


def whole(values: Tensor) -> Tensor:
    """The values in units of 2⁻¹² of the largest, rounded."""
    exact = values.double()
    return (exact * (2**12 / exact.abs().max())).round()


def limits(setting: Setting, least: Callable[[Terms], Tensor]) -> Finding:
    """Compare the masks at two μ, below and above every μ at which two weights change places."""
    rng, wrong, cases = setting.rng(), [], 0
    for number in range(setting.pick(30, 300)):
        size = int(rng.integers(2, 13))
        # without replacement all scores are distinct; with few values many are tied
        few = LARGEST if number % 2 else 3
        drawn = (rng.choice(2 * few + 1, size, replace=few == 3) for _ in range(2))
        s, c = (torch.from_numpy(numbers).double() for numbers in drawn)
        terms, keep = Terms(s - few, c), int(rng.integers(1, size))
        program = TrustRegionProgram({"w": terms}, Cardinality(keep))
        wanted = (least(terms), lexicographic(*terms))
        for multiplier, scores in zip(BEYOND, wanted, strict=True):
            cases += 1
            if not torch.equal(program.solve(multiplier).masks["w"], select(scores, keep)):
                told = f"s = {terms.importance.tolist()}, c = {c.tolist()}"
                wrong.append(f"k = {keep}, μ = {multiplier}, {told}")
        if wrong:
            break
    return search(f"{cases} decisions, n ≤ 12, half of them with ties", wrong, decisions=cases)


def lexicographic(first: Tensor, second: Tensor) -> Tensor:
    """Scores that rank integers by `first`, and by `second` among equals."""
    return first * 2**20 + second


CLAIMS = (
    Claim(
        id="region-enumeration",
        statement="For every μ, the largest c + μs are an optimum of the trust region of the "
        "radius that they use.",
        scope="n ≤ 9 in three tensors, ties, each kind of constraint, five μ; all 2ⁿ masks in "
        "exact arithmetic",
        source="Theorem 5 (Lagrange multiplier; Everett 1963)",
        check=lambda setting: optimal_for_its_radius(setting, Terms.scores),
        control_statement="so are the largest c + μ|s|",
        control=lambda setting: optimal_for_its_radius(setting, mixed_with_magnitude),
    ),
    Claim(
        id="region-gap",
        statement="Within any radius, one multiplier's mask is allowed, and none is better by more "
        "than its certified gap.",
        scope="n ≤ 12 in three tensors, ties, each kind of constraint, random radii; all 2ⁿ masks "
        "in exact arithmetic",
        source="Theorem 5 (Lagrangian bound)",
        check=lambda setting: bounded(setting, certified),
        control_statement="the gap without what is left of the radius is a bound as well",
        control=lambda setting: bounded(setting, without_slack),
    ),
    Claim(
        id="region-monotone",
        statement="As μ grows, neither the drop −s·(1−m) nor the cost c·(1−m) falls.",
        scope="five families of scores, rounded so that c + μs is exact; n < 500, random k",
        source="Theorem 5; μ is searched by bisection on this ground",
        check=lambda setting: monotone(setting, Terms.scores),
        control_statement="the same holds of the masks of the largest c + μ|s|",
        control=lambda setting: monotone(setting, mixed_with_magnitude),
    ),
    Claim(
        id="region-limits",
        statement="Small μ give the mask of optimal brain damage, ties to the larger s; large μ "
        "that of PINS, ties to the larger c.",
        scope="integers, n ≤ 12, with and without ties; μ below and above all at which two weights "
        "change places",
        source="pins.importance.trust_region.program",
        check=lambda setting: limits(setting, lambda terms: lexicographic(terms.cost, terms[0])),
        control_statement="small μ give the mask of PINS",
        control=lambda setting: limits(setting, lambda terms: terms.importance),
    ),
)
