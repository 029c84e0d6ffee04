"""Where products are formed: 16-bit floats as float32, the others as they are; sums in float64."""

import torch
from torch import Tensor


def widened(tensor: Tensor) -> Tensor:
    """16-bit floats as float32, which has room for every bit of a product of two of them."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def total(values: Tensor) -> float:
    """Σ of all values in float64; on devices without one in float32."""
    dtype = torch.float32 if values.device.type == "mps" else torch.float64
    return float(values.sum(dtype=dtype))
