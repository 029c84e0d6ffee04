"""The laws of the optimal mask: predicates of a selector, scores and k, for any pruner.

A selector is a function from scores and k to one mask, of this package or another. The laws follow
from Theorem 1 and the tie rule: among equal scores the lower flat index is kept. `instances` and
`counterexample` in `verification.strategies` search for scores that break a law.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

Selector = Callable[[Mapping[str, Tensor], int], Tensor]
"""(importance, keep) ↦ the mask over all tensors in the order given, (n,) bool, True = keep."""


@dataclass(frozen=True)
class Law:
    """A property of the mask of every correct selector, for all scores.

    Attributes:
        name: short, unique, kebab-case.
        statement: the law as a sentence.
        holds: (selector, importance, keep) ↦ True if the law holds for this instance.
        integers: True if the law is stated for small integers only.
        tie_rule: True if the law needs the tie rule for scores that are not distinct.
    """

    name: str
    statement: str
    holds: Callable[[Selector, Mapping[str, Tensor], int], bool]
    integers: bool = False
    tie_rule: bool = True


def flat(tensors: Mapping[str, Tensor]) -> Tensor:
    """All entries of scores or masks in flat order, (n,), in their common dtype."""
    dtype = functools.reduce(torch.promote_types, (t.dtype for t in tensors.values()))
    return torch.cat([tensor.to(dtype).reshape(-1) for tensor in tensors.values()])


def exact_count(select: Selector, importance: Mapping[str, Tensor], keep: int) -> bool:
    """Σm = k, and m has one entry for each score."""
    mask = select(importance, keep)
    return mask.shape == flat(importance).shape and int(mask.sum()) == keep


def theorem_1(select: Selector, importance: Mapping[str, Tensor], keep: int) -> bool:
    """min{sᵢ : mᵢ = 1} ≥ max{sᵢ : mᵢ = 0}."""
    scores, mask = flat(importance).double(), select(importance, keep)
    kept, pruned = scores[mask].tolist(), scores[~mask].tolist()
    return not kept or not pruned or min(kept) >= max(pruned)


def sorted_with_ties_to_the_lower_index(
    select: Selector, importance: Mapping[str, Tensor], keep: int
) -> bool:
    """m is 1 exactly on the first k indices in the order of (−sᵢ, i)."""
    scores = flat(importance).double().tolist()
    best = sorted(range(len(scores)), key=lambda i: (-scores[i], i))[:keep]
    return select(importance, keep).nonzero().flatten().tolist() == sorted(best)


def permuting_distinct_scores_permutes_the_mask(
    select: Selector, importance: Mapping[str, Tensor], keep: int
) -> bool:
    """m(s∘π) = m(s)∘π for distinct scores; duplicates are removed first."""
    values = flat(importance)
    scores = torch.tensor(list(dict.fromkeys(values.tolist())), dtype=values.dtype)
    keep %= scores.numel() + 1
    order = torch.randperm(scores.numel(), generator=torch.Generator().manual_seed(keep))
    mask, permuted = select({"w": scores}, keep), select({"w": scores[order]}, keep)
    return torch.equal(permuted, mask[order])


def increasing_affine_maps_do_not_matter(
    select: Selector, importance: Mapping[str, Tensor], keep: int
) -> bool:
    """m(a·s + b) = m(s) for a > 0; on small integers, so that a·s + b is exact."""
    mask = select(importance, keep)
    return all(
        torch.equal(mask, select({name: a * s + b for name, s in importance.items()}, keep))
        for a, b in ((0.5, 0.0), (3.0, -7.0), (1.0, 1000.0))
    )


def what_k_keeps_is_kept_by_k_plus_1(
    select: Selector, importance: Mapping[str, Tensor], keep: int
) -> bool:
    """m for k+1 is m for k with one more weight."""
    if keep == flat(importance).numel():
        return True
    fewer, more = select(importance, keep), select(importance, keep + 1)
    return bool((more | ~fewer).all()) and int((more & ~fewer).sum()) == 1


def keeping_k_is_pruning_the_others_of_the_negative(
    select: Selector, importance: Mapping[str, Tensor], keep: int
) -> bool:
    """m for k of s = ¬m for n−k of −s reversed: the tie rule prunes the higher index."""
    negative = -flat(importance).flip(0)
    pruned = select({"w": negative}, negative.numel() - keep).flip(0)
    return torch.equal(select(importance, keep), ~pruned)


def cutting_into_tensors_does_not_matter(
    select: Selector, importance: Mapping[str, Tensor], keep: int
) -> bool:
    """m of the given tensors = m of one tensor = m of two halves."""
    scores, mask = flat(importance), select(importance, keep)
    halves = {str(i): half for i, half in enumerate(scores.tensor_split(2))}
    return torch.equal(mask, select({"w": scores}, keep)) and torch.equal(
        mask, select(halves, keep)
    )


def strides_do_not_matter(select: Selector, importance: Mapping[str, Tensor], keep: int) -> bool:
    """m of a strided view = m of its copy; m of column-major scores = m of row-major scores."""
    scores = flat(importance)
    mask = select({"w": scores}, keep)
    every_second = torch.stack([scores, scores.flip(0)], dim=1)[:, 0]
    columns = torch.stack([scores, -scores]).t().contiguous().t()  # row-major order as written
    doubled = torch.stack([scores, -scores])
    return torch.equal(mask, select({"w": every_second}, keep)) and torch.equal(
        select({"w": columns}, keep), select({"w": doubled}, keep)
    )


def float64_does_not_matter(select: Selector, importance: Mapping[str, Tensor], keep: int) -> bool:
    """m of the scores in float64 = m of the scores: the conversion is exact."""
    widened = {name: scores.double() for name, scores in importance.items()}
    return torch.equal(select(importance, keep), select(widened, keep))


def the_sign_of_zero_does_not_matter(
    select: Selector, importance: Mapping[str, Tensor], keep: int
) -> bool:
    """m with 0.0 for every zero = m with −0.0 for every zero = m."""
    mask = select(importance, keep)
    return all(
        torch.equal(
            mask,
            select({name: s.masked_fill(s == 0, zero) for name, s in importance.items()}, keep),
        )
        for zero in (0.0, -0.0)
    )


def scores_are_left_as_they_are(
    select: Selector, importance: Mapping[str, Tensor], keep: int
) -> bool:
    """The selection does not change s."""
    copies = {name: scores.clone() for name, scores in importance.items()}
    select(copies, keep)
    return all(torch.equal(scores, copies[name]) for name, scores in importance.items())


LAWS = (
    Law(
        "exact-count",
        "The mask keeps exactly k weights, whatever the ties.",
        exact_count,
        tie_rule=False,
    ),
    Law("theorem-1", "No kept score is below a pruned one.", theorem_1, tie_rule=False),
    Law(
        "tie-rule",
        "The k largest scores are kept, of equal ones those with the lower index.",
        sorted_with_ties_to_the_lower_index,
    ),
    Law(
        "permutation",
        "Permuting distinct scores permutes the mask.",
        permuting_distinct_scores_permutes_the_mask,
    ),
    Law(
        "affine",
        "a·s + b with a > 0 has the same mask as s.",
        increasing_affine_maps_do_not_matter,
        integers=True,
    ),
    Law("nesting", "The weights kept of k are kept of k+1.", what_k_keeps_is_kept_by_k_plus_1),
    Law(
        "complement",
        "Keeping k of s is pruning n−k of −s.",
        keeping_k_is_pruning_the_others_of_the_negative,
    ),
    Law(
        "concatenation",
        "How a model is cut into tensors does not matter.",
        cutting_into_tensors_does_not_matter,
    ),
    Law("strides", "How a tensor lies in memory does not matter.", strides_do_not_matter),
    Law("float64", "Scores in float64 have the same mask.", float64_does_not_matter),
    Law("zero", "The sign of a zero does not matter.", the_sign_of_zero_does_not_matter),
    Law(
        "unchanged",
        "The scores are left as they are.",
        scores_are_left_as_they_are,
        tie_rule=False,
    ),
)
"""All laws; a correct selector with the tie rule satisfies each of them."""
