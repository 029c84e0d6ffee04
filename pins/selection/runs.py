"""The largest scores of each run of a tensor, and the two scores that prove them largest."""

import torch
from torch import Tensor

from pins.selection.scan import float_keys


def largest_of_runs(scores: Tensor, length: int, keep: int | Tensor) -> Tensor:
    """The mask of the `keep` largest scores of every `length` consecutive ones; ties by index.

    Args:
        scores: (n,), a multiple of the length; no NaN.
        length: of a run.
        keep: of each run, or int64 numbers, one for each.
    """
    keys = float_keys.keys(scores).view(-1, length)
    order = torch.sort(keys, dim=1, descending=True, stable=True).indices
    ranks = torch.empty_like(order).scatter_(
        1, order, torch.arange(length, device=keys.device).expand_as(order)
    )
    limit = keep.view(-1, 1) if isinstance(keep, Tensor) else keep
    return (ranks < limit).view(-1)


def extremes_of_runs(scores: Tensor, mask: Tensor, length: int) -> tuple[Tensor, Tensor, Tensor]:
    """The least kept and the greatest pruned key of each run, and the number of kept scores."""
    keys = float_keys.keys(scores).view(-1, length)
    kept, limits = mask.view(-1, length), torch.iinfo(keys.dtype)
    least = keys.masked_fill(~kept, limits.max).amin(1)
    most = keys.masked_fill(kept, limits.min).amax(1)
    return least, most, kept.sum(1)
