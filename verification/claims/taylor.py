"""The Taylor test of gradient, Hessian and the loss models built on them.

A pruning decision minimises a model of the loss change ΔL(m). The test checks that model, in the
directions δ = m⊙θ − θ of real decisions and in random directions.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from pins.importance.taylor_models import DiagonalSecondOrderModel, FirstOrderModel
from pins.selection.select import select
from verification.claims.claim import Claim, Finding, Setting, search
from verification.claims.solver_comparison import KEPT_RATIO, kept
from verification.experiments.model_snapshot import ModelSnapshot
from verification.experiments.taylor_remainders import (
    Line,
    displacement,
    dot,
    gaussian,
    hessian_product,
    sample,
)

CRITERIA = ("pins", "magnitude")
TAMPERED = 1.01  # the control's gradient, in units of the right one
TOLERANCE = 0.1  # of a slope; a wrong derivative is off by 1

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class Expansion:
    """The loss along one direction δ, with candidates for its first two derivatives.

    Attributes:
        line: φ(ε) = L(θ+εδ).
        first: g·δ, the change predicted by the first-order model.
        second: δ·Hδ, by an exact Hessian-vector product.
        fisher: δ·hδ, the diagonal empirical Fisher in place of H.
    """

    line: Line
    first: float
    second: float
    fisher: float


def expansions(setting: Setting) -> dict[str, Expansion]:
    """The expansion along each direction, by the direction's name."""
    smooth = setting.loss()
    observed, before = smooth.observed, smooth.observed.before
    found = {}
    for name, after, masks in decisions(setting, observed):
        direction = displacement(before, after, masks)
        terms = (observed.gradient, before, after)
        first = FirstOrderModel(*terms).predicted_change(masks)
        diagonal = DiagonalSecondOrderModel(*terms, observed.curvature or {})
        found[name] = Expansion(
            line=sample(smooth.loss, before, direction),
            first=first,
            second=dot(direction, hessian_product(smooth.loss, before, direction)).item(),
            fisher=2 * (diagonal.predicted_change(masks) - first),
        )
    return found


def decisions(setting: Setting, observed: ModelSnapshot) -> Iterator[tuple[str, Tensors, Tensors]]:
    """(name, θ+u, m): random steps u with m = 1, and masks m with u = 0."""
    before = observed.before
    generator = torch.Generator().manual_seed(setting.seed)
    everything = {name: torch.ones_like(w, dtype=torch.bool) for name, w in before.items()}
    for number in range(1, setting.pick(1, 5) + 1):
        step = gaussian(before, generator)
        yield f"random {number}", {name: w + step[name] for name, w in before.items()}, everything
    for criterion in CRITERIA:
        yield criterion, before, select(observed.importance(criterion), kept(before))


Derivatives = Callable[[Expansion], tuple[float, ...]]


def has_expected_slopes(setting: Setting, derivatives: Derivatives) -> Finding:
    """With k derivatives, the remainders of order 0 … k have the slopes 1 … k+1.

    A smaller slope in any direction is a counterexample. A larger or unknown slope neither confirms
    nor refutes; each order must have its expected slope in at least one direction.
    """
    tests = {
        name: expansion.line.test(derivatives(expansion))
        for name, expansion in setting.shared(expansions).items()
    }
    wrong = [
        f"{name}: R{order} has slope {slope:.2f}, not {order + 1}"
        for name, test in tests.items()
        for order, slope in enumerate(test.slopes)
        if slope is not None and slope < order + 1 - TOLERANCE
    ]
    by_order = zip(*(test.slopes for test in tests.values()), strict=True)
    for order, slopes in enumerate(by_order):
        if not any(slope and abs(slope - (order + 1)) <= TOLERANCE for slope in slopes):
            wrong.append(f"R{order} has slope {order + 1} in no direction")
    told = "; ".join(f"{name}: {', '.join(map(_told, t.slopes))}" for name, t in tests.items())
    numbers = {name: asdict(test) for name, test in tests.items()}
    return search(f"slopes of the remainders from order 0 on: {told}", wrong, **numbers)


def _told(slope: float | None) -> str:
    return "unknown" if slope is None else f"{slope:.2f}"


SCOPE = (
    "a real model on a few short rows, in float64; random directions and the masks of "
    f"{' and '.join(CRITERIA)}, {KEPT_RATIO:.0%} kept"
)
CLAIMS = (
    Claim(
        id="taylor-first-order",
        statement="The first-order model is the loss's derivative: what it misses falls as ε².",
        scope=SCOPE,
        source="Taylor test (Farrell, Ham, Funke & Rognes 2013)",
        check=lambda setting: has_expected_slopes(setting, lambda e: (e.first,)),
        control_statement="so it does with a gradient that is 1 % too large",
        control=lambda setting: has_expected_slopes(setting, lambda e: (TAMPERED * e.first,)),
    ),
    Claim(
        id="taylor-second-order",
        statement="With ½ε² δ·Hδ of an exact Hessian-vector product, what is missed falls as ε³.",
        scope=SCOPE,
        source="Taylor test, second order; Griewank & Walther 2008 for Hδ",
        check=lambda setting: has_expected_slopes(setting, lambda e: (e.first, e.second)),
        control_statement="so it does with the diagonal empirical Fisher in place of H",
        control=lambda setting: has_expected_slopes(setting, lambda e: (e.first, e.fisher)),
    ),
)
