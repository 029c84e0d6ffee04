"""Precision of products and sums, and a fixed sample of a tensor's indices.

Products are formed in float32 where the factors have 16 bits, else as they are; sums in float64.
"""

import torch
from torch import Tensor

GOLDEN = 0x9E3779B1  # Knuth's multiplicative hash; a prime, so that no index comes twice


def upcast_half(tensor: Tensor) -> Tensor:
    """16-bit floats as float32, which has room for every bit of a product of two of them."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def total(values: Tensor) -> float:
    """Σ of all values in float64; on devices without one in float32."""
    dtype = torch.float32 if values.device.type == "mps" else torch.float64
    return float(values.sum(dtype=dtype))


def sample_indices(size: int, count: int) -> Tensor:
    """`count` of the indices 0 … size−1, all different, in no order: (i·GOLDEN) mod size, int64.

    Every k-th index would be every k-th column of a matrix whose rows k divides.
    """
    return (torch.arange(count) * GOLDEN) % max(size, 1)
