"""Selectors that are wrong on purpose, and the laws that must find them: the negative controls."""

from collections.abc import Mapping
from itertools import count

import torch
from torch import Tensor

import pins
from verification.claims.laws import (
    all_ties_kept,
    first_k,
    largest_for_even_k,
    share_of_each_tensor,
)
from verification.laws import Selector, flat


def strictly_below_kth_value_pruned(importance: Mapping[str, Tensor], keep: int) -> Tensor:
    """The authors' rule: prunes what is < the (n−k)-th smallest, and so keeps one too many."""
    scores = flat(importance)
    pruned = scores.numel() - keep
    if pruned == 0:
        return torch.ones_like(scores, dtype=torch.bool)
    return ~(scores < scores.kthvalue(pruned).values)


def absolute_value(importance: Mapping[str, Tensor], keep: int) -> Tensor:
    """Ranks by |s|."""
    return pins.select(flat(importance).abs(), keep)


def ties_to_the_higher_index(importance: Mapping[str, Tensor], keep: int) -> Tensor:
    """Right except for the tie rule."""
    return pins.select(flat(importance).flip(0), keep).flip(0)


def rounded(importance: Mapping[str, Tensor], keep: int) -> Tensor:
    """Ranks in a lower precision than the scores have."""
    scores = flat(importance)
    coarse = torch.float32 if scores.dtype == torch.float64 else torch.bfloat16
    return pins.select(scores.to(coarse).nan_to_num(), keep)


def by_sign_bit(importance: Mapping[str, Tensor], keep: int) -> Tensor:
    """Ranks −0.0 below 0.0."""
    scores = flat(importance).double()
    below_zero = torch.full_like(scores, -5e-324)
    key = scores.where((scores != 0) | ~scores.signbit(), below_zero)
    return pins.select(key, keep)


def order_of_memory(importance: Mapping[str, Tensor], keep: int) -> Tensor:
    """Reads each tensor's memory from its first entry on, whatever the strides."""
    read = {
        name: scores.as_strided((scores.numel(),), (1,)) if scores.numel() else scores
        for name, scores in importance.items()
    }
    return pins.select(flat(read), keep)


def sorts_in_place(importance: Mapping[str, Tensor], keep: int) -> Tensor:
    """Right, but it changes the scores."""
    mask = pins.select(flat(importance), keep)
    for scores in importance.values():
        scores.copy_(scores.reshape(-1).sort().values.reshape(scores.shape))
    return mask


_calls = count()


def largest_and_smallest_by_turns(importance: Mapping[str, Tensor], keep: int) -> Tensor:
    """The k largest at two calls, the k smallest at the next two."""
    scores = flat(importance)
    return pins.select(scores if next(_calls) // 2 % 2 else -scores, keep)


WRONG_MASKS = (
    first_k,
    all_ties_kept,
    strictly_below_kth_value_pruned,
    absolute_value,
    share_of_each_tensor,
    ties_to_the_higher_index,
    largest_for_even_k,
    rounded,
    by_sign_bit,
)  # wrong on contiguous tensors already
WRONG_SELECTORS = (
    *WRONG_MASKS,
    order_of_memory,
    largest_and_smallest_by_turns,
    sorts_in_place,
)

BROKEN_BY: dict[str, tuple[Selector, ...]] = {
    "exact-count": (all_ties_kept, strictly_below_kth_value_pruned),
    "theorem-1": (
        first_k,
        absolute_value,
        share_of_each_tensor,
        largest_for_even_k,
        rounded,
    ),
    "tie-rule": WRONG_MASKS,
    "permutation": (first_k, rounded),
    "affine": (absolute_value,),
    "nesting": (largest_for_even_k, all_ties_kept, share_of_each_tensor),
    "complement": (absolute_value, all_ties_kept, strictly_below_kth_value_pruned),
    "concatenation": (share_of_each_tensor,),
    "strides": (order_of_memory,),
    "float64": (rounded,),
    "zero": (by_sign_bit,),
    "determinism": (largest_and_smallest_by_turns,),
    "unchanged": (sorts_in_place,),
}  # by the name of the law
