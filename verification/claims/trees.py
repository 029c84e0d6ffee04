"""Trees of bounds: the closed form against all masks, CBC, HiGHS, and the duals of the relaxation.

Random trees, and one of each kind that people prune with.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from itertools import chain, cycle, product
from math import prod

import numpy as np
from torch import Tensor

from pins.errors import CardinalityError
from pins.selection.select import decide
from pins.selection.tree import Node
from solvers import BinaryProgram, Relaxation, Sense, Thresholds, TreeFormulation, optimal_set
from solvers.exact import BoolArray
from verification.claims.claim import Claim, Finding, Setting, search
from verification.claims.duality import LP_TOLERANCE, fractional_entries
from verification.claims.solver_comparison import TITLE, Instance, against_solver
from verification.testing.random_trees import random_trees
from verification.testing.synthetic_scores import FAMILIES, ties
from verification.testing.tree_builders import BUILDERS, square

SMALL = ((2, 2), (1, 4), (3,))  # shapes of tensors whose 2¹¹ masks are tried
TENSORS = 6  # of synthetic scores
QUICK_SHAPE, FULL_SHAPE = (4, 12), (8, 24)  # of each tensor; HiGHS takes n² time
TRANSVERSAL = 6  # rows, columns and diagonals of a square

Tensors = Mapping[str, Tensor]
Case = tuple[str, Tensors, Node]
"""Its name, the scores, and the tree."""
Decider = Callable[[Tensors, Node], Tensors]
"""(scores, tree) ↦ masks."""


def closed_form(scores: Tensors, root: Node) -> Tensors:
    """Bottom-up force and exclude, then the best of the rest."""
    return decide(scores, root).masks


def by_absolute_value(scores: Tensors, root: Node) -> Tensors:
    """The rival of the controls: rank by |s|, as the authors' released code does."""
    return closed_form({name: s.abs() for name, s in scores.items()}, root)


def wrong_bound(scores: Tensors, root: Node) -> Tensors:
    """A rival: some tensor has to keep one weight more than the optimum keeps of it."""
    best = closed_form(scores, root)
    for name in scores:
        raised = _with_minimum(root, name, int(best[name].sum()) + 1)
        try:
            return closed_form(scores, raised)
        except CardinalityError:
            continue  # it cannot
    return best


def _with_minimum(node: Node, name: str, minimum: int) -> Node:
    """The same tree with another minimum of one tensor."""
    children = tuple(
        _with_minimum(child, name, minimum)
        if isinstance(child, Node)
        else (replace(child, minimum=minimum) if child.name == name else child)
        for child in node.children
    )
    return replace(node, children=children)


def exchanged(program: BinaryProgram, point: BoolArray, *, tied: bool) -> BoolArray:
    """A kept weight exchanged with a pruned one of the same score, or with one of a smaller.

    The first such exchange that the bounds allow; without any, the point itself.
    """
    costs, bounds = program.objective, program.rhs[:, None]
    rows = program.matrix.toarray()  # of 0, 1 and −1, so that floats are exact
    equal = np.array([sense is Sense.EQUAL for sense in program.senses])[:, None]
    for i in np.flatnonzero(point):
        rivals = np.flatnonzero(~point & (costs == costs[i] if tied else costs > costs[i]))
        left = (rows @ point - rows[:, i])[:, None] + rows[:, rivals]
        fits = ((left == bounds) | ((left < bounds) & ~equal)).all(0)
        if fits.any():
            other = point.copy()
            other[[i, rivals[fits][0]]] = False, True
            return other
    return point


def small(setting: Setting, number: int) -> Iterator[Case]:
    """Scores with ties in three tensors, and random trees."""
    rng = setting.rng()
    for case in range(number):
        scores = {f"layer {i}": ties(rng, prod(shape)).view(shape) for i, shape in enumerate(SMALL)}
        (root,) = random_trees(rng, scores)
        told = {name: tensor.tolist() for name, tensor in scores.items()}
        yield f"tree {case}, s = {told}", scores, root


def synthetic(setting: Setting) -> Iterator[Case]:
    """Scores in tensors of different scale, so that bounds bind, and every builder."""
    rng, shape = setting.rng(), QUICK_SHAPE if setting.profile == "quick" else FULL_SHAPE
    pairs = zip(BUILDERS, cycle(FAMILIES), strict=False)
    for builder, family in pairs if setting.profile == "quick" else product(BUILDERS, FAMILIES):
        draw = partial(FAMILIES[family], rng, prod(shape))
        scores = {f"layer {i}": 0.25**i * draw().view(shape) for i in range(TENSORS)}
        yield f"{family}, {builder.__name__}", scores, builder(scores)


def real(setting: Setting) -> Iterator[Case]:
    """A slice of one tensor of each layer type of the real model, and every builder."""
    height, width = QUICK_SHAPE if setting.profile == "quick" else FULL_SHAPE
    importance, kinds = setting.real.importance("pins"), setting.real.layer_types()
    scores = {
        kind: tensor
        for kind, name in kinds.items()
        if (tensor := importance[name][:height, :width]).shape == (height, width)
    }
    for builder in BUILDERS:
        yield f"real, {builder.__name__}", scores, builder(scores)


def among_all(
    setting: Setting, decider: Decider, *, exchange: bool = False, first: bool = False
) -> Finding:
    """The masks are an optimum among all masks, with `first` that of the tie rule."""
    wrong, cases = [], 0
    for name, scores, root in small(setting, setting.pick(60, 1000)):
        formulation = TreeFormulation(scores, root)
        point = formulation.apply(decider(scores, root))
        if exchange:
            point = exchanged(formulation.program, point, tied=True)
        best = optimal_set(formulation.program)
        cases += 1
        places = [i for i, x in enumerate(best) if np.array_equal(x, point)]
        if not places or (first and places != [0]):
            place = f"the optimum {places[0]}" if places else "not one"
            wrong.append(f"{name}: {place} of {len(best)} optima")
            break
    return search(f"{cases} programs enumerated, n = 11, with ties", wrong, programs=cases)


def uniqueness(setting: Setting, predicted: Callable[[Tensors, Node], bool]) -> Finding:
    """Compare the prediction that the optimum is unique with the number of optima."""
    wrong, cases = [], 0
    for name, scores, root in small(setting, setting.pick(60, 1000)):
        optima = len(optimal_set(TreeFormulation(scores, root).program))
        cases += 1
        if predicted(scores, root) != (optima == 1):
            wrong.append(f"{name}: {optima} optima")
            break
    return search(f"{cases} programs enumerated, n = 11, with ties", wrong, programs=cases)


def duals_prove(setting: Setting, *, exchange: bool) -> Finding:
    """The row duals of HiGHS satisfy (a) and (b) of Theorem 6 for the closed form's masks."""
    wrong, cases, worst = [], 0, 0.0
    for name, scores, root in chain(synthetic(setting), real(setting)):
        formulation = TreeFormulation(scores, root)
        point = formulation.apply(closed_form(scores, root))
        if exchange:
            point = exchanged(formulation.program, point, tied=False)
        multipliers = Relaxation().solve(formulation.program).multipliers
        cases += 1
        if multipliers is None:
            wrong.append(f"{name}: HiGHS gave no multipliers")
            break
        largest = float(np.abs(formulation.program.objective).max())
        violation = Thresholds(formulation, multipliers).violation(point) / largest
        worst = max(worst, violation)
        if violation > LP_TOLERANCE:
            wrong.append(f"{name}: {violation:.2g} of the largest |s| beyond a threshold")
            break
    return search(f"{cases} trees, off by ≤ {worst:.1e} of the largest |s|", wrong, programs=cases)


def integral(setting: Setting, programs: Callable[[Setting], Iterator[BinaryProgram]]) -> Finding:
    """The vertex of the LP relaxation that HiGHS finds is a 0-1 point."""
    wrong, cases = [], 0
    for program in programs(setting):
        relaxed = Relaxation().solve(program)
        cases += 1
        if relaxed.x is None:
            wrong.append(relaxed.status.value)
        elif fractional := fractional_entries(relaxed.x):
            wrong.append(f"n = {program.size}: {fractional} fractional entries")
    return search(f"{cases} relaxations solved by HiGHS", wrong, programs=cases)


def one_or_two_trees(setting: Setting) -> Iterator[BinaryProgram]:
    """Random trees and pairs of them, and the rows and columns of a square."""
    rng = setting.rng()
    for number in (1, 2) * setting.pick(10, 100):
        scores = {f"layer {i}": FAMILIES["gaussian"](rng, 48).view(6, 8) for i in range(3)}
        yield TreeFormulation(scores, random_trees(rng, scores, number)).program
    yield from _squares(setting, 2)


def three_trees(setting: Setting) -> Iterator[BinaryProgram]:
    """The rows, columns and diagonals of a square."""
    return _squares(setting, 3)


def _squares(setting: Setting, number: int) -> Iterator[BinaryProgram]:
    """One of each row, of each column and, of three, of each diagonal of a square."""
    rng = setting.rng()
    for _ in range(setting.pick(10, 100)):
        scores = FAMILIES["gaussian"](rng, TRANSVERSAL**2)
        named, roots = square(scores.view(TRANSVERSAL, TRANSVERSAL))
        yield TreeFormulation(named, roots[:number]).program


def _instances(setting: Setting, decider: Decider) -> Iterator[Instance]:
    for name, scores, root in chain(synthetic(setting), real(setting)):
        yield Instance.of(name, TreeFormulation(scores, root), decider(scores, root))


def _solver_claim(backend: str) -> Claim:
    return Claim(
        id=f"tree-{backend}",
        statement=f"{TITLE[backend]} finds no better mask with bounds in nested sets of weights.",
        scope="minimums and exact numbers by tensor, by row, by column, 2:4 exactly and at most, "
        "heads in layers, frozen weights; five families of scores in tensors of different scale, "
        f"and slices of real scores of every layer type; n = {TENSORS * prod(QUICK_SHAPE)} (full: "
        f"{TENSORS * prod(FULL_SHAPE):,})",
        source="Theorem 6 (pins.selection.optimality)",
        check=lambda setting: against_solver(backend, _instances(setting, closed_form)),
        control_statement="ranking by |s| instead is as good",
        control=lambda setting: against_solver(backend, _instances(setting, by_absolute_value)),
    )


_RANDOM = (
    "random trees over n = 11 weights in three tensors, scores with ties, frozen weights, rows, "
    "columns and groups; all 2ⁿ masks compared in exact arithmetic"
)
CLAIMS = (
    Claim(
        id="tree-enumeration",
        statement="The closed form is an optimum for bounds in nested sets of weights.",
        scope=_RANDOM,
        source="Theorem 6 (pins.selection.optimality)",
        check=lambda setting: among_all(setting, closed_form),
        control_statement="with one bound that is wrong by one it is an optimum",
        control=lambda setting: among_all(setting, wrong_bound),
    ),
    Claim(
        id="tree-tie-rule",
        statement="Of all optima it is the one that keeps the lower indices.",
        scope=_RANDOM,
        source="Theorem 6 (pins.selection.optimality)",
        check=lambda setting: among_all(setting, closed_form, first=True),
        control_statement="it still is after an exchange of two equal scores, which is an optimum",
        control=lambda setting: among_all(setting, closed_form, exchange=True, first=True),
    ),
    Claim(
        id="tree-uniqueness",
        statement="The optimum is unique iff a_A < b_A in every node.",
        scope=_RANDOM,
        source="Theorem 6 (pins.selection.optimality)",
        check=lambda setting: uniqueness(
            setting, lambda scores, root: decide(scores, root).proof.unique
        ),
        control_statement="the optimum is always unique",
        control=lambda setting: uniqueness(setting, lambda scores, root: True),  # noqa: ARG005
    ),
    Claim(
        id="tree-duals",
        statement="The row duals of HiGHS are thresholds that prove the closed form's mask.",
        scope="the trees and scores of `tree-highs`; up to the tolerance of the simplex method",
        source="Theorem 6 (pins.selection.optimality), LP duality",
        check=lambda setting: duals_prove(setting, exchange=False),
        control_statement="they prove it after a kept weight and a smaller one are exchanged too",
        control=lambda setting: duals_prove(setting, exchange=True),
    ),
    Claim(
        id="tree-relaxation",
        statement="The LP relaxation of one tree, and of two over the same weights, has a 0-1 "
        "optimum.",
        scope=f"random trees and pairs of trees, n = 144, and rows × columns, n = {TRANSVERSAL**2}",
        source="Edmonds: the rows of two laminar families are totally unimodular",
        check=lambda setting: integral(setting, one_or_two_trees),
        control_statement="that of three trees, rows × columns × diagonals, has one as well",
        control=lambda setting: integral(setting, three_trees),
    ),
    *(_solver_claim(backend) for backend in TITLE),
)
