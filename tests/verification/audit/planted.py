"""Masks with a planted pattern, and weights some of which are zero in the dense matrix too."""

from typing import NamedTuple

import torch
from hypothesis import strategies as st
from torch import Tensor

from verification.audit.blocks import expanded


class Planted(NamedTuple):
    """What is seen of a mask, and the mask itself."""

    kept: Tensor
    pruned: Tensor
    mask: Tensor


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def in_runs(runs: int, length: int, keep: int, seed: int) -> Tensor:
    """A mask (runs, length) of which each run keeps `keep`."""
    order = torch.rand(runs, length, generator=generator(seed)).argsort(1)
    return order < keep


def of_blocks(shape: tuple[int, int], sides: tuple[int, int], seed: int) -> Tensor:
    blocks = torch.rand(shape[0] // sides[0], shape[1] // sides[1], generator=generator(seed)) > 0.5
    blocks.view(-1)[0], blocks.view(-1)[-1] = True, False
    return expanded(blocks, sides)


def seen(mask: Tensor, free: float, seed: int) -> Planted:
    """What is seen of a mask if this ratio of the dense weights is zero."""
    zero = torch.rand(mask.shape, generator=generator(seed + 1)) < free
    return Planted(mask & ~zero, ~mask & ~zero, mask)


seeds = st.integers(0, 10_000)
