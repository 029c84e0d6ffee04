"""The closed form solves the 0-1 program: against enumeration, CBC and HiGHS, compared exactly."""

from collections.abc import Callable, Iterator

from torch import Tensor

from pins.selection.select import select
from solvers import CardinalityFormulation, find_solver
from verification.claims.claim import Claim, Finding, Setting
from verification.claims.solver_comparison import (
    KEPT_RATIO,
    TITLE,
    Instance,
    against_enumeration,
    against_solver,
)
from verification.experiments.model_snapshot import spread
from verification.testing.synthetic_scores import FAMILIES, ties

FULL_SIZE = 4096
QUICK_SIZE = {"cbc": 4096, "highs": 1024}  # the time of HiGHS grows with n²: 4 s at n = 4,096

Selector = Callable[[Tensor, int], Tensor]


def by_absolute_value(scores: Tensor, keep: int) -> Tensor:
    """The rival rule of the controls: rank by |s|, as the authors' released code does."""
    return select(scores.abs(), keep)


def small(setting: Setting, selector: Selector) -> Iterator[Instance]:
    """Scores with ties, n ≤ 12, and every k."""
    rng = setting.rng()
    for _ in range(setting.pick(6, 60)):
        scores = ties(rng, int(rng.integers(1, 13)))
        for keep in range(scores.numel() + 1):
            formulation = CardinalityFormulation(scores, keep)
            name = f"k = {keep}, s = {scores.tolist()}"
            yield Instance.of(name, formulation, selector(scores, keep))


def enumerated(setting: Setting, selector: Selector) -> Finding:
    """Compare with all masks."""
    return against_enumeration(small(setting, selector), "n ≤ 12, with ties")


def synthetic(setting: Setting, size: int) -> dict[str, Tensor]:
    """Every family of scores, small and large."""
    rng = setting.rng()
    return {
        f"{name}, n = {n}": family(rng, n) for name, family in FAMILIES.items() for n in (256, size)
    }


def real(setting: Setting, size: int) -> dict[str, Tensor]:
    """Scores of one tensor of each layer type of the real model."""
    importance = setting.real.importance("pins")
    return {
        kind: spread(importance[name], size) for kind, name in setting.real.layer_types().items()
    }


def large(scores: dict[str, Tensor], selector: Selector) -> Iterator[Instance]:
    """The programs of these scores."""
    for name, tensor in scores.items():
        keep = round(KEPT_RATIO * tensor.numel())
        yield Instance.of(name, CardinalityFormulation(tensor, keep), selector(tensor, keep))


def _solver_claim(
    backend: str, where: str, scope: str, scores: Callable[[Setting, int], dict[str, Tensor]]
) -> Claim:
    def check(setting: Setting, selector: Selector) -> Finding:
        size = setting.pick(QUICK_SIZE[backend], FULL_SIZE)
        return against_solver(find_solver(backend), large(scores(setting, size), selector))

    return Claim(
        id=f"closed-form-{backend}-{where}",
        statement=f"{TITLE[backend]} finds no better mask than the closed form.",
        scope=f"{scope}; n ≤ {QUICK_SIZE[backend]:,} (full: {FULL_SIZE:,}), {KEPT_RATIO:.0%} kept, "
        "objective scaled by a power of two",
        source="Theorem 1; Ren & Zhu 2023, equality-constrained 0-1 ILP",
        check=lambda setting: check(setting, select),
        control_statement="ranking by |s| instead is as good",
        control=lambda setting: check(setting, by_absolute_value),
    )


_SYNTHETIC = "gaussian, heavy tails, 20 orders of magnitude, ties, near-ties"
_REAL = "real gradients, weights of every layer type"
CLAIMS = (
    Claim(
        id="closed-form-enumeration",
        statement="The k largest scores, ties to the lower index, are an optimum of the 0-1 ILP.",
        scope="every k, n ≤ 12, scores with ties; all 2ⁿ masks compared in exact arithmetic",
        source="Theorem 1 (exchange argument)",
        check=lambda setting: enumerated(setting, select),
        control_statement="the k largest |s| are an optimum",
        control=lambda setting: enumerated(setting, by_absolute_value),
    ),
    *(_solver_claim(backend, "synthetic", _SYNTHETIC, synthetic) for backend in TITLE),
    *(_solver_claim(backend, "real", _REAL, real) for backend in TITLE),
)
