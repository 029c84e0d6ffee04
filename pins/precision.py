"""Where products are formed: 16-bit floats as float32, the others as they are."""

import torch
from torch import Tensor


def widened(tensor: Tensor) -> Tensor:
    """16-bit floats as float32, which has room for every bit of a product of two of them."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
