"""A fixed sample of a tensor's flat indices, spread evenly over its rows and columns."""

import torch
from torch import Tensor

GOLDEN = 0x9E3779B1  # Knuth's multiplicative hash; a prime, so that no index comes twice


def spread(size: int, count: int) -> Tensor:
    """`count` of the indices 0 … size−1, all different, in no order: (i·GOLDEN) mod size, int64.

    Every k-th index would be every k-th column of a matrix whose rows k divides.
    """
    return (torch.arange(count) * GOLDEN) % max(size, 1)
