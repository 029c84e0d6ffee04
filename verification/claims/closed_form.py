"""The closed form solves the 0-1 program: against enumeration, CBC and HiGHS, compared exactly.

With one number of ones for the model (Theorem 1), and with numbers of ones for each tensor
(Theorem 4).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial

from torch import Tensor

from pins.masks import count_each
from pins.selection.constraints import (
    Cardinality,
    Constraint,
    MinimumPerTensor,
    PerTensor,
    minimum_per_tensor,
    per_tensor,
)
from pins.selection.select import decide, select
from solvers import ConstrainedFormulation
from verification.claims.claim import Claim, Finding, Setting
from verification.claims.solver_comparison import (
    KEPT_RATIO,
    MINIMUM_RATIO,
    TITLE,
    Instance,
    against_enumeration,
    against_solver,
    kept,
)
from verification.experiments.model_snapshot import spread
from verification.testing.synthetic_scores import FAMILIES, ties

FULL_SIZE = 4096
QUICK_SIZE = {"cbc": 4096, "highs": 1024}  # the time of HiGHS grows with n²: 4 s at n = 4,096
TENSORS = 6
QUICK_TOTAL, FULL_TOTAL = 240, 2400  # of all tensors together

Tensors = Mapping[str, Tensor]
Case = tuple[str, Tensors, Constraint]
"""Its name, the scores, and which masks are allowed."""
Decider = Callable[[Tensors, Constraint], Tensors]
"""(scores, constraint) ↦ masks."""


def closed_form(scores: Tensors, constraint: Constraint) -> Tensors:
    """Each tensor's best up to its minimum, then the best of the rest."""
    return decide(scores, constraint).masks


def by_absolute_value(scores: Tensors, constraint: Constraint) -> Tensors:
    """The rival of the controls: rank by |s|, as the authors' released code does."""
    return closed_form({name: s.abs() for name, s in scores.items()}, constraint)


def clipped(scores: Tensors, constraint: Constraint) -> Tensors:
    """The rival with constraints: one ranking, then each tensor is raised to its minimum.

    The first tensors above their minimums lose as many weights. Feasible, and seldom optimal.
    """
    plain = count_each(select(scores, constraint.keep))
    least = {name: constraint.minimums.get(name, 0) for name in scores}
    counts = {name: max(plain[name].kept, least[name]) for name in scores}
    for name in scores:
        surplus = sum(counts.values()) - constraint.keep
        counts[name] -= min(surplus, counts[name] - least[name])
    return {name: select(scores[name], counts[name]) for name in scores}


def small(setting: Setting) -> Iterator[Case]:
    """Scores with ties, n ≤ 12, and every k."""
    rng = setting.rng()
    for _ in range(setting.pick(6, 60)):
        scores = ties(rng, int(rng.integers(1, 13)))
        for keep in range(scores.numel() + 1):
            yield f"k = {keep}, s = {scores.tolist()}", {"w": scores}, Cardinality(keep)


def small_constrained(setting: Setting) -> Iterator[Case]:
    """Scores with ties in three tensors, and every kind of constraint."""
    rng = setting.rng()
    for _ in range(setting.pick(20, 300)):
        sizes = rng.integers(1, 4, 3)
        scores = {f"layer {i}": 0.5**i * ties(rng, int(size)) for i, size in enumerate(sizes)}
        least = {name: int(rng.integers(0, s.numel() + 1)) for name, s in scores.items()}
        keeps = range(sum(least.values()), int(sizes.sum()) + 1)
        told = {name: s.tolist() for name, s in scores.items()}
        constraints: list[Constraint] = [PerTensor(least)]
        constraints += [MinimumPerTensor(keep, least) for keep in keeps]
        for constraint in constraints:
            yield f"{constraint}, s = {told}", scores, constraint


def synthetic(setting: Setting, size: int) -> Tensors:
    """Every family of scores, small and large."""
    rng = setting.rng()
    return {
        f"{name}, n = {n}": family(rng, n) for name, family in FAMILIES.items() for n in (256, size)
    }


def real(setting: Setting, size: int) -> Tensors:
    """Scores of one tensor of each layer type of the real model."""
    importance, kinds = setting.real.importance("pins"), setting.real.layer_types()
    return {kind: spread(importance[name], size) for kind, name in kinds.items()}


def large(
    draw: Callable[[Setting, int], Tensors], backend: str, setting: Setting
) -> Iterator[Case]:
    """Each of the drawn tensors alone."""
    for name, tensor in draw(setting, setting.pick(QUICK_SIZE[backend], FULL_SIZE)).items():
        scores = {"w": tensor}
        yield name, scores, Cardinality(kept(scores))


def large_constrained(setting: Setting) -> Iterator[Case]:
    """Every family of scores in tensors of different scale, so that minimums bind."""
    rng, size = setting.rng(), setting.pick(QUICK_TOTAL, FULL_TOTAL) // TENSORS
    for name, family in FAMILIES.items():
        scores = {f"layer {i}": 0.25**i * family(rng, size) for i in range(TENSORS)}
        sizes = dict.fromkeys(scores, size)
        minimums = minimum_per_tensor(kept(scores), MINIMUM_RATIO, sizes)
        yield f"{name}, minimum", scores, minimums
        yield f"{name}, per tensor", scores, per_tensor(1 - KEPT_RATIO, sizes)


def _claim(
    judge: Callable[[Iterable[Instance]], Finding],
    cases: Callable[[Setting], Iterator[Case]],
    rival: Decider,
    **said: str,
) -> Claim:
    def point(decider: Decider, name: str, scores: Tensors, constraint: Constraint) -> Instance:
        formulation = ConstrainedFormulation(scores, constraint)
        return Instance.of(name, formulation, decider(scores, constraint))

    def check(setting: Setting, decider: Decider) -> Finding:
        return judge(point(decider, *case) for case in cases(setting))

    return Claim(
        check=lambda setting: check(setting, closed_form),
        control=lambda setting: check(setting, rival),
        **said,
    )


def _large_claim(backend: str, draw: Callable[[Setting, int], Tensors], scope: str) -> Claim:
    return _claim(
        partial(against_solver, backend),
        partial(large, draw, backend),
        by_absolute_value,
        id=f"closed-form-{backend}-{draw.__name__}",
        statement=f"{TITLE[backend]} finds no better mask than the closed form.",
        scope=f"{scope}; n ≤ {QUICK_SIZE[backend]:,} (full: {FULL_SIZE:,}), {KEPT_RATIO:.0%} kept, "
        "objective scaled by a power of two",
        source="Theorem 1; Ren & Zhu 2023, equality-constrained 0-1 ILP",
        control_statement="ranking by |s| instead is as good",
    )


def _constrained_claim(backend: str) -> Claim:
    return _claim(
        partial(against_solver, backend),
        large_constrained,
        clipped,
        id=f"constrained-{backend}",
        statement=f"{TITLE[backend]} finds no better mask with a number of ones for each tensor.",
        scope=f"five families of scores in {TENSORS} tensors of different scale, "
        f"{KEPT_RATIO:.0%} kept and {MINIMUM_RATIO:.0%} of each at least, or {KEPT_RATIO:.0%} of "
        f"each; n = {QUICK_TOTAL} (full: {FULL_TOTAL:,})",
        source="Theorem 4 (pins.selection.constraints)",
        control_statement="one ranking, clipped to the minimums, is as good",
    )


_SYNTHETIC = "gaussian, heavy tails, 20 orders of magnitude, ties, near-ties"
_REAL = "real gradients, weights of every layer type"
CLAIMS = (
    _claim(
        partial(against_enumeration, scope="n ≤ 12, with ties"),
        small,
        by_absolute_value,
        id="closed-form-enumeration",
        statement="The k largest scores, ties to the lower index, are an optimum of the 0-1 ILP.",
        scope="every k, n ≤ 12, scores with ties; all 2ⁿ masks compared in exact arithmetic",
        source="Theorem 1 (exchange argument)",
        control_statement="the k largest |s| are an optimum",
    ),
    *(_large_claim(backend, synthetic, _SYNTHETIC) for backend in TITLE),
    *(_large_claim(backend, real, _REAL) for backend in TITLE),
    _claim(
        partial(against_enumeration, scope="n ≤ 9, with ties"),
        small_constrained,
        clipped,
        id="constrained-enumeration",
        statement="Each tensor's best up to its minimum, then the best of the rest, is an optimum "
        "with a minimum in each tensor.",
        scope="n ≤ 9 in three tensors, scores with ties, every k; all 2ⁿ masks compared in exact "
        "arithmetic",
        source="Theorem 4 (greed on a matroid; pins.selection.constraints)",
        control_statement="one ranking, clipped to the minimums, is an optimum",
    ),
    *(_constrained_claim(backend) for backend in TITLE),
)
