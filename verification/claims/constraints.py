"""With numbers of ones for each tensor: the closed form against enumeration, CBC and HiGHS."""

from collections.abc import Callable, Iterator

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
from solvers import ConstrainedFormulation, find_solver
from verification.claims.claim import Claim, Finding, Setting
from verification.claims.solver_comparison import (
    KEPT_RATIO,
    TITLE,
    Instance,
    against_enumeration,
    against_solver,
)
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
    """The rival of the controls: one ranking, then each tensor is raised to its minimum.

    The first tensors above their minimums lose as many weights. Feasible, and seldom optimal.
    """
    plain = count_each(select(scores, constraint.keep))
    least = {name: constraint.minimums.get(name, 0) for name in scores}
    counts = {name: max(plain[name].kept, least[name]) for name in scores}
    for name in scores:
        surplus = sum(counts.values()) - constraint.keep
        counts[name] -= min(surplus, counts[name] - least[name])
    return {name: select(scores[name], counts[name]) for name in scores}


def small(setting: Setting, decider: Decider) -> Iterator[Instance]:
    """Scores with ties in three tensors, and every kind of constraint."""
    rng = setting.rng()
    for _ in range(setting.pick(20, 300)):
        sizes = rng.integers(1, 4, 3)
        scores = {f"layer {i}": 0.5**i * ties(rng, int(size)) for i, size in enumerate(sizes)}
        least = {name: int(rng.integers(0, s.numel() + 1)) for name, s in scores.items()}
        keeps = range(sum(least.values()), int(sizes.sum()) + 1)
        told = {name: s.tolist() for name, s in scores.items()}
        minimums = (MinimumPerTensor(keep, least) for keep in keeps)
        constraints: list[Constraint] = [PerTensor(least), *minimums]
        for constraint in constraints:
            formulation = ConstrainedFormulation(scores, constraint)
            yield Instance.of(f"{constraint}, s = {told}", formulation, decider(scores, constraint))


def enumerated(setting: Setting, decider: Decider) -> Finding:
    """Compare with all masks that the constraint allows."""
    return against_enumeration(small(setting, decider), "n ≤ 9, with ties")


def large(setting: Setting, decider: Decider) -> Iterator[Instance]:
    """Every family of scores in tensors of different scale, so that minimums bind."""
    rng, size = setting.rng(), setting.pick(QUICK_SIZE, FULL_SIZE) // TENSORS
    for family_name, family in FAMILIES.items():
        scores = {f"layer {i}": 0.25**i * family(rng, size) for i in range(TENSORS)}
        sizes = {name: tensor.numel() for name, tensor in scores.items()}
        keep = round(KEPT_RATIO * sum(sizes.values()))
        constraints: dict[str, Constraint] = {
            "minimum": minimum_per_tensor(keep, MINIMUM_RATIO, sizes),
            "per tensor": per_tensor(1 - KEPT_RATIO, sizes),
        }
        for kind, constraint in constraints.items():
            formulation = ConstrainedFormulation(scores, constraint)
            masks = decider(scores, constraint)
            yield Instance.of(f"{family_name}, {kind}", formulation, masks)


def _solver_claim(backend: str) -> Claim:
    return Claim(
        id=f"constrained-{backend}",
        statement=f"{TITLE[backend]} finds no better mask with a number of ones for each tensor.",
        scope=f"five families of scores in {TENSORS} tensors of different scale, "
        f"{KEPT_RATIO:.0%} kept and {MINIMUM_RATIO:.0%} of each at least, or {KEPT_RATIO:.0%} of "
        f"each; n = {QUICK_SIZE} (full: {FULL_SIZE:,})",
        source="Theorem 4 (pins.selection.constraints)",
        check=lambda setting: against_solver(find_solver(backend), large(setting, closed_form)),
        control_statement="one ranking, clipped to the minimums, is as good",
        control=lambda setting: against_solver(find_solver(backend), large(setting, clipped)),
    )


CLAIMS = (
    Claim(
        id="constrained-enumeration",
        statement="Each tensor's best up to its minimum, then the best of the rest, is an optimum "
        "with a minimum in each tensor.",
        scope="n ≤ 9 in three tensors, scores with ties, every k; all 2ⁿ masks compared in exact "
        "arithmetic",
        source="Theorem 4 (greed on a matroid; pins.selection.constraints)",
        check=lambda setting: enumerated(setting, closed_form),
        control_statement="one ranking, clipped to the minimums, is an optimum",
        control=lambda setting: enumerated(setting, clipped),
    ),
    *(_solver_claim(backend) for backend in TITLE),
)
