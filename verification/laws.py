"""The laws of the optimal mask: predicates of a selector, scores and k, for any pruner.

A selector is a function from scores and k to one mask, of this package or another. The laws follow
from Theorem 1 and the tie rule: among equal scores the lower flat index is kept. `assert_law` and
`counterexample` in `verification.strategies` search for scores that break a law. A mask that is
not bool of shape (n,) is an error in all of them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from pins.errors import MaskError

Scores = Mapping[str, Tensor]
"""Importance by tensor name, larger = keep."""

Selector = Callable[[Scores, int], Tensor]
"""(importance, keep) ↦ the mask over all tensors in the order given, (n,) bool, True = keep."""

Predicate = Callable[[Selector, Scores, int], bool]
"""(selector, importance, keep) ↦ True if a law holds for this instance."""


@dataclass(frozen=True)
class Law:
    """A property of the mask of every correct selector, for all scores.

    Attributes:
        name: short, unique, kebab-case.
        statement: the law as a sentence.
        holds: tests one instance.
        integers: True if the law is stated for small integers only.
        tie_rule: True if the law needs the tie rule for scores that are not distinct.
    """

    name: str
    statement: str
    holds: Predicate
    integers: bool = False
    tie_rule: bool = True


_laws: list[Law] = []


def _law(name: str, statement: str, **conditions: bool) -> Callable[[Predicate], Predicate]:
    """Add the predicate below to `LAWS`; it stays a function."""

    def add(holds: Predicate) -> Predicate:
        @functools.wraps(holds)
        def of_checked(select: Selector, importance: Scores, keep: int) -> bool:
            return holds(checked(select), importance, keep)

        _laws.append(Law(name, statement, of_checked, **conditions))
        return of_checked

    return add


def flat(tensors: Mapping[str, Tensor]) -> Tensor:
    """All entries of scores or masks in flat order, (n,), in their common dtype."""
    dtype = functools.reduce(torch.promote_types, (t.dtype for t in tensors.values()))
    return torch.cat([tensor.to(dtype).reshape(-1) for tensor in tensors.values()])


def checked(select: Selector) -> Selector:
    """The selector with each mask checked and copied to the CPU: it may reuse the memory.

    Raises:
        MaskError: by the selector returned, for a mask that is not a bool tensor of shape (n,).
    """

    def select_checked(importance: Scores, keep: int) -> Tensor:
        mask: object = select(importance, keep)
        total = sum(scores.numel() for scores in importance.values())
        if isinstance(mask, Tensor) and mask.dtype == torch.bool and mask.shape == (total,):
            return mask.to("cpu", copy=True)
        came = f"returned an object of type {type(mask).__name__}"
        if isinstance(mask, Tensor):
            came = f"returned a tensor of dtype {mask.dtype} and shape {tuple(mask.shape)}"
        raise MaskError(
            f"the selector {came}; with n = {total} scores, return one tensor of dtype torch.bool "
            f"and shape ({total},), True = keep: mask.bool() converts 0 and 1, and "
            "verification.laws.flat joins the masks of a mapping"
        )

    return select_checked


def right_mask(importance: Scores, keep: int, like: Tensor | None = None) -> Tensor:
    """The mask of the k largest scores, (n,) bool; of equal scores the lower index is kept.

    With `like`, a mask (n,) bool: of equal scores those that it keeps, then the lower index.
    """
    scores = flat(importance).double().tolist()
    kept = [True] * len(scores) if like is None else like.tolist()
    best = sorted(range(len(scores)), key=lambda i: (-scores[i], not kept[i], i))[:keep]
    mask = torch.zeros(len(scores), dtype=torch.bool)
    mask[best] = True
    return mask


def _one_mask(select: Selector, keep: int, *versions: Scores) -> bool:
    """True if all versions of the scores have the same mask."""
    mask, *others = (select(version, keep) for version in versions)
    return all(torch.equal(mask, other) for other in others)


@_law("exact-count", "The mask keeps exactly k weights, whatever the ties.", tie_rule=False)
def exact_count(select: Selector, importance: Scores, keep: int) -> bool:
    """Σm = k."""
    return int(select(importance, keep).sum()) == keep


@_law("theorem-1", "No kept score is below a pruned one.", tie_rule=False)
def theorem_1(select: Selector, importance: Scores, keep: int) -> bool:
    """min{sᵢ : mᵢ = 1} ≥ max{sᵢ : mᵢ = 0}."""
    scores, mask = flat(importance).double(), select(importance, keep)
    kept, pruned = scores[mask].tolist(), scores[~mask].tolist()
    return not kept or not pruned or min(kept) >= max(pruned)


@_law("tie-rule", "The k largest scores are kept, of equal ones those with the lower index.")
def sorted_with_ties_to_the_lower_index(select: Selector, importance: Scores, keep: int) -> bool:
    """m is 1 exactly on the first k indices in the order of (−sᵢ, i)."""
    right = right_mask(importance, keep)  # before the call, which may change the scores
    return torch.equal(select(importance, keep), right)


@_law("permutation", "Permuting distinct scores permutes the mask.")
def permuting_distinct_scores_permutes_the_mask(
    select: Selector, importance: Scores, keep: int
) -> bool:
    """m(s∘π) = m(s)∘π for distinct scores; duplicates are removed first."""
    values = flat(importance)
    scores = torch.tensor(list(dict.fromkeys(values.tolist())), dtype=values.dtype)
    keep %= scores.numel() + 1
    order = torch.randperm(scores.numel(), generator=torch.Generator().manual_seed(keep))
    return torch.equal(select({"w": scores[order]}, keep), select({"w": scores}, keep)[order])


@_law("affine", "a·s + b with a > 0 has the same mask as s.", integers=True)
def increasing_affine_maps_do_not_matter(select: Selector, importance: Scores, keep: int) -> bool:
    """m(a·s + b) = m(s) for a > 0; on small integers, so that a·s + b is exact."""
    maps = ((0.5, 0.0), (3.0, -7.0), (1.0, 1000.0))
    images = ({name: a * s + b for name, s in importance.items()} for a, b in maps)
    return _one_mask(select, keep, importance, *images)


@_law("nesting", "The weights kept of k are kept of k+1.")
def what_k_keeps_is_kept_by_k_plus_1(select: Selector, importance: Scores, keep: int) -> bool:
    """m for k+1 is m for k with one more weight."""
    if keep == flat(importance).numel():
        return True
    fewer, more = select(importance, keep), select(importance, keep + 1)
    return bool((more | ~fewer).all()) and int((more & ~fewer).sum()) == 1


@_law("complement", "Keeping k of s is pruning n−k of −s.")
def keeping_k_is_pruning_the_others_of_the_negative(
    select: Selector, importance: Scores, keep: int
) -> bool:
    """m for k of s = ¬m for n−k of −s reversed: the tie rule prunes the higher index."""
    negative = -flat(importance).flip(0)
    pruned = select({"w": negative}, negative.numel() - keep).flip(0)
    return torch.equal(select(importance, keep), ~pruned)


@_law("concatenation", "How a model is cut into tensors does not matter.")
def cutting_into_tensors_does_not_matter(select: Selector, importance: Scores, keep: int) -> bool:
    """m of the given tensors = m of one tensor = m of two halves, one if there is one score."""
    scores = flat(importance)
    halves = {str(i): half for i, half in enumerate(scores.tensor_split(min(2, scores.numel())))}
    return _one_mask(select, keep, importance, {"w": scores}, halves)


@_law("strides", "How a tensor lies in memory does not matter.")
def strides_do_not_matter(select: Selector, importance: Scores, keep: int) -> bool:
    """m of a strided view = m of its copy; m of column-major scores = m of row-major scores."""
    scores = flat(importance)
    every_second = torch.stack([scores, scores.flip(0)], dim=1)[:, 0]
    rows = torch.stack([scores, -scores])
    columns = rows.t().contiguous().t()
    return all(
        _one_mask(select, keep, {"w": dense}, {"w": strided})
        for dense, strided in ((scores, every_second), (rows, columns))
    )


@_law("float64", "Scores in float64 have the same mask.")
def float64_does_not_matter(select: Selector, importance: Scores, keep: int) -> bool:
    """m of the scores in float64 = m of the scores: the conversion is exact."""
    widened = {name: scores.double() for name, scores in importance.items()}
    return _one_mask(select, keep, importance, widened)


@_law("zero", "The sign of a zero does not matter.")
def the_sign_of_zero_does_not_matter(select: Selector, importance: Scores, keep: int) -> bool:
    """m with 0.0 for every zero = m with −0.0 for every zero = m."""
    zeros = (0.0, -0.0)
    signed = ({n: s.masked_fill(s == 0, zero) for n, s in importance.items()} for zero in zeros)
    return _one_mask(select, keep, importance, *signed)


@_law("determinism", "The same scores have the same mask at each call.", tie_rule=False)
def the_same_scores_have_the_same_mask(select: Selector, importance: Scores, keep: int) -> bool:
    """m(s) = m(s) again after a call for s in reverse: neither chance nor earlier calls matter."""
    reverse = {name: s.flip(tuple(range(s.dim()))) for name, s in importance.items()}
    first, _, again = (
        select({name: scores.clone() for name, scores in version.items()}, keep)
        for version in (importance, reverse, importance)
    )
    return torch.equal(first, again)


@_law("unchanged", "The scores are left as they are.", tie_rule=False)
def scores_are_left_as_they_are(select: Selector, importance: Scores, keep: int) -> bool:
    """The selection does not change s."""
    copies = {name: scores.clone() for name, scores in importance.items()}
    select(copies, keep)
    return all(torch.equal(scores, copies[name]) for name, scores in importance.items())


LAWS = tuple(_laws)
"""All laws; a correct selector with the tie rule satisfies each of them."""
