"""Which backend reads the scores of a model: Triton's kernels, numpy, or PyTorch's operations."""

import importlib.util
import math
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor

from pins.selection.scan.numpy_backend import ArrayScan
from pins.selection.scan.reference import Scan
from pins.utils.lazy_tensors import Scores


def scan_of(importance: Mapping[Any, Tensor]) -> Scan:
    """The scores of this process, to be read pass by pass.

    Args:
        importance: as for `Scan`. Of scores that are computed the smallest tensor is asked for
            where there is another device than the CPU, to see which one they are on.
    """
    scan = ArrayScan(importance)
    if not torch.accelerator.is_available():
        return scan
    known: Collection[Any] = scan.sizes
    if isinstance(importance, Scores) and scan.sizes:
        known = [min(scan.sizes, key=lambda name: scan.sizes[name] or math.inf)]
    devices = [importance[n].device for n in known if isinstance(importance[n], Tensor)]
    kinds = {device.type for device in devices}
    if kinds <= {"cpu"}:
        return scan
    if kinds == {"cuda"} and importlib.util.find_spec("triton") is not None:
        from pins.selection.scan.triton_backend import TritonScan  # Triton is not everywhere

        return TritonScan(importance, device=devices[0])
    return Scan(importance)
