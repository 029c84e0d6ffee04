"""Transposable N:M: the masks against all masks, CBC and HiGHS, and the potentials that prove them.

Scores are of bfloat16, which each square's unit 2^e holds exactly: the potentials prove a gap of 0.
"""

from collections.abc import Callable, Iterator
from itertools import cycle, product
from math import prod

import torch
from torch import Tensor

from pins.selection.transposable.constraint import TransposableNofM
from pins.selection.transposable.select import transposable
from solvers import TransposableFormulation
from verification.certificates.squares import gap_of_squares, potentials_of
from verification.claims.claim import Claim, Finding, Setting, search
from verification.claims.solver_comparison import (
    TITLE,
    Instance,
    against_enumeration,
    against_solver,
)
from verification.testing.synthetic_scores import FAMILIES

PATTERNS = ((1, 4), (2, 4), (4, 8), (3, 8))
QUICK_SHAPE, FULL_SHAPE = (8, 16), (16, 32)
SMALL = ((1, 2), (1, 4), (2, 4), (3, 4))  # of one square, all of whose masks are tried
EXACT = {name: family for name, family in FAMILIES.items() if name != "magnitudes"}

Case = tuple[str, Tensor, TransposableNofM]
"""Its name, a matrix of scores, and the pattern."""
Decider = Callable[[Tensor, TransposableNofM], Tensor]
"""(scores, pattern) ↦ mask."""


def optimum(scores: Tensor, pattern: TransposableNofM) -> Tensor:
    """Potentials, and shortest paths from them."""
    return transposable(scores, pattern.n, pattern.m).mask


def exchanged(scores: Tensor, pattern: TransposableNofM) -> Tensor:
    """The rival: the optimum with two rows exchanged, which is a transposable mask too."""
    mask = optimum(scores, pattern)
    return torch.cat([mask[:2].flip(0), mask[2:]])


def cases(setting: Setting) -> Iterator[Case]:
    """Every pattern, of every family in the full profile; and of each layer type of a model."""
    rng, quick = setting.rng(), setting.profile == "quick"
    shape = QUICK_SHAPE if quick else FULL_SHAPE
    pairs = zip(PATTERNS, cycle(EXACT), strict=False) if quick else product(PATTERNS, EXACT)
    for (n, m), family in pairs:
        scores = EXACT[family](rng, prod(shape)).view(shape).bfloat16()
        yield f"{family}, {n}:{m}", scores, TransposableNofM(n, m)
    importance = setting.real.importance("pins")
    for (kind, name), (n, m) in zip(
        setting.real.layer_types().items(), cycle(PATTERNS), strict=False
    ):
        scores = importance[name][: shape[0], : shape[1]].bfloat16()
        scores = scores[: len(scores) // m * m, : scores.shape[1] // m * m]
        if scores.numel():
            yield f"real, {kind}, {n}:{m}", scores, TransposableNofM(n, m)


def small(setting: Setting) -> Iterator[Case]:
    """One square of every family."""
    rng = setting.rng()
    for case, ((n, m), family) in enumerate(product(SMALL * setting.pick(1, 10), EXACT)):
        scores = EXACT[family](rng, m * m).view(m, m).bfloat16()
        yield f"square {case}, {family}, {n}:{m}", scores, TransposableNofM(n, m)


def instances(found: Iterator[Case], decider: Decider) -> Iterator[Instance]:
    """The programs and the points of these cases."""
    for name, scores, pattern in found:
        formulation = TransposableFormulation(scores, pattern.n, pattern.m)
        yield Instance(name, formulation.program, formulation.apply(decider(scores, pattern)))


def proved(setting: Setting, *, swapped: bool = False) -> Finding:
    """The potentials prove a gap of 0 in exact sums; `swapped`: those of rows for columns."""
    wrong, squares = [], 0
    for name, scores, pattern in cases(setting):
        masks = {"w": optimum(scores, pattern)}
        potentials = potentials_of({"w": scores}, pattern)
        squares += len(potentials["w"])
        if swapped:
            a, b, e = torch.split(potentials["w"], [pattern.m, pattern.m, 1], 1)
            potentials["w"] = torch.cat([b, a, e], 1)
        if gap := gap_of_squares({"w": scores}, masks, potentials, pattern):
            wrong.append(f"{name}: a gap of {float(gap):.3g}")
            break
    return search(f"{squares} squares", wrong, squares=squares)


_SCOPE = (
    f"{', '.join(f'{n}:{m}' for n, m in PATTERNS)}; {len(EXACT)} families of scores and slices of "
    "real scores of every layer type, in bfloat16"
)


def _solver_claim(backend: str) -> Claim:
    return Claim(
        id=f"transposable-{backend}",
        statement=f"{TITLE[backend]} finds no better transposable mask.",
        scope=f"{_SCOPE}; n = {prod(QUICK_SHAPE)} (full: {prod(FULL_SHAPE)})",
        source="weak duality (pins.selection.transposable.select)",
        check=lambda setting: against_solver(backend, instances(cases(setting), optimum)),
        control_statement="the mask with two rows exchanged is as good",
        control=lambda setting: against_solver(backend, instances(cases(setting), exchanged)),
    )


CLAIMS = (
    Claim(
        id="transposable-enumeration",
        statement="A transposable mask is the best of all.",
        scope=f"{', '.join(f'{n}:{m}' for n, m in SMALL)}; one square, all 2ⁿ masks compared in "
        f"exact arithmetic; {len(EXACT)} families of scores in bfloat16",
        source="weak duality (pins.selection.transposable.select)",
        check=lambda setting: against_enumeration(
            instances(small(setting), optimum), "n ≤ 16, with ties"
        ),
        control_statement="with two rows exchanged it still is",
        control=lambda setting: against_enumeration(
            instances(small(setting), exchanged), "n ≤ 16, with ties"
        ),
    ),
    Claim(
        id="transposable-potentials",
        statement="Potentials of rows and columns prove it: their gap is 0, in exact arithmetic.",
        scope=_SCOPE,
        source="weak duality (pins.selection.transposable.select)",
        check=proved,
        control_statement="potentials of rows that are taken for those of columns prove it too",
        control=lambda setting: proved(setting, swapped=True),
    ),
    *(_solver_claim(backend) for backend in TITLE),
)
