"""The laws of the optimal mask, each as a predicate of a selector, scores and k.

They follow from Theorem 1 and from the rule that of equal scores the lower flat index is kept.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from tests.laws import wrong_selectors as wrong
from tests.laws.paths import Selector, flat


def exact_count(select: Selector, importance: Mapping[str, Tensor], keep: int) -> bool:
    mask = select(importance, keep)
    return mask.shape == flat(importance).shape and int(mask.sum()) == keep


def theorem_1(select: Selector, importance: Mapping[str, Tensor], keep: int) -> bool:
    scores, mask = flat(importance).double(), select(importance, keep)
    kept, pruned = scores[mask].tolist(), scores[~mask].tolist()
    return not kept or not pruned or min(kept) >= max(pruned)


def sorted_with_ties_to_the_lower_index(
    select: Selector, importance: Mapping[str, Tensor], keep: int
) -> bool:
    scores = flat(importance).double().tolist()
    best = sorted(range(len(scores)), key=lambda i: (-scores[i], i))[:keep]
    return select(importance, keep).nonzero().flatten().tolist() == sorted(best)


def permuting_distinct_scores_permutes_the_mask(
    select: Selector, importance: Mapping[str, Tensor], keep: int
) -> bool:
    together = flat(importance)
    scores = torch.tensor(list(dict.fromkeys(together.tolist())), dtype=together.dtype)
    keep %= scores.numel() + 1
    order = torch.randperm(scores.numel(), generator=torch.Generator().manual_seed(keep))
    mask, permuted = select({"w": scores}, keep), select({"w": scores[order]}, keep)
    return torch.equal(permuted, mask[order])


def increasing_affine_maps_do_not_matter(
    select: Selector, importance: Mapping[str, Tensor], keep: int
) -> bool:
    """On small integers, where a·s + b is exact."""
    mask = select(importance, keep)
    return all(
        torch.equal(mask, select({name: a * s + b for name, s in importance.items()}, keep))
        for a, b in ((0.5, 0.0), (3.0, -7.0), (1.0, 1000.0))
    )


def what_k_keeps_is_kept_by_k_plus_1(
    select: Selector, importance: Mapping[str, Tensor], keep: int
) -> bool:
    if keep == flat(importance).numel():
        return True
    fewer, more = select(importance, keep), select(importance, keep + 1)
    return bool((more | ~fewer).all()) and int((more & ~fewer).sum()) == 1


def keeping_k_is_pruning_the_others_of_the_negative(
    select: Selector, importance: Mapping[str, Tensor], keep: int
) -> bool:
    """Read backwards, because of equal scores the higher index is pruned."""
    negative = -flat(importance).flip(0)
    pruned = select({"w": negative}, negative.numel() - keep).flip(0)
    return torch.equal(select(importance, keep), ~pruned)


def cutting_into_tensors_does_not_matter(
    select: Selector, importance: Mapping[str, Tensor], keep: int
) -> bool:
    scores, mask = flat(importance), select(importance, keep)
    halves = {str(i): half for i, half in enumerate(scores.tensor_split(2))}
    return torch.equal(mask, select({"w": scores}, keep)) and torch.equal(
        mask, select(halves, keep)
    )


def strides_do_not_matter(select: Selector, importance: Mapping[str, Tensor], keep: int) -> bool:
    scores = flat(importance)
    mask = select({"w": scores}, keep)
    every_second = torch.stack([scores, scores.flip(0)], dim=1)[:, 0]
    columns = torch.stack([scores, -scores]).t().contiguous().t()  # row-major order as written
    doubled = torch.stack([scores, -scores])
    return torch.equal(mask, select({"w": every_second}, keep)) and torch.equal(
        select({"w": columns}, keep), select({"w": doubled}, keep)
    )


def float64_does_not_matter(select: Selector, importance: Mapping[str, Tensor], keep: int) -> bool:
    widened = {name: scores.double() for name, scores in importance.items()}
    return torch.equal(select(importance, keep), select(widened, keep))


def the_sign_of_zero_does_not_matter(
    select: Selector, importance: Mapping[str, Tensor], keep: int
) -> bool:
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
    copies = {name: scores.clone() for name, scores in importance.items()}
    select(copies, keep)
    return all(torch.equal(scores, copies[name]) for name, scores in importance.items())


@dataclass(frozen=True)
class Law:
    """A law, and the wrong selectors that must be found to break it.

    Attributes:
        holds: whether it holds of a selector on one instance.
        broken_by: wrong selectors.
        integers: stated for small integers only.
        tie_rule: needs the rule for equal scores, unless all are distinct.
    """

    holds: Callable[[Selector, Mapping[str, Tensor], int], bool]
    broken_by: tuple[Selector, ...]
    integers: bool = False
    tie_rule: bool = True


LAWS = (
    Law(
        exact_count,
        (wrong.all_ties_kept, wrong.strictly_below_kth_value_pruned),
        tie_rule=False,
    ),
    Law(
        theorem_1,
        (
            wrong.first_k,
            wrong.absolute_value,
            wrong.share_of_each_tensor,
            wrong.largest_for_even_k,
            wrong.rounded,
        ),
        tie_rule=False,
    ),
    Law(sorted_with_ties_to_the_lower_index, wrong.WRONG_MASKS),
    Law(
        permuting_distinct_scores_permutes_the_mask,
        (wrong.first_k, wrong.rounded),
    ),
    Law(increasing_affine_maps_do_not_matter, (wrong.absolute_value,), integers=True),
    Law(
        what_k_keeps_is_kept_by_k_plus_1,
        (wrong.largest_for_even_k, wrong.all_ties_kept, wrong.share_of_each_tensor),
    ),
    Law(
        keeping_k_is_pruning_the_others_of_the_negative,
        (wrong.absolute_value, wrong.all_ties_kept, wrong.strictly_below_kth_value_pruned),
    ),
    Law(cutting_into_tensors_does_not_matter, (wrong.share_of_each_tensor,)),
    Law(strides_do_not_matter, (wrong.order_of_memory,)),
    Law(float64_does_not_matter, (wrong.rounded,)),
    Law(the_sign_of_zero_does_not_matter, (wrong.by_sign_bit,)),
    Law(scores_are_left_as_they_are, (wrong.sorts_in_place,), tie_rule=False),
)
