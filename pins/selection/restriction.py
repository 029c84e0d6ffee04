"""The program over the masks inside a given mask, as a program over all masks.

    max s·m   s.t.   1·m = k,   m ≤ a,   m ∈ {0,1}ⁿ                                              (S)

With t = s where a is 1, and a number below every s where a is 0, an optimum of max t·m over all
masks with k ones is an optimum of (S), if k ≤ 1·a. *Proof.* If it kept a weight outside a, it would
prune one inside, and the exchange of the two would gain. So it lies inside a, and there t·m is s·m
for every mask. ∎

The same holds with l_t ones at least, or exactly, in each tensor, if each l_t is at most the number
of ones of a in its tensor: the weight inside is then one of the same tensor, or the tensor keeps
more than its l_t. So the proof of Theorem 1 or 4 for t, and a certificate of t, prove (S).
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from pins.utils.lazy_tensors import Computed, Scores


def restricted(importance: Scores, allowed: Mapping[str, Tensor]) -> Scores:
    """The scores t: the lowest finite number of their dtype where `allowed` is False, else s.

    Args:
        importance: s by tensor name.
        allowed: a by tensor name, True = may be kept; a tensor without one may be kept whole.
    """
    if not allowed:
        return importance

    def lowered(name: str) -> Tensor:
        scores = importance[name]
        if name not in allowed:
            return scores
        return scores.masked_fill(~allowed[name], torch.finfo(scores.dtype).min)

    return Computed(importance.shapes, lowered)
