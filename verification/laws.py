"""The laws of the optimal mask: predicates of a selector, scores and k, for any pruner.

A selector is a function from scores and k to one mask, of this package or another. The laws follow
from Theorem 1, for other scopes from Theorem 6 (`pins.selection.optimality`), and the tie rule:
among equal scores the lower flat index is kept. `LAWS` are those of the scope flat, `laws_of` gives
those of each other (`verification.scopes`). `assert_law` and `counterexample` in
`verification.strategies` search for scores that break a law. A mask that is not bool, or not of
shape (n,) or of that of the matrix, is an error in all of them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from pins.errors import MaskError
from pins.selection.scan import float_keys
from verification.laminar import Program
from verification.scopes import FLAT, Given, Keep, Scope, reverse
from verification.scopes import Scores as Scores

Selector = Callable[[Any, Any], Tensor]
"""(importance, keep) ↦ the mask, bool, True = keep: in scope flat over all tensors in the order
given, (n,). Other scopes say in `verification.scopes` what a selector gets and returns."""

Predicate = Callable[[Selector, Any, Any], bool]
"""(selector, importance, keep) ↦ True if a law holds for this instance."""


@dataclass(frozen=True)
class Law:
    """A property of the mask of every correct selector, for all scores.

    Attributes:
        name: short, kebab-case, unique in its scope.
        statement: the law as a sentence.
        holds: tests one instance.
        integers: True if the law is stated for small integers only.
        tie_rule: True if the law needs the tie rule for scores that are not distinct.
        scope: over what the selector decides.
    """

    name: str
    statement: str
    holds: Predicate
    integers: bool = False
    tie_rule: bool = True
    scope: Scope = FLAT


_Test = Callable[[Selector, Scores, Keep, Scope], bool]
_forms: list[tuple[Law, Callable[..., bool], Callable[[Scope], bool]]] = []


def _always(_: Scope) -> bool:
    return True


def _law(
    name: str,
    statement: str,
    applies: Callable[[Scope], bool] = _always,
    *,
    integers: bool = False,
    tie_rule: bool = True,
) -> Callable[[_Test], Callable[..., bool]]:
    """Add the predicate below to the laws of each scope to which it applies.

    It stays a function of the selector, what it gets, k and the scope, default: flat. `statement`
    may have the words of a scope in braces.
    """

    def add(test: _Test) -> Callable[..., bool]:
        @functools.wraps(test)
        def holds(select: Selector, given: Given, keep: Keep, scope: Scope = FLAT) -> bool:
            return test(checked(select, scope), scope.named(given), keep, scope)

        _forms.append((Law(name, statement, holds, integers, tie_rule), holds, applies))
        return holds

    return add


@functools.cache
def laws_of(scope: Scope) -> tuple[Law, ...]:
    """The laws of a scope; a correct selector with the tie rule satisfies each of them."""
    return tuple(
        replace(
            form,
            statement=form.statement.format_map(vars(scope)),
            holds=functools.partial(holds, scope=scope),
            scope=scope,
        )
        for form, holds, applies in _forms
        if applies(scope)
    )


def flat(tensors: Mapping[str, Tensor]) -> Tensor:
    """All entries of scores or masks in flat order, (n,), in their common dtype."""
    dtype = functools.reduce(torch.promote_types, (t.dtype for t in tensors.values()))
    return torch.cat([tensor.to(dtype).reshape(-1) for tensor in tensors.values()])


def checked(select: Selector, scope: Scope = FLAT) -> Selector:
    """The selector as a function of scores by name, with its masks flat, (n,), on the CPU.

    Each mask is copied: the selector may reuse the memory.

    Raises:
        MaskError: by the selector returned, as `require_mask`.
    """

    def select_checked(importance: Scores, keep: Keep) -> Tensor:
        given = scope.given(importance)
        return require_mask(select(given, keep), given).reshape(-1)

    return select_checked


def require_mask(mask: object, given: Given) -> Tensor:
    """A copy of the mask that a selector returned, on the CPU.

    Raises:
        MaskError: it is not a bool tensor of shape (n,), or of that of the matrix given.
    """
    total = given.numel() if isinstance(given, Tensor) else sum(s.numel() for s in given.values())
    shape = tuple(given.shape) if isinstance(given, Tensor) else (total,)
    if isinstance(mask, Tensor) and mask.dtype == torch.bool and mask.shape == shape:
        return mask.to("cpu", copy=True)
    came = f"returned an object of type {type(mask).__name__}"
    if isinstance(mask, Tensor):
        came = f"returned a tensor of dtype {mask.dtype} and shape {tuple(mask.shape)}"
    join = (
        ""
        if isinstance(given, Tensor)
        else (", and verification.laws.flat joins the masks of a mapping")
    )
    raise MaskError(
        f"the selector {came}; with n = {total} scores, return one tensor of dtype torch.bool "
        f"and shape {shape}, True = keep: mask.bool() converts 0 and 1{join}"
    )


def right_mask(given: Given, keep: Keep, like: Tensor | None = None, scope: Scope = FLAT) -> Tensor:
    """The optimum, (n,) bool: in scope flat the k largest; of equal scores the lower index is kept.

    With `like`, a mask: of equal scores those that it keeps, then the lower index.
    """
    program = _program(scope.named(given), keep, scope)
    return program.optimum(None if like is None else like.reshape(-1))


def _program(importance: Scores, keep: Keep, scope: Scope) -> Program:
    return Program.of(scope.tree(importance, keep), importance)


def _one_mask(select: Selector, keep: Keep, *versions: Scores) -> bool:
    """True if all versions of the scores have the same mask."""
    mask, *others = (select(version, keep) for version in versions)
    return all(torch.equal(mask, other) for other in others)


@_law("exact-count", "{keeps}, whatever the ties.", tie_rule=False)
def exact_count(select: Selector, importance: Scores, keep: Keep, scope: Scope) -> bool:
    """Σm = k; in other scopes l ≤ m(A) ≤ h for each node A."""
    program = _program(importance, keep, scope)
    return program.allows(select(importance, keep))


@_law("theorem-1", "No kept score is below a pruned one{beside}.", tie_rule=False)
def theorem_1(select: Selector, importance: Scores, keep: Keep, scope: Scope) -> bool:
    """min{sᵢ : mᵢ = 1} ≥ max{sᵢ : mᵢ = 0}; in other scopes no exchange that is allowed gains."""
    program = _program(importance, keep, scope)  # before the call, which may change the scores
    return program.gaining_exchange(select(importance, keep)) is None


@_law("tie-rule", "The {best} are kept, of equal ones those with the lower index.")
def sorted_with_ties_to_the_lower_index(
    select: Selector, importance: Scores, keep: Keep, scope: Scope
) -> bool:
    """m is 1 exactly on the first k indices in the order of (−sᵢ, i)."""
    right = _program(importance, keep, scope).optimum()
    return torch.equal(select(importance, keep), right)


@_law("permutation", "Permuting {permuted} permutes the mask.")
def permuting_distinct_scores_permutes_the_mask(
    select: Selector, importance: Scores, keep: Keep, scope: Scope
) -> bool:
    """m(s∘π) = m(s)∘π for distinct scores, to which those given are moved by the least floats."""
    scores = _distinct(importance)
    program = _program(scores, keep, scope)
    if not program.distinct:  # sums of blocks
        return True
    order = program.permutation(seed=int(program.optimum().sum()))
    permuted = _filled(scores, flat(scores)[order])
    return torch.equal(select(permuted, keep), select(scores, keep)[order])


def _distinct(importance: Scores) -> Scores:
    """Scores in the same order without ties: equal ones are moved to neighbouring floats."""
    values = flat(importance)
    _, top = float_keys.finite(values.dtype)
    keys, order = float_keys.keys(values).long().sort(stable=True)
    steps = torch.arange(keys.numel())
    up = (keys - steps).cummax(0).values + steps
    keys = torch.minimum(up, top - steps.flip(0))
    return _filled(importance, values.index_copy(0, order, float_keys.scores(keys, values.dtype)))


def _filled(importance: Scores, values: Tensor) -> Scores:
    """Tensors of these names and shapes with other values, (n,)."""
    parts = torch.split(values, [scores.numel() for scores in importance.values()])
    return {
        name: part.view(scores.shape)
        for (name, scores), part in zip(importance.items(), parts, strict=True)
    }


@_law("affine", "a·s + b with a > 0 has the same mask as s.", integers=True)
def increasing_affine_maps_do_not_matter(
    select: Selector, importance: Scores, keep: Keep, _: Scope
) -> bool:
    """m(a·s + b) = m(s) for a > 0; on small integers, so that a·s + b is exact."""
    maps = ((0.5, 0.0), (3.0, -7.0), (1.0, 1000.0))
    images = ({name: a * s + b for name, s in importance.items()} for a, b in maps)
    return _one_mask(select, keep, importance, *images)


@_law("nesting", "The weights kept of k are kept of k+1.", lambda scope: scope.number is None)
def what_k_keeps_is_kept_by_k_plus_1(
    select: Selector, importance: Scores, keep: Keep, scope: Scope
) -> bool:
    """m for k+1 is m for k with one more weight; of rows in each row, of blocks a block."""
    following = scope.successor(importance, keep)
    if following is None:
        return True
    before, after = (int(_program(importance, k, scope).optimum().sum()) for k in (keep, following))
    fewer, more = select(importance, keep), select(importance, following)
    return bool((more | ~fewer).all()) and int((more & ~fewer).sum()) == after - before


def _mirrors_its_number(scope: Scope) -> bool:
    return scope.number is None or scope.complement({}, scope.number) == scope.number


@_law("complement", "Keeping k of s is pruning n−k of −s.", _mirrors_its_number)
def keeping_k_is_pruning_the_others_of_the_negative(
    select: Selector, importance: Scores, keep: Keep, scope: Scope
) -> bool:
    """m for k of s = ¬m for n−k of −s reversed: the tie rule prunes the higher index."""
    negative = {name: -reverse(importance[name]) for name in reversed([*importance])}
    pruned = select(negative, scope.complement(importance, keep)).flip(0)
    return torch.equal(select(importance, keep), ~pruned)


@_law("concatenation", "How a model is cut into tensors does not matter.", lambda scope: scope.cut)
def cutting_into_tensors_does_not_matter(
    select: Selector, importance: Scores, keep: Keep, scope: Scope
) -> bool:
    """m of the given tensors = m of one tensor = m of two halves, one if there is one score.

    In scopes of rows: m of a matrix = the masks of its rows alone.
    """
    if scope.matrix:
        rows = ({name: row[None]} for name, matrix in importance.items() for row in matrix)
        alone = torch.cat([select(row, keep) for row in rows])
        return torch.equal(select(importance, keep), alone)
    scores = flat(importance)
    halves = {str(i): half for i, half in enumerate(scores.tensor_split(min(2, scores.numel())))}
    return _one_mask(select, keep, importance, {"w": scores}, halves)


@_law("strides", "How a tensor lies in memory does not matter.")
def strides_do_not_matter(select: Selector, importance: Scores, keep: Keep, _: Scope) -> bool:
    """m of a strided view = m of its copy; m of column-major scores = m of row-major scores."""
    versions = [
        {
            name: torch.stack([scores, reverse(scores)], dim=-1)[..., 0]
            for name, scores in importance.items()
        }
    ]
    if any(scores.dim() > 1 for scores in importance.values()):
        versions.append(
            {
                name: scores.mT.contiguous().mT if scores.dim() > 1 else scores
                for name, scores in importance.items()
            }
        )
    return _one_mask(select, keep, importance, *versions)


@_law("float64", "Scores in float64 have the same mask.")
def float64_does_not_matter(select: Selector, importance: Scores, keep: Keep, _: Scope) -> bool:
    """m of the scores in float64 = m of the scores: the conversion is exact."""
    widened = {name: scores.double() for name, scores in importance.items()}
    return _one_mask(select, keep, importance, widened)


@_law("zero", "The sign of a zero does not matter.")
def the_sign_of_zero_does_not_matter(
    select: Selector, importance: Scores, keep: Keep, _: Scope
) -> bool:
    """m with 0.0 for every zero = m with −0.0 for every zero = m."""
    zeros = (0.0, -0.0)
    signed = ({n: s.masked_fill(s == 0, zero) for n, s in importance.items()} for zero in zeros)
    return _one_mask(select, keep, importance, *signed)


@_law("determinism", "The same scores have the same mask at each call.", tie_rule=False)
def the_same_scores_have_the_same_mask(
    select: Selector, importance: Scores, keep: Keep, _: Scope
) -> bool:
    """m(s) = m(s) again after a call for s in reverse: neither chance nor earlier calls matter."""
    reversed_scores = {name: reverse(scores) for name, scores in importance.items()}
    first, _other, again = (
        select({name: scores.clone() for name, scores in version.items()}, keep)
        for version in (importance, reversed_scores, importance)
    )
    return torch.equal(first, again)


@_law("unchanged", "The scores are left as they are.", tie_rule=False)
def scores_are_left_as_they_are(select: Selector, importance: Scores, keep: Keep, _: Scope) -> bool:
    """The selection does not change s."""
    copies = {name: scores.clone() for name, scores in importance.items()}
    select(copies, keep)
    return all(torch.equal(scores, copies[name]) for name, scores in importance.items())


LAWS = laws_of(FLAT)
"""All laws of the scope flat; a correct selector with the tie rule satisfies each of them."""
