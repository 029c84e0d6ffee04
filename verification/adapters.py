"""Selectors made of pruners with other arguments: a ratio, a module, a tensor that they change.

    by_magnitude(selector)              ranks |s|: it gets positive numbers in the order of s
    from_ratio(prune)                   prune(scores, sparsity) ↦ mask
    from_in_place(prune)                prune(weights, keep), which sets weights to 0
    from_torch(prune, **arguments)      prune(module, "weight", amount=…, **arguments)

The masks are those of the pruner as it is: laws that a conversion hides are named at each.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from verification.laws import Selector, flat
from verification.scopes import FLAT, Given, Scope


def by_magnitude(selector: Selector, scope: Scope = FLAT) -> Selector:
    """The selector on positive scores of the same order, for a pruner that ranks |s|.

    A score becomes 1 + the number of distinct smaller ones: ties stay, signs and the distances of
    scores are lost. Not for blocks, whose sums have another order.
    """

    def select(given: Given, keep: Any) -> Tensor:
        importance = scope.named(given)
        values = flat(importance).tolist()
        ranks = {value: 1.0 + i for i, value in enumerate(sorted(set(values)))}
        ranked_values = torch.tensor([ranks[value] for value in values])
        parts = torch.split(ranked_values, [scores.numel() for scores in importance.values()])
        ranked = {
            name: part.view(scores.shape)
            for (name, scores), part in zip(importance.items(), parts, strict=True)
        }
        return selector(scope.given(ranked), keep)

    return select


def from_ratio(prune: Callable[[Any, float], Tensor], scope: Scope = FLAT) -> Selector:
    """The selector of prune(scores, sparsity) ↦ mask, with sparsity = (n − k)/n.

    n is the number of weights of which k are kept: of all, of a row, of a group, or of blocks. A
    pruner that takes the nearest number of n·sparsity keeps exactly k; one that cuts the fraction
    off may keep one more, first at n = 49.
    """

    def select(given: Given, keep: int) -> Tensor:
        total = scope.room(scope.named(given))
        return prune(given, (total - keep) / total)

    return select


def from_in_place(prune: Callable[[Tensor, int], object], scope: Scope = FLAT) -> Selector:
    """The selector of prune(weights, keep), which sets the pruned weights to 0.

    In scope flat it gets all weights as one tensor (n,), else the matrix. They are positive numbers
    in the order of the scores, as `by_magnitude` makes them, so that a 0 is a pruned weight; what
    prune returns does not matter, so the law `unchanged` is kept by the conversion.
    """

    def select(given: Given, keep: int) -> Tensor:
        weights = given.clone() if isinstance(given, Tensor) else flat(given)
        prune(weights, keep)
        return weights != 0

    return by_magnitude(select, scope)


def from_torch(prune: Callable[..., nn.Module], **arguments: Any) -> Selector:
    """The selector, in scope flat, of a function of `torch.nn.utils.prune`.

    prune(module, "weight", amount=n − k, **arguments) gets a weight of one column, (n, 1), that
    holds the scores: each is a row, so that `ln_structured` with dim=0 has rows to prune. The
    functions rank |s|: with `by_magnitude` they are compared with the optimum for |s|.
    """

    def select(importance: Given, keep: int) -> Tensor:
        scores = flat(FLAT.named(importance))
        module = nn.Module()
        module.weight = nn.Parameter(scores[:, None].clone())
        prune(module, "weight", amount=len(scores) - keep, **arguments)
        return module.get_buffer("weight_mask")[:, 0].bool()

    return select
