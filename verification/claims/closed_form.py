"""The closed form solves the 0-1 program: against enumeration, CBC and HiGHS, compared exactly."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial

from torch import Tensor

from pins.selection.select import decide
from solvers import CardinalityFormulation
from verification.claims.claim import Claim, Finding, Setting
from verification.claims.solver_comparison import (
    KEPT_RATIO,
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

Tensors = Mapping[str, Tensor]
Case = tuple[str, Tensors, int]
"""Its name, the scores, and k."""
Decider = Callable[[Tensors, int], Tensors]
"""(scores, k) ↦ masks."""


def closed_form(scores: Tensors, keep: int) -> Tensors:
    """The k largest."""
    return decide(scores, keep).masks


def by_absolute_value(scores: Tensors, keep: int) -> Tensors:
    """The rival of the controls: rank by |s|, as the authors' released code does."""
    return closed_form({name: s.abs() for name, s in scores.items()}, keep)


def small(setting: Setting) -> Iterator[Case]:
    """Scores with ties, n ≤ 12, and every k."""
    rng = setting.rng()
    for _ in range(setting.pick(6, 60)):
        scores = ties(rng, int(rng.integers(1, 13)))
        for keep in range(scores.numel() + 1):
            yield f"k = {keep}, s = {scores.tolist()}", {"w": scores}, keep


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
        yield name, scores, kept(scores)


def _claim(
    judge: Callable[[Iterable[Instance]], Finding],
    cases: Callable[[Setting], Iterator[Case]],
    **said: str,
) -> Claim:
    def point(decider: Decider, name: str, scores: Tensors, keep: int) -> Instance:
        return Instance.of(name, CardinalityFormulation(scores, keep), decider(scores, keep))

    def check(setting: Setting, decider: Decider) -> Finding:
        return judge(point(decider, *case) for case in cases(setting))

    return Claim(
        check=lambda setting: check(setting, closed_form),
        control=lambda setting: check(setting, by_absolute_value),
        **said,
    )


def _large_claim(backend: str, draw: Callable[[Setting, int], Tensors], scope: str) -> Claim:
    return _claim(
        partial(against_solver, backend),
        partial(large, draw, backend),
        id=f"closed-form-{backend}-{draw.__name__}",
        statement=f"{TITLE[backend]} finds no better mask than the closed form.",
        scope=f"{scope}; n ≤ {QUICK_SIZE[backend]:,} (full: {FULL_SIZE:,}), {KEPT_RATIO:.0%} kept, "
        "objective scaled by a power of two",
        source="Theorem 1; Ren & Zhu 2023, equality-constrained 0-1 ILP",
        control_statement="ranking by |s| instead is as good",
    )


_SYNTHETIC = "gaussian, heavy tails, 20 orders of magnitude, ties, near-ties"
_REAL = "real gradients, weights of every layer type"
CLAIMS = (
    _claim(
        partial(against_enumeration, scope="n ≤ 12, with ties"),
        small,
        id="closed-form-enumeration",
        statement="The k largest scores, ties to the lower index, are an optimum of the 0-1 ILP.",
        scope="every k, n ≤ 12, scores with ties; all 2ⁿ masks compared in exact arithmetic",
        source="Theorem 1 (exchange argument)",
        control_statement="the k largest |s| are an optimum",
    ),
    *(_large_claim(backend, synthetic, _SYNTHETIC) for backend in TITLE),
    *(_large_claim(backend, real, _REAL) for backend in TITLE),
)
