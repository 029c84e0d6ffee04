"""Each criterion solves its own program: its mask against all masks."""

import itertools
from collections.abc import Callable, Iterator
from fractions import Fraction

import torch
from torch import Tensor

from pins.importance.criteria import find_criterion
from pins.importance.criterion import Observation
from pins.importance.taylor_models import DiagonalSecondOrderModel, FirstOrderModel
from pins.selection.select import select
from verification.claims.claim import Claim, Finding, Setting, search

SIZE = 7  # 2⁷ masks, and 2⁷ sign patterns for each


def observations(setting: Setting) -> Iterator[Observation]:
    """Small random layers in multiples of 1/16, so that every product below is exact."""
    generator = torch.Generator().manual_seed(setting.seed)

    def draw() -> Tensor:
        return torch.randint(-40, 41, (SIZE,), generator=generator).double() / 16

    for _ in range(setting.pick(10, 200)):
        before = draw()
        after, gradient, curvature = before + draw() / 4, draw(), draw().abs()
        yield Observation(after=after, gradient=gradient, before=before, curvature=curvature)


def named(o: Observation) -> list[dict[str, Tensor]]:
    """g, θ, θ+u and h, as loss models take them."""
    return [{"w": part} for part in (o.gradient, o.before, o.after, o.curvature)]


def first_order(o: Observation, mask: Tensor) -> float:
    """ΔL of step and mask, first order."""
    return FirstOrderModel(*named(o)[:3]).predicted_change({"w": mask})


def second_order(o: Observation, mask: Tensor) -> float:
    """ΔL of step and mask, second order with diagonal h."""
    return DiagonalSecondOrderModel(*named(o)).predicted_change({"w": mask})


def quadratic(o: Observation, mask: Tensor) -> float:
    """½ Σ hᵢ (mᵢ−1)² (θᵢ+uᵢ)²: the loss change by the mask at zero gradient."""
    return float((0.5 * o.curvature * torch.where(mask, 0.0, o.after).square()).sum())


def worst_case(o: Observation, mask: Tensor) -> float:
    """max over signs σ ∈ {−1,1}ⁿ of Σ_{mᵢ=0} σᵢ gᵢθᵢ, by enumeration."""
    terms = torch.where(mask, 0.0, o.gradient * o.before)
    signs = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=SIZE)), dtype=torch.float64)
    return float((signs @ terms).max())


Objective = Callable[[Observation, Tensor], float]


def minimises(
    setting: Setting, importance: Callable[[Observation], Tensor], objective: Objective
) -> Finding:
    """No mask with the same number of ones has a smaller objective."""
    wrong, programs = [], 0
    for observation in observations(setting):
        scores = importance(observation)
        values: dict[int, float] = {}
        for bits in itertools.product((False, True), repeat=SIZE):
            value = objective(observation, torch.tensor(bits))
            values[sum(bits)] = min(value, values.get(sum(bits), value))
        for keep, least in values.items():
            mine = objective(observation, select(scores, keep))
            programs += 1
            if mine != least:
                wrong.append(f"k = {keep}: {mine} where {least} is possible")
    return search(f"{programs} programs, n = {SIZE}, every mask tried, exact arithmetic", wrong)


def sgd_identity(setting: Setting, *, squared_term: bool) -> Finding:
    """−g(θ+u) with u = −ηg against −gθ + ηg², in rational arithmetic."""
    rate, wrong, weights = Fraction(1, 8), [], 0
    for o in observations(setting):
        stepped = Observation(after=o.before - float(rate) * o.gradient, gradient=o.gradient)
        scores = find_criterion("pins").importance(stepped)
        for s, g, w in zip(scores.tolist(), o.gradient.tolist(), o.before.tolist(), strict=True):
            g, w = Fraction(g), Fraction(w)
            paper = -g * w + (rate * g * g if squared_term else 0)
            weights += 1
            if Fraction(s) != paper:
                wrong.append(f"g = {g}, θ = {w}: {s} is not {float(paper)}")
    return search(f"{weights} weights, η = {rate}, exact arithmetic", wrong)


def _claim(
    name: str,
    statement: str,
    importance: Callable[[Observation], Tensor],
    objective: Objective,
    rival: str,
) -> Claim:
    return Claim(
        id=f"program-{name}",
        statement=statement,
        scope=f"random layers of {SIZE} weights, every k, all 2ⁿ masks",
        source="separable program, closed form (Theorem 1)",
        check=lambda setting: minimises(setting, importance, objective),
        control_statement=f"{rival} minimises the same program",
        control=lambda setting: minimises(setting, find_criterion(rival).importance, objective),
    )


CLAIMS = (
    _claim(
        "pins",
        "pins minimises the first-order loss change of step and mask.",
        find_criterion("pins").importance,
        first_order,
        "abs-pins",
    ),
    _claim(
        "second-order",
        "−g(θ+u) + ½h(θ²−u²) minimises the diagonal second-order loss change.",
        lambda o: DiagonalSecondOrderModel(*named(o)).importance()["w"],
        second_order,
        "pins",
    ),
    _claim(
        "sensitivity",
        "sensitivity minimises the worst case, over signs, of the first-order loss change.",
        find_criterion("sensitivity").importance,
        worst_case,
        "movement",
    ),
    _claim(
        "obd",
        "obd minimises the quadratic change by the mask after the step: g = 0, Hessian diagonal h.",
        find_criterion("obd").importance,
        quadratic,
        "magnitude",
    ),
    Claim(
        id="sgd-identity",
        statement="Under SGD, −g⊙(θ+u) is the paper's criterion −gθ + ηg².",
        scope="random layers, rational arithmetic",
        source="Ren & Zhu 2023, importance of the equality-constrained ILP",
        check=lambda setting: sgd_identity(setting, squared_term=True),
        control_statement="it is −gθ, without ηg²",
        control=lambda setting: sgd_identity(setting, squared_term=False),
    ),
)
