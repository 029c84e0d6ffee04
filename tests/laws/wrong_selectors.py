"""Selectors that are wrong on purpose, and the laws that must find them: the negative controls."""

from collections.abc import Mapping

import torch
from torch import Tensor

import pins
from verification.laws import Selector, flat


def first_k(importance: Mapping[str, Tensor], keep: int) -> Tensor:
    """Does not look at the scores."""
    return torch.arange(flat(importance).numel()) < keep


def all_ties_kept(importance: Mapping[str, Tensor], keep: int) -> Tensor:
    """Keeps what is ≥ the k-th largest score."""
    scores = flat(importance)
    if keep == 0:
        return torch.zeros_like(scores, dtype=torch.bool)
    return scores >= scores.sort(descending=True).values[keep - 1]


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


def share_of_each_tensor(importance: Mapping[str, Tensor], keep: int) -> Tensor:
    """Right in each tensor and wrong over all: each keeps its share of k."""
    total = flat(importance).numel()
    masks, seen, kept = [], 0, 0
    for scores in importance.values():
        seen += scores.numel()
        share = keep * seen // total - kept
        kept += share
        masks.append(pins.select(flat({"": scores}), share) if scores.numel() else scores.bool())
    return torch.cat([mask.reshape(-1) for mask in masks])


def ties_to_the_higher_index(importance: Mapping[str, Tensor], keep: int) -> Tensor:
    """Right but for the tie rule."""
    return pins.select(flat(importance).flip(0), keep).flip(0)


def largest_for_even_k(importance: Mapping[str, Tensor], keep: int) -> Tensor:
    """The k largest for even k, the k smallest for odd k."""
    return pins.select(flat(importance) if keep % 2 == 0 else -flat(importance), keep)


def rounded(importance: Mapping[str, Tensor], keep: int) -> Tensor:
    """Ranks in half the precision that came."""
    scores = flat(importance)
    coarse = torch.float32 if scores.dtype == torch.float64 else torch.bfloat16
    return pins.select(scores.to(coarse).nan_to_num(), keep)


def by_sign_bit(importance: Mapping[str, Tensor], keep: int) -> Tensor:
    """Takes −0.0 for less than 0.0."""
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
    """Right, and leaves the scores changed."""
    mask = pins.select(flat(importance), keep)
    for scores in importance.values():
        scores.copy_(scores.reshape(-1).sort().values.reshape(scores.shape))
    return mask


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
WRONG_SELECTORS = (*WRONG_MASKS, order_of_memory, sorts_in_place)

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
    "unchanged": (sorts_in_place,),
}  # by the name of the law
