"""Precision of products and sums, and a fixed sample of a tensor's indices.

Products of 16-bit factors are computed in float32, others in their dtype; sums in float64.
"""

import torch
from torch import Tensor

GOLDEN = 0x9E3779B1  # Knuth's multiplicative hash; a prime, so that no index repeats


def upcast_half(tensor: Tensor) -> Tensor:
    """16-bit floats as float32, in which the product of two of them is exact; others unchanged."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def total(values: Tensor) -> float:
    """Σ of all values in float64; in float32 on devices that have no float64 (MPS)."""
    dtype = torch.float32 if values.device.type == "mps" else torch.float64
    return float(values.sum(dtype=dtype))


def sample_indices(size: int, count: int) -> Tensor:
    """(i·GOLDEN) mod size for i < count: different indices of 0 … size−1, unordered, int64.

    Every k-th index instead would sample few columns, if k divides the length of a row.
    """
    return (torch.arange(count) * GOLDEN) % max(size, 1)
